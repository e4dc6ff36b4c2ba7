package forwarder

import "naru/sched"

// shared is the state of a service that all workers share.
type shared struct {
	scheduler sched.Scheduler
	loads     map[string]*sched.Load // by backend name
	gone      map[string]bool        // of loads: those that no configuration names any more
}

// share makes the scheduler of a service and its backends for it, with what workers share of them: taken over from the
// snapshot before, or new.
func (c *compiler) share(svc *service) {
	old := c.prev.shared[svc.Name]
	if old == nil {
		old = &shared{}
	}
	state := &shared{loads: map[string]*sched.Load{}}
	for _, b := range svc.Backends {
		load := old.loads[b.Name]
		if load == nil {
			load = new(sched.Load)
		}
		state.loads[b.Name] = load
		member := sched.Backend{Name: b.Name, Weight: b.Weight, Share: b.Share, Load: load}
		if b.State != Up {
			member.Weight = 0
		}
		svc.backends = append(svc.backends, member)
	}
	state.scheduler = sched.New(sched.Options{Kind: svc.Scheduler}, svc.backends, old.scheduler)
	svc.scheduler = state.scheduler
	c.s.shared[svc.Name] = state
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
				state = &shared{scheduler: old.scheduler, loads: map[string]*sched.Load{}}
				c.s.shared[name] = state
			}
			if state.gone == nil {
				state.gone = map[string]bool{}
			}
			state.loads[backend], state.gone[backend] = n, true
		}
	}
}
