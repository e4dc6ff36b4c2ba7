package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Result is the outcome of one assertion.
type Result struct {
	Variant string `json:"variant"` // what the lab was built like
	OK      bool   `json:"ok"`
	What    string `json:"what"`            // what was asserted and, if it holds, what was seen
	Error   string `json:"error,omitempty"` // what was seen instead
}

// String returns the line that is printed: ok or FAIL, what was asserted, what was seen instead.
func (r Result) String() string {
	if r.OK {
		return "ok    " + r.What
	}
	return "FAIL  " + r.What + "\n      " + strings.ReplaceAll(r.Error, "\n", "\n      ")
}

// Variant is one way to build a scenario, and what must then hold.
type Variant struct {
	Name    string
	Options Options
	checks  []check
}

// check is one assertion. run returns what was seen, in a few words.
type check struct {
	what   string
	run    func(*checker) (seen string, err error)
	always bool // also when so much has failed that the others are left out
}

// enoughFailures is how many assertions of a variant may fail until those that need time to fail are left out.
const enoughFailures = 5

// checker is what the checks of one lab share.
type checker struct {
	*Lab
	ctx    context.Context
	before map[string]uint64 // the director kernel's counters before any traffic

	report func(Through)

	mu      sync.Mutex
	sources map[netip.Addr]int // whose packets reached the client
}

// TestSpec says what Test tests.
type TestSpec struct {
	Variants []Variant
	Scenario string
	Exe      string // the naru program; "" means the calling one
	Report   func(Result)

	// Measured is called with what one answer costs naru, by the variants that measure it; nil for nobody.
	Measured func(Through)

	// Starting is called before the lab of a variant is built.
	Starting func(v Variant)
}

// testTime bounds a variant's traffic.
const testTime = 2 * time.Minute

// Test builds a lab of its own for every variant, drives traffic through it, reports every assertion, and removes the
// lab. It returns the number of assertions that failed; the error is for a lab that could not be built or removed, or
// for the end of ctx.
func Test(ctx context.Context, spec TestSpec) (failed int, err error) {
	for i, v := range spec.Variants {
		if spec.Starting != nil {
			spec.Starting(v)
		}
		n, err := testVariant(ctx, spec, v, i)
		failed += n
		if err != nil {
			return failed, err
		}
	}
	return failed, nil
}

func testVariant(ctx context.Context, spec TestSpec, v Variant, number int) (failed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, testTime)
	defer cancel()
	l, err := Up(ctx, Spec{
		Scenario: spec.Scenario, Options: v.Options, Exe: spec.Exe, Private: true,
		Name: fmt.Sprintf("test%d-%d", self().PID, number+1),
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	c := &checker{Lab: l, ctx: ctx, report: spec.Measured, sources: map[netip.Addr]int{}}
	if c.before, err = l.kernelCounters(l.scenario.Director); err != nil {
		return 0, err
	}
	watch, err := c.watchClient()
	if err != nil {
		return 0, err
	}
	defer watch.close()
	for _, check := range v.checks {
		if failed >= enoughFailures && !check.always {
			continue
		}
		r := Result{Variant: v.Name, OK: true, What: check.what}
		seen, err := check.run(c)
		if ctx.Err() != nil {
			return failed, fmt.Errorf("lab: %s: stopped at %q: %w", v.Name, check.what, ctx.Err())
		}
		switch {
		case err != nil:
			r.OK, r.Error = false, err.Error()
			failed++
		case seen != "":
			r.What += ": " + seen
		}
		spec.Report(r)
	}
	if failed > 0 {
		spec.Report(Result{Variant: v.Name, What: "what naru said last", Error: l.logTail(l.scenario.Director)})
	}
	return failed, nil
}

// watchClient counts the packets that reach the client by their source address.
func (c *checker) watchClient() (*tap, error) {
	at := End{c.scenario.Client, c.topology.Node(c.scenario.Client).Interfaces[0].Name}
	own := map[netip.Addr]bool{}
	for _, p := range c.topology.end(at).Addrs {
		own[p.Addr()] = true
	}
	return c.openTap(at, 128, func(_ time.Time, frame []byte) {
		src, dst, ok := addresses(frame)
		if !ok || !own[dst] {
			return
		}
		c.mu.Lock()
		c.sources[src]++
		c.mu.Unlock()
	})
}

// addresses returns the IP addresses of an Ethernet frame without a VLAN tag.
func addresses(frame []byte) (src, dst netip.Addr, ok bool) {
	const ethernet, v4, v6 = 14, 20, 40
	if len(frame) < ethernet {
		return src, dst, false
	}
	ip := frame[ethernet:]
	switch proto := uint16(frame[12])<<8 | uint16(frame[13]); {
	case proto == 0x0800 && len(ip) >= v4:
		return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), true
	case proto == 0x86dd && len(ip) >= v6:
		return netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), true
	}
	return src, dst, false
}
