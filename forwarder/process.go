package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// groupMAC is the bit of a MAC address in a 48-bit number that says that it is a group's (IEEE 802).
const groupMAC = 1 << 40

// parse is the first half of the way: it looks at the frame alone. A packet that the table may know has a Hash then.
func (e *Engine) parse(p *wire.Packet) {
	p.Verdict, p.Hash = wire.Drop, 0
	if p.Reason = p.ParseLink(); p.Reason != wire.ReasonNone {
		return
	}
	own, d := e.snap.macs[p.Leg], p.Bytes()
	dst, src := binary.BigEndian.Uint64(d)>>16, binary.BigEndian.Uint64(d[4:])&(1<<48-1)
	switch {
	case src == own:
		p.Reason = wire.Loop
		return
	case src&groupMAC != 0: // answers go to the source
		p.Reason = wire.MartianSource
		return
	case dst != own && dst&groupMAC == 0:
		p.Reason = wire.NotOurMAC
		return
	}
	p.Reason = p.ParseNetwork()
	if p.Reason == wire.ReasonNone && dst == own && p.Frag == wire.Whole && p.Version != 0 &&
		(p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP) {
		p.Hash = e.table.Hash(&p.Flow) | 1
	}
}

// process is the second half: whose packet is it, and what becomes of it.
func (e *Engine) process(p *wire.Packet) {
	if e.trace != nil {
		e.rec.start(e, p)
	}
	switch {
	case p.Hash != 0:
		e.flow(p)
	case p.Reason != wire.ReasonNone:
		e.refuse(p)
	case p.EtherType == wire.TypeARP:
		e.arp(p)
	case p.Version == 0:
		e.done(p, wire.NotIP)
	case p.Bytes()[0]&1 != 0:
		e.multicast(p)
	case p.Frag != wire.Whole:
		e.fragment(p)
	case p.Proto == wire.ProtoICMP && p.Version == 4 || p.Proto == wire.ProtoICMPv6 && p.Version == 6:
		e.icmp(p)
	default:
		e.other(p)
	}
}

// refuse ends a packet that was refused while it was parsed. What is not addressed to us is not ours to judge.
func (e *Engine) refuse(p *wire.Packet) {
	if p.Version != 0 {
		if o := e.snap.owned[p.Flow.Dst]; o == nil {
			p.Reason = wire.NotOurAddress
		} else if o.kernel && p.Reason != wire.TCPMalformed && p.Reason != wire.UDPMalformed {
			p.Reason = wire.NotOurPort
		}
	}
	e.done(p, p.Reason)
}

// multicast deals with packets to a multicast or broadcast MAC address: only neighbour discovery is ours.
func (e *Engine) multicast(p *wire.Packet) {
	if p.Version == 6 && p.Proto == wire.ProtoICMPv6 && p.Frag == wire.Whole {
		if t := p.Transport()[0]; t == wire.ICMPv6Solicit || t == wire.ICMPv6Advertise {
			e.nd(p)
			return
		}
	}
	e.done(p, wire.Multicast)
}

// other deals with fragments and with protocols that no service can have.
func (e *Engine) other(p *wire.Packet) {
	switch o := e.snap.owned[p.Flow.Dst]; {
	case o == nil:
		e.done(p, wire.NotOurAddress)
	case o.kernel:
		e.done(p, wire.NotOurPort)
	case p.Frag != wire.Whole:
		e.done(p, wire.Fragment)
	default:
		e.done(p, wire.ProtoUnknown)
	}
}

// flow deals with a TCP or UDP packet: of a connection, of a new one, or of none.
func (e *Engine) flow(p *wire.Packet) {
	if e.table.Changes() != e.found { // by packets of this batch
		p.Ref = uint32(e.table.Find(&p.Flow, p.Hash))
	}
	id, dir := conntrack.Ref(p.Ref).Split()
	var c *conntrack.Conn
	if id != conntrack.None {
		c = e.table.Conn(id)
		if e.table.Expired(c, e.now) || dir == conntrack.Original && p.TCPFlags&wire.SYN != 0 && e.restarts(c, p) {
			e.endNow(id)
			id = conntrack.None
		}
	}
	if e.trace != nil {
		e.rec.lookup(e, id, dir)
	}
	if id == conntrack.None {
		e.stranger(p)
		return
	}
	e.forward(p, c, id, dir)
}

