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

// Demo builds the scenario in a lab of its own, sends requests to the VIP and writes which backend answered each, then
// one more request packet by packet: who sent it to whom, its addresses before and after naru, what naru did and why.
// It removes the lab before it returns. exe is the naru program; "" means the calling one.
func Demo(ctx context.Context, w io.Writer, scenario, exe string) (err error) {
	start := time.Now()
	fmt.Fprintf(w, "naru lab demo %s: a network of its own on this machine, gone when this ends\n\n", scenario)
	l, err := Up(ctx, Spec{
		Scenario: scenario, Name: fmt.Sprintf("demo%d", self().PID), Options: Options{RecordPackets: true},
		Exe: exe, Private: true,
	})
	if err != nil {
		return err
	}
	removed := false
	defer func() {
		if !removed {
			err = errors.Join(err, l.Down())
		}
	}()
	fmt.Fprintf(w, "%s\n\n", l.scenario.Drawing)
	fmt.Fprintf(w, "%d nodes are up, naru runs in node %s, %.1f s.\n\n", len(l.Nodes), l.scenario.Director,
		time.Since(start).Seconds())
	if err := l.demoRequests(ctx, w); err != nil {
		return err
	}
	story, err := l.follow(ctx)
	if err != nil {
		return err
	}
	story.print(w)
	removed = true
	if err := l.Down(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nAll of it is removed again; %.1f s in all. Now by hand:\n\n", time.Since(start).Seconds())
	fmt.Fprintf(w, "  naru lab up %s\n  naru lab exec %s -- curl -s http://www.naru.test/\n", scenario, l.scenario.Client)
	fmt.Fprintf(w, "  naru lab test %s\n  naru lab down\n", scenario)
	return nil
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
