package roster

import (
	"time"

	"naru/forwarder"
	"naru/internal/wire"
)

// Our own choices.
const (
	// MaxWeight is the largest weight of a backend.
	MaxWeight = 65535

	rampSteps = 20 // in so many equal steps slow start comes to the whole share
)

// Key names a backend.
type Key struct{ Service, Backend string }

// String returns SERVICE/BACKEND.
func (k Key) String() string { return k.Service + "/" + k.Backend }

// Member is what the configuration says of a backend.
type Member struct {
	Key
	Weight    uint32
	SlowStart time.Duration // 0: the whole share at once
	// Probed says what is probed, in words; empty: nobody probes it. Health that was found of something else is forgotten.
	Probed string
}

// Health is what probes found.
type Health uint8

// The states of health.
const (
	Unknown Health = iota // no probe has an answer yet, or there is none
	Healthy
	Failed
)

// String returns the word of the output.
func (h Health) String() string { return [...]string{"unknown", "healthy", "failed"}[h] }

// Status is the state of one backend at an instant.
type Status struct {
	Key
	State      forwarder.State
	Weight     uint32 // in force
	Configured uint32 // of the configuration
	Share      uint32 // of forwarder.FullShare, while it starts slowly
	Health     Health
	Why        string    // in words; empty for a backend that is up
	Since      wire.Time // when it came into State
	Deadline   wire.Time // when draining ends its connections; 0: never
	Operator   bool      // an operator's order is in force: it differs from the configuration
}

// backend is a member with its state.
type backend struct {
	Member
	order    Action // Ready, Drain or Disable
	deadline wire.Time
	weight   uint32
	weighted bool // weight is an operator's

	health  Health
	trusted bool // unknown health counts as good
	reason  string

	state forwarder.State // as last told by an event
	since wire.Time       // of state
	ramp  wire.Time       // slow start counts from here, if ramps
	ramps bool
}

// Roster is the state of all backends. The zero value has none.
type Roster struct {
	list    []*backend // in the order of the configuration
	byKey   map[Key]*backend
	started bool // Configure was called
	now     wire.Time
}

// Configure takes over what the configuration says. Backends that stay keep orders and health. Those of the first call are
// in service at once; a backend that comes later starts slowly, and not before its first good probe if it is probed.
func (r *Roster) Configure(now wire.Time, members []Member) []Event {
	r.advance(now)
	old := r.byKey
	r.byKey, r.list = make(map[Key]*backend, len(members)), nil
	var events []Event
	for _, m := range members {
		b := old[m.Key]
		if b == nil {
			b = &backend{order: Ready, trusted: !r.started, state: forwarder.Down, since: r.now}
			b.Member = m
			if !r.started {
				b.state, _ = b.judge(r.now)
			} else {
				events = append(events, Event{At: r.now, Key: m.Key, Kind: Added, State: b.state, By: ByConfig})
			}
		} else if b.Probed != m.Probed {
			// A backend that nobody probed was in service; another address has to prove itself.
			b.health, b.reason, b.trusted = Unknown, "", b.Probed == ""
		}
		b.Member = m
		r.byKey[m.Key] = b
		r.list = append(r.list, b)
		events = b.settle(events, r.now, ByConfig)
	}
	for _, b := range inOrder(old) {
		if r.byKey[b.Key] == nil {
			events = append(events, Event{At: r.now, Key: b.Key, Kind: Removed, State: forwarder.Draining, By: ByConfig})
		}
	}
	r.started = true
	return events
}

// advance keeps time from running backwards.
func (r *Roster) advance(now wire.Time) { r.now = max(r.now, now) }

// Advance tells what time alone has changed since the last call: deadlines that passed.
func (r *Roster) Advance(now wire.Time) []Event {
	r.advance(now)
	var events []Event
	for _, b := range r.list {
		events = b.settle(events, r.now, ByDeadline)
	}
	return events
}

