//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/lab/bench"
)

const benchExample = `naru bench
naru bench --metric udp60,cps --against nft,nft+rps --rounds 5 -o json
naru bench --list

Traffic through naru and through others that forward it on this machine, in turns, in a network of
namespaces that is made for it and goes without a trace. It needs root. Ratios of one run mean
something, absolute figures little. Leave the machine alone meanwhile.`

// benchCommand returns naru bench.
func benchCommand() *cli.Command {
	return &cli.Command{
		Name:        "bench",
		Usage:       "measure naru beside the kernel's NAT and proxies",
		Category:    "Lab",
		Description: benchExample,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "mode", Value: "fullnat", Usage: "measure naru in `MODES`, several with commas"},
			&cli.StringFlag{Name: "driver", Value: "auto", Usage: "measure each mode with `DRIVERS`, several with commas, or all"},
			&cli.StringFlag{Name: "against", Value: "nft", Usage: "compare with `PEERS`, several with commas, or none"},
			&cli.StringFlag{Name: "metric", Value: "udp60,cps,rps,bulk1,rtt", Usage: "drive the traffic of `METRICS`, or all"},
			&cli.IntFlag{Name: "rounds", Value: 5, Usage: "give every system `N` turns"},
			&cli.DurationFlag{Name: "time", Value: 2 * time.Second, Usage: "measure each figure for `DURATION`"},
			&cli.IntFlag{Name: "flows", Value: 1024, Usage: "send UDP packets of `N` connections, 1 to 1000000"},
			&cli.StringFlag{Name: "congestion", Usage: "let bulk streams use the congestion control `NAME`, not the kernel's default"},
			&cli.StringFlag{Name: "chart", Usage: "draw the ratios into `FILE` too, .svg or .png"},
			&cli.BoolFlag{Name: "list", Usage: "list modes, peers and metrics and end"},
			outputFlag("table", "json"), quietFlag(),
		},
		Action: benchAction,
	}
}

func benchAction(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q", c.Args().First())
	}
	if c.Bool("list") {
		return listBench(c)
	}
	o, err := benchOptions(c)
	if err != nil {
		return err
	}
	if err := needRoot(); err != nil {
		return err
	}
	ctx, cancel := interruptible()
	defer cancel()
	say := func(format string, args ...any) {
		if !c.Bool("quiet") {
			fmt.Fprintf(c.App.ErrWriter, format, args...)
		}
	}
	say("about %s for %d rounds of %s\n", o.Duration().Round(time.Second), o.Rounds, benchNames(o.Systems))
	if isTerminal(c.App.ErrWriter) {
		o.Progress = func(round int, system, metric string) {
			say("\r\x1b[Kround %d of %d: %s through %s ", round+1, o.Rounds, metric, system)
		}
	}
	r, err := bench.Run(ctx, *o)
	if o.Progress != nil {
		say("\r\x1b[K")
	}
	if err != nil {
		return labError(ctx, err)
	}
	if c.String("output") == "json" {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = r.WriteTable(c.App.Writer)
	}
	if file := c.String("chart"); err == nil && file != "" {
		err = r.WriteChart(file)
	}
	if err == nil && len(r.Failures) > 0 {
		err = fmt.Errorf("%d measurements failed", len(r.Failures))
	}
	return err
}

