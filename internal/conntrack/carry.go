package conntrack

import "naru/internal/state"

// Carry writes the connections down, or reads them into an empty table of the same capacity and secret, none of whose paths
// has a connection yet. When reading, remap says which path here a path of the other table is. The engine's memories of next
// hops are not carried.
func (t *Table) Carry(c *state.Coder, remap func(PathID) (PathID, bool)) {
	c.Section("connections")
	state.Same(c, len(t.conns), "the capacity of the table")
	state.All(c, &t.last)
	t.unused = ID(c.Count(int(t.unused), len(t.conns)))
	for i := range t.conns[:t.unused] {
		t.carryConn(c, &t.conns[i], remap)
	}
	if c.Reading() {
		t.clearLists()
	}
	for i := range t.wheels {
		state.Num(c, &t.wheels[i].hand)
		c.Check(t.wheels[i].hand <= slotMask, "the hand of a wheel")
	}
	listed := make([]bool, t.unused)
	t.carryLists(c, listed)
	t.carryFree(c, listed)
	if c.Reading() && c.OK() {
		t.settle(c, listed)
	}
	state.Num(c, &t.changes)
}

// carryConn carries one place of the table.
func (t *Table) carryConn(c *state.Coder, n *Conn, remap func(PathID) (PathID, bool)) {
	state.Num(c, &n.State)
	c.Check(n.State <= UDPAssured, "the state of a connection")
	if n.State == Free || !c.OK() {
		n.State = Free
		return
	}
	state.Nums(c, n.Bytes[:])
	c.Fixed(n.Client[:])
	state.All(c, &n.ClientPort, &n.VIPPort, &n.LocalPort, &n.BackendPort)
	state.All(c, &n.deadline, &n.Start)
	state.Nums(c, n.end[:])
	state.Nums(c, n.ack[:])
	state.Nums(c, n.packets[:])
	state.Nums(c, n.packetsHigh[:])
	state.Nums(c, n.shift[:])
	state.Num(c, &n.Flags)
	state.Num(c, &n.Path)
	if c.Reading() {
		path, known := remap(n.Path)
		c.Check(known, "the path of a connection")
		if n.Path = path; !known {
			n.State = Free
		}
	}
}

// clearLists empties all lists.
func (t *Table) clearLists() {
	heads := t.links[t.heads:]
	for i := range heads {
		heads[i] = Link{t.heads + uint32(i), t.heads + uint32(i)}
	}
	for i := range t.wheels {
		clear(t.wheels[i].used[:])
	}
	t.counts, t.count, t.free = [NumClasses]uint32{}, 0, None
}

// carryLists carries the order in every list of expiry, with the place that a sweep has come to, and notes what is listed.
func (t *Table) carryLists(c *state.Coder, listed []bool) {
	state.Num(c, &t.sweep.list)
	c.Check(t.sweep.list <= listCount, "the place of a sweep")
	for list := range uint32(listCount) {
		var elements []uint32
		if !c.Reading() {
			elements = t.elements(list)
		}
		for n := c.Count(len(elements), len(listed)+1); n > 0 && c.OK(); n-- {
			var e uint32
			if !c.Reading() {
				e, elements = elements[0], elements[1:]
			}
			state.Num(c, &e)
			if c.Reading() {
				t.relist(c, list, e, listed)
			}
		}
	}
}

// elements returns what stands in a list: an entry as its number plus one, the sweep as 0.
func (t *Table) elements(list uint32) (all []uint32) {
	for n := t.links[t.heads+list].next; n != t.heads+list; n = t.links[n].next {
		if n == t.heads+listCount {
			all = append(all, 0)
		} else {
			all = append(all, n+1)
		}
	}
	return all
}

// relist puts an element at the end of a list.
func (t *Table) relist(c *state.Coder, list, e uint32, listed []bool) {
	if e == 0 {
		at := t.heads + listCount
		c.Check(t.sweep.list == list && t.links[at].next == at, "the place of a sweep")
		if c.OK() {
			t.push(list, at)
		}
		return
	}
	id := e - 1
	if int(id) >= len(listed) || listed[id] || t.conns[id].State == Free {
		c.Fail("a list of connections")
		return
	}
	listed[id] = true
	t.push(list, id)
	for i := range t.wheels {
		if w := &t.wheels[i]; list-w.first < w.slots {
			at := list - w.first
			w.used[at/64] |= 1 << (at % 64)
		}
	}
}

// carryFree carries which places are free, in the order in which they will be taken.
func (t *Table) carryFree(c *state.Coder, listed []bool) {
	var free []ID
	if !c.Reading() {
		for id := t.free; id != None; id = ID(t.links[id].next) {
			free = append(free, id)
		}
	}
	free = append(free, make([]ID, c.Count(len(free), len(listed))-len(free))...)
	state.Nums(c, free)
	for i := len(free) - 1; c.Reading() && i >= 0; i-- {
		id := free[i]
		if int(id) >= len(listed) || listed[id] || t.conns[id].State != Free {
			c.Fail("a free place of the table")
			return
		}
		listed[id] = true
		t.give(id)
	}
}

// settle makes what follows from the connections: the index, and all that is counted.
func (t *Table) settle(c *state.Coder, listed []bool) {
	for i, there := range listed {
		n := &t.conns[i]
		if !there {
			c.Fail("a connection is in no list")
			return
		}
		if n.State == Free {
			continue
		}
		p := t.paths.at(n.Path)
		original, reply := n.flow(p, Original), n.flow(p, Reply)
		if !t.put(t.Hash(&original), uint32(i)<<1) || p.Return != ReturnNone && !t.put(t.Hash(&reply), uint32(i)<<1|1) {
			c.Fail("connections with the same hash")
			return
		}
		p.refs++
		t.count++
		t.counts[n.class()]++
	}
}

// CarryPath writes down a path that no configuration names any more, or adds it.
func (t *Table) CarryPath(c *state.Coder, id PathID) PathID {
	var p Path
	if !c.Reading() {
		p = *t.paths.at(id)
	}
	c.Fixed(p.VIP[:])
	c.Fixed(p.Local[:])
	c.Fixed(p.Backend[:])
	state.Num(c, &p.Proto)
	state.Num(c, &p.Return)
	c.Check(p.Return <= ReturnNone, "the way back of a path")
	c.Bool(&p.doomed)
	state.Nums(c, p.timeouts[:])
	if c.Reading() {
		id = t.AddPath(p, Idle{})
		t.paths.at(id).timeouts, t.paths.at(id).pinned = p.timeouts, false
	}
	return id
}