// Next returns the next instant after the last call's at which something changes by itself: a deadline, or a step of slow
// start.
func (r *Roster) Next() (at wire.Time, ok bool) {
	sooner := func(t wire.Time) {
		if t > r.now && (!ok || t < at) {
			at, ok = t, true
		}
	}
	for _, b := range r.list {
		if b.order == Drain && b.deadline != 0 {
			sooner(b.deadline)
		}
		if step := b.step(r.now); step+1 < rampSteps && b.state == forwarder.Up {
			sooner(b.ramp.Add(b.SlowStart * time.Duration(step+1) / rampSteps))
		}
	}
	return at, ok
}

// step is the step of slow start that a backend is in, from 0.
func (b *backend) step(now wire.Time) int {
	if !b.ramps || b.SlowStart <= 0 {
		return rampSteps
	}
	return min(rampSteps, int(now.Sub(b.ramp)*rampSteps/b.SlowStart))
}

// share is the part of its weight that a backend gets now.
func (b *backend) share(now wire.Time) uint32 {
	return uint32(forwarder.FullShare * min(rampSteps, b.step(now)+1) / rampSteps)
}

// inForce is the weight that counts.
func (b *backend) inForce() uint32 {
	if b.weighted {
		return b.weight
	}
	return b.Weight
}

// judge says what state follows, and why. What ends connections comes before what lets them go on.
func (b *backend) judge(now wire.Time) (state forwarder.State, why string) {
	switch {
	case b.order == Disable:
		return forwarder.Disabled, "disabled by an operator"
	case b.order == Drain && b.deadline != 0 && now >= b.deadline:
		return forwarder.Disabled, "drained by an operator, the deadline has passed"
	case b.health == Failed:
		return forwarder.Down, b.reason
	case b.health == Unknown && b.Probed != "" && !b.trusted:
		return forwarder.Down, "not probed yet"
	case b.order == Drain:
		return forwarder.Draining, "drained by an operator"
	case b.inForce() == 0:
		return forwarder.Draining, "weight 0"
	}
	return forwarder.Up, ""
}

// settle brings a backend into the state that follows, and tells it if it is another one.
func (b *backend) settle(events []Event, now wire.Time, by string) []Event {
	state, why := b.judge(now)
	if state == b.state {
		return events
	}
	if state == forwarder.Up {
		b.ramp, b.ramps = now, b.SlowStart > 0
	}
	b.state, b.since = state, now
	return append(events, Event{At: now, Key: b.Key, Kind: Changed, State: state, By: by, Why: why})
}

// Status returns the state of every backend, in the order of the configuration, at the time of the last call.
func (r *Roster) Status() []Status {
	out := make([]Status, len(r.list))
	for i, b := range r.list {
		out[i] = b.status(r.now)
	}
	return out
}

// Clone returns a copy that goes its own way.
func (r *Roster) Clone() *Roster {
	c := &Roster{byKey: make(map[Key]*backend, len(r.list)), started: r.started, now: r.now}
	for _, b := range r.list {
		other := *b
		c.list = append(c.list, &other)
		c.byKey[b.Key] = &other
	}
	return c
}

// Find returns the state of one backend at the time of the last call.
func (r *Roster) Find(k Key) (Status, bool) {
	if b := r.byKey[k]; b != nil {
		return b.status(r.now), true
	}
	return Status{}, false
}

func (b *backend) status(now wire.Time) Status {
	s := Status{Key: b.Key, Weight: b.inForce(), Configured: b.Weight, Share: b.share(now), Health: b.health, Since: b.since,
		Operator: b.order != Ready || b.weighted}
	s.State, s.Why = b.judge(now)
	if b.order == Drain {
		s.Deadline = b.deadline
	}
	return s
}

// Fill puts the state at the time of the last call into the backends of cfg, found by their names. A backend that the
// roster does not know is left as it is.
func (r *Roster) Fill(cfg *forwarder.Config) {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Backends {
			if b := r.byKey[Key{s.Name, s.Backends[j].Name}]; b != nil {
				to := &s.Backends[j]
				to.State, _ = b.judge(r.now)
				if to.State == forwarder.Down && b.health != Failed {
					// Nothing is known against it: connections from before it was removed, or probed elsewhere, go on.
					to.State = forwarder.Draining
				}
				to.Weight, to.Share = b.inForce(), b.share(r.now)
			}
		}
	}
}
