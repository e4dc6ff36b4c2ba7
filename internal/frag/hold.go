package frag

import "naru/internal/wire"

// heldSize is the size of the buffer of a held fragment: enough for a jumbo frame, longer ones are not held. Memory that no
// fragment needed yet is not touched.
const heldSize = 10240

// Lists of held fragments: two, and then one a datagram, in order of arrival.
const (
	unused = iota
	lent   // given back by Release; unused after Reset
	ofDatagram
)

// hold keeps copies of later fragments whose first one has not come.
type hold struct {
	packets []wire.Packet
	memory  []byte
	lists   lists
	max     uint16   // fragments of one source
	count   []uint16 // fragments by crowd
	lost    int      // dropped since Expire told
}

func (h *hold) init(datagrams, size, crowds int) {
	*h = hold{
		packets: make([]wire.Packet, size), memory: make([]byte, size*heldSize),
		lists: newLists(size, ofDatagram+datagrams), count: make([]uint16, crowds),
		max: uint16(min((size+share-1)/share, 1<<16-1)),
	}
	for i := range size {
		h.lists.push(unused, uint32(i))
	}
}

// Hold keeps a copy of a later fragment that is not known; Later must just have said so. It returns false when there is no
// room: the packet is to be dropped as FragmentFlood.
func (t *Table) Hold(now wire.Time, p *wire.Packet) bool {
	pc, ok := read(p)
	if !ok || p.End > heldSize-wire.Headroom {
		return false
	}
	id, reason := t.seek(now, &pc)
	if reason != wire.ReasonNone || id != None && t.datagrams[id].known {
		return false
	}
	h, crowd := &t.held, t.crowd(&pc.key)
	slot := h.lists.last(unused)
	if slot == none || h.count[crowd] >= h.max {
		return false
	}
	if id == None {
		if id = t.admit(now, &pc.key); id == None {
			return false
		}
	}
	t.note(now, id, &pc)
	h.count[crowd]++
	h.lists.move(ofDatagram+int(id), slot)
	h.copy(slot, p)
	return true
}

// copy puts a packet into a buffer. Padding stays behind.
func (h *hold) copy(slot uint32, p *wire.Packet) {
	q := &h.packets[slot]
	*q = *p
	at := int(slot) * heldSize
	q.Buf, q.Off, q.Len = h.memory[at:at+heldSize:at+heldSize], wire.Headroom, p.End
	copy(q.Buf[q.Off:], p.Bytes()[:p.End])
}

// Release gives back the held fragments of a datagram that First just noted, one a call, in order of arrival, with the
// ports and the protocol of the first one filled in; nil when there are no more. They are noted already: Later must not
// see them. A packet and its buffer, with wire.Headroom before it, are the caller's until Reset.
func (t *Table) Release(id ID) *wire.Packet {
	h := &t.held
	slot := h.lists.first(ofDatagram + int(id))
	if slot == none {
		return nil
	}
	d := &t.datagrams[id]
	h.count[d.crowd]--
	h.lists.move(lent, slot)
	d.fill(&h.packets[slot])
	return &h.packets[slot]
}

// Reset takes back the packets that Release gave. The engine calls it when they are sent, before it takes the next batch.
func (t *Table) Reset() {
	l := &t.held.lists
	for slot := l.first(lent); slot != none; slot = l.first(lent) {
		l.move(unused, slot)
	}
}

// drop gives up the held fragments of a datagram.
func (h *hold) drop(id ID, crowd uint32) {
	for slot := h.lists.first(ofDatagram + int(id)); slot != none; slot = h.lists.first(ofDatagram + int(id)) {
		h.lists.move(unused, slot)
		h.count[crowd]--
		h.lost++
	}
}
