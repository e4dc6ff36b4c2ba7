package neigh

// Copy makes a table of the same size hold what another one holds, without sharing anything with it: an id is the same
// neighbour in both.
func (t *Table) Copy(from *Table) {
	copy(t.entries, from.entries)
	copy(t.index, from.index)
	t.key, t.count, t.hand, t.gen, t.fresh, t.retry = from.key, from.count, from.hand, from.gen, from.fresh, from.retry
	for i := range t.entries {
		switch e := &t.entries[i]; e.queued {
		case &from.fresh:
			e.queued = &t.fresh
		case &from.retry:
			e.queued = &t.retry
		}
	}
}