// restarts reports whether a packet of the client begins a new connection in place of the one that is there.
func (e *Engine) restarts(c *conntrack.Conn, p *wire.Packet) bool {
	return p.Proto == wire.ProtoTCP && p.FlagsValid() && p.TTL() > 1 && e.table.Restart(e.now, c, p)
}

// stranger deals with a packet that belongs to no connection.
func (e *Engine) stranger(p *wire.Packet) {
	o := e.snap.owned[p.Flow.Dst]
	if e.opt.Exchange != nil && e.stray(p, o) {
		return
	}
	if o == nil {
		e.plain(p)
		return
	}
	var svc *service
	if o.vip {
		svc = o.match(p.Proto, p.Flow.DstPort)
	}
	if o.kernel && svc == nil && !o.usesPort(p.Flow.DstPort) {
		e.done(p, wire.NotOurPort)
		return
	}
	switch {
	case p.Flow.Src.Martian(p.Version) || e.snap.owned[p.Flow.Src] != nil:
		e.done(p, wire.MartianSource)
	case p.Proto == wire.ProtoTCP && !p.FlagsValid():
		e.done(p, wire.TCPFlags)
	case svc != nil:
		e.connect(p, svc)
	case o.vip:
		e.reject(p, o.reject, wire.NoService)
	default:
		e.done(p, wire.NoConnection)
	}
}

// plain routes on what a backend of mode NAT sends of its own: the fence keeps it from the kernel, since it might have been
// a reply. Everything else that is not addressed to us is the kernel's.
func (e *Engine) plain(p *wire.Packet) {
	if !e.snap.plainSource(&p.Flow) {
		e.done(p, wire.NotOurAddress)
		return
	}
	e.routeOn(p)
}

// fenced reports whether a packet comes from a backend of mode NAT: the fence also keeps from the kernel what may belong to
// a connection and does not tell by its ports, later fragments and ICMP errors.
func (e *Engine) fenced(p *wire.Packet) bool {
	return e.snap.legs[p.Leg].Backend && e.snap.fenced[p.Flow.Src] && e.snap.owned[p.Flow.Dst] == nil
}

// routeOn forwards a packet as a router does, unless it is addressed to this host, or to nobody in particular.
func (e *Engine) routeOn(p *wire.Packet) {
	if !e.snap.legs[p.Leg].Backend || e.snap.hosts[p.Flow.Dst] || p.Flow.Dst.Martian(p.Version) || p.Flow.Dst.LinkLocal() {
		e.done(p, wire.NotOurAddress)
		return
	}
	if p.TTL() <= 1 {
		e.hopLimit(p)
		return
	}
	hop, reason := e.route(p.Flow.Dst)
	if reason != wire.ReasonNone {
		e.done(p, reason)
		return
	}
	mtu := e.snap.legs[e.neigh.Leg(hop)].MTU
	if p.SegmentLen() > mtu && (p.DontFragment() || p.Super()) {
		e.tooBig(p, mtu)
		return
	}
	p.LowerTTL()
	e.counters.ForwardedPlain++
	e.sendFitting(p, hop, mtu)
}

