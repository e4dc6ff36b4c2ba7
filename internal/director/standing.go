package director

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"naru/forwarder"
	"naru/internal/admin"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/health"
	"naru/internal/roster"
	"naru/internal/wire"
)

// Our own choices.
const (
	eventsKept  = 1024 // events that can be asked for later
	probesAtOne = 64   // backends that are probed at the same time
)

// standing is which backends are in service. It belongs to whoever holds the director's mu, but for the ring and changed.
type standing struct {
	roster  *roster.Roster
	checker *health.Checker
	ring    *admin.Ring
	start   time.Time
	changed chan struct{} // what the roster does by itself next may have changed
}

func newStanding() standing {
	return standing{roster: new(roster.Roster), ring: admin.NewRing(eventsKept), start: time.Now(),
		changed: make(chan struct{}, 1)}
}

// now is the roster's time. Its first instant is not 0, which means never there.
func (s *standing) now() wire.Time { return wire.Time(time.Second + time.Since(s.start)) }

// clock puts an instant of the roster into the words of a calendar.
func (s *standing) clock(t wire.Time) time.Time {
	return s.start.Add(time.Duration(t) - time.Second).UTC().Round(time.Millisecond)
}

// configured returns the roster as it will be with a configuration, and what that changes.
func (s *standing) configured(cfg *config.Config) (*roster.Roster, []roster.Event) {
	next := s.roster.Clone()
	return next, next.Configure(s.now(), compile.Members(cfg))
}

// use takes over the roster of a new configuration.
func (d *Director) use(cfg *config.Config, next *roster.Roster, events []roster.Event) {
	d.standing.roster = next
	for _, e := range events {
		d.tell(e)
	}
	if d.standing.checker != nil {
		d.standing.checker.Set(probes(cfg))
	}
	d.wake()
}

// wake lets the roster's timer be set anew.
func (d *Director) wake() {
	select {
	case d.standing.changed <- struct{}{}:
	default:
	}
}

// tell writes a change of a backend into the log and the ring of events.
func (d *Director) tell(e roster.Event) {
	text := ""
	level := slog.LevelInfo
	switch e.Kind {
	case roster.Weighted:
		text = fmt.Sprintf("%v has weight %d", e.Key, e.Weight)
	case roster.Added:
		text = fmt.Sprintf("%v was added", e.Key)
	case roster.Removed:
		text = fmt.Sprintf("%v was removed; its connections go on", e.Key)
	case roster.Recovering:
		text = fmt.Sprintf("%v is %s, and stays %v", e.Key, e.Why, e.State)
	default:
		text = fmt.Sprintf("%v is %v", e.Key, e.State)
		if e.Why != "" {
			text += ": " + e.Why
		}
		if e.State == forwarder.Down {
			level = slog.LevelWarn
		}
	}
	d.log.Log(context.Background(), level, "backend", "service", e.Service, "backend", e.Backend, "event", string(e.Kind),
		"state", e.State.String(), "by", e.By, "text", text)
	d.standing.ring.Add(admin.Event{Time: d.standing.clock(e.At), Kind: string(e.Kind), Service: e.Service,
		Backend: e.Backend, State: e.State.String(), By: e.By, Text: text})
}

// order follows an order of an operator and hands the engines what follows.
func (d *Director) order(o roster.Order) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	events, err := d.standing.roster.Do(d.standing.now(), o)
	if err != nil {
		return err
	}
	for _, e := range events {
		d.tell(e)
	}
	d.wake()
	return d.apply(d.cfg, d.mirror.State())
}

// probed takes the result of a probe in. Many may come at once, so they are not applied one by one.
func (d *Director) probed(r health.Result) {
	service, backend, _ := strings.Cut(r.ID, "/")
	o := roster.Order{Key: roster.Key{Service: service, Backend: backend}, Action: roster.ProbeUp, Probed: r.What}
	if !r.Up {
		o.Action, o.Why = roster.ProbeDown, r.What+": "+r.Why
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	events, err := d.standing.roster.Do(d.standing.now(), o)
	if err != nil {
		return // a reload has just taken the backend away
	}
	for _, e := range events {
		d.tell(e)
	}
	d.wake()
}

// startStanding starts the probes and follows what time changes, until the function that it returns is called.
func (d *Director) startStanding(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	seed := d.opt.Seed
	checker := health.NewChecker(binary.LittleEndian.Uint64(seed[24:]), probesAtOne, d.probed)
	d.mu.Lock()
	d.standing.checker = checker
	checker.Set(probes(d.cfg))
	d.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() { d.followRoster(ctx) })
	return func() {
		cancel()
		checker.Close()
		wait.Wait()
	}
}

// probes are the targets of a configuration.
func probes(cfg *config.Config) []health.Target {
	var out []health.Target
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Backends {
			b := &s.Backends[j]
			at := compile.Probed(s, b)
			if !at.IsValid() {
				continue
			}
			h := &s.Health
			out = append(out, health.Target{ID: s.Name + "/" + b.Name, What: s.Health.Type + " " + at.String(),
				Prober: health.TCP{Addr: at}, Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall})
		}
	}
	return out
}

// followRoster applies what the roster does by itself: deadlines that pass, the steps of slow start.
func (d *Director) followRoster(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.standing.changed:
		case <-timer.C:
		}
		timer.Reset(d.catchUp())
	}
}

// catchUp brings the roster and the engines up to the present and returns in how long something changes by itself.
func (d *Director) catchUp() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.standing.roster.Advance(d.standing.now()) {
		d.tell(e)
	}
	if err := d.apply(d.cfg, d.mirror.State()); err != nil {
		d.say("apply", slog.LevelError, "a change of a backend could not be followed", "error", err)
	}
	at, ok := d.standing.roster.Next()
	if !ok {
		return time.Hour // whatever comes kicks
	}
	return max(time.Millisecond, at.Sub(d.standing.now()))
}
