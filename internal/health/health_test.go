package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRiseAndFall(t *testing.T) {
	for _, tt := range []struct {
		name       string
		rise, fall int
		results    string // + good, - bad, = bad for another reason
		want       string // what is told after each: U up, D down, . nothing
	}{
		{"the first good one counts", 2, 3, "+", "U"},
		{"the first bad one counts", 2, 3, "-", "D"},
		{"three bad ones take it down", 2, 3, "+--+---", "U.....D"},
		{"two good ones bring it back", 2, 3, "-+-++", "D...U"},
		{"one is enough", 1, 1, "+-+-", "UDUD"},
		{"another reason is told", 2, 3, "-=-=", "DDDD"},
		{"steady is quiet", 2, 2, "+++--------", "U...D......"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := judge{rise: tt.rise, fall: tt.fall}
			got := ""
			for _, r := range tt.results {
				err := map[rune]error{'-': errors.New("refused"), '=': errors.New("silent")}[r]
				switch news := j.note(err); {
				case !news:
					got += "."
				case j.up:
					got += "U"
				default:
					got += "D"
				}
			}
			if got != tt.want {
				t.Errorf("%s: %s, want %s", tt.results, got, tt.want)
			}
		})
	}
}

// fake is a prober that answers what it is told to.
type fake struct{ *state }

type state struct {
	mu  sync.Mutex
	err error
}

func (f fake) Probe(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f fake) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// results gathers what a Checker tells.
type results struct{ all chan string }

func newResults() results { return results{make(chan string, 1000)} }

func (r results) report(x Result) { r.all <- fmt.Sprint(x.ID, " ", x.Up, " ", x.Why) }

func (r results) next(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.all:
		if got != want {
			t.Fatalf("told %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing is told; want %q", want)
	}
}

func target(id string, p Prober) Target {
	return Target{ID: id, What: "fake", Prober: p, Interval: time.Millisecond, Timeout: time.Second, Rise: 2, Fall: 3}
}

func TestCheckerTellsWhatChanges(t *testing.T) {
	r := newResults()
	c := NewChecker(1, 2, r.report)
	defer c.Close()
	a, b := fake{&state{}}, fake{&state{err: errors.New("refused")}}
	c.Set([]Target{target("a", a)})
	r.next(t, "a true ")
	c.Set([]Target{target("a", a), target("b", b)})
	r.next(t, "b false refused") // a stays as it is, without a word
	a.set(&Undecided{errors.New("no more files")})
	b.set(nil)
	r.next(t, "b true ")
	a.set(errors.New("silent"))
	r.next(t, "a false silent")
	// Another probe begins anew.
	c.Set([]Target{target("a", fake{&state{}}), target("b", b)})
	r.next(t, "a true ")
	c.Set(nil)
	if len(c.running) > 0 {
		t.Errorf("%d are left", len(c.running))
	}
}

// blocking counts how many are asked at the same time.
type blocking struct{ n *counter }

type counter struct {
	sync.Mutex
	now, most int
}

func (b blocking) Probe(ctx context.Context) error {
	b.n.Lock()
	b.n.now++
	b.n.most = max(b.n.most, b.n.now)
	b.n.Unlock()
	<-ctx.Done()
	b.n.Lock()
	b.n.now--
	b.n.Unlock()
	return ctx.Err()
}

func TestOnlySoManyAreAskedAtOnce(t *testing.T) {
	r := newResults()
	c := NewChecker(1, 3, r.report)
	n := &counter{}
	var targets []Target
	for i := range 12 {
		x := target(fmt.Sprint(i), blocking{n})
		x.Timeout = time.Millisecond
		targets = append(targets, x)
	}
	c.Set(targets)
	var seen []string
	for range targets {
		seen = append(seen, strings.Fields(<-r.all)[0])
	}
	c.Close()
	slices.Sort(seen)
	if len(slices.Compact(seen)) != 12 || n.most > 3 || n.now != 0 {
		t.Errorf("%v were asked, %d at once, %d still are", seen, n.most, n.now)
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := TCP{netip.MustParseAddrPort(l.Addr().String())}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Probe(ctx); err != nil {
		t.Errorf("an open port: %v", err)
	}
	l.Close()
	if err := p.Probe(ctx); err == nil || err.Error() != "connection refused" {
		t.Errorf("a closed port: %v", err)
	}
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	if err := p.Probe(late); err == nil || err.Error() != "no answer" {
		t.Errorf("no time: %v", err)
	}
}
