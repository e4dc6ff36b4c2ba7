package roster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
)

// Action is what an order does.
type Action uint8

// The actions. The first four are an operator's, the last two a probe's.
const (
	Ready     Action = iota // takes back Drain, Disable and SetWeight
	Drain                   // no new connections; with a deadline the old ones are ended then
	Disable                 // no new connections, the old ones are ended
	SetWeight               // another weight than the configuration's
	ProbeUp                 // the backend was found well
	ProbeDown               // the backend was found ill
)

// Order changes the state of one backend.
type Order struct {
	Key
	Action   Action
	Deadline time.Duration // Drain: from now on; 0: none
	Weight   uint32        // SetWeight: 0 to MaxWeight
	Why      string        // ProbeDown: what is wrong
	Probed   string        // ProbeUp, ProbeDown: the Member.Probed that was; of another one nothing is learned
}

// UnknownError says that there is no such backend.
type UnknownError struct{ Key }

// Error names the backend.
func (e *UnknownError) Error() string { return "roster: there is no backend " + e.Key.String() }

// Kind is what an Event tells.
type Kind string

// The kinds of events.
const (
	Changed    Kind = "state"   // a backend came into another state
	Weighted   Kind = "weight"  // it got another weight
	Added      Kind = "added"   // the configuration names it now
	Removed    Kind = "removed" // the configuration names it no more: no new connections, old ones go on
	Recovering Kind = "probe"   // its health changed, the state did not: an order hides it
)

// Who caused an event.
const (
	ByOperator = "operator"
	ByHealth   = "health"
	ByConfig   = "config"
	ByDeadline = "deadline"
)

// Event is a change that a person should hear of.
type Event struct {
	At wire.Time
	Key
	Kind   Kind
	State  forwarder.State // of the backend now
	Weight uint32          // Weighted: the new one
	By     string
	Why    string
}

// Do follows an order. The error is an *UnknownError, or says which number is out of range.
func (r *Roster) Do(now wire.Time, o Order) ([]Event, error) {
	r.advance(now)
	b := r.byKey[o.Key]
	if b == nil {
		return nil, &UnknownError{o.Key}
	}
	// What time has changed was before the order.
	events := b.settle(nil, r.now, ByDeadline)
	by := ByOperator
	switch o.Action {
	case Ready:
		if b.weighted && b.weight != b.Weight {
			events = append(events, b.weightEvent(r.now, b.Weight))
		}
		b.order, b.deadline, b.weighted = Ready, 0, false
	case Drain:
		if o.Deadline < 0 {
			return nil, fmt.Errorf("roster: %v: deadline %v is in the past", o.Key, o.Deadline)
		}
		b.order, b.deadline = Drain, 0
		if o.Deadline > 0 {
			b.deadline = r.now.Add(o.Deadline)
		}
	case Disable:
		b.order, b.deadline = Disable, 0
	case SetWeight:
		if o.Weight > MaxWeight {
			return nil, fmt.Errorf("roster: %v: weight %d is out of range 0..%d", o.Key, o.Weight, MaxWeight)
		}
		if o.Weight != b.inForce() {
			events = append(events, b.weightEvent(r.now, o.Weight))
		}
		b.weight, b.weighted = o.Weight, o.Weight != b.Weight
	default:
		by = ByHealth
		if o.Probed == b.Probed {
			events = b.probed(events, r.now, o)
		}
	}
	return b.settle(events, r.now, by), nil
}

// probed notes what a probe found.
func (b *backend) probed(events []Event, now wire.Time, o Order) []Event {
	health := Healthy
	if o.Action == ProbeDown {
		health = Failed
	}
	if health == b.health {
		b.reason = o.Why
		return events
	}
	was := b.health
	b.health, b.reason = health, o.Why
	if state, _ := b.judge(now); state == b.state && was != Unknown {
		events = append(events, Event{At: now, Key: b.Key, Kind: Recovering, State: state, By: ByHealth,
			Why: health.String()})
	}
	return events
}

func (b *backend) weightEvent(now wire.Time, w uint32) Event {
	return Event{At: now, Key: b.Key, Kind: Weighted, State: b.state, Weight: w, By: ByOperator}
}

// Reset takes back every operator's order.
func (r *Roster) Reset(now wire.Time) []Event {
	var events []Event
	for _, b := range r.list {
		if b.order != Ready || b.weighted {
			e, _ := r.Do(now, Order{Key: b.Key, Action: Ready})
			events = append(events, e...)
		}
	}
	return events
}

// inOrder returns backends in the order of their names.
func inOrder(m map[Key]*backend) []*backend {
	out := make([]*backend, 0, len(m))
	for _, b := range m {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *backend) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Backend, b.Backend))
	})
	return out
}
