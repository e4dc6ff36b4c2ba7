// Package neigh knows the MAC addresses of next hops: a table, the questions that fill it (ARP and neighbour discovery)
// and the answers that naru gives for its own addresses.
//
// Contract: a state machine without I/O. It is fed with what comes over the wire and what the kernel knows, and says what
// to ask when; the owner sends the questions. One goroutine owns a table; its size is fixed; nothing is allocated after
// construction. An id stays the same neighbour until the table's generation changes.
//
// It does not choose next hops (that is routing) and keeps no packets (the engine does).
//
// RFC 826 (ARP), RFC 5227 (probes, announcements), RFC 4861 (neighbour discovery), RFC 4862 (duplicate address detection).
package neigh

import (
	"encoding/binary"
	"time"

	"naru/internal/wire"
)

// Our own choices; the order of magnitude is that of RFC 4861 10.
const (
	Retry      = time.Second      // between two questions about one neighbour
	MaxTries   = 3                // questions before a neighbour counts as absent
	Quiet      = 3 * time.Second  // an absent neighbour is not asked for again for so long
	Fresh      = 30 * time.Second // a neighbour in use is asked again after this time
	ready      = time.Second      // how long a packet may use a neighbour without asking MAC
	reclaim    = time.Minute      // a neighbour that was not used for so long may give up its place
	reclaimRun = 64               // places that are looked at to find one
)

// ID names a neighbour within its table; None is no neighbour.
type ID uint16

// None is no neighbour.
const None = ID(0xffff)

type state uint8

const (
	unused state = iota
	asking       // no MAC address yet
	known        // has a MAC address
	absent       // did not answer
)

// Hop is what a packet needs of a neighbour.
type Hop struct {
	MAC   wire.MAC // valid while Ready
	Leg   uint8
	until wire.Time
}

// Ready reports whether packets may be sent to the hop at once. When it is false MAC tells what to do.
func (h *Hop) Ready(now wire.Time) bool { return now < h.until }

type entry struct {
	Hop
	addr      wire.Addr
	confirmed wire.Time // known: when it was last heard of; absent: when it was given up
	asked     wire.Time // when the last question was sent
	used      wire.Time
	hash      uint32
	state     state
	tries     uint8
	fixed     bool  // configured or permanent: never asked
	queued    *list // the list of questions that it stands in, or nil
	next      ID
	prev      ID
}

// list is a list of neighbours, chained through their entries.
type list struct{ first, last ID }

// Table is the neighbours of all legs.
type Table struct {
	entries []entry
	index   []ID // open addressing, linear probing; None is empty
	mask    uint32
	key     uint64
	count   int
	hand    int
	gen     uint32
	fresh   list // neighbours to be asked at once
	retry   list // neighbours that were asked, in the order in which their time is over
}

// NewTable makes a table for so many neighbours, at most 65535. key is the secret of the hash.
func NewTable(size int, key uint64) *Table {
	size = min(size, int(None))
	n := 1
	for n < 2*size {
		n <<= 1
	}
	t := &Table{entries: make([]entry, size), index: make([]ID, n), mask: uint32(n - 1), key: key | 1, gen: 1,
		fresh: list{None, None}, retry: list{None, None}}
	for i := range t.index {
		t.index[i] = None
	}
	return t
}

// Generation changes when an id may have become another neighbour. It is never 0.
func (t *Table) Generation() uint32 { return t.gen }

// Len returns the number of neighbours.
func (t *Table) Len() int { return t.count }

func (t *Table) hash(leg uint8, addr *wire.Addr) uint32 {
	h := (binary.LittleEndian.Uint64(addr[:]) ^ t.key) * 0x9e3779b97f4a7c15
	h ^= (binary.LittleEndian.Uint64(addr[8:]) + h>>29 + uint64(leg)) * t.key
	return uint32((h * 0xd6e8feb86659fd93) >> 32)
}

// Find returns the neighbour at an address, or None.
func (t *Table) Find(leg uint8, addr wire.Addr) ID {
	h := t.hash(leg, &addr)
	for i := h & t.mask; t.index[i] != None; i = (i + 1) & t.mask {
		id := t.index[i]
		if e := &t.entries[id]; e.hash == h && e.Leg == leg && e.addr == addr {
			return id
		}
	}
	return None
}

// Want returns the neighbour at an address and takes a place for it when it is new; None when all places are in use.
func (t *Table) Want(now wire.Time, leg uint8, addr wire.Addr) ID {
	if id := t.Find(leg, addr); id != None {
		return id
	}
	id := t.place(now)
	if id == None {
		return None
	}
	t.entries[id] = entry{Hop: Hop{Leg: leg}, addr: addr, hash: t.hash(leg, &addr), state: absent, used: now,
		confirmed: now.Add(-Quiet)}
	t.insert(id)
	t.count++
	return id
}

func (t *Table) insert(id ID) {
	i := t.entries[id].hash & t.mask
	for t.index[i] != None {
		i = (i + 1) & t.mask
	}
	t.index[i] = id
}

// place finds an entry that is unused, that nobody has needed for a while, or that has not answered.
func (t *Table) place(now wire.Time) ID {
	for range min(reclaimRun, len(t.entries)) {
		id := ID(t.hand)
		t.hand = (t.hand + 1) % len(t.entries)
		e := &t.entries[id]
		if e.state == unused {
			return id
		}
		// What did not answer, and need not be remembered so as not to be asked again, tells nothing: a flood of
		// addresses that nobody has must not keep the others out.
		idle := now.Sub(e.used) > reclaim || e.state == absent && now.Sub(e.confirmed) > Quiet
		if !e.fixed && e.queued == nil && idle {
			t.remove(id)
			t.gen = max(1, t.gen+1)
			return id
		}
	}
	return None
}

