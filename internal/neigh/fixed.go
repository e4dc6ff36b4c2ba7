package neigh

// Learned reports whether there is a neighbour that is neither configured nor permanent.
func (t *Table) Learned() bool {
	for i := range t.entries {
		if e := &t.entries[i]; e.state != unused && !e.fixed {
			return true
		}
	}
	return false
}
