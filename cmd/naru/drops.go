package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/record"
)

func dropsCommand() *cli.Command {
	return &cli.Command{
		Name: "drops", Usage: "show what a running naru drops, why, and what to do", ArgsUsage: "[REASON]", Category: "Look",
		Description: "naru drops\nnaru drops --watch\nnaru drops no_backend                      # and the last packets",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "watch", EnvVars: []string{"NARU_WATCH"}, Usage: "print it again and again until interrupted"},
			&cli.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "with --watch: wait `DURATION` between"},
			outputFlag("table", "wide", "json", "yaml"),
		}, clientFlags()...),
		Action: dropsAction,
	}
}

func dropsAction(c *cli.Context) error {
	path := admin.Path("drops")
	if c.NArg() > 1 {
		return usagef("too many arguments: %q; it takes one reason", c.Args().Get(1))
	}
	if name := c.Args().First(); name != "" {
		if _, ok := record.ReasonOf(name); !ok {
			return usagef("%q is no reason; docs/counters.md lists them", name)
		}
		path = admin.Path("drops", name)
	}
	if c.Duration("interval") <= 0 {
		return usagef("--interval %v is no time; write 2s", c.Duration("interval"))
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	for {
		if err := printDrops(c, path); err != nil || !c.Bool("watch") {
			return err
		}
		if !sleep(ctx, c.Duration("interval")) {
			return nil
		}
		fmt.Fprintln(c.App.Writer)
	}
}

// sleep waits, and reports false when the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func printDrops(c *cli.Context, path string) error {
	var d admin.Drops
	if err := ask(c, "GET", path, nil, &d); err != nil {
		return err
	}
	if format := c.String("output"); format == "json" || format == "yaml" {
		return printDocument(c.App.Writer, format, d)
	}
	if name := c.Args().First(); name != "" && len(d.Reasons) == 0 {
		d.Reasons = []admin.Reason{{Reason: name, Advice: "none since naru's start"}}
	}
	_, err := fmt.Fprint(c.App.Writer, dropsText(&d, time.Now(), c.Args().Present(), c.String("output") == "wide"))
	return err
}

// dropsText is the table, and the balance of all packets; with samples the last packets of each reason.
func dropsText(d *admin.Drops, now time.Time, samples, wide bool) string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "REASON\tCOUNT\tRATE\tLAST\tWHAT TO DO")
	for i := range d.Reasons {
		r := &d.Reasons[i]
		last := "-"
		if r.Last != nil {
			last = age(max(0, now.Sub(*r.Last).Seconds()))
		}
		what := r.Fix
		if what == "" {
			what = r.Advice
		} else if wide || samples {
			what = r.Advice + ": " + r.Fix
		}
		fmt.Fprintf(tw, "%s\t%d\t%s/s\t%s\t%s\n", r.Reason, r.Packets, human(r.Rate), last, what)
	}
	if len(d.Reasons) == 0 {
		fmt.Fprintln(tw, "-\t0\t0/s\t-\tnothing was dropped")
	}
	_ = tw.Flush()
	if samples || wide {
		for i := range d.Reasons {
			writeSamples(&b, &d.Reasons[i], now)
		}
	}
	if d.Missed > 0 {
		fmt.Fprintf(&b, "the kernel dropped %d before naru saw them: naru status -o wide says what to do\n", d.Missed)
	}
	share := 0.0
	if d.Received > 0 {
		share = 100 * float64(d.Dropped) / float64(d.Received)
	}
	balance := "balanced"
	if !d.Balanced {
		balance = "NOT BALANCED: this is a mistake in naru, please report it"
	}
	fmt.Fprintf(&b, "total %d of %d (%.4f%%)   received = %d transmitted + %d answered + %d passed + %d dropped + %d held: %s\n",
		d.Dropped, d.Received, share, d.Transmitted, d.Consumed, d.Passed, d.Dropped, d.Held, balance)
	return b.String()
}

func writeSamples(b *strings.Builder, r *admin.Reason, now time.Time) {
	for _, s := range r.Samples {
		fmt.Fprintf(b, "  %s ago  %s  %s  %d bytes\n", age(max(0, now.Sub(s.At).Seconds())), s.Interface, s.Packet, s.Length)
		if frame, err := hex.DecodeString(s.Hex); err == nil && len(frame) > 0 {
			for _, line := range strings.Split(strings.TrimSpace(hex.Dump(frame)), "\n") {
				fmt.Fprintf(b, "    %s\n", line)
			}
		}
	}
}
