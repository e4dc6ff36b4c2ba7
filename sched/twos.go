package sched

import "sync/atomic"

// twos draws two members at random, each as likely as its weight and share, and takes the one with fewer connections for
// its weight; the first drawn on a tie. The draws follow from the seed and how many there were.
type twos struct {
	set
	seed  uint64
	draws *atomic.Uint64
}

func newTwos(seed uint64, s set, old *twos) *twos {
	t := &twos{set: s, seed: seed, draws: new(atomic.Uint64)}
	if old != nil {
		t.draws = old.draws
	}
	return t
}

// Pick implements Scheduler.
func (t *twos) Pick(uint64) int {
	if len(t.members) == 0 {
		return None
	}
	n := t.draws.Add(2)
	a, b := t.draw(n-1), t.draw(n)
	if uint64(max(b.Active.Load(), 0))*a.effective() < uint64(max(a.Active.Load(), 0))*b.effective() {
		a, b = b, a
	}
	switch {
	case a.take():
		return a.index
	case t.refuse:
		return Full
	case b.take():
		return b.index
	}
	return t.anybody()
}

func (t *twos) draw(n uint64) *member {
	return &t.members[t.space.at(mix64(t.seed^mix64(n)))]
}
