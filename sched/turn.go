package sched

import "sync/atomic"

// turn gives connections to the members in turn. With weights it is the rule of IPVS: a level goes from the greatest
// weight down to 1, all weights divided by what divides them all, and at each level those whose weight reaches it get one
// connection each. So 4, 3 and 2 give AABABCABC. Without weights there is one level.
//
// A member that is full, or whose share leaves this turn out, passes the turn on. The turn is a place in the whole list,
// so that one that drains, or is down for a while, does not shift it.
type turn struct {
	set
	state  *atomic.Uint64 // the level in the upper half, 0 before the first turn; the next place to look at in the lower
	levels []uint32       // by place in the list, 0 for those of weight 0
	who    []uint16       // the member there
	top    uint32
}

func newTurn(k Kind, s set, old *turn) *turn {
	places := 0
	if n := len(s.members); n > 0 {
		places = s.members[n-1].index + 1
	}
	t := &turn{set: s, levels: make([]uint32, places), who: make([]uint16, places)}
	if old != nil {
		t.state = old.state
	} else {
		t.state = new(atomic.Uint64)
	}
	var divisor uint64
	for i := range s.members {
		divisor = gcd(s.members[i].weight, divisor)
	}
	for i := range s.members {
		at := s.members[i].index
		t.levels[at], t.who[at] = uint32(s.members[i].weight/divisor), uint16(i)
		t.top = max(t.top, t.levels[at])
	}
	return t
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Pick implements Scheduler.
func (t *turn) Pick(uint64) int {
	for range t.members {
		m := t.next()
		switch {
		case !m.due():
		case m.take():
			return m.index
		case t.refuse:
			return Full
		}
	}
	return t.anybody()
}

// next moves the turn on by one. A swap that fails means that another worker's did not. The state may come from another
// list: what does not fit begins anew.
func (t *turn) next() *member {
	for {
		old := t.state.Load()
		at, level := uint32(old), uint32(old>>32)
		for {
			if int(at) >= len(t.levels) {
				at = 0
				level = max(level, 1) - 1
			}
			if level == 0 || level > t.top {
				level = t.top
			}
			if t.levels[at] >= level {
				break
			}
			at++
		}
		if t.state.CompareAndSwap(old, uint64(level)<<32|uint64(at+1)) {
			return &t.members[t.who[at]]
		}
	}
}
