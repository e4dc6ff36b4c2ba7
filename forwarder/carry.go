package forwarder

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"naru/internal/affinity"
	"naru/internal/conntrack"
	"naru/internal/state"
	"naru/internal/wire"
	"naru/nat"
	"naru/sched"
)

// Our own choices: what is read is not more than so much.
const (
	mostNames   = 1 << 20 // services, backends, paths
	mostPools   = 1024    // that only living connections use
	longestOne  = 4096    // bytes of a name
	mostClients = 7 << 22 // that a service which is gone remembers: as many as the configuration allows, rounded up
)

// Save writes down all that later decisions depend on: of one worker that works alone. What is not carried is said by an
// error: packets that wait for a next hop, and next hops that were asked for. Events and samples of dropped packets stay
// behind. Call it between two calls of Process or Tick; it changes nothing.
func (e *Engine) Save(c *state.Coder) error {
	switch {
	case e.opt.Workers != 1:
		return errors.New("forwarder: the state of several workers cannot be carried")
	case e.next.Load() != e.snap:
		return errors.New("forwarder: a configuration that is not applied cannot be carried")
	case e.held.waiting > 0:
		return errors.New("forwarder: packets that wait for a next hop cannot be carried")
	case e.neigh.Learned():
		return errors.New("forwarder: next hops that were asked for cannot be carried")
	}
	e.frags.Reset()
	e.carry(c)
	return c.Err()
}

// Restore makes an engine that goes on where Save was called, and its snapshot. cfg and opt must be those of the engine
// that was saved. The error says what does not fit.
func Restore(opt Options, cfg Config, c *state.Coder) (*Engine, *Snapshot, error) {
	snap, err := Compile(cfg, 1, opt.Seed, nil)
	if err != nil {
		return nil, nil, err
	}
	e, err := New(opt, snap)
	if err != nil {
		return nil, nil, err
	}
	e.carry(c)
	if !c.OK() {
		return nil, nil, fmt.Errorf("forwarder: %w", c.Err())
	}
	return e, snap, nil
}

// carry carries the engine. When reading, it is one that has done nothing.
func (e *Engine) carry(c *state.Coder) {
	c.Section("engine")
	state.Num(c, &e.now)
	if c.Reading() {
		e.apply(e.next.Load())
	}
	state.Num(c, &e.lastID)
	state.Num(c, &e.fellBack)
	e.carryBurst(c)
	e.limit.carry(c)
	e.tell.carry(c)
	e.counters.carry(c)
	e.carryUsed(c)
	e.snap.carry(c)
	pools := e.carryPools(c)
	paths := e.carryPaths(c, pools)
	e.table.Carry(c, func(id conntrack.PathID) (conntrack.PathID, bool) {
		to, known := paths[id]
		return to, known
	})
	e.frags.Carry(c, len(e.snap.legs))
	if c.Reading() {
		e.findLeaving()
	}
}

func (e *Engine) carryBurst(c *state.Coder) {
	open := e.burst.mem != nil
	if c.Bool(&open); open {
		e.burst.open()
	}
}

func (b *bucket) carry(c *state.Coder) {
	c.Bool(&b.used)
	state.Num(c, &b.at)
	state.Num(c, &b.tokens)
}

func (l *limiter) carry(c *state.Coder) {
	l.all.carry(c)
	for i := range l.one {
		l.one[i].carry(c)
	}
}

func (a *announcer) carry(c *state.Coder) {
	state.Same(c, len(a.items), "the number of announced addresses")
	state.Num(c, &a.next)
	c.Check(a.next >= 0 && a.next < max(1, len(a.items)), "the next announcement")
	for i := range a.items {
		state.Num(c, &a.items[i].due)
		state.Num(c, &a.items[i].said)
	}
}