func benchNames(systems []bench.System) string {
	var names []string
	for _, s := range systems {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// benchOptions reads the flags. What is not installed is left out and said.
func benchOptions(c *cli.Context) (*bench.Options, error) {
	o := &bench.Options{Rounds: c.Int("rounds"), Time: c.Duration("time"), Flows: c.Int("flows"),
		Congestion: c.String("congestion")}
	if err := bench.CheckCongestion(o.Congestion); err != nil {
		return nil, usagef("--congestion: %w", err)
	}
	switch {
	case o.Rounds < 1 || o.Rounds > 1000:
		return nil, usagef("--rounds must be 1 to 1000, not %d", o.Rounds)
	case o.Time < 100*time.Millisecond || o.Time > time.Minute:
		return nil, usagef("--time must be 100ms to 1m, not %s", o.Time)
	case o.Flows < 1 || o.Flows > 1_000_000:
		return nil, usagef("--flows must be 1 to 1000000, not %d", o.Flows)
	case c.IsSet("chart") && bench.ChartFormat(c.String("chart")) == "":
		return nil, usagef("--chart must end in .svg or .png, not %q", c.String("chart"))
	}
	peers, err := chooseSystems(c, "against", false)
	if err != nil {
		return nil, err
	}
	ours, err := chooseSystems(c, "mode", true)
	if err != nil {
		return nil, err
	}
	if ours, err = withDrivers(ours, c.String("driver")); err != nil {
		return nil, err
	}
	for _, s := range append(peers, ours...) {
		if why := s.Missing(); why != "" {
			fmt.Fprintf(c.App.ErrWriter, "%s is left out: %s\n", s.Name, why)
			continue
		}
		o.Systems = append(o.Systems, s)
	}
	if o.Metrics, err = chooseMetrics(c.String("metric")); err != nil {
		return nil, err
	}
	return o, nil
}

// chooseSystems returns the systems that a flag names, naru's modes or peers, in the order of the list.
func chooseSystems(c *cli.Context, flag string, naru bool) ([]bench.System, error) {
	words := strings.Split(c.String(flag), ",")
	if !naru && c.String(flag) == "none" {
		return nil, nil
	}
	var chosen []bench.System
	var known []string
	for _, s := range bench.Systems() {
		if s.Naru != naru {
			continue
		}
		known = append(known, s.Name)
		if slices.Contains(words, s.Name) || c.String(flag) == "all" {
			chosen = append(chosen, s)
		}
	}
	for _, w := range words {
		if w != "all" && !slices.Contains(known, w) {
			return nil, usagef("--%s %q is not known; use all or some of %s", flag, w, strings.Join(known, ","))
		}
	}
	return chosen, nil
}

// withDrivers returns each of the systems with each of the drivers. With the default alone names stay short.
func withDrivers(systems []bench.System, list string) ([]bench.System, error) {
	if list == "auto" {
		return systems, nil
	}
	words, known := strings.Split(list, ","), bench.Drivers()
	if list == "all" {
		words = known
	}
	var all []bench.System
	for _, s := range systems {
		for _, w := range words {
			if !slices.Contains(known, w) {
				return nil, usagef("--driver %q is not known; use all or some of %s", w, strings.Join(known, ","))
			}
			all = append(all, s.With(w))
		}
	}
	return all, nil
}

func chooseMetrics(list string) ([]bench.Metric, error) {
	if list == "all" {
		return bench.Metrics(), nil
	}
	var chosen []bench.Metric
	var known []string
	words := strings.Split(list, ",")
	for _, m := range bench.Metrics() {
		known = append(known, m.Name)
		if slices.Contains(words, m.Name) {
			chosen = append(chosen, m)
		}
	}
	for _, w := range words {
		if !slices.Contains(known, w) {
			return nil, usagef("--metric %q is not known; use all or some of %s", w, strings.Join(known, ","))
		}
	}
	return chosen, nil
}

// listBench prints what can be measured.
func listBench(c *cli.Context) error {
	type entry struct {
		Name  string `json:"name"`
		About string `json:"about"`
	}
	list := struct {
		Kind       string  `json:"kind"`
		APIVersion string  `json:"apiVersion"`
		Modes      []entry `json:"modes"`
		Peers      []entry `json:"peers"`
		Metrics    []entry `json:"metrics"`
	}{Kind: "BenchList", APIVersion: "naru/v1"}
	for _, s := range bench.Systems() {
		e := entry{s.Name, s.About}
		if why := s.Missing(); why != "" {
			e.About += " (" + why + ")"
		}
		if s.Naru {
			list.Modes = append(list.Modes, e)
		} else {
			list.Peers = append(list.Peers, e)
		}
	}
	for _, m := range bench.Metrics() {
		list.Metrics = append(list.Metrics, entry{m.Name, m.About})
	}
	if c.String("output") == "json" {
		e := json.NewEncoder(c.App.Writer)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	for _, part := range []struct {
		title   string
		entries []entry
	}{{"--mode", list.Modes}, {"--against", list.Peers}, {"--metric", list.Metrics}} {
		fmt.Fprintln(c.App.Writer, part.title)
		for _, e := range part.entries {
			fmt.Fprintf(c.App.Writer, "  %-10s  %s\n", e.Name, e.About)
		}
	}
	return nil
}
