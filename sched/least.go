package sched

// least gives a connection to the member with the least load: its connections (for sed and nq the new one included),
// divided by its weight and share, compared without a division.
type least struct {
	set
	own   uint64 // how the new connection counts
	idle  bool   // an idle member wins
	weigh []uint64
	// alike says that weights and shares are equal and nobody has a limit: then only counts are compared.
	alike bool
	loads []*Load
}

// attempts bounds how often a worker looks again when another one was faster. After that it takes what it saw.
const attempts = 16

func newLeast(k Kind, s set) *least {
	l := &least{set: s, idle: k == NQ, weigh: make([]uint64, len(s.members))}
	if k == SED || k == NQ {
		l.own = 1
	}
	l.alike = true
	for i := range s.members {
		m := &s.members[i]
		l.weigh[i] = m.effective()
		l.alike = l.alike && l.weigh[i] == l.weigh[0] && m.max == NoLimit
		l.loads = append(l.loads, m.Load)
	}
	return l
}

// Pick implements Scheduler. The count that the choice rests on is advanced in the same step, so that two workers never
// choose by the same count.
func (l *least) Pick(uint64) int {
	for range attempts {
		best, n := l.best()
		if best == nil {
			break
		}
		if n >= best.max {
			return Full
		}
		if best.Active.CompareAndSwap(n, n+1) {
			return best.index
		}
	}
	best, _ := l.best()
	if best != nil && best.take() {
		return best.index
	}
	return l.anybody()
}

// best returns the member with the least load and its connections. Those that are full do not take part, unless the one
// chosen shall refuse then.
func (l *least) best() (best *member, active int64) {
	if l.alike {
		return l.fewest()
	}
	var load, weight uint64
	for i := range l.members {
		m := &l.members[i]
		n := m.Active.Load()
		if n >= m.max && !l.refuse {
			continue
		}
		if l.idle && n <= 0 {
			return m, n
		}
		a := uint64(max(n, 0)) + l.own
		if w := l.weigh[i]; best == nil || a*weight < load*w {
			best, active, load, weight = m, n, a, w
		}
	}
	return best, active
}

// fewest is best for members that are alike.
func (l *least) fewest() (best *member, active int64) {
	at := -1
	for i, load := range l.loads {
		n := load.Active.Load()
		if at >= 0 && n >= active {
			continue
		}
		if at, active = i, n; n == 0 {
			break // nobody has fewer
		}
	}
	if at < 0 {
		return nil, 0
	}
	return &l.members[at], active
}
