package sched

import "math/bits"

// member is a backend that may get connections.
type member struct {
	*Load
	index  int    // in the list that the scheduler was made for
	weight uint64 // as configured, or 1 where weights do not count
	share  uint32 // relative to the largest share of all members
	max    int64
}

// effective is the weight with the share in it.
func (m *member) effective() uint64 { return m.weight * uint64(m.share) }

// take counts a connection, unless the backend has as many as it may have.
func (m *member) take() bool { return m.Take(m.max) }

// due reports whether a turn of this backend counts: of a share of 1/4 every fourth does.
func (m *member) due() bool {
	return m.share == ShareAll || m.ramp.Add(m.share)&(ShareAll-1) < m.share
}

// set is what all schedulers share: the members, in the order of the list.
type set struct {
	members []member
	names   []string
	refuse  bool
	space   space // by effective weight
}

func newSet(o *Options, backends []Backend) set {
	weighs := o.Kind != RR && o.Kind != LC
	s := set{refuse: o.Refuse}
	largest := uint64(1)
	for i := range backends {
		b := &backends[i]
		if b.Weight == 0 {
			continue
		}
		m := member{Load: b.Load, index: i, weight: 1, share: ShareAll, max: NoLimit}
		if weighs {
			m.weight = uint64(b.Weight)
		}
		if b.Share != 0 && b.Share < ShareAll {
			m.share = b.Share
		}
		if b.Max > 0 {
			m.max = b.Max
		}
		largest = max(largest, uint64(m.share))
		s.members = append(s.members, m)
		s.names = append(s.names, b.Name)
	}
	for i := range s.members {
		m := &s.members[i]
		m.share = uint32(uint64(m.share) * ShareAll / largest)
	}
	s.space = newSpace(s.members, (*member).effective)
	return s
}

// Stateless implements Scheduler for those that do not hash.
func (s *set) Stateless(hash uint64) int {
	if len(s.members) == 0 {
		return None
	}
	return s.members[s.space.at(hash)].index
}

// anybody takes the first member that has room: before the others those that are not in slow start.
func (s *set) anybody() int {
	if len(s.members) == 0 {
		return None
	}
	for i := range s.members {
		if m := &s.members[i]; m.share == ShareAll && m.take() {
			return m.index
		}
	}
	for i := range s.members {
		if m := &s.members[i]; m.share != ShareAll && m.take() {
			return m.index
		}
	}
	return Full
}

// space divides the values of a hash among members, in their order.
type space []uint64 // where each member's part ends

func newSpace(members []member, width func(*member) uint64) space {
	ends, sum := make(space, len(members)), uint64(0)
	for i := range members {
		sum += width(&members[i])
		ends[i] = sum
	}
	return ends
}

// total is the width of the space.
func (s space) total() uint64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1]
}

// at returns the number of the member to whose part a hash belongs. The space must not be empty.
func (s space) at(hash uint64) int {
	x, _ := bits.Mul64(hash, s.total())
	lo, hi := 0, len(s)-1
	for lo < hi {
		if mid := (lo + hi) >> 1; x < s[mid] {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// mix64 is the finalizer of MurmurHash3 (Appleby), a bijection that mixes well.
func mix64(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
