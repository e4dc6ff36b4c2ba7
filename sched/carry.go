package sched

import (
	"sync/atomic"

	"naru/internal/state"
)

// What a scheduler keeps beyond its list.
const (
	keepsNothing = iota
	keepsTurn
	keepsDraws
)

// Carry writes down where a scheduler is, or makes one for the same list go on there. Reading with a nil scheduler makes
// one for nobody, for New to take over from; it is nil still if there is nothing to take over.
func Carry(c *state.Coder, s Scheduler) Scheduler {
	what := keepsNothing
	switch s.(type) {
	case *turn:
		what = keepsTurn
	case *twos:
		what = keepsDraws
	}
	had := what
	state.Num(c, &what)
	if s == nil && c.Reading() {
		switch what {
		case keepsTurn:
			s = newTurn(RR, set{}, nil)
		case keepsDraws:
			s = newTwos(0, set{}, nil)
		}
	} else if what != had {
		c.Fail("the scheduler is another one")
	}
	switch s := s.(type) {
	case *turn:
		carryAtomic(c, s.state)
	case *twos:
		carryAtomic(c, s.draws)
	}
	return s
}

func carryAtomic(c *state.Coder, p *atomic.Uint64) {
	v := p.Load()
	state.Num(c, &v)
	p.Store(v)
}

// Carry writes the counts down, or reads them.
func (l *Load) Carry(c *state.Coder) {
	active, ramp := l.Active.Load(), l.ramp.Load()
	state.Num(c, &active)
	state.Num(c, &ramp)
	l.Active.Store(active)
	l.ramp.Store(ramp)
}
