package forwarder

import (
	"slices"

	"naru/internal/conntrack"
	"naru/internal/wire"
)

// clashTries bounds how many local ports are tried when one turns out to be in use by another pool's connection.
const clashTries = 8

// connect makes a connection of a packet that starts one, and forwards it.
func (e *Engine) connect(p *wire.Packet, svc *service) {
	if e.trace != nil {
		e.rec.service(svc)
	}
	if e.fellBack != 0 && e.goOn(p, svc) {
		return
	}
	if p.Proto == wire.ProtoTCP && p.TCPFlags&(wire.SYN|wire.ACK) != wire.SYN && svc.Midstream != MidstreamPickup {
		if svc.Midstream == MidstreamReject {
			e.reject(p, RejectRST, wire.MidstreamTCP)
		} else {
			e.done(p, wire.MidstreamTCP)
		}
		return
	}
	switch {
	case p.Proto == wire.ProtoTCP && (p.TCPFlags&wire.RST != 0 || p.TCPFlags&(wire.SYN|wire.ACK) == wire.SYN|wire.ACK):
		e.done(p, wire.MidstreamTCP) // nothing to pick up; a client's side never begins with a SYN-ACK
		return
	case p.TTL() <= 1 && svc.Mode != L2DSR:
		e.hopLimit(p)
		return
	case svc.Mode != FullNAT && slices.Contains(svc.addrs, p.Flow.Src):
		e.done(p, wire.Hairpin)
		return
	}
	b, reason := e.choose(p, svc)
	if e.trace != nil {
		e.rec.pick(svc, b, 1)
	}
	if reason != wire.ReasonNone {
		e.reject(p, svc.Reject, reason)
		return
	}
	id, reason := e.insert(p, svc, b)
	if reason != wire.ReasonNone {
		svc.unchoose(b)
		switch {
		case reason == wire.PortsExhausted || reason == wire.TupleClash:
			e.reject(p, svc.Reject, reason)
		case reason == wire.TableFull && svc.Mode >= L2DSR:
			e.forwardAlone(p, svc)
		default:
			e.done(p, reason)
		}
		return
	}
	e.forward(p, e.table.Conn(id), id, conntrack.Original)
}

// insert puts a connection into the table. In full NAT it gets a local address and port first: a client keeps one local
// address while that has ports (RFC 4787 REQ-2); then the others are tried.
func (e *Engine) insert(p *wire.Packet, svc *service, backend int) (conntrack.ID, wire.Reason) {
	c := conntrack.Conn{Client: p.Flow.Src, ClientPort: p.Flow.SrcPort, VIPPort: p.Flow.DstPort,
		BackendPort: svc.Backends[backend].Port}
	if c.BackendPort == 0 {
		c.BackendPort = c.VIPPort
	}
	c.Begin(p)
	if !e.room(p.Proto) {
		return conntrack.None, wire.TableFull
	}
	ids := e.ids[svc.index][backend*svc.ways():][:svc.ways()]
	if svc.Mode != FullNAT {
		c.Path = ids[0]
		return e.insertKept(p, svc, &c)
	}
	first := int(e.sourceHash(&p.Flow.Src) >> 33 % uint64(len(ids)))
	reason := wire.PortsExhausted
	for n := range ids {
		c.Path = ids[(first+n)%len(ids)]
		var id conntrack.ID
		if id, reason = e.insertAt(p, svc, &c); reason != wire.PortsExhausted {
			return id, reason
		}
	}
	if c.Path = ids[first%len(ids)]; e.evictForPort(c.Path, p.Proto) {
		return e.insertAt(p, svc, &c)
	}
	return conntrack.None, reason
}

// insertKept inserts a connection whose client keeps its address and port towards the backend. In mode NAT two of them may
// look alike to the backend, when they come through different VIPs or ports: the second is refused.
func (e *Engine) insertKept(p *wire.Packet, svc *service, c *conntrack.Conn) (conntrack.ID, wire.Reason) {
	c.LocalPort = c.ClientPort
	var hash uint64
	if svc.Mode == NAT {
		reply := wire.Flow{Src: e.paths[c.Path].key.address, Dst: c.Client, SrcPort: c.BackendPort, DstPort: c.ClientPort,
			Proto: p.Flow.Proto}
		if hash = e.table.Hash(&reply) | 1; !e.freeReply(&reply, hash) {
			return conntrack.None, wire.TupleClash
		}
	}
	return e.admit(p, c, hash)
}

// admit inserts a connection. Its backend counts it since it was chosen.
func (e *Engine) admit(p *wire.Packet, c *conntrack.Conn, reply uint64) (conntrack.ID, wire.Reason) {
	id := e.table.Insert(e.now, c, p.Hash, reply)
	if id == conntrack.None {
		return id, wire.TableFull
	}
	e.table.Conn(id).Flags |= conntrack.Counted
	e.paths[c.Path].used.made++
	e.counters.Connections++
	if e.started != nil {
		e.starting(e.table.Conn(id))
	}
	return id, wire.ReasonNone
}

// insertAt takes a port of the connection's path and inserts the connection.
func (e *Engine) insertAt(p *wire.Packet, svc *service, c *conntrack.Conn) (conntrack.ID, wire.Reason) {
	pi := &e.paths[c.Path]
	for try := range clashTries {
		var early, ok bool
		if try == 0 && svc.KeepClientPort && pi.pool.GetPort(c.ClientPort, e.now) {
			c.LocalPort, ok = c.ClientPort, true
		} else {
			c.LocalPort, early, ok = pi.pool.Get(e.now)
		}
		if !ok {
			return conntrack.None, wire.PortsExhausted
		}
		reply := wire.Flow{Src: pi.key.address, Dst: pi.key.local, SrcPort: c.BackendPort, DstPort: c.LocalPort,
			Proto: p.Flow.Proto}
		hash := e.table.Hash(&reply) | 1
		if !e.freeReply(&reply, hash) {
			pi.pool.Put(c.LocalPort, e.now)
			continue
		}
		if early {
			e.counters.PortReusedEarly++
		}
		id, reason := e.admit(p, c, hash)
		if reason != wire.ReasonNone {
			pi.pool.Put(c.LocalPort, e.now)
		}
		return id, reason
	}
	return conntrack.None, wire.PortsExhausted
}

// freeReply makes a reply key free for a new connection: a closed connection that still lingers there goes. It reports
// false when the key is another live connection's, of a service whose pool overlaps.
func (e *Engine) freeReply(reply *wire.Flow, hash uint64) bool {
	id, _ := e.table.Lookup(reply, hash)
	if id == conntrack.None {
		return true
	}
	c := e.table.Conn(id)
	if c.Flags&conntrack.PortFreed == 0 && !e.table.Expired(c, e.now) {
		return false
	}
	e.endConn(id)
	return true
}
