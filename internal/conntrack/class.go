package conntrack

import "math/bits"

// Class says how much a connection has shown of itself. What anybody can begin with forged packets is told apart from what
// needs both ends: it is the first to go when there is no room.
type Class uint8

// The classes.
const (
	Handshake  Class = iota // TCP: the handshake is not over; past us or picked up: not confirmed
	Question                // UDP: not answered, or answered and no more
	TCP                     // TCP that is proven, until it is closed
	UDP                     // UDP that is proven
	Closed                  // TCP that is over
	NumClasses              // how many there are

	numWheels = 3
)

// wheel returns which wheel a class is on; Closed has none.
func (c Class) wheel() int { return int(min(c, TCP)) }

// provenPackets is how many packets of a client prove UDP to which we see no answer (our choice: a resolver gives up after
// fewer, and a flood of forged sources sends one each).
const provenPackets = 4

// class returns the connection's class.
func (c *Conn) class() Class { return classOf(c.State, c.Flags) }

func classOf(s State, flags uint8) Class {
	switch {
	case s == TCPClosed:
		return Closed
	case s == UDPUnreplied || s == UDPAssured:
		if flags&proven != 0 {
			return UDP
		}
		return Question
	case flags&proven != 0:
		return TCP
	}
	return Handshake
}

// Proven reports whether more than one forged packet was needed to bring the connection where it is.
func (c *Conn) Proven() bool { return c.Flags&proven != 0 }

// prove looks whether a packet shows that the connection is more than somebody's claim: the end of a handshake, an answer
// to what was picked up, another packet of a client whose replies pass us by or that got its answer. before is the state
// before the packet, which is counted already.
func (c *Conn) prove(d Dir, before State) {
	shown := false
	switch before {
	case TCPSyn:
		shown = c.State != TCPSyn && c.Flags&oneSided == 0
	case TCPEstablished, TCPClosing, TCPClientOnly:
		shown = d == Reply || c.Flags&oneSided != 0 && c.packets[Original] > 1
	case UDPAssured:
		shown = d == Original
	case UDPUnreplied:
		shown = d == Original && c.packets[Original] >= provenPackets
	}
	if shown {
		c.Flags |= proven
	}
}

// Count returns how many connections of a class there are.
func (t *Table) Count(c Class) int { return int(t.counts[c]) }

// Oldest returns the connection of a class that will have been idle for its time first, to a quarter of a second, or None:
// the one to remove when there is no room. The classes are Handshake, Question and Closed. match, unless nil, may refuse
// some; it looks at no more than tries of them.
func (t *Table) Oldest(class Class, tries int, match func(*Conn) bool) ID {
	if class == Closed {
		return t.first(closed)
	}
	w := &t.wheels[class.wheel()]
	spare := None
	for slot, left := w.hand, tries; left > 0; slot++ {
		var ok bool
		if slot, ok = w.occupied(slot); !ok {
			break
		}
		id := t.first(w.list(slot))
		if id == None {
			i := slot & (w.slots - 1)
			w.used[i/64] &^= 1 << (i % 64)
		}
		for id != None && left > 0 {
			c, next := &t.conns[id], t.next(uint32(id))
			left--
			fits := match == nil || match(c)
			late := (c.deadline>>slotShift - slot) & slotMask
			if late != 0 && late <= slotMask/2 { // packets have put its end off
				t.displace(id, class)
				t.place(id, class, c.deadline)
				if fits && spare == None {
					spare = id
				}
			} else if fits {
				return id
			}
			id = next
		}
	}
	return spare
}

// occupied returns the first slot number from slot on, within one turn of the hand, whose list may have entries.
func (w *wheel) occupied(slot uint32) (uint32, bool) {
	for slot-w.hand < w.slots {
		i := slot & (w.slots - 1)
		word := w.used[i/64] >> (i % 64)
		if word != 0 {
			slot += uint32(bits.TrailingZeros64(word))
			return slot, slot-w.hand < w.slots
		}
		slot += 64 - i%64
	}
	return slot, false
}
