package forwarder

import (
	"encoding/binary"
	"fmt"

	"naru/internal/affinity"
	"naru/sched"
)

// shared is the state of a service that all workers share.
type shared struct {
	scheduler sched.Scheduler
	backups   sched.Scheduler
	load      *sched.Load
	loads     map[string]*sched.Load // by backend name
	gone      map[string]bool        // of loads: those that no configuration names any more
	affinity  *affinity.Table
	ids       map[string]uint32 // of all backends that there ever were, in affinity
}

// share makes the schedulers of a service and its backends for them, with what workers share of them: taken over from the
// snapshot before, or new.
func (c *compiler) share(svc *service) error {
	old := c.prev.shared[svc.Name]
	if old == nil {
		old = &shared{load: new(sched.Load), ids: map[string]uint32{}}
	}
	state := &shared{load: old.load, loads: map[string]*sched.Load{}, ids: old.ids}
	primaries := false
	for _, b := range svc.Backends {
		load := old.loads[b.Name]
		if load == nil {
			load = new(sched.Load)
		}
		state.loads[b.Name] = load
		member := sched.Backend{Name: b.Name, Weight: b.Weight, Share: b.Share, Max: int64(b.MaxConnections), Load: load}
		if b.State != Up {
			member.Weight = 0
		}
		primaries = primaries || member.Weight > 0 && !b.Backup
		svc.backends = append(svc.backends, member)
	}
	if len(svc.backends) > sched.MaxBackends {
		return fmt.Errorf("%d backends, at most %d are possible", len(svc.backends), sched.MaxBackends)
	}
	svc.load, svc.limit = state.load, sched.NoLimit
	if svc.MaxConnections > 0 {
		svc.limit = int64(svc.MaxConnections)
	}
	c.keys(svc)
	c.schedule(svc, state, old)
	c.remember(svc, state, old)
	for i, b := range svc.Backends {
		svc.serves = append(svc.serves, svc.backends[i].Weight > 0 && !(b.Backup && primaries))
		svc.ids = append(svc.ids, state.id(b.Name))
	}
	c.s.shared[svc.Name] = state
	return nil
}

// id returns the number of a backend's name, a new one if it has none.
func (s *shared) id(backend string) uint32 {
	id, known := s.ids[backend]
	if !known {
		id = uint32(len(s.ids)) & affinity.MaxID
		s.ids[backend] = id
	}
	return id
}

// keys gives a service its keys.
func (c *compiler) keys(svc *service) {
	le, own, clients := binary.LittleEndian, c.seed.words(forSchedulers), c.seed.words(forClients)
	if c.hashKey != nil {
		svc.hashKey = [2]uint64{le.Uint64(c.hashKey[:]), le.Uint64(c.hashKey[8:])}
	} else {
		svc.hashKey = [2]uint64(own[:2])
	}
	svc.clientKey = [2]uint64(clients[:2])
}

// schedule makes the schedulers: each sees the whole list, and those that are not its own as drained.
func (c *compiler) schedule(svc *service, state, old *shared) {
	o := sched.Options{Kind: svc.Scheduler, Seed: c.seed.words(forSchedulers)[2], Bounded: svc.Bounded,
		TableSize: svc.TableSize, Key: svc.hashKey, Refuse: svc.RefuseFull}
	var lists [2][]sched.Backend
	backup := false
	for i, b := range svc.Backends {
		lists[0], lists[1] = append(lists[0], svc.backends[i]), append(lists[1], svc.backends[i])
		if b.Backup {
			lists[0][i].Weight, backup = 0, true
		} else {
			lists[1][i].Weight = 0
		}
	}
	state.scheduler = sched.New(o, lists[0], old.scheduler)
	if backup {
		state.backups = sched.New(o, lists[1], old.backups)
	}
	svc.scheduler, svc.backups = state.scheduler, state.backups
}

// keepCounts takes over the counts of backends that are gone while they may have connections: one that comes back must
// not fall below zero when those end. A count of zero is kept once, since workers still have the old snapshot.
func (c *compiler) keepCounts() {
	for name, old := range c.prev.shared { // no order shows
		state := c.s.shared[name]
		for backend, n := range old.loads {
			if state != nil && state.loads[backend] != nil || old.gone[backend] && n.Active.Load() == 0 {
				continue
			}
			if state == nil {
				state = &shared{scheduler: old.scheduler, backups: old.backups, load: old.load, ids: old.ids, affinity: old.affinity,
					loads: map[string]*sched.Load{}}
				c.s.shared[name] = state
			}
			if state.gone == nil {
				state.gone = map[string]bool{}
			}
			state.loads[backend], state.gone[backend] = n, true
		}
	}
}
