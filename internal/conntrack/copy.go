package conntrack

import "naru/internal/wire"

// CopyPath interns a path of another table here.
func (t *Table) CopyPath(from *Table, id PathID) PathID {
	p := *from.paths.at(id)
	times := p.timeouts
	to := t.AddPath(p, Idle{})
	t.paths.at(to).timeouts = times
	return to
}

// Copy makes a connection of another table one of this table, by a path of this table. It returns None when there is no
// room. The copy has no memory of a next hop.
func (t *Table) Copy(now wire.Time, c *Conn, path PathID) ID {
	n := *c
	n.Path, n.NextHopGen = path, 0
	p := t.paths.at(path)
	original, reply := n.flow(p, Original), n.flow(p, Reply)
	id := t.Insert(now, &n, t.Hash(&original), t.Hash(&reply))
	if id != None {
		copied := &t.conns[id]
		copied.Start, copied.deadline = c.Start, c.deadline
	}
	return id
}

// Peek returns a connection of a class that is about as old as any, or None. Unlike Oldest it changes nothing.
func (t *Table) Peek(class Class) ID {
	if class == Closed {
		return t.first(closed)
	}
	w := &t.wheels[class.wheel()]
	for i := range w.slots {
		if id := t.first(w.list(w.hand + i)); id != None {
			return id
		}
	}
	return None
}

// Shrink makes the table's capacity the number of connections that it has; none may have been removed from it.
func (t *Table) Shrink() { t.conns = t.conns[:t.unused] }

// Some calls f for connections from a place on, looking at n places, until f returns false. It returns the next place, or
// None at the end. So a walk can be done in pieces, with packets between them.
func (t *Table) Some(from ID, n int, f func(*Conn) bool) (next ID) {
	end := min(int(t.unused), int(from)+n)
	for i := int(from); i < end; i++ {
		if c := &t.conns[i]; c.State != Free && !f(c) {
			return ID(i + 1)
		}
	}
	if end == int(t.unused) {
		return None
	}
	return ID(end)
}