func (n *Counters) carry(c *state.Coder) {
	state.All(c, &n.Received, &n.Transmitted, &n.Consumed, &n.Passed, &n.Dropped, &n.Held, &n.Sent, &n.Made, &n.Connections,
		&n.Ended, &n.PortReusedEarly, &n.EvictedClosed, &n.EvictedHandshakes, &n.EvictedQuestions, &n.IdleReset, &n.DownReset,
		&n.DownForgotten, &n.Stateless, &n.ForwardedPlain, &n.AddressClash, &n.HandedOver, &n.TakenOver)
	state.Same(c, len(n.ByReason), "the number of reasons")
	state.Nums(c, n.ByReason[:])
}

func (e *Engine) carryUsed(c *state.Coder) {
	carryMap(c, e.used, func(a, b usedKey) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.backend, b.backend))
	}, func(k *usedKey) {
		c.Text(&k.service, longestOne)
		c.Text(&k.backend, longestOne)
		u := e.usedBy(k.service, k.backend)
		state.Num(c, &u.made)
		state.Nums(c, u.packets[:])
		state.Nums(c, u.bytes[:])
	})
}

// carryMap carries a map in the order of its keys: one carries a key and what it stands for, in the map itself.
func carryMap[K comparable, V any](c *state.Coder, m map[K]V, compare func(a, b K) int, one func(*K)) {
	var keys []K
	if !c.Reading() {
		keys = slices.SortedFunc(maps.Keys(m), compare)
	}
	for n := c.Count(len(keys), mostNames); n > 0 && c.OK(); n-- {
		var k K
		if !c.Reading() {
			k, keys = keys[0], keys[1:]
		}
		one(&k)
	}
}

// carry carries what a snapshot has of those before it.
func (s *Snapshot) carry(c *state.Coder) {
	c.Section("services")
	carryMap(c, s.plain, func(a, b endpoint) int {
		return cmp.Or(bytes16(a.addr, b.addr), cmp.Compare(a.port, b.port), cmp.Compare(a.proto, b.proto))
	}, func(k *endpoint) {
		c.Fixed(k.addr[:])
		state.Num(c, &k.port)
		state.Num(c, &k.proto)
		s.plain[*k] = true
	})
	carryMap(c, s.fenced, bytes16, func(a *wire.Addr) {
		c.Fixed(a[:])
		s.fenced[*a] = true
	})
	room := mostClients
	carryMap(c, s.shared, cmp.Compare[string], func(name *string) {
		c.Text(name, longestOne)
		if s.shared[*name] == nil {
			s.shared[*name] = &shared{load: new(sched.Load), loads: map[string]*sched.Load{}, ids: map[string]uint32{}}
		}
		s.shared[*name].carry(c, &room)
	})
	for _, svc := range s.services {
		for i, b := range svc.Backends {
			svc.ids[i] = s.shared[svc.Name].id(b.Name)
		}
	}
}

func bytes16(a, b wire.Addr) int { return slices.Compare(a[:], b[:]) }

// carry carries the state of a service, which may be gone; room is for how many clients services that are gone may have
// memory.
func (s *shared) carry(c *state.Coder, room *int) {
	s.load.Carry(c)
	carryMap(c, s.loads, cmp.Compare[string], func(backend *string) {
		c.Text(backend, longestOne)
		gone := s.gone[*backend]
		c.Bool(&gone)
		if s.loads[*backend] == nil {
			s.loads[*backend] = new(sched.Load)
		}
		if gone && s.gone == nil {
			s.gone = map[string]bool{}
		}
		if gone {
			s.gone[*backend] = true
		}
		s.loads[*backend].Carry(c)
	})
	if c.Reading() {
		clear(s.ids)
	}
	carryMap(c, s.ids, cmp.Compare[string], func(backend *string) {
		c.Text(backend, longestOne)
		id := s.ids[*backend]
		state.Num(c, &id)
		c.Check(id <= affinity.MaxID, "the number of a backend")
		s.ids[*backend] = id
	})
	s.scheduler, s.backups = sched.Carry(c, s.scheduler), sched.Carry(c, s.backups)
	size := 0
	if s.affinity != nil {
		size = s.affinity.Size()
	}
	had := size
	state.Num(c, &size)
	if c.Reading() && had == 0 && size != 0 { // of a service that is gone
		*room -= max(0, size)
		c.Check(size > 0 && *room >= 0, "the size of the memory of clients")
		if c.OK() {
			s.affinity = affinity.New(size)
		}
	}
	if s.affinity != nil && c.OK() {
		s.affinity.Carry(c)
	}
}

