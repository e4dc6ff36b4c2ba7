package conntrack

import "naru/internal/wire"

// Expiry is a wheel of slots, each a list of connections in the order in which they came. A packet only writes the
// connection's deadline; when the slot's turn comes, a connection whose deadline moved on is put into a later slot. So
// an established connection costs one visit a turn of the wheel, and a packet no list work at all. Closed connections
// all linger equally long and stand in a list of their own, oldest first: the first to go when there is no room.
const (
	slotShift = 4                     // stamps a slot: 16, about a quarter of a second
	slots     = 512                   // a turn of the wheel: about 137 s
	slotMask  = 1<<(32-slotShift) - 1 // slot numbers count modulo this plus one
	closed    = slots
	listCount = slots + 1

	leap = 1 << (30 + stampShift) // ns: half a year
)

// Link chains an entry, or the head of a list, into a ring.
type Link struct{ prev, next uint32 }

// ring holds the lists: entries first, then a head each list.
type ring struct {
	links []Link
	heads uint32 // the index of the first head
	hand  uint32 // the number of the slot that is dealt with next
}

func (r *ring) init(links []Link, heads uint32) {
	r.links, r.heads = links, heads
	for i := range uint32(listCount) {
		r.links[heads+i] = Link{heads + i, heads + i}
	}
}

func (r *ring) unlink(n uint32) {
	l := r.links[n]
	r.links[l.prev].next, r.links[l.next].prev = l.next, l.prev
}

func (r *ring) push(list, n uint32) {
	head := r.heads + list
	last := r.links[head].prev
	r.links[n] = Link{last, head}
	r.links[last].next, r.links[head].prev = n, n
}

// first returns the first entry of a list, or None.
func (r *ring) first(list uint32) ID {
	head := r.heads + list
	if n := r.links[head].next; n != head {
		return ID(n)
	}
	return None
}

// schedule puts an entry into the slot of its deadline, or as far ahead as the wheel reaches.
func (t *Table) schedule(id ID, deadline uint32) {
	at := deadline >> slotShift
	if (at-t.hand)&slotMask >= slots {
		at = t.hand + slots - 1
	}
	t.push(at%slots, uint32(id))
}

// Expired reports whether a connection's idle time is over.
func (t *Table) Expired(c *Conn, now wire.Time) bool { return int32(stamp(now)-c.deadline) >= 0 }

// Expire visits at most budget entries whose turn has come and calls end for those whose idle time is over; end removes
// them. It returns how many visits it made: budget means that there may be more to do.
func (t *Table) Expire(now wire.Time, budget int, end func(ID)) int {
	t.Advance(now)
	visits := 0
	for ; visits < budget; visits++ {
		id := t.first(closed)
		if id == None || !t.Expired(&t.conns[id], now) {
			break
		}
		end(id)
	}
	for target := stamp(now) >> slotShift; visits < budget && t.hand != target; {
		id := t.first(t.hand % slots)
		if id == None {
			t.hand = (t.hand + 1) & slotMask
			continue
		}
		visits++
		if c := &t.conns[id]; t.Expired(c, now) {
			end(id)
		} else {
			t.unlink(uint32(id))
			t.schedule(id, c.deadline)
		}
	}
	return visits
}

// Advance tells the table the time, as Insert and Expire do too: call it before the lookups of a batch. It deals with
// leaps: the hand never has more than one turn of the wheel to go, and after a leap that stamps cannot tell from a step
// back every deadline is over.
func (t *Table) Advance(now wire.Time) {
	if now.Sub(t.last) > leap {
		for i := range t.unused {
			t.conns[i].deadline = stamp(now)
		}
	}
	t.last = now
	target := stamp(now) >> slotShift
	if t.count == 0 {
		t.hand = target
	} else if behind := (target - t.hand) & slotMask; behind >= slots {
		t.hand = (target - slots) & slotMask
	}
}

// OldestClosed returns the connection that has been closed for longest, or None: the one to remove when there is no room.
func (t *Table) OldestClosed() ID { return t.first(closed) }
