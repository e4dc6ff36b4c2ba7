package conntrack

// sweep is how far a walk through all lists has come. It stands in a list itself, so that entries may come and go.
type sweep struct {
	list uint32 // listCount: there is no sweep
}

// Doom says whether the connections of a path are to be ended: by the sweep, or by Expire when it meets them.
func (t *Table) Doom(id PathID, doomed bool) { t.paths.at(id).doomed = doomed }

// Doomed reports whether the connections of a path are to be ended.
func (t *Table) Doomed(id PathID) bool { return t.paths.at(id).doomed }

// StartSweep begins a walk through all connections, anew if one is under way: some path was doomed.
func (t *Table) StartSweep() {
	t.unlink(t.heads + listCount)
	t.sweep.list = 0
	t.after(t.heads, t.heads+listCount)
}

// Sweep goes on with the walk: it visits at most budget connections and calls end for those whose path is doomed; end
// removes them, or returns false when it can end no more now. It goes by the lists of expiry, never by the place of an
// entry. A connection that changes its list meanwhile does so by a packet, or by Expire, which ends it then.
func (t *Table) Sweep(budget int, end func(ID) bool) {
	at := t.heads + listCount
	for visits := 0; t.sweep.list < listCount && visits < budget; {
		n := t.links[at].next
		if n >= t.heads { // the end of a list
			t.unlink(at)
			t.links[at] = Link{at, at}
			if t.sweep.list++; t.sweep.list < listCount {
				t.after(t.heads+t.sweep.list, at)
			}
			continue
		}
		visits++
		if t.paths.at(t.conns[n].Path).doomed {
			if !end(ID(n)) {
				return
			}
			continue
		}
		t.unlink(at)
		t.after(n, at)
	}
}

// Sweeping reports whether a sweep is under way.
func (t *Table) Sweeping() bool { return t.sweep.list < listCount }