// carryPools carries the pools of local ports: those of the snapshot, and behind them those that only living connections
// still use. It returns them all.
func (e *Engine) carryPools(c *state.Coder) (all []*nat.Pool) {
	c.Section("local ports")
	keys := slices.SortedFunc(maps.Keys(e.snap.pools), comparePools)
	state.Same(c, len(keys), "the number of pools")
	known := map[*nat.Pool]bool{}
	for _, k := range keys {
		p := e.snap.pools[k][0]
		p.Carry(c)
		all, known[p] = append(all, p), true
	}
	var others []*path
	if !c.Reading() {
		for _, id := range e.livingPaths() {
			if pi := &e.paths[id]; pi.pool != nil && !known[pi.pool] {
				others, known[pi.pool] = append(others, pi), true
			}
		}
	}
	for n := c.Count(len(others), mostPools); n > 0 && c.OK(); n-- {
		var key poolKey
		var p *nat.Pool
		if !c.Reading() {
			key, p, others = others[0].poolKey(), others[0].pool, others[1:]
		}
		key.carry(c)
		if c.Reading() && c.OK() {
			p = newPools(key, 1, e.opt.Seed)[0]
		}
		if c.OK() {
			p.Carry(c)
		}
		all = append(all, p)
	}
	return all
}

// poolKey is the key of the pool of a path.
func (pi *path) poolKey() poolKey {
	s := pi.service
	return poolKey{pi.key.local, pi.key.address, poolPort(s, &Backend{Port: pi.key.port}), s.SourcePorts, s.PortRest, s.Proto}
}

func comparePools(a, b poolKey) int {
	return cmp.Or(bytes16(a.local, b.local), bytes16(a.backend, b.backend), cmp.Compare(a.port, b.port),
		cmp.Compare(a.ports.Lo, b.ports.Lo), cmp.Compare(a.ports.Hi, b.ports.Hi), cmp.Compare(a.rest, b.rest),
		cmp.Compare(a.proto, b.proto))
}

func (k *poolKey) carry(c *state.Coder) {
	c.Fixed(k.local[:])
	c.Fixed(k.backend[:])
	state.All(c, &k.port, &k.ports.Lo, &k.ports.Hi)
	state.Num(c, &k.rest)
	state.Num(c, &k.proto)
}

