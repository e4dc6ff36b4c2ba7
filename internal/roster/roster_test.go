package roster_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/roster"
	"naru/internal/wire"
)

var (
	b1 = roster.Key{Service: "web", Backend: "b1"}
	b2 = roster.Key{Service: "web", Backend: "b2"}
	b3 = roster.Key{Service: "web", Backend: "b3"}
)

func at(d time.Duration) wire.Time { return wire.Time(time.Hour + d) }

func member(k roster.Key, weight uint32) roster.Member { return roster.Member{Key: k, Weight: weight} }

// rig is a roster whose events are written down.
type rig struct {
	*testing.T
	roster.Roster
	said []string
}

func newRig(t *testing.T, members ...roster.Member) *rig {
	r := &rig{T: t}
	r.note(r.Configure(at(0), members))
	return r
}

func (r *rig) note(events []roster.Event) {
	for _, e := range events {
		s := fmt.Sprintf("%v %s %v %v by %s", e.At.Sub(at(0)), e.Kind, e.Key, e.State, e.By)
		if e.Kind == roster.Weighted {
			s += fmt.Sprint(" ", e.Weight)
		}
		r.said = append(r.said, s)
	}
}

func (r *rig) do(d time.Duration, o roster.Order) {
	r.Helper()
	events, err := r.Do(at(d), o)
	if err != nil {
		r.Fatal(err)
	}
	r.note(events)
}

// hear compares what was said since the last call.
func (r *rig) hear(want ...string) {
	r.Helper()
	if !slices.Equal(r.said, want) {
		r.Errorf("said %q\nwant %q", r.said, want)
	}
	r.said = nil
}

func (r *rig) is(k roster.Key, state forwarder.State, weight uint32) {
	r.Helper()
	if s, ok := r.Find(k); !ok || s.State != state || s.Weight != weight {
		r.Errorf("%v: %v %v weight %d, want %v weight %d", k, ok, s.State, s.Weight, state, weight)
	}
}

func TestOrdersOfAnOperator(t *testing.T) {
	r := newRig(t, member(b1, 10), member(b2, 0), member(b3, 7))
	r.hear()
	r.is(b1, forwarder.Up, 10)
	r.is(b2, forwarder.Draining, 0)
	r.do(time.Second, roster.Order{Key: b1, Action: roster.Drain, Deadline: 5 * time.Second})
	r.do(time.Second, roster.Order{Key: b1, Action: roster.Drain, Deadline: 5 * time.Second})
	r.do(2*time.Second, roster.Order{Key: b2, Action: roster.SetWeight, Weight: 4})
	r.do(3*time.Second, roster.Order{Key: b3, Action: roster.Disable})
	r.hear("1s state web/b1 draining by operator", "2s weight web/b2 draining by operator 4", "2s state web/b2 up by operator",
		"3s state web/b3 disabled by operator")
	if next, ok := r.Next(); !ok || next != at(6*time.Second) {
		t.Errorf("the next change is at %v %v", next.Sub(at(0)), ok)
	}
	r.note(r.Advance(at(6*time.Second - 1)))
	r.hear()
	r.note(r.Advance(at(6 * time.Second)))
	r.hear("6s state web/b1 disabled by deadline")
	if _, ok := r.Next(); ok {
		t.Error("something else is to come")
	}
	for _, k := range []roster.Key{b1, b2, b3} {
		if s, _ := r.Find(k); !s.Operator {
			t.Errorf("%v does not tell that an operator changed it", k)
		}
	}
	r.note(r.Reset(at(7 * time.Second)))
	r.hear("7s state web/b1 up by operator", "7s weight web/b2 up by operator 0", "7s state web/b2 draining by operator",
		"7s state web/b3 up by operator")
	if slices.ContainsFunc(r.Status(), func(s roster.Status) bool { return s.Operator }) {
		t.Error("an order is left")
	}
}

func TestACloneGoesItsOwnWay(t *testing.T) {
	r := newRig(t, member(b1, 1))
	c := r.Clone()
	if _, err := c.Do(at(1), roster.Order{Key: b1, Action: roster.Disable}); err != nil {
		t.Fatal(err)
	}
	c.Configure(at(2), []roster.Member{member(b1, 9), member(b2, 9)})
	r.is(b1, forwarder.Up, 1)
	if s := c.Status(); len(s) != 2 || s[0].State != forwarder.Disabled {
		t.Errorf("%+v", s)
	}
}

