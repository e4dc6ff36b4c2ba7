package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
	"naru/internal/frag"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// Our own choices.
const (
	datagrams     = 512 // fragmented datagrams under way, unless Options say otherwise
	heldFragments = 64  // fragments that came before their first one
)

// fragment deals with a fragment of TCP or UDP: the first goes the way of whole packets and is remembered, the later ones,
// which have no ports, follow it. One that comes before the first is held a little.
func (e *Engine) fragment(p *wire.Packet) {
	if !e.ourFragment(p) {
		if p.Frag == wire.LaterFragment && e.fenced(p) {
			e.routeOn(p)
		} else {
			e.other(p)
		}
		return
	}
	if p.Frag == wire.LaterFragment {
		e.laterFragment(p)
		return
	}
	id, reason := e.frags.First(e.now, p)
	if reason != wire.ReasonNone {
		e.done(p, reason)
		return
	}
	e.takeID(id)
	p.Hash = e.table.Hash(&p.Flow) | 1
	p.Ref = uint32(e.table.Find(&p.Flow, p.Hash))
	e.flow(p)
	e.keepID(id)
	for q := e.frags.Release(id); q != nil; q = e.frags.Release(id) {
		e.counters.Held--
		if e.trace != nil {
			e.rec.start(e, q)
			e.rec.Late = true
		}
		e.follow(q)
	}
}

// laterFragment sends a fragment after its first one, or holds it.
func (e *Engine) laterFragment(p *wire.Packet) {
	id, known, reason := e.frags.Later(e.now, p)
	switch {
	case reason != wire.ReasonNone:
		e.done(p, reason)
	case known:
		e.takeID(id)
		e.follow(p)
		e.keepID(id)
	case e.frags.Hold(e.now, p):
		p.Verdict = wire.Held
		e.count(wire.Held, wire.ReasonNone)
		if e.trace != nil {
			e.rec.finish(e, p, neigh.None)
		}
	default:
		e.done(p, wire.FragmentFlood)
	}
}

// follow sends a later fragment, whose ports are known now, where its first one went: by the connection that this made or
// belongs to, or on plainly. Where there is no connection to an address of ours, the first was not forwarded, and this is
// not either.
func (e *Engine) follow(p *wire.Packet) {
	p.Hash = e.table.Hash(&p.Flow) | 1
	id, dir := e.table.Lookup(&p.Flow, p.Hash)
	if e.trace != nil {
		e.rec.lookup(e, id, dir)
	}
	switch {
	case id != conntrack.None && !e.table.Expired(e.table.Conn(id), e.now):
		e.forward(p, e.table.Conn(id), id, dir)
	case e.strayFlow(p, &p.Flow):
	case e.fenced(p):
		e.routeOn(p)
	case !e.followAlone(p):
		e.done(p, wire.Fragment)
	}
}

// takeID and keepID remember, with the datagram, the identification that full NAT gave it: many clients send from one
// local address, and their own identifications would meet at the backend (RFC 6864 5.2).
func (e *Engine) takeID(id frag.ID) { e.datagramID = e.frags.Value(id) }

func (e *Engine) keepID(id frag.ID) { e.frags.SetValue(id, e.datagramID) }

// newDatagramID draws an identification; it is never 0.
func (e *Engine) newDatagramID() uint32 { return e.fragmentID()&0xffff | 1<<16 }

// renumber gives a fragment the identification of its datagram on our side.
func (e *Engine) renumber(p *wire.Packet) {
	if e.datagramID == 0 {
		e.datagramID = e.newDatagramID()
	}
	d := p.Bytes()
	if p.Version == 6 {
		binary.BigEndian.PutUint32(d[p.FragmentData()-4:], e.datagramID)
		return
	}
	ip := d[p.L3:]
	old, id := binary.BigEndian.Uint16(ip[4:]), uint16(e.datagramID)
	binary.BigEndian.PutUint16(ip[4:], id)
	binary.BigEndian.PutUint16(ip[10:], wire.Delta(0).Add16(old, id).Apply(binary.BigEndian.Uint16(ip[10:])))
}

// ourFragment reports whether a fragment may be of a connection of ours. On an address that the kernel holds, a first
// fragment tells by its port; later ones have none, so there only those from a backend are ours: the kernel gets its copy
// of them all the same. Replies of mode NAT are addressed to clients.
func (e *Engine) ourFragment(p *wire.Packet) bool {
	if p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return false
	}
	o := e.snap.owned[p.Flow.Dst]
	switch {
	case o == nil:
		return e.fenced(p)
	case !o.kernel:
		return true
	case p.Frag == wire.LaterFragment:
		return o.vip || e.snap.backends[p.Flow.Src]
	case o.vip:
		return o.match(p.Proto, p.Flow.DstPort) != nil
	default:
		return o.usesPort(p.Flow.DstPort)
	}
}

// lostFragments counts the held fragments whose first one did not come.
func (e *Engine) lostFragments() {
	n := uint64(e.frags.Expire(e.now, tickBudget))
	e.counters.Held -= n
	e.counters.Dropped += n
	e.counters.ByReason[wire.FragmentLost] += n
}
