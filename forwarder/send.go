package forwarder

import (
	"naru/dsr"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// send sends a packet to its next hop. What follows it in the frame that it came in, padding, stays behind.
func (e *Engine) send(p *wire.Packet, hop neigh.ID) {
	p.Len = p.End
	e.sendFrame(p, hop)
}

// sendWhole is send for a packet that goes on in its own frame: padding goes along, as through a switch, where the leg
// can carry it and no device has to compute a checksum to the end of the frame.
func (e *Engine) sendWhole(p *wire.Packet, hop neigh.ID) {
	if p.Len != p.End {
		e.pad(p, hop)
	}
	e.sendFrame(p, hop)
}

// pad decides about a packet's padding.
func (e *Engine) pad(p *wire.Packet, hop neigh.ID) {
	if p.Len-p.L3 > e.snap.legs[e.neigh.Leg(hop)].MTU || p.Offload.Flags&wire.NeedsCsum != 0 || p.Super() {
		p.Len = p.End
	}
}

// sendFrame gives a frame its MAC addresses and puts it into the output; while the next hop's address is not known, the
// packet waits or is dropped.
func (e *Engine) sendFrame(p *wire.Packet, hop neigh.ID) {
	to := e.neigh.Hop(hop)
	if !to.Ready(e.now) {
		if mac, wait := e.neigh.MAC(e.now, hop); mac == nil {
			e.hold(p, hop, wait)
			return
		}
	}
	p.Leg = to.Leg
	dsr.Redirect(&p.Frame, &e.snap.legs[to.Leg].MAC, &to.MAC)
	e.emit(&p.Frame)
	p.Verdict = wire.Transmit
	e.counters.Transmitted++
	if e.trace != nil {
		e.rec.finish(e, p, hop)
	}
}

// hold lets a packet wait for its next hop's MAC address, if an answer may come and there is room.
func (e *Engine) hold(p *wire.Packet, hop neigh.ID, answer bool) {
	if !answer || !e.held.keep(p, hop, e.neigh.Addr(hop)) {
		e.done(p, wire.NeighUnresolved)
		return
	}
	p.Verdict = wire.Held
	e.count(wire.Held, wire.ReasonNone)
	if e.trace != nil {
		e.rec.finish(e, p, hop)
	}
}

// emit puts a frame into the output of its leg.
func (e *Engine) emit(f *wire.Frame) {
	e.out.Legs[f.Leg] = append(e.out.Legs[f.Leg], f)
	e.counters.Sent++
}

// answer sends a frame that was written over the packet that caused it back to where that came from: length bytes of the
// network packet. The reason tells what it is.
func (e *Engine) answer(p *wire.Packet, length int, reason wire.Reason) {
	back := wire.MAC(p.Bytes()[6:12])
	dsr.Redirect(&p.Frame, &e.snap.legs[p.Leg].MAC, &back)
	p.Len = p.L3 + length
	p.End = p.Len
	p.Offload = wire.Offload{}
	e.emit(&p.Frame)
	e.done(p, reason)
}

// heldFrame is a packet that waits for its next hop's MAC address. It was counted and translated already.
type heldFrame struct {
	wire.Frame
	mem [heldSize]byte
	hop neigh.ID
	to  wire.Addr // of the hop
	st  holdState

	note holdNote
}

type holdState uint8

const (
	holdFree holdState = iota
	holdWaiting
	holdSent // in the output of this call; free in the next
)

// holdTable keeps the packets in the order in which they came, and lets them leave in it.
type holdTable struct {
	frames  [heldFrames]heldFrame
	order   [heldFrames]uint8 // places in frames: the first used ones are waiting or sent, oldest first; the rest is free
	waiting int
	used    int
}

func (h *holdTable) init() {
	for i := range h.order {
		h.order[i] = uint8(i)
	}
}

// reset frees the places of packets that wait no longer.
func (h *holdTable) reset() {
	if h.used == h.waiting {
		return
	}
	n := 0
	for i, place := range h.order[:h.used] {
		if h.frames[place].st == holdWaiting {
			h.order[i], h.order[n] = h.order[n], place
			n++
		}
	}
	h.used = n
}

// crowded reports whether a next hop has its share of the places: one that does not answer must leave some to the others.
func (h *holdTable) crowded(hop neigh.ID) bool {
	n := 0
	for _, place := range h.order[:h.used] {
		if f := &h.frames[place]; f.st == holdWaiting && f.hop == hop {
			n++
		}
	}
	return n >= heldOneHop
}

// keep copies a packet that waits for a next hop, whose address is to.
func (h *holdTable) keep(p *wire.Packet, hop neigh.ID, to wire.Addr) bool {
	d := p.Bytes()
	if h.used == heldFrames || len(d) > heldSize-wire.Headroom || h.crowded(hop) {
		return false
	}
	f := &h.frames[h.order[h.used]]
	h.used++
	h.waiting++
	f.Frame = p.Frame
	f.Buf, f.Off, f.Len = f.mem[:], wire.Headroom, len(d)
	copy(f.mem[wire.Headroom:], d)
	f.hop, f.to, f.st = hop, to, holdWaiting
	return true
}

// letGo sends the held packets whose next hop is known now, and drops those whose next hop did not answer.
func (e *Engine) letGo() {
	h := &e.held
	for n := 0; n < h.used && h.waiting > 0; n++ {
		f := &h.frames[h.order[n]]
		if f.st != holdWaiting {
			continue
		}
		switch {
		case f.to != e.neigh.Addr(f.hop) || e.neigh.Absent(f.hop):
			f.st = holdFree
			h.waiting--
			e.counters.Held--
			e.count(wire.Drop, wire.NeighUnresolved)
			e.sample(&f.Frame, wire.NeighUnresolved)
			if e.trace != nil {
				e.late.release(e, f)
				e.late.lost(e)
			}
		case e.neigh.Known(f.hop):
			f.st = holdSent
			h.waiting--
			e.counters.Held--
			e.counters.Transmitted++
			if e.trace != nil {
				e.late.release(e, f)
			}
			mac, _ := e.neigh.MAC(e.now, f.hop)
			f.Leg = e.neigh.Leg(f.hop)
			dsr.Redirect(&f.Frame, &e.snap.legs[f.Leg].MAC, mac)
			e.emit(&f.Frame)
			if e.trace != nil {
				e.late.released(e, f)
			}
		}
	}
}

// ownFrame is memory for the frames that naru makes itself in one call.
type ownFrame struct {
	wire.Frame
	mem [wire.Headroom + ownSize]byte
}

type ownTable struct {
	frames [ownFrames]ownFrame
	used   int
}

func (o *ownTable) reset() { o.used = 0 }

// room reports whether another frame can be made in this call.
func (o *ownTable) room() bool { return o.used < ownFrames }

// make returns the bytes of a new frame behind its Ethernet header, which is filled in; room must have been asked.
func (e *Engine) make(leg uint8, to wire.MAC, etherType uint16, length int) (*wire.Frame, []byte) {
	o := &e.own.frames[e.own.used]
	e.own.used++
	o.Frame = wire.Frame{Buf: o.mem[:], Off: wire.Headroom, Len: wire.EthernetLen + length, Leg: leg}
	d := o.Bytes()
	copy(d[:6], to[:])
	copy(d[6:12], e.snap.legs[leg].MAC[:])
	d[12], d[13] = byte(etherType>>8), byte(etherType)
	e.counters.Made++
	return &o.Frame, d[wire.EthernetLen:]
}
