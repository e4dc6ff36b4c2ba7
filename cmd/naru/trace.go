package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/record"
)

// errEnough ends a stream from within.
var errEnough = errors.New("enough")

func traceCommand() *cli.Command {
	return &cli.Command{
		Name: "trace", Usage: "follow what a running naru decides about real packets", ArgsUsage: "[EXPRESSION]",
		Category: "Understand",
		Description: "naru trace -n 10                           # the next ten packets\n" +
			"naru trace --verdict drop\n" +
			"naru trace --service web --new 'src net 10.20.0.0/16 and not port 443' -o jsonl\n" +
			"naru trace --bpf 'tcp[tcpflags] & tcp-rst != 0'\n" +
			"naru trace --flow f-1a2b3c4d -x            # every byte that changes, and each checksum\n\n" +
			"EXPRESSION has words of pcap-filter(7): tcp, udp, icmp, icmp6, ip, ip6, arp, [src|dst] host, net and port, not,\n" +
			"and, or, parentheses. It costs forwarding little: what cannot be copied in time is missed, and said.",
		Flags:  append(append(filterFlags(), traceFlags()...), clientFlags()...),
		Action: traceAction,
	}
}

func traceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "end after `N` packets; 0: go on until interrupted"},
		&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until interrupted, which is what it does without -n"},
		&cli.DurationFlag{Name: "for", Usage: "end after `DURATION`"},
		hexFlag(), outputFlag("table", "wide", "jsonl"), quietFlag(),
	}
}

// filterFlags choose packets.
func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "service", Usage: "of `SERVICE`"},
		&cli.StringSliceFlag{Name: "backend", Usage: "of `BACKEND`, by name or as SERVICE/BACKEND"},
		&cli.StringFlag{Name: "client", Usage: "of clients in `PREFIX`"},
		&cli.StringSliceFlag{Name: "verdict", Usage: "with `VERDICT`: drop, pass, consume, transmit or held"},
		&cli.StringSliceFlag{Name: "reason", Usage: "with `REASON`, as docs/counters.md lists them"},
		&cli.StringSliceFlag{Name: "flow", Usage: "of the connection `FLOW`, as f-1a2b3c4d"},
		&cli.BoolFlag{Name: "new", Usage: "that made a connection"},
		&cli.StringFlag{Name: "bpf", Usage: "of which a frame fits `FILTER`, in the language of tcpdump, as it came or as it left"},
		&cli.StringFlag{Name: "sample", Usage: "only one of so many, as `1/100`"},
	}
}

// filterQuery makes the query of a stream.
func filterQuery(c *cli.Context) (url.Values, error) {
	q := url.Values{}
	for _, name := range []string{"service", "backend", "verdict", "reason", "flow"} {
		q[name] = c.StringSlice(name)
	}
	if c.IsSet("client") {
		q.Set("client", c.String("client"))
	}
	if c.Bool("new") {
		q.Set("new", "true")
	}
	if words := strings.Join(c.Args().Slice(), " "); words != "" {
		q.Set("expr", words)
	}
	if c.IsSet("bpf") {
		q.Set("bpf", c.String("bpf"))
	}
	filter, err := record.ParseFilter(q)
	if err != nil {
		return nil, usagef("%w", err)
	}
	q = filter.Query()
	if text := c.String("sample"); text != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(text, "1/"))
		if err != nil || n < 1 {
			return nil, usagef("--sample %q is not like 1/100", text)
		}
		q.Set("sample", strconv.Itoa(n))
	}
	return q, nil
}

func traceAction(c *cli.Context) error {
	if c.Bool("follow") && c.Int("last") > 0 {
		return usagef("-f goes on and -n ends it; give one of them")
	}
	q, err := filterQuery(c)
	if err != nil {
		return err
	}
	resource := "trace"
	if c.Bool("hex") {
		resource = "capture"
		q.Set("hex", "true")
		q.Set("frames", "false")
	}
	n, missed := 0, uint64(0)
	err = followRecords(c, resource, q, func(line []byte, t *record.Traced) error {
		if missed += t.Missed; t.Missed > 0 && !c.Bool("quiet") {
			fmt.Fprintf(c.App.ErrWriter, "missed %d packets: naru goes on rather than wait for this program\n", t.Missed)
		}
		if err := printTraced(c, line, t); err != nil {
			return err
		}
		if n++; n == c.Int("last") {
			return errEnough
		}
		return nil
	})
	if err == nil && missed > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%d packets shown, %d missed\n", n, missed)
	}
	return err
}

func printTraced(c *cli.Context, line []byte, t *record.Traced) (err error) {
	switch {
	case c.String("output") == "jsonl":
		_, err = fmt.Fprintf(c.App.Writer, "%s\n", line)
	case c.String("output") == "wide":
		_, err = fmt.Fprint(c.App.Writer, t.Text())
	default:
		_, err = fmt.Fprintln(c.App.Writer, t.Brief())
	}
	if err == nil && t.Hex != "" && c.String("output") != "jsonl" {
		_, err = fmt.Fprintln(c.App.Writer, t.Hex)
	}
	return err
}

// followRecords reads a stream of records until each wants no more (errEnough), --for is over, or a signal comes: none of
// which is an error.
func followRecords(c *cli.Context, resource string, q url.Values, each func(line []byte, t *record.Traced) error) error {
	ctx, cancel := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if d := c.Duration("for"); d > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, d)
		defer stop()
	}
	path := admin.Path(resource)
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	err := admin.NewClient(c.String("socket")).Follow(ctx, path, func(line []byte) error {
		t := &record.Traced{}
		if err := json.Unmarshal(line, t); err != nil {
			return fmt.Errorf("a record of naru: %w", err)
		}
		return each(line, t)
	})
	switch {
	case errors.Is(err, errEnough), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	}
	return daemonError(err)
}