func TestWhatAnOrderMustNotBe(t *testing.T) {
	r := newRig(t, member(b1, 1))
	_, err := r.Do(at(1), roster.Order{Key: b2})
	if unknown := (*roster.UnknownError)(nil); !errors.As(err, &unknown) || unknown.Key != b2 {
		t.Errorf("unknown backend: %v", err)
	}
	for _, o := range []roster.Order{{Key: b1, Action: roster.SetWeight, Weight: 65536}, {Key: b1, Action: roster.Drain, Deadline: -1}} {
		if _, err := r.Do(at(1), o); err == nil {
			t.Errorf("%+v is followed", o)
		}
	}
	r.is(b1, forwarder.Up, 1)
}

func TestHealth(t *testing.T) {
	probed := func(k roster.Key) roster.Member { return roster.Member{Key: k, Weight: 1, Probed: "tcp"} }
	up := func(k roster.Key) roster.Order { return roster.Order{Key: k, Action: roster.ProbeUp, Probed: "tcp"} }
	down := func(k roster.Key) roster.Order {
		return roster.Order{Key: k, Action: roster.ProbeDown, Why: "refused", Probed: "tcp"}
	}
	r := newRig(t, probed(b1), probed(b2))
	r.is(b1, forwarder.Up, 1) // before the first probe
	r.do(1, up(b1))
	r.do(2, down(b2))
	r.hear("2ns state web/b2 down by health")
	if s, _ := r.Find(b2); s.Why != "refused" || s.Health != roster.Failed || s.Since != at(2) {
		t.Errorf("%+v", s)
	}
	// What comes later waits for its first probe.
	r.note(r.Configure(at(3), []roster.Member{probed(b1), probed(b2), probed(b3)}))
	r.is(b3, forwarder.Down, 1)
	r.do(4, up(b3))
	r.hear("3ns added web/b3 down by config", "4ns state web/b3 up by health")
	// An order hides health, which goes on.
	r.do(5, roster.Order{Key: b1, Action: roster.Disable})
	r.do(6, down(b1))
	r.do(7, roster.Order{Key: b1, Action: roster.Drain})
	r.is(b1, forwarder.Down, 1) // its connections cannot end by themselves
	r.do(8, up(b1))
	r.hear("5ns state web/b1 disabled by operator", "6ns probe web/b1 disabled by health", "7ns state web/b1 down by operator",
		"8ns state web/b1 draining by health")
	// Another address has to prove itself, and nothing is learned from what the old one answers late.
	moved := probed(b3)
	moved.Probed = "tcp elsewhere"
	r.note(r.Configure(at(9), []roster.Member{probed(b1), probed(b2), moved}))
	r.do(9, up(b3))
	r.hear("9ns state web/b3 down by config")
	r.note(r.Configure(at(9), []roster.Member{probed(b1), probed(b2), probed(b3)}))
	r.do(9, up(b3))
	r.hear("9ns state web/b3 up by health")
	// Without a probe nobody is ill.
	r.note(r.Configure(at(9), []roster.Member{probed(b1), member(b2, 1), probed(b3)}))
	r.hear("9ns state web/b2 up by config")
}

func TestOrdersAndHealthFollowNamesOverAReload(t *testing.T) {
	r := newRig(t, member(b1, 1), member(b2, 2), member(b3, 3))
	r.do(1, roster.Order{Key: b1, Action: roster.Drain, Deadline: time.Minute})
	r.do(1, roster.Order{Key: b2, Action: roster.SetWeight, Weight: 9})
	r.said = nil
	r.note(r.Configure(at(2), []roster.Member{member(b2, 5), member(b1, 1)}))
	r.hear("2ns removed web/b3 draining by config")
	r.is(b1, forwarder.Draining, 1)
	r.is(b2, forwarder.Up, 9)
	if s := r.Status(); len(s) != 2 || s[0].Key != b2 || s[0].Configured != 5 || s[1].Deadline != at(1).Add(time.Minute) {
		t.Errorf("%+v", s)
	}
	r.do(3, roster.Order{Key: b2, Action: roster.Ready})
	r.is(b2, forwarder.Up, 5)
}

