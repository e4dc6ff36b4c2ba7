package conntrack

import "naru/internal/wire"

// Expiry is a wheel of slots for each class of connections, each slot a list in the order in which they came. A packet only
// writes the connection's deadline; when the slot's turn comes, a connection whose deadline moved on is put into a later
// slot. So an established connection costs one visit a turn of the wheel, and a packet no list work at all. Closed
// connections all linger equally long and stand in a list of their own, oldest first.
const (
	slotShift = 4                     // stamps a slot: 16, about a quarter of a second
	slotMask  = 1<<(32-slotShift) - 1 // slot numbers count modulo this plus one

	shortWheel = 256 // slots: a turn of about 69 s, for what ends soon
	longWheel  = 512 // slots: about 137 s

	closed    = 2*shortWheel + longWheel // the list behind those of the wheels
	listCount = closed + 1
	headCount = listCount + 1 // and the place that a sweep has come to

	leap = 1 << (30 + stampShift) // ns: half a year
)

// Link chains an entry, or the head of a list, into a ring.
type Link struct{ prev, next uint32 }

// wheel is the lists of one class. A slot number, taken modulo the number of slots, is a list.
type wheel struct {
	first uint32 // its first list
	slots uint32 // a power of two
	hand  uint32 // the number of the slot that is dealt with next

	// used has a bit for each list that is not empty. The bit of one that has become empty goes when it is looked at.
	used [longWheel / 64]uint64
}

// list returns the list of a slot number.
func (w *wheel) list(slot uint32) uint32 { return w.first + slot&(w.slots-1) }

// ring holds the lists: entries first, then a head each list, then the sweep's place.
type ring struct {
	links  []Link
	heads  uint32 // the index of the first head
	wheels [numWheels]wheel
	sweep  sweep
}

func (r *ring) init(links []Link, heads uint32) {
	r.links, r.heads = links, heads
	for i := range uint32(headCount) {
		r.links[heads+i] = Link{heads + i, heads + i}
	}
	r.wheels = [numWheels]wheel{
		{first: 0, slots: shortWheel}, {first: shortWheel, slots: shortWheel}, {first: 2 * shortWheel, slots: longWheel}}
	r.sweep = sweep{list: listCount}
}

func (r *ring) unlink(n uint32) {
	l := r.links[n]
	r.links[l.prev].next, r.links[l.next].prev = l.next, l.prev
}

// after puts n behind another element of a list.
func (r *ring) after(at, n uint32) {
	next := r.links[at].next
	r.links[n] = Link{at, next}
	r.links[at].next, r.links[next].prev = n, n
}

// push puts n at the end of a list.
func (r *ring) push(list, n uint32) { r.after(r.links[r.heads+list].prev, n) }

// next returns the entry behind an element of a list, or None at its end.
func (r *ring) next(n uint32) ID {
	if n = r.links[n].next; n == r.heads+listCount {
		n = r.links[n].next // the sweep stands here
	}
	if n < r.heads {
		return ID(n)
	}
	return None
}

// first returns the first entry of a list, or None.
func (r *ring) first(list uint32) ID { return r.next(r.heads + list) }

// place puts an entry into the slot of its deadline, or as far ahead as the wheel reaches, or among the closed.
func (t *Table) place(id ID, c Class, deadline uint32) {
	t.counts[c]++
	if c == Closed {
		t.push(closed, uint32(id))
		return
	}
	w := &t.wheels[c.wheel()]
	at := deadline >> slotShift
	if (at-w.hand)&slotMask >= w.slots {
		at = w.hand + w.slots - 1
	}
	at &= w.slots - 1
	w.used[at/64] |= 1 << (at % 64)
	t.push(w.first+at, uint32(id))
}

// displace takes an entry out of its list.
func (t *Table) displace(id ID, c Class) {
	t.counts[c]--
	t.unlink(uint32(id))
}

// Expired reports whether a connection's idle time is over.
func (t *Table) Expired(c *Conn, now wire.Time) bool { return int32(stamp(now)-c.deadline) >= 0 }

// Expire visits at most budget entries whose turn has come and calls end for those whose idle time is over or whose path is
// doomed; end removes them, or returns false when it can end no more now. It returns how many visits it made: budget means
// that there may be more to do. No class of connections keeps the others waiting: each has its share of the budget.
func (t *Table) Expire(now wire.Time, budget int, end func(ID) bool) int {
	t.Advance(now)
	visits := 0
	for _, most := range [...]int{budget / (numWheels + 1), budget} {
		done, ok := t.expireClosed(now, min(most, budget-visits), end)
		visits += done
		for i := 0; ok && i < numWheels; i++ {
			done, ok = t.turn(&t.wheels[i], now, min(most, budget-visits), end)
			visits += done
		}
		if !ok {
			break
		}
	}
	return visits
}

func (t *Table) expireClosed(now wire.Time, budget int, end func(ID) bool) (visits int, ok bool) {
	for ; visits < budget; visits++ {
		id := t.first(closed)
		if id == None || !t.Expired(&t.conns[id], now) {
			break
		}
		if !end(id) {
			return visits, false
		}
	}
	return visits, true
}

// turn moves the hand of a wheel on to now.
func (t *Table) turn(w *wheel, now wire.Time, budget int, end func(ID) bool) (visits int, ok bool) {
	for target := stamp(now) >> slotShift; visits < budget && w.hand != target; {
		id := t.first(w.list(w.hand))
		if id == None {
			w.hand = (w.hand + 1) & slotMask
			continue
		}
		visits++
		if c := &t.conns[id]; !t.Expired(c, now) && !t.paths.at(c.Path).doomed {
			class := c.class()
			t.displace(id, class)
			t.place(id, class, c.deadline)
		} else if !end(id) {
			return visits, false
		}
	}
	return visits, true
}

// Advance tells the table the time, as Insert and Expire do too: call it before the lookups of a batch. It deals with
// leaps: a hand never has more than one turn of its wheel to go, and after a leap that stamps cannot tell from a step
// back every deadline is over.
func (t *Table) Advance(now wire.Time) {
	if now.Sub(t.last) > leap {
		for i := range t.unused {
			t.conns[i].deadline = stamp(now)
		}
	}
	t.last = now
	target := stamp(now) >> slotShift
	for i := range t.wheels {
		w := &t.wheels[i]
		if t.count == 0 {
			w.hand = target
		} else if behind := (target - w.hand) & slotMask; behind >= w.slots {
			w.hand = (target - w.slots) & slotMask
		}
	}
}
