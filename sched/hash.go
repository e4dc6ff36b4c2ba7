package sched

import "math/bits"

// probes is how many places a hash is looked for, one after the other, when the first is full or has its bound.
const probes = 16

// golden is 2^64 divided by the golden ratio: multiples of it are spread evenly.
const golden = 0x9e3779b97f4a7c15

// placing is where hashes belong: Maglev's table, or the space of the hash divided by weight.
type placing interface {
	// place returns the number of a member: of a hash that was not welcome so many times before.
	place(hash uint64, times int) int
}

// hashed gives all connections with one hash to one member.
//
// During slow start there are two placings, with the members in slow start and without. A hash that belongs to a member in
// slow start goes there if it is among the share that the member has already, else to one of the others: with Maglev's
// table where it belonged before. So a client moves to the new member once, at some time of the slow start, and nothing is
// built while the share grows.
//
// With a bound a member has fewer connections than bound times its part of all connections, or a hash goes on to the next
// place (consistent hashing with bounded loads, Mirrokni et al. 2016). Workers that choose in the same moment may each
// exceed it by one.
type hashed struct {
	set
	all, before placing // before: without those in slow start
	bound       uint64  // 0: none
	table       *table  // of mh
	older       *table
}

func newSourceHash(o *Options, s set) *hashed {
	full := newSpace(s.members, func(m *member) uint64 { return m.weight })
	before := newSpace(s.members, func(m *member) uint64 {
		if m.share != ShareAll {
			return 0
		}
		return m.weight
	})
	return &hashed{set: s, all: full, before: again{before}, bound: uint64(o.Bounded)}
}

// place implements placing: each time is another draw.
func (s space) place(hash uint64, times int) int {
	if times > 0 {
		hash = mix64(hash + uint64(times)*golden)
	}
	return s.at(hash)
}

// again is a space for hashes that belong to a part of another one: by themselves they would all be in one part here too.
type again struct{ space }

func (a again) place(hash uint64, times int) int { return a.space.place(hash, times+1) }

// Pick implements Scheduler.
func (h *hashed) Pick(hash uint64) int {
	if len(h.members) == 0 {
		return None
	}
	var total uint64
	if h.bound != 0 {
		total = h.total() + 1
	}
	for times := range probes {
		m := h.home(hash, times)
		switch {
		case h.bound != 0 && !h.within(m, total):
		case m.take():
			return m.index
		case h.refuse:
			return Full
		}
	}
	return h.scan(hash, total)
}

// Stateless implements Scheduler.
func (h *hashed) Stateless(hash uint64) int {
	if len(h.members) == 0 {
		return None
	}
	return h.home(hash, 0).index
}

// home returns where a hash belongs that was not welcome so many times before.
func (h *hashed) home(hash uint64, times int) *member {
	m := &h.members[h.all.place(hash, times)]
	if m.share != ShareAll && uint32(mix64(hash^golden)&(ShareAll-1)) >= m.share {
		m = &h.members[h.before.place(hash, times)]
	}
	return m
}

// total returns the connections of all members.
func (h *hashed) total() uint64 {
	var sum int64
	for i := range h.members {
		sum += h.members[i].Active.Load()
	}
	return uint64(max(sum, 0))
}

// within reports whether a member has less than bound times its part of total.
func (h *hashed) within(m *member, total uint64) bool {
	hasHi, hasLo := bits.Mul64(uint64(max(m.Active.Load(), 0)), h.space.total()*ShareAll)
	mayHi, mayLo := bits.Mul64(total, m.effective()*h.bound)
	return hasHi < mayHi || hasHi == mayHi && hasLo < mayLo
}

// scan goes through the list from where a hash belongs: to the first member within its bound, else to the first with room.
func (h *hashed) scan(hash, total uint64) int {
	first := h.all.place(hash, 0)
	if h.bound != 0 {
		for i := range h.members {
			if m := h.after(first, i); h.within(m, total) && m.take() {
				return m.index
			}
		}
	}
	for i := range h.members {
		if m := h.after(first, i); m.take() {
			return m.index
		}
	}
	return Full
}

// after returns the member i places behind the first one, around the end of the list.
func (h *hashed) after(first, i int) *member {
	if first += i; first >= len(h.members) {
		first -= len(h.members)
	}
	return &h.members[first]
}
