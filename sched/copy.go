package sched

// Copy makes a scheduler go on where another one is, which was made for the same list, without sharing anything with it.
// What is derived from the list alone, tables say, both have already.
func Copy(to, from Scheduler) {
	switch t := to.(type) {
	case *turn:
		if f, ok := from.(*turn); ok {
			t.state.Store(f.state.Load())
		}
	case *twos:
		if f, ok := from.(*twos); ok {
			t.draws.Store(f.draws.Load())
		}
	}
}

// Copy makes the counts those of another backend.
func (l *Load) Copy(from *Load) {
	l.Active.Store(from.Active.Load())
	l.ramp.Store(from.ramp.Load())
}
