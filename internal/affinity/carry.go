package affinity

import "naru/internal/state"

// Carry writes down what is kept, or reads it into an empty table of the same size.
func (t *Table) Carry(c *state.Coder) {
	state.Same(c, t.Size(), "the size of the memory of clients")
	evicted, used := t.evicted.Load(), 0
	state.Num(c, &evicted)
	t.evicted.Store(evicted)
	for i := range t.Size() {
		if t.entry(i).value.Load() != 0 {
			used++
		}
	}
	at := -1
	for used = c.Count(used, t.Size()); used > 0 && c.OK(); used-- {
		at++
		for !c.Reading() && t.entry(at).value.Load() == 0 {
			at++
		}
		if state.Num(c, &at); at < 0 || at >= t.Size() {
			c.Fail("a place in the memory of clients")
			return
		}
		e := t.entry(at)
		key, value := e.key.Load(), e.value.Load()
		state.All(c, &key, &value)
		e.key.Store(key)
		e.value.Store(value)
	}
}

func (t *Table) entry(i int) *entry { return &t.sets[i/ways].entries[i%ways] }
