package forwarder

import (
	"naru/internal/neigh"
	"naru/internal/wire"
)

// questionsPerCall bounds the ARP requests and neighbour solicitations that one call sends.
const questionsPerCall = 16

// answers reports whether naru answers ARP and neighbour discovery for an address on a leg: for VIPs towards clients, for
// local addresses and the sources of tunnels towards backends, unless the kernel holds them.
func (e *Engine) answers(addr wire.Addr, leg uint8) bool {
	l := &e.snap.legs[leg]
	o := e.snap.owned[addr]
	switch {
	case o == nil:
		return l.Backend && (len(e.snap.outer) > 0 && e.snap.outerSource(addr) || e.stillUsed(addr))
	case o.kernel:
		return false
	}
	return o.vip && l.Client || !o.vip && l.Backend
}

// stillUsed reports whether living connections have a local address that the configuration has given up: their backends
// must find it until they end. The kernel answers for what it holds.
func (e *Engine) stillUsed(addr wire.Addr) bool { return e.usedHere(addr) || e.usedElsewhere(addr) }

// usedHere is stillUsed for the connections of this worker.
func (e *Engine) usedHere(addr wire.Addr) bool {
	for _, id := range e.leaving[addr] {
		if !e.table.PathGone(id) && !e.snap.hosts[addr] {
			return true
		}
	}
	return false
}

// arp deals with ARP: it answers questions for our addresses, learns from answers to ours, and notices other hosts that
// use an address of ours.
func (e *Engine) arp(p *wire.Packet) {
	a, ok := neigh.ParseARP(p.Bytes()[p.L3:])
	if !ok {
		e.done(p, wire.ARPMalformed)
		return
	}
	e.checkClash(p.Leg, a.Sender, a.SenderMAC)
	learned := e.learn(p.Leg, a.Sender, a.SenderMAC)
	switch {
	case a.Reply && learned:
		e.done(p, wire.NeighborLearned)
	case a.Reply || a.Sender == a.Target || !e.answers(a.Target, p.Leg):
		e.done(p, wire.NotOurQuestion)
	default:
		neigh.PutARP(p.Buf[p.Off+p.L3:], true, e.snap.legs[p.Leg].MAC, a.Target, a.SenderMAC, a.Sender)
		e.answer(p, wire.ARPLen, wire.ARPAnswered)
	}
}

// nd deals with neighbour solicitations and advertisements likewise.
func (e *Engine) nd(p *wire.Packet) {
	n, ok := neigh.ParseND(p)
	if !ok || !p.ICMPRight() {
		e.done(p, wire.NDMalformed)
		return
	}
	mac := n.MAC
	if !n.HasMAC {
		mac = wire.MAC(p.Bytes()[6:12])
	}
	if n.Advertise {
		e.checkClash(p.Leg, n.Target, mac)
		if e.learn(p.Leg, n.Target, mac) {
			e.done(p, wire.NeighborLearned)
		} else {
			e.done(p, wire.NotOurQuestion)
		}
		return
	}
	if !p.Flow.Src.Unspecified() {
		e.learn(p.Leg, p.Flow.Src, mac)
	}
	if !e.answers(n.Target, p.Leg) {
		e.done(p, wire.NotOurQuestion)
		return
	}
	leg := &e.snap.legs[p.Leg]
	ip := p.Buf[p.Off+p.L3:]
	if p.Flow.Src.Unspecified() { // a probe: everybody must hear that the address is taken (RFC 4862 5.4.3)
		neigh.PutAdvertise(ip, n.Target, leg.MAC, neigh.AllNodes, false)
		copy(p.Bytes()[6:12], neigh.AllNodesMAC[:])
	} else {
		neigh.PutAdvertise(ip, n.Target, leg.MAC, p.Flow.Src, true)
		copy(p.Bytes()[6:12], mac[:])
	}
	e.answer(p, neigh.NDLen, wire.NDAnswered)
}

// learn notes a neighbour that we want to know, and lets go what waits for it.
func (e *Engine) learn(leg uint8, addr wire.Addr, mac wire.MAC) bool {
	e.tellOthers(note{addr: addr, mac: mac, leg: leg})
	return e.note(note{addr: addr, mac: mac, leg: leg})
}

// note is learn for what another worker has heard.
func (e *Engine) note(n note) bool {
	id := e.neigh.Learn(e.now, n.leg, n.addr, n.mac)
	if id == neigh.None {
		return false
	}
	e.letGo()
	return true
}

// checkClash reports another host that says it has an address of ours.
func (e *Engine) checkClash(leg uint8, addr wire.Addr, mac wire.MAC) {
	if !e.answers(addr, leg) {
		return
	}
	for i := range e.snap.legs {
		if mac == e.snap.legs[i].MAC { // two legs on one segment hear each other
			return
		}
	}
	e.counters.AddressClash++
	e.event(Event{Kind: AddressClash, Leg: leg, Addr: addr, MAC: mac})
}

// ask sends the questions about next hops that are due.
func (e *Engine) ask() {
	for n := 0; n < questionsPerCall && e.own.room(); n++ {
		q, ok := e.neigh.Due(e.now, questionsPerCall)
		if !ok {
			return
		}
		src := e.askFrom(q.Leg, q.Addr)
		mac := e.snap.legs[q.Leg].MAC
		if q.Addr.Is4() {
			f, b := e.make(q.Leg, q.MAC, wire.TypeARP, wire.ARPLen)
			neigh.PutARP(b, false, mac, src, wire.MAC{}, q.Addr)
			e.emit(f)
			continue
		}
		to, group := q.Addr, q.MAC
		if q.MAC == wire.Broadcast {
			to, group = neigh.SolicitedNode(q.Addr)
		}
		f, b := e.make(q.Leg, group, wire.TypeIPv6, neigh.NDLen)
		neigh.PutSolicit(b, src, mac, to, q.Addr)
		e.emit(f)
	}
}

// askFrom chooses the source address of a question: the leg's own on the neighbour's subnet, any of the leg's in the
// family, or an address that naru holds there.
func (e *Engine) askFrom(leg uint8, target wire.Addr) wire.Addr {
	v4 := target.Is4()
	var fallback wire.Addr
	if v4 {
		fallback = wire.Addr4(make4)
	}
	found := false
	for _, a := range e.snap.legs[leg].Addrs {
		if a.Addr().Is4() != v4 {
			continue
		}
		if prefixContains(a, target) {
			return wire.AddrFrom(a.Addr())
		}
		if !found {
			fallback, found = wire.AddrFrom(a.Addr()), true
		}
	}
	if found {
		return fallback
	}
	for _, o := range e.snap.order {
		if o.addr.Is4() == v4 && e.answers(o.addr, leg) {
			return o.addr
		}
	}
	return fallback
}

// make4 is 0.0.0.0: the sender of an ARP probe (RFC 5227 2.1.1), when naru has no address on the leg.
var make4 = []byte{0, 0, 0, 0}
