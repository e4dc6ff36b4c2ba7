package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"naru/lab/server"
)

// demoRequests is how many requests the demonstration shows before it looks into one.
const demoRequests = 10

// demoWidth is the width of the demonstration's output in columns.
const demoWidth = 100

// Demo builds scenarios one after the other, each in a lab of its own: it sends requests to the VIP and writes which
// backend answered each, then one more request packet by packet: who sent it to whom, its addresses before and after
// naru, what naru did and why. In the end it compares what one and the same answer costs naru in each. All labs are
// removed before it returns. exe is the naru program; "" means the calling one.
func Demo(ctx context.Context, w io.Writer, exe string, scenarios ...string) error {
	start := time.Now()
	fmt.Fprintf(w, "naru lab demo %s: networks of their own on this machine, gone when this ends\n\n",
		strings.Join(scenarios, " "))
	var counts []Through
	for _, name := range scenarios {
		c := chapter{w: w, scenario: name, exe: exe, requests: true}
		count, err := c.show(ctx)
		if err != nil {
			return err
		}
		counts = append(counts, count)
	}
	WriteThrough(w, counts)
	last := scenarios[len(scenarios)-1]
	fmt.Fprintf(w, "All of it is removed again; %.1f s in all. Now by hand:\n\n", time.Since(start).Seconds())
	for _, line := range []string{"up " + last, "exec client -- curl -s http://www.naru.test/", "explain", "test " + last, "down"} {
		fmt.Fprintf(w, "  %s lab %s\n", Called(), line)
	}
	return nil
}

// Explain shows one request of a scenario packet by packet, as Demo does, and what an answer costs naru there and by
// full NAT.
func Explain(ctx context.Context, w io.Writer, exe, scenario string, o Options) error {
	c := chapter{w: w, scenario: scenario, exe: exe, options: o}
	count, err := c.show(ctx)
	if err != nil {
		return err
	}
	counts := []Through{count}
	if full := fullNAT().Name; scenario != full {
		other := chapter{w: io.Discard, scenario: full, exe: exe}
		if count, err = other.show(ctx); err != nil {
			return err
		}
		counts = []Through{count, counts[0]}
	}
	WriteThrough(w, counts)
	return nil
}

// chapter is what is shown of one scenario.
type chapter struct {
	w             io.Writer
	scenario, exe string
	options       Options
	requests      bool // some requests first
}

// show builds the lab, shows what is asked for, measures what an answer costs naru, and removes the lab.
func (c *chapter) show(ctx context.Context) (count Through, err error) {
	start := time.Now()
	c.options.RecordPackets = true
	l, err := Up(ctx, Spec{
		Scenario: c.scenario, Name: fmt.Sprintf("demo%d", self().PID), Options: c.options, Exe: c.exe, Private: true,
	})
	if err != nil {
		return count, err
	}
	defer func() { err = errors.Join(err, l.Down()) }()
	heading(c.w, "%s: %s", c.scenario, l.scenario.Summary)
	fmt.Fprintf(c.w, "%s\n\n", l.scenario.Drawing)
	fmt.Fprintf(c.w, "%d nodes are up, naru runs in node %s, %.1f s.\n\n", len(l.Nodes), l.scenario.Director,
		time.Since(start).Seconds())
	if c.requests {
		if err := l.demoRequests(ctx, c.w); err != nil {
			return count, err
		}
	}
	story, err := l.follow(ctx, l.scenario.VIP4)
	if err != nil {
		return count, err
	}
	story.print(c.w)
	fmt.Fprintln(c.w)
	return l.through(ctx, l.scenario.VIP4)
}

// heading writes a title over a rule.
func heading(w io.Writer, format string, args ...any) {
	title := fmt.Sprintf(format, args...)
	fmt.Fprintf(w, "%s %s\n\n", title, strings.Repeat("-", max(0, demoWidth-len(title)-1)))
}

// demoRequests sends the requests and writes who answered.
func (l *Lab) demoRequests(ctx context.Context, w io.Writer) error {
	heading(w, "%d requests to http://www.naru.test/", demoRequests)
	client := l.httpClient(l.scenario.Client, netip.AddrPortFrom(l.scenario.VIP4, server.HTTPPort), false)
	counts := map[string]int{}
	for i := range demoRequests {
		a, err := get(ctx, client, l.scenario.VIP4, "/")
		if err != nil {
			return fmt.Errorf("lab: request %d: %w", i+1, err)
		}
		counts[a.backend]++
		fmt.Fprintf(w, "  %2d  answered by %s, which saw %-18s %5.1f ms\n", i+1, a.backend, a.client,
			a.took.Seconds()*1e3)
	}
	bars := "\n     "
	for _, b := range l.scenario.Backends {
		bars += fmt.Sprintf(" %s %-6s", b, strings.Repeat("#", counts[b]))
	}
	fmt.Fprintf(w, "%s\n\n", strings.TrimRight(bars, " "))
	return nil
}
