package frag

import (
	"naru/internal/state"
	"naru/internal/wire"
)

// Carry writes down the datagrams under way and the fragments that are held, or reads them into an empty table of the same
// size and secret. Packets that Release gave must have been taken back. Frames come in by so many legs.
func (t *Table) Carry(c *state.Coder, legs int) {
	c.Section("fragments")
	state.Same(c, len(t.datagrams), "the number of datagrams")
	state.Same(c, len(t.held.packets), "the number of held fragments")
	seen := make([]bool, len(t.datagrams))
	var order []uint32
	for _, list := range [...]int{waiting, followed} {
		for _, id := range carryList(c, &t.ages, list, seen) {
			if c.Reading() {
				t.ages.move(list, id)
			}
			order = append(order, id)
			t.carryDatagram(c, ID(id))
		}
	}
	t.carrySources(c, seen)
	for _, id := range order {
		t.carryHeld(c, ID(id), legs)
	}
	state.Num(c, &t.held.lost)
}

// carryList carries the order of a list; what is read must not have been seen.
func carryList(c *state.Coder, l *lists, list int, seen []bool) (items []uint32) {
	if !c.Reading() {
		items = l.all(list)
	}
	items = append(items, make([]uint32, c.Count(len(items), len(seen))-len(items))...)
	state.Nums(c, items)
	for _, i := range items {
		if int(i) >= len(seen) || seen[i] {
			c.Fail("a list of datagrams")
			return nil
		}
		seen[i] = true
	}
	return items
}

func (t *Table) carryDatagram(c *state.Coder, id ID) {
	d := &t.datagrams[id]
	c.Fixed(d.src[:])
	c.Fixed(d.dst[:])
	state.All(c, &d.id, &d.value)
	state.All(c, &d.version, &d.proto, &d.carries)
	state.All(c, &d.born, &d.last)
	state.Num(c, &d.end)
	state.All(c, &d.top, &d.units, &d.srcPort, &d.dstPort)
	c.Check(int(d.top) <= maxUnits, "the end of a datagram")
	c.Bool(&d.known)
	c.Bool(&d.refused)
	words := (int(d.top) + 63) / 64
	if !c.OK() {
		return
	}
	state.Nums(c, t.covers[id].came[:words])
	state.Nums(c, t.covers[id].starts[:words])
	if c.Reading() {
		d.bucket, d.crowd = t.bucket(&d.key), t.crowd(&d.key)
		d.chain, t.buckets[d.bucket] = t.buckets[d.bucket], id
	}
}

// carrySources carries the order in which the datagrams of each source came.
func (t *Table) carrySources(c *state.Coder, seen []bool) {
	var order []uint32
	left := 0
	for _, there := range seen {
		if there {
			left++
		}
	}
	for crowd := range t.count {
		if !c.Reading() && t.count[crowd] > 0 {
			order = append(order, t.sources.all(crowd)...)
		}
	}
	placed := make([]bool, len(seen))
	for ; left > 0 && c.OK(); left-- {
		var id uint32
		if !c.Reading() {
			id, order = order[0], order[1:]
		}
		state.Num(c, &id)
		if int(id) >= len(seen) || !seen[id] || placed[id] {
			c.Fail("the datagrams of a source")
			return
		}
		placed[id] = true
		if crowd := t.datagrams[id].crowd; c.Reading() {
			t.sources.push(int(crowd), id)
			t.count[crowd]++
		}
	}
}

// carryHeld carries the fragments that wait for the first one of a datagram.
func (t *Table) carryHeld(c *state.Coder, id ID, legs int) {
	h := &t.held
	list := ofDatagram + int(id)
	var slots []uint32
	if !c.Reading() {
		slots = h.lists.all(list)
	}
	for n := c.Count(len(slots), len(h.packets)); n > 0 && c.OK(); n-- {
		if !c.Reading() {
			carryFrame(c, &h.packets[slots[0]].Frame)
			slots = slots[1:]
			continue
		}
		slot := h.lists.last(unused)
		if slot == none {
			c.Fail("too many fragments are held")
			return
		}
		at := int(slot) * heldSize
		p := wire.Packet{Frame: wire.Frame{Buf: h.memory[at : at+heldSize : at+heldSize], Off: wire.Headroom}}
		carryFrame(c, &p.Frame)
		if !c.OK() || int(p.Leg) >= legs || p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone ||
			p.Frag != wire.LaterFragment {
			c.Fail("a fragment that is held")
			return
		}
		h.packets[slot] = p
		h.count[t.datagrams[id].crowd]++
		h.lists.move(list, slot)
	}
}

// carryFrame carries a frame with what its bytes do not tell; its buffer must have the room.
func carryFrame(c *state.Coder, f *wire.Frame) {
	b := f.Bytes()
	c.Blob(&b, heldSize-wire.Headroom)
	if c.Reading() {
		f.Len = copy(f.Buf[f.Off:], b)
	}
	state.All(c, &f.Offload.Flags, &f.Offload.GSOType, &f.Leg)
	state.All(c, &f.Offload.HdrLen, &f.Offload.GSOSize, &f.Offload.CsumStart, &f.Offload.CsumOffset, &f.TPID, &f.TCI)
}