// forward sends a packet of a connection on its way, changed as its service's mode says:
//
//	fullnat     both ends, in both directions
//	nat         the destination of requests, the source of replies
//	l2dsr       nothing above the Ethernet header
//	l3dsr dscp  the destination and the DSCP
//	l3dsr ipip  another header around the packet; gue: and a UDP header
//
// id is None for an entry that is not in the table.
func (e *Engine) forward(p *wire.Packet, c *conntrack.Conn, id conntrack.ID, dir conntrack.Dir) {
	if p.Proto == wire.ProtoTCP && p.Frag != wire.LaterFragment && !p.FlagsValid() {
		e.done(p, wire.TCPFlags)
		return
	}
	pi := &e.paths[c.Path]
	if pi.fate != livesOn && e.outOfService(p, id, dir, pi.fate) {
		return
	}
	mode := pi.key.mode
	if mode != L2DSR && p.TTL() <= 1 {
		e.hopLimit(p)
		return
	}
	hop, known := e.knownHop(c, pi, dir)
	if !known {
		var reason wire.Reason
		if hop, reason = e.findHop(c, dir); reason != wire.ReasonNone {
			e.done(p, reason)
			return
		}
	}
	to := e.neigh.Hop(hop)
	if mode >= L2DSR && to.MAC == wire.MAC(p.Bytes()[6:12]) && e.fromBackend(p, pi, hop) {
		e.done(p, wire.Hairpin)
		return
	}
	mtu := e.snap.legs[to.Leg].MTU
	if mode == L3DSR && dir == conntrack.Original {
		mtu = e.mtu(pi, mtu)
	}
	if p.End-p.L3 > mtu && p.SegmentLen() > mtu && !e.mayFragment(p, pi, mtu) {
		e.tooBig(p, mtu)
		return
	}
	if id != conntrack.None {
		e.table.Seen(e.now, id, dir, p)
		if c.Ending() {
			e.ceded(c)
		}
	}
	pi.used.add(dir, p)
	if e.trace != nil {
		e.rec.translate(e, c, id, dir)
	}
	switch mode {
	case L2DSR:
		e.sendWhole(p, hop)
	case L3DSR:
		e.handOn(p, pi, hop, mtu)
	default:
		e.translate(p, c, dir, hop, mtu)
	}
}

// knownHop returns the next hop of a connection's direction, if nothing about routes and neighbours changed since it was
// found.
func (e *Engine) knownHop(c *conntrack.Conn, pi *path, dir conntrack.Dir) (hop neigh.ID, known bool) {
	if dir == conntrack.Reply {
		return neigh.ID(c.NextHop), c.NextHopGen == e.hops
	}
	return pi.next, pi.hops == e.hops
}

// findHop asks the routing table for the next hop of a connection's direction and remembers the answer.
func (e *Engine) findHop(c *conntrack.Conn, dir conntrack.Dir) (hop neigh.ID, reason wire.Reason) {
	if dir == conntrack.Reply {
		hop, reason = e.route(c.Client)
	} else {
		key := &e.paths[c.Path].key
		hop, reason = e.route(key.address)
		if reason == wire.ReasonNone && key.mode == L2DSR && e.neigh.Addr(hop) != key.address {
			return hop, wire.NoRoute // a router would send the VIP's packet back to us
		}
	}
	switch pi := &e.paths[c.Path]; {
	case reason != wire.ReasonNone:
	case dir == conntrack.Reply:
		c.NextHop, c.NextHopGen = uint16(hop), e.hops
	default:
		pi.next, pi.hops = hop, e.hops
	}
	return hop, reason
}

// route asks the routing table and finds the neighbour.
func (e *Engine) route(dst wire.Addr) (neigh.ID, wire.Reason) {
	leg, next, ok := e.snap.routes.lookup(dst)
	if !ok {
		return neigh.None, wire.NoRoute
	}
	hop := e.neigh.Want(e.now, uint8(leg), next)
	if g := e.neigh.Generation(); g != e.neighGen { // it may have cost another one its place
		e.neighGen = g
		e.hops = max(1, e.hops+1)
	}
	if hop == neigh.None {
		return hop, wire.NeighFull
	}
	return hop, wire.ReasonNone
}

// done counts a packet at its final verdict.
func (e *Engine) done(p *wire.Packet, reason wire.Reason) {
	p.Reason, p.Verdict = reason, reason.Verdict()
	e.count(p.Verdict, reason)
	if p.Verdict == wire.Drop {
		e.sample(&p.Frame, reason)
	}
	if e.trace != nil {
		e.rec.finish(e, p, neigh.None)
	}
}

func (e *Engine) count(v wire.Verdict, reason wire.Reason) {
	c := &e.counters
	switch v {
	case wire.Transmit:
		c.Transmitted++
		return
	case wire.Held:
		c.Held++
		return
	case wire.Pass:
		c.Passed++
	case wire.Consume:
		c.Consumed++
	case wire.Drop:
		c.Dropped++
	}
	c.ByReason[reason]++
}