// livingPaths are the paths that a configuration names or a connection holds.
func (e *Engine) livingPaths() (ids []conntrack.PathID) {
	for _, id := range e.pathID {
		if !e.table.PathGone(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// carryPaths carries the paths and returns which path here each is.
func (e *Engine) carryPaths(c *state.Coder, pools []*nat.Pool) map[conntrack.PathID]conntrack.PathID {
	c.Section("paths")
	var living []conntrack.PathID
	configured := map[pathKey]bool{}
	for _, svc := range e.snap.services {
		for _, k := range svc.keys {
			configured[k] = true
		}
	}
	if !c.Reading() {
		living = e.livingPaths()
	}
	paths := map[conntrack.PathID]conntrack.PathID{}
	for n := c.Count(len(living), mostNames); n > 0 && c.OK(); n-- {
		var id conntrack.PathID
		var key pathKey
		if !c.Reading() {
			id, living = living[0], living[1:]
			key = e.paths[id].key
		}
		state.Num(c, &id)
		key.carry(c)
		if !c.OK() {
			break
		}
		own := id
		if !configured[key] {
			own = e.carryGone(c, id, key, pools)
		} else if c.Reading() {
			own = e.pathID[key]
		}
		paths[id] = own
		if c.OK() {
			state.Num(c, &e.paths[own].told)
			state.Num(c, &e.paths[own].toldUntil)
		}
	}
	return paths
}

// carryGone carries a path that no configuration names any more.
func (e *Engine) carryGone(c *state.Coder, id conntrack.PathID, key pathKey, pools []*nat.Pool) conntrack.PathID {
	var pi path
	var svc service
	pool := -1
	if !c.Reading() {
		pi = e.paths[id]
		svc, pool = *pi.service, slices.Index(pools, pi.pool)
	}
	pi.key = key
	id = e.table.CarryPath(c, id)
	if _, there := e.pathID[key]; c.Reading() && there {
		c.Fail("a path is there twice")
		return id
	}
	state.Num(c, &pi.fate)
	c.Check(pi.fate <= isDropped, "what becomes of connections")
	state.Num(c, &pi.mtu)
	state.Num(c, &pool)
	c.Check(pool >= -1 && pool < len(pools), "the pool of a path")
	svc.carryGone(c)
	if !c.Reading() || !c.OK() {
		return id
	}
	if pool >= 0 {
		pi.pool = pools[pool]
	}
	pi.used, pi.service = e.usedBy(key.service, key.backend), &svc
	svc.Name, svc.Proto = key.service, key.proto
	e.snap.adopt(&svc, key.backend)
	if pi.tunnelled() {
		e.openTunnel(&pi)
	}
	for int(id) >= len(e.paths) {
		e.paths = append(e.paths, path{})
	}
	e.paths[id], e.pathID[key] = pi, id
	return id
}

// carryGone carries what living connections need of a service that no configuration names any more.
func (s *service) carryGone(c *state.Coder) {
	state.Num(c, &s.OnIdle)
	state.Num(c, &s.PortRest)
	state.All(c, &s.SourcePorts.Lo, &s.SourcePorts.Hi)
	ports := make([]PortRange, c.Count(len(s.Ports), mostNames))
	copy(ports, s.Ports)
	for i := range ports {
		state.All(c, &ports[i].Lo, &ports[i].Hi)
	}
	s.Ports = ports
}

// adopt gives a service that is gone its counts, for its one backend.
func (s *Snapshot) adopt(svc *service, backend string) {
	svc.load = new(sched.Load)
	load := new(sched.Load)
	if state := s.shared[svc.Name]; state != nil {
		svc.load = state.load
		if there := state.loads[backend]; there != nil {
			load = there
		}
	}
	svc.backends = []sched.Backend{{Name: backend, Load: load}}
}

func (k *pathKey) carry(c *state.Coder) {
	c.Text(&k.service, longestOne)
	c.Text(&k.backend, longestOne)
	c.Fixed(k.vip[:])
	c.Fixed(k.local[:])
	c.Fixed(k.address[:])
	state.All(c, &k.port, &k.l3dsr.Port)
	state.Num(c, &k.proto)
	state.Num(c, &k.mode)
	c.Check(k.mode <= L3DSR, "a mode")
	state.Num(c, &k.l3dsr.Encap)
	c.Check(k.l3dsr.Encap <= EncapGUE, "an encapsulation")
	state.All(c, &k.l3dsr.DSCP, &k.l3dsr.Variant)
	carryPrefix(c, &k.l3dsr.Source4)
	carryPrefix(c, &k.l3dsr.Source6)
}

func carryPrefix(c *state.Coder, p *netip.Prefix) {
	b, _ := p.MarshalBinary() // has no errors
	c.Blob(&b, 32)
	if c.Reading() && p.UnmarshalBinary(b) != nil {
		c.Fail("a prefix")
	}
}

// findLeaving finds the local addresses that only living connections use, as apply does.
func (e *Engine) findLeaving() {
	for key, id := range e.pathID { // no order shows: connections of all are looked at
		if !e.table.PathPinned(id) && e.snap.owned[key.local] == nil && key.mode == FullNAT {
			e.leaving[key.local] = append(e.leaving[key.local], id)
		}
	}
}
