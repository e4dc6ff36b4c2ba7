package sched

import (
	"cmp"
	"math/bits"
	"slices"
)

// Permutation is the order in which a backend wants the slots of a table of n: Offset, Offset+Skip, Offset+2*Skip and so
// on, modulo n. Offset is less than n; Skip is from 1 to n-1.
type Permutation struct{ Offset, Skip uint32 }

// Permute returns the permutation of a backend's name for a table of n slots, a prime, by SipHash with the key.
func Permute(key [2]uint64, name string, n int) Permutation {
	h := SipHash(key, []byte(name))
	return Permutation{Offset: uint32(h % uint64(n)), Skip: uint32(mix64(h)%uint64(n-1)) + 1}
}

// MaglevTable fills n slots with numbers of backends, by section 3.4 of "Maglev: A Fast and Reliable Software Network Load
// Balancer" (Eisenbud et al., NSDI 2016): in rounds, each backend in turn takes the first slot of its permutation that is
// free. With unequal weights a backend takes one in as many rounds as its weight is a part of the greatest weight, spread
// evenly, as Katran does. Weights are above 0 and below 2^48, n is above 0; there is at least one backend.
func MaglevTable(n int, order []Permutation, weights []uint64) []uint16 {
	const free = MaxBackends
	slots := make([]uint16, n)
	for i := range slots {
		slots[i] = free
	}
	next, saved := make([]uint32, len(order)), make([]uint64, len(order))
	for i := range order {
		next[i] = order[i].Offset
	}
	greatest, size := slices.Max(weights), uint32(n)
	for left := n; ; {
		for i := range order {
			if saved[i] += weights[i]; saved[i] < greatest {
				continue
			}
			saved[i] -= greatest
			at, skip := next[i], order[i].Skip
			for slots[at] != free {
				at = step(at, skip, size)
			}
			slots[at] = uint16(i)
			next[i] = step(at, skip, size)
			if left--; left == 0 {
				return slots
			}
		}
	}
}

// step returns (at + skip) modulo n.
func step(at, skip, n uint32) uint32 {
	if at += skip; at >= n {
		at -= n
	}
	return at
}

// table is Maglev's table of backends by name.
type table struct {
	key     [2]uint64
	names   []string // sorted
	weights []uint64
	slots   []uint16 // into names
}

// maglev is a table together with the members that it speaks of.
type maglev struct {
	slots   []uint16
	members []uint16 // the number of the member for what a slot says
}

// place implements placing: from slot to slot.
func (m *maglev) place(hash uint64, times int) int {
	x, _ := bits.Mul64(hash, uint64(len(m.slots)))
	if x += uint64(times); x >= uint64(len(m.slots)) {
		x -= uint64(len(m.slots))
	}
	return int(m.members[m.slots[x]])
}

func newMaglev(o *Options, s set, old *hashed) *hashed {
	h := &hashed{set: s, bound: uint64(o.Bounded)}
	var all, before []int
	for i := range s.members {
		all = append(all, i)
		if s.members[i].share == ShareAll {
			before = append(before, i)
		}
	}
	if len(all) == 0 {
		return h
	}
	known := []*table{nil, nil}
	if old != nil {
		known = []*table{old.table, old.older}
	}
	h.all, h.table = s.tabulate(o, all, known)
	h.before, h.older = h.all, h.table
	if len(before) < len(all) {
		h.before, h.older = s.tabulate(o, before, known)
	}
	return h
}

// tabulate returns the table of some members, a known one if it is the same. It does not depend on their order.
func (s *set) tabulate(o *Options, members []int, known []*table) (*maglev, *table) {
	slices.SortFunc(members, func(a, b int) int { return cmp.Compare(s.names[a], s.names[b]) })
	t := &table{key: o.Key}
	m := &maglev{}
	for _, i := range members {
		t.names = append(t.names, s.names[i])
		t.weights = append(t.weights, s.members[i].weight)
		m.members = append(m.members, uint16(i))
	}
	size := o.TableSize
	if size == 0 {
		size = DefaultTableSize
	}
	for _, k := range known {
		if k != nil && k.key == t.key && len(k.slots) == size && slices.Equal(k.names, t.names) &&
			slices.Equal(k.weights, t.weights) {
			m.slots = k.slots
			return m, k
		}
	}
	order := make([]Permutation, len(t.names))
	for i, name := range t.names {
		order[i] = Permute(o.Key, name, size)
	}
	t.slots = MaglevTable(size, order, t.weights)
	m.slots = t.slots
	return m, t
}

// IsPrime reports whether a table can have so many slots. It is not for the packet path.
func IsPrime(n int) bool {
	for d := 2; d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}