func TestSlowStart(t *testing.T) {
	slow := func(k roster.Key) roster.Member {
		return roster.Member{Key: k, Weight: 100, SlowStart: 20 * time.Second}
	}
	r := newRig(t, slow(b1))
	share := func(k roster.Key) int {
		cfg := forwarder.Config{Services: []forwarder.Service{{Name: k.Service, Backends: []forwarder.Backend{{Name: k.Backend}}}}}
		r.Fill(&cfg)
		return (int(cfg.Services[0].Backends[0].Share)*100 + forwarder.FullShare/2) / forwarder.FullShare
	}
	if got := share(b1); got != 100 {
		t.Errorf("at naru's start a backend has %d %%", got)
	}
	r.note(r.Configure(at(0), []roster.Member{slow(b1), slow(b2)}))
	var got []int
	for next, ok := at(0), true; ok; next, ok = r.Next() {
		r.note(r.Advance(next))
		got = append(got, share(b2))
		if want := at(time.Duration(len(got)-1) * time.Second); next != want {
			t.Fatalf("step %d at %v", len(got), next.Sub(at(0)))
		}
	}
	if len(got) != 20 || !slices.IsSorted(got) || got[0] != 5 || got[9] != 50 || got[19] != 100 {
		t.Errorf("shares %v", got)
	}
	r.do(time.Minute, roster.Order{Key: b1, Action: roster.ProbeDown})
	r.do(2*time.Minute, roster.Order{Key: b1, Action: roster.ProbeUp})
	r.Advance(at(2*time.Minute + 1500*time.Millisecond))
	if got := share(b1); got != 10 {
		t.Errorf("1.5 s after its recovery: %d %%", got)
	}
}

func TestFill(t *testing.T) {
	r := newRig(t, member(b1, 3), member(b2, 4))
	r.do(1, roster.Order{Key: b2, Action: roster.Disable})
	cfg := forwarder.Config{Services: []forwarder.Service{{Name: "web", Backends: []forwarder.Backend{
		{Name: "b2", Weight: 1}, {Name: "b1", Weight: 1}, {Name: "b9", Weight: 8}}}}}
	r.Fill(&cfg)
	b := cfg.Services[0].Backends
	if b[0].State != forwarder.Disabled || b[1].State != forwarder.Up || b[1].Weight != 3 || b[2].Weight != 8 {
		t.Errorf("%+v", b)
	}
}

// TestConnectionsGoOnWhileABackendIsNotProbedYet: it was removed and has come back, or is probed elsewhere now. It gets no new
// connections, and keeps those that it has.
func TestConnectionsGoOnWhileABackendIsNotProbedYet(t *testing.T) {
	probed := func(how string) []roster.Member { return []roster.Member{{Key: b1, Weight: 1, Probed: how}} }
	r := newRig(t, probed("tcp")...)
	fills := func(want forwarder.State) {
		t.Helper()
		cfg := forwarder.Config{Services: []forwarder.Service{{Name: "web", Backends: []forwarder.Backend{{Name: "b1"}}}}}
		r.Fill(&cfg)
		if got := cfg.Services[0].Backends[0].State; got != want {
			t.Errorf("the engine is told %v, want %v", got, want)
		}
	}
	r.do(1, roster.Order{Key: b1, Action: roster.ProbeUp, Probed: "tcp"})
	fills(forwarder.Up)
	r.Configure(at(2), nil)
	r.Configure(at(3), probed("tcp"))
	r.is(b1, forwarder.Down, 1)
	fills(forwarder.Draining)
	r.do(4, roster.Order{Key: b1, Action: roster.ProbeUp, Probed: "tcp"})
	fills(forwarder.Up)
	r.Configure(at(5), probed("tcp elsewhere"))
	fills(forwarder.Draining)
	r.do(6, roster.Order{Key: b1, Action: roster.ProbeDown, Probed: "tcp elsewhere"})
	fills(forwarder.Down)
}