func (t *Table) remove(id ID) {
	i := t.entries[id].hash & t.mask
	for t.index[i] != id {
		i = (i + 1) & t.mask
	}
	for j := (i + 1) & t.mask; t.index[j] != None; j = (j + 1) & t.mask {
		if home := t.entries[t.index[j]].hash & t.mask; (j-home)&t.mask >= (j-i)&t.mask {
			t.index[i] = t.index[j]
			i = j
		}
	}
	t.index[i] = None
	t.entries[id].state = unused
	t.count--
}

// Hop returns a neighbour as packets see it. It stays the same as long as the id.
func (t *Table) Hop(id ID) *Hop { return &t.entries[id].Hop }

// MAC returns the MAC address of a neighbour, if it is known, and sees to it that it is asked when it is not or when the
// knowledge is old. wait says that an answer may come, so that a packet is worth keeping. For a while afterwards the
// neighbour's Hop is ready: its use is noted once in that time.
func (t *Table) MAC(now wire.Time, id ID) (mac *wire.MAC, wait bool) {
	e := &t.entries[id]
	e.used = now
	switch e.state {
	case known:
		if !e.fixed && e.queued == nil && now.Sub(e.confirmed) > Fresh {
			t.ask(id)
		}
		e.until = now.Add(ready)
		return &e.Hop.MAC, false
	case absent:
		if now.Sub(e.confirmed) < Quiet {
			return nil, false
		}
		e.state = asking
		t.ask(id)
	}
	return nil, true
}

// Peek returns the MAC address of a neighbour, or nil, without any effect.
func (t *Table) Peek(id ID) *wire.MAC {
	if e := &t.entries[id]; e.state == known {
		return &e.Hop.MAC
	}
	return nil
}

// ask begins to ask for a neighbour.
func (t *Table) ask(id ID) {
	t.entries[id].tries = 0
	t.enqueue(&t.fresh, id)
}

func (t *Table) enqueue(l *list, id ID) {
	e := &t.entries[id]
	e.queued, e.next, e.prev = l, None, l.last
	if l.last == None {
		l.first = id
	} else {
		t.entries[l.last].next = id
	}
	l.last = id
}

func (t *Table) dequeue(id ID) {
	e := &t.entries[id]
	l := e.queued
	if l == nil {
		return
	}
	if e.prev == None {
		l.first = e.next
	} else {
		t.entries[e.prev].next = e.next
	}
	if e.next == None {
		l.last = e.prev
	} else {
		t.entries[e.next].prev = e.prev
	}
	e.queued = nil
}

// Question is one ARP request or neighbour solicitation to send.
type Question struct {
	Leg  uint8
	Addr wire.Addr
	MAC  wire.MAC // where to: Broadcast (IPv6: the solicited-node group) unless an old answer is checked
}

// Due returns the next question that is due. It gives neighbours up that did not answer, at most budget of them. Call it
// until ok is false, or stop earlier: what is due stays due.
func (t *Table) Due(now wire.Time, budget int) (q Question, ok bool) {
	for range budget {
		id := t.fresh.first
		if id == None {
			if id = t.retry.first; id == None || now < t.entries[id].asked.Add(Retry) {
				return q, false
			}
		}
		e := &t.entries[id]
		t.dequeue(id)
		if e.tries == MaxTries {
			e.state, e.confirmed, e.until = absent, now, 0
			continue
		}
		q = Question{Leg: e.Leg, Addr: e.addr, MAC: wire.Broadcast}
		if e.state == known && e.tries == 0 {
			q.MAC = e.Hop.MAC
		}
		e.tries++
		e.asked = now
		t.enqueue(&t.retry, id)
		return q, true
	}
	return q, false
}

// Learn takes note that addr is at mac. Only neighbours that somebody wanted are noted: nobody can fill the table with
// gratuitous announcements. It returns the neighbour, or None.
func (t *Table) Learn(now wire.Time, leg uint8, addr wire.Addr, mac wire.MAC) ID {
	id := t.Find(leg, addr)
	if id == None || t.entries[id].fixed {
		return None
	}
	t.settle(now, id, mac, false)
	return id
}

// Set notes what the kernel or the configuration knows. A fixed neighbour is never asked.
func (t *Table) Set(now wire.Time, leg uint8, addr wire.Addr, mac wire.MAC, fixed bool) {
	if id := t.Want(now, leg, addr); id != None && (fixed || !t.entries[id].fixed) {
		t.settle(now, id, mac, fixed)
	}
}

// Loosen makes all fixed neighbours ordinary ones, which are asked again when they are needed next; Set fixes those again
// that are still configured.
func (t *Table) Loosen(now wire.Time) {
	for i := range t.entries {
		if e := &t.entries[i]; e.fixed {
			e.fixed, e.confirmed, e.until = false, now.Add(-Fresh-1), 0
		}
	}
}

func (t *Table) settle(now wire.Time, id ID, mac wire.MAC, fixed bool) {
	e := &t.entries[id]
	e.state, e.Hop.MAC, e.confirmed, e.fixed = known, mac, now, fixed
	t.dequeue(id)
}

// Leg returns the leg that a neighbour is on.
func (t *Table) Leg(id ID) uint8 { return t.entries[id].Leg }

// Addr returns the address of a neighbour.
func (t *Table) Addr(id ID) wire.Addr { return t.entries[id].addr }

// Known reports whether a neighbour's MAC address is known.
func (t *Table) Known(id ID) bool { return t.entries[id].state == known }

// Absent reports whether the neighbour was given up.
func (t *Table) Absent(id ID) bool { return t.entries[id].state == absent }
