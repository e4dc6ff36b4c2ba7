// Package health finds out which backends work, by asking them again and again.
//
// Contract: a Checker has a set of targets and probes each at its interval, a bounded number at once; the first probe of a
// target is due at once. The first result counts by itself; after that it takes Rise good or Fall bad results in a row to
// change what is known. What is known is reported when it changes, and when the reason for the worse does. Intervals are
// shortened or lengthened by up to a tenth, from a seed, so that probes of many targets spread.
//
// It opens ordinary sockets of this host's kernel, beside the data path: it finds out that a server answers at its own
// address, not that a packet to the VIP gets there. It decides nothing about traffic.
package health

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Prober asks a backend once. It is compared with ==: two equal ones ask the same.
type Prober interface {
	// Probe returns nil if the backend is well, an *Undecided if this host could not ask, and why it is not well
	// otherwise. It returns when ctx ends.
	Probe(ctx context.Context) error
}

// Undecided says that a probe tells nothing about the backend.
type Undecided struct{ Err error }

// Error returns the cause.
func (u *Undecided) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u *Undecided) Unwrap() error { return u.Err }

// TCP opens a connection and resets it.
type TCP struct{ Addr netip.AddrPort }

// Probe opens a connection. What this host lacks to open one says nothing about the backend.
func (p TCP) Probe(ctx context.Context) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.Addr.String())
	if err == nil {
		// A reset leaves no TIME_WAIT behind, here or there, however often one asks.
		_ = c.(*net.TCPConn).SetLinger(0)
		return c.Close()
	}
	for _, lack := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
		syscall.EPERM, syscall.EACCES} {
		if errors.Is(err, lack) {
			return &Undecided{err}
		}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused")
	case errors.Is(err, syscall.EHOSTUNREACH):
		return errors.New("host unreachable")
	case errors.Is(err, syscall.ENETUNREACH):
		return errors.New("no route")
	}
	return err
}

// Target is a backend to probe.
type Target struct {
	ID                string // names it in results; no two targets have the same
	What              string // what is asked; part of the results
	Prober            Prober
	Interval, Timeout time.Duration
	Rise, Fall        int
}

// Result is what is known of a target now.
type Result struct {
	ID, What string
	Up       bool
	Why      string // of a target that is down
}

// Checker probes targets.
type Checker struct {
	seed   uint64
	report func(Result)
	room   chan struct{}
	ctx    context.Context
	end    context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	running map[string]*runner
}

type runner struct {
	Target
	cancel context.CancelFunc
}

// NewChecker returns a Checker that probes at most atOnce targets at a time. report is called on goroutines of its own; one
// call may still come for a target that was just taken away.
func NewChecker(seed uint64, atOnce int, report func(Result)) *Checker {
	c := &Checker{seed: seed, report: report, room: make(chan struct{}, atOnce), running: map[string]*runner{}}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c
}

// Set says which targets to probe from now on. What is known of those that stay as they are stays.
func (c *Checker) Set(targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	wanted := make(map[string]bool, len(targets))
	for _, t := range targets {
		wanted[t.ID] = true
		old := c.running[t.ID]
		if old != nil && old.Target == t {
			continue
		}
		if old != nil {
			old.cancel()
		}
		ctx, cancel := context.WithCancel(c.ctx)
		c.running[t.ID] = &runner{t, cancel}
		c.wait.Go(func() { c.run(ctx, t) })
	}
	for id, r := range c.running {
		if !wanted[id] {
			r.cancel()
			delete(c.running, id)
		}
	}
}

// Close ends all probes and waits for that. The report function must not wait for the caller.
func (c *Checker) Close() {
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	c.wait.Wait()
}

// run probes one target until the context ends.
func (c *Checker) run(ctx context.Context, t Target) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.ID))
	rng := rand.New(rand.NewPCG(c.seed, h.Sum64()))
	j := judge{rise: t.Rise, fall: t.Fall}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		began := time.Now()
		err, asked := c.ask(ctx, t)
		if !asked || ctx.Err() != nil {
			return
		}
		if lack := (*Undecided)(nil); !errors.As(err, &lack) && j.note(err) {
			c.report(Result{ID: t.ID, What: t.What, Up: j.up, Why: j.why})
		}
		spread := time.Duration(rng.Int64N(int64(t.Interval)/5+1)) - t.Interval/10
		pause.Reset(max(0, t.Interval+spread-time.Since(began)))
	}
}

// ask probes once when there is room; asked is false if the context ended before.
func (c *Checker) ask(ctx context.Context, t Target) (err error, asked bool) {
	select {
	case <-ctx.Done():
		return nil, false
	case c.room <- struct{}{}:
	}
	defer func() { <-c.room }()
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	return t.Prober.Probe(ctx), true
}

// judge makes one opinion of many results.
type judge struct {
	rise, fall int
	known, up  bool
	run        int // results in a row that contradict up
	why        string
}

// note takes a result in and reports whether there is something new to tell.
func (j *judge) note(err error) (news bool) {
	good := err == nil
	if j.known && good == j.up {
		j.run = 0
		if good || err.Error() == j.why {
			return false
		}
		j.why = err.Error()
		return true
	}
	need := j.fall
	if good {
		need = j.rise
	}
	if j.run++; j.known && j.run < need {
		return false
	}
	j.known, j.up, j.run, j.why = true, good, 0, ""
	if !good {
		j.why = err.Error()
	}
	return true
}
