package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
	"naru/internal/wire"
)

// clashTries bounds how many local ports are tried when one turns out to be in use by another pool's connection.
const clashTries = 8

// connect makes a connection of a packet that starts one, and forwards it.
func (e *Engine) connect(p *wire.Packet, svc *service) {
	if e.trace != nil {
		e.rec.service(e, svc)
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
	case p.TTL() <= 1:
		e.hopLimit(p)
		return
	case svc.Mode != FullNAT:
		e.done(p, wire.Unavailable)
		return
	}
	b := svc.scheduler.Pick(e.sourceHash(&p.Flow.Src), svc.backends)
	if e.trace != nil {
		e.rec.pick(e, svc, b)
	}
	if b < 0 {
		e.reject(p, svc.Reject, wire.NoBackend)
		return
	}
	id, reason := e.insert(p, svc, b)
	if reason != wire.ReasonNone {
		if reason == wire.PortsExhausted {
			e.reject(p, svc.Reject, reason)
		} else {
			e.done(p, reason)
		}
		return
	}
	e.forward(p, id, conntrack.Original)
}

// sourceHash is the keyed hash of a client's address.
func (e *Engine) sourceHash(a *wire.Addr) uint64 {
	le := binary.LittleEndian
	return mix64(mix64(le.Uint64(a[:])^e.source[0]) ^ le.Uint64(a[8:]) ^ e.source[1])
}

// insert gives a connection its local address and port and puts it into the table. A client keeps one local address while
// that has ports (RFC 4787 REQ-2); then the others are tried.
func (e *Engine) insert(p *wire.Packet, svc *service, backend int) (conntrack.ID, wire.Reason) {
	c := conntrack.Conn{Client: p.Flow.Src, ClientPort: p.Flow.SrcPort, VIPPort: p.Flow.DstPort,
		BackendPort: svc.Backends[backend].Port}
	if c.BackendPort == 0 {
		c.BackendPort = c.VIPPort
	}
	c.Begin(p)
	first := int(e.sourceHash(&p.Flow.Src) >> 33 % uint64(len(svc.locals)))
	reason := wire.PortsExhausted
	for n := range svc.locals {
		local := (first + n) % len(svc.locals)
		c.Path = e.ids[svc.index][backend*len(svc.locals)+local]
		var id conntrack.ID
		if id, reason = e.insertAt(p, svc, &c); reason != wire.PortsExhausted {
			return id, reason
		}
	}
	return conntrack.None, reason
}

// insertAt takes a port of the connection's path and inserts the connection.
func (e *Engine) insertAt(p *wire.Packet, svc *service, c *conntrack.Conn) (conntrack.ID, wire.Reason) {
	if e.table.Len() == e.table.Cap() {
		if old := e.table.OldestClosed(); old != conntrack.None {
			e.endConn(old)
			e.counters.EvictedClosed++
		}
	}
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
		id := e.table.Insert(e.now, c, p.Hash, hash)
		if id == conntrack.None {
			pi.pool.Put(c.LocalPort, e.now)
			return id, wire.TableFull
		}
		e.table.Conn(id).Flags |= conntrack.Counted
		svc.backends[pi.backend].Active.Add(1)
		e.counters.Connections++
		return id, wire.ReasonNone
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
