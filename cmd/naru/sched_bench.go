package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/schedbench"
	"naru/sched"
)

// hashKey is a key as the schedulers take it.
func hashKey(key *[16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])}
}

func schedBenchCommand() *cli.Command {
	var words []string
	for _, s := range schedbench.Scenarios() {
		words = append(words, fmt.Sprintf("  %-14s %s", s.Name, s.Words))
	}
	return &cli.Command{
		Name: "bench", Usage: "run schedulers over a load or a capture in virtual time", ArgsUsage: "[SCENARIO]",
		Category: "Understand",
		Description: "naru sched bench newcomer --chart newcomer.svg\n" +
			"naru sched bench --schedulers rr,lc,mh --backends 10 --rate 5000 --slow b3=10 --join b10=20s --slow-start 30s\n" +
			"naru sched bench --pcap in.pcap --schedulers sh,mh,lc --bounded 1.25\n\n" +
			"Scenarios, each a known fault and what answers it:\n" + strings.Join(words, "\n"),
		Flags:  append(benchLoadFlags(), benchOtherFlags()...),
		Action: schedBench,
	}
}

func benchLoadFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "pcap", Usage: "take the connections of `FILE`, - for standard input"},
		&cli.Float64Flag{Name: "rate", Value: 1000, Usage: "let `N` connections come a second"},
		&cli.DurationFlag{Name: "time", Value: time.Minute, Usage: "let them come for `DURATION`"},
		&cli.StringFlag{Name: "service", Value: "exp",
			Usage: "let them last as `DISTRIBUTION` says: " + strings.Join(schedbench.Services(), ", ")},
		&cli.DurationFlag{Name: "mean", Value: 2 * time.Second, Usage: "let them last `DURATION` in the mean"},
		&cli.IntFlag{Name: "clients", Value: 10000, Usage: "from `N` clients"},
		&cli.StringFlag{Name: "heavy", Usage: "let a part come from few clients, `PART/CLIENTS`, as 0.5/3"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "make every random choice from `N`"},
	}
}

func benchOtherFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "schedulers", Value: "rr,wrr,lc,wlc,sh,mh,sed,nq,twos", Usage: "compare `NAMES`, with commas"},
		&cli.IntFlag{Name: "backends", Value: 4, Usage: "have `N` backends, b1 and on"},
		&cli.StringFlag{Name: "weights", Usage: "give them the weights `LIST`, with commas; the last goes on"},
		&cli.StringSliceFlag{Name: "slow", Usage: "let connections last longer at a backend, `BACKEND=FACTOR`"},
		&cli.StringSliceFlag{Name: "join", Usage: "let a backend come later, `BACKEND=WHEN`"},
		&cli.StringSliceFlag{Name: "leave", Usage: "let a backend be drained, `BACKEND=WHEN`"},
		&cli.DurationFlag{Name: "slow-start", Usage: "let the share of one that comes grow for `DURATION`"},
		&cli.Float64Flag{Name: "bounded", Usage: "bound the load of sh and mh by `FACTOR`, 1 to 100"},
		&cli.IntFlag{Name: "table-size", Value: sched.DefaultTableSize, Usage: "give mh `N` slots, a prime"},
		&cli.DurationFlag{Name: "linger",
			Usage: "count connections for `DURATION` after their end, as direct server return does without the client's FIN"},
		&cli.Float64Flag{Name: "silent", Value: 1, Usage: "do so for a `PART` of them, 0 to 1"},
		&cli.StringFlag{Name: "chart", Usage: "draw to `FILE`, an .svg or .png"},
		&cli.StringFlag{Name: "series", Value: "active", Usage: "draw `WHAT`: active, new or load"},
		outputFlag("table", "json"),
	}
}

func schedBench(c *cli.Context) error {
	if c.NArg() > 1 {
		return usagef("one SCENARIO at a time; unexpected argument %q", c.Args().Get(1))
	}
	format := strings.TrimPrefix(filepath.Ext(c.String("chart")), ".")
	if c.IsSet("chart") && !slices.Contains(schedbench.Formats(), format) {
		return usagef("--chart %s is neither .svg nor .png", c.String("chart"))
	}
	sc, err := benchScenario(c)
	if err != nil {
		return err
	}
	if sc.Series == "table" {
		return benchTables(c, format)
	}
	in, err := benchInput(c, &sc)
	if err != nil {
		return err
	}
	var results []*schedbench.Result
	for i := range sc.Setups {
		results = append(results, schedbench.Run(in, &sc.Setups[i]))
	}
	if err := draw(c, func(w io.Writer) error { return schedbench.Chart(w, format, sc.Series, results) }); err != nil {
		return err
	}
	if c.String("output") == "json" {
		return printDocument(c.App.Writer, "json", struct {
			admin.Head
			Connections int                  `json:"connections"`
			Clients     int                  `json:"clients"`
			Backends    []schedbench.Backend `json:"backends"`
			Results     []*schedbench.Result `json:"results"`
		}{admin.NewHead("SchedulerBench"), len(in.Arrivals), in.Clients, in.Backends, results})
	}
	return printBench(c, in, results)
}

// benchScenario returns the scenario that is named, or makes one of the flags.
func benchScenario(c *cli.Context) (sc schedbench.Scenario, err error) {
	if name := c.Args().First(); name != "" {
		sc, ok := schedbench.FindScenario(name)
		if !ok {
			var names []string
			for _, s := range schedbench.Scenarios() {
				names = append(names, s.Name)
			}
			return sc, usagef("there is no scenario %q; take one of %s", name, strings.Join(names, ", "))
		}
		for _, f := range c.LocalFlagNames() {
			if f != "chart" && f != "output" && f != "o" {
				return sc, usagef("--%s does not go with a scenario, which has its own load and schedulers", f)
			}
		}
		return sc, nil
	}
	sc = schedbench.Scenario{Load: schedbench.Load{Rate: c.Float64("rate"), Duration: c.Duration("time"),
		Service: c.String("service"), Mean: c.Duration("mean"), Clients: c.Int("clients"), Seed: c.Uint64("seed")},
		Series: c.String("series")}
	if !slices.Contains([]string{"active", "new", "load"}, sc.Series) {
		return sc, usagef("--series %s is none of active, new, load", sc.Series)
	}
	if h := c.String("heavy"); h != "" {
		part, clients, ok := strings.Cut(h, "/")
		f, err1 := strconv.ParseFloat(part, 64)
		n, err2 := strconv.Atoi(clients)
		if !ok || err1 != nil || err2 != nil {
			return sc, usagef("--heavy %s is not PART/CLIENTS, as 0.5/3", h)
		}
		sc.Load.Heavy, sc.Load.HeavyClients = f, n
	}
	if sc.Backends, err = benchBackends(c); err != nil {
		return sc, err
	}
	sc.Setups, err = benchSetups(c)
	return sc, err
}

// benchBackends makes the backends of the flags.
func benchBackends(c *cli.Context) ([]schedbench.Backend, error) {
	n := c.Int("backends")
	if n < 1 || n > sched.MaxBackends {
		return nil, usagef("--backends %d is not from 1 to %d", n, sched.MaxBackends)
	}
	bs := schedbench.Equal(n)
	if list := c.String("weights"); list != "" {
		weight := uint32(1)
		words := strings.Split(list, ",")
		for i := range bs {
			if i < len(words) {
				w, err := strconv.ParseUint(words[i], 10, 16)
				if err != nil {
					return nil, usagef("--weights: %q is not a number from 0 to 65535", words[i])
				}
				weight = uint32(w)
			}
			bs[i].Weight = weight
		}
	}
	for flag, set := range map[string]func(*schedbench.Backend, string) bool{
		"slow": func(b *schedbench.Backend, s string) bool {
			f, err := strconv.ParseFloat(s, 64)
			b.Factor = f
			return err == nil && f > 0 && !math.IsInf(f, 0)
		},
		"join":  func(b *schedbench.Backend, s string) bool { return positive(s, &b.Join) },
		"leave": func(b *schedbench.Backend, s string) bool { return positive(s, &b.Leave) },
	} {
		for _, arg := range c.StringSlice(flag) {
			name, val, _ := strings.Cut(arg, "=")
			i := slices.IndexFunc(bs, func(b schedbench.Backend) bool { return b.Name == name })
			if i < 0 || !set(&bs[i], val) {
				return nil, usagef("--%s %s: write %s", flag, arg, map[string]string{"slow": "b3=10", "join": "b4=30s",
					"leave": "b4=30s"}[flag]+", of b1 to "+bs[n-1].Name)
			}
		}
	}
	return bs, nil
}

func positive(s string, to *time.Duration) bool {
	d, err := time.ParseDuration(s)
	*to = d
	return err == nil && d > 0
}

// benchSetups makes the setups of the flags: of a scheduler that hashes two, if there is a bound.
func benchSetups(c *cli.Context) (all []schedbench.Setup, err error) {
	bound := c.Float64("bounded")
	if c.IsSet("bounded") && !(bound >= 1 && bound <= 100) {
		return nil, usagef("--bounded %v is not from 1 to 100", bound)
	}
	size := c.Int("table-size")
	if size < 3 || size > 1<<24 || !sched.IsPrime(size) {
		return nil, usagef("--table-size %d is not a prime below 16777216", size)
	}
	if c.Duration("slow-start") < 0 || c.Duration("linger") < 0 {
		return nil, usagef("--slow-start and --linger are not below 0")
	}
	silent := c.Float64("silent")
	if !(silent >= 0 && silent <= 1) {
		return nil, usagef("--silent %v is not from 0 to 1", silent)
	}
	for name := range strings.SplitSeq(c.String("schedulers"), ",") {
		kind, known := sched.Parse(name)
		if !known {
			return nil, usagef("--schedulers: %q is none of %s", name, strings.Join(sched.Names(), ", "))
		}
		s := schedbench.Setup{Name: kind.String(), SlowStart: c.Duration("slow-start"),
			Linger: c.Duration("linger"), Silent: silent,
			Options: sched.Options{Kind: kind, Seed: c.Uint64("seed"), TableSize: size, Key: [2]uint64{1, 2}}}
		all = append(all, s)
		if kind.Hashes() && bound != 0 {
			s.Name += fmt.Sprintf(" bounded %v", bound)
			s.Options.Bounded = uint32(bound * sched.ShareAll)
			all = append(all, s)
		}
	}
	return all, nil
}

// benchInput makes the input: of a capture or of the load.
func benchInput(c *cli.Context, sc *schedbench.Scenario) (*schedbench.Input, error) {
	file := c.String("pcap")
	if file == "" {
		in, err := sc.Input()
		if err != nil {
			return nil, usagef("%w", err)
		}
		return in, nil
	}
	r := c.App.Reader
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--pcap: %w; name a pcap or pcapng file", err)
		}
		defer f.Close()
		r = f
	}
	in, err := schedbench.CaptureInput(r, sc.Backends)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return in, nil
}

// draw writes the chart if one is asked for.
func draw(c *cli.Context, chart func(io.Writer) error) error {
	file := c.String("chart")
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("--chart: %w; name a file in a folder that can be written to", err)
	}
	if err := chart(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func printBench(c *cli.Context, in *schedbench.Input, results []*schedbench.Result) error {
	fmt.Fprintf(c.App.Writer, "%d connections, %d clients, %d backends, %v\n", len(in.Arrivals), in.Clients, len(in.Backends),
		in.End.Round(time.Millisecond))
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SCHEDULER\tNEW MAX/MEAN\tLOAD MAX/MEAN\tLOAD JAIN\tJOIN PEAK\tJOIN NEW/S\tMOVED\tNEEDED\tCOUNT ERROR\tNS\tMEMORY")
	for _, r := range results {
		peak, rate, moved, least := "-", "-", "-", "-"
		if r.JoinPeak > 0 {
			peak, rate = strconv.Itoa(r.JoinPeak), strconv.Itoa(r.JoinRate)
		}
		if r.Hashes && r.Least > 0 {
			moved, least = fmt.Sprintf("%.2f %%", 100*r.Moved), fmt.Sprintf("%.2f %%", 100*r.Least)
		}
		fmt.Fprintf(w, "%s\t%.3f\t%.3f\t%.3f\t%s\t%s\t%s\t%s\t%.2f\t%d\t%d KiB\n", r.Name, r.NewMaxMean, r.LoadMaxMean, r.LoadJain,
			peak, rate, moved, least, r.CountError, r.PerChoice.Nanoseconds(), (r.Memory+1023)>>10)
	}
	return w.Flush()
}

// paperBackends and paperRepeats are those of the figures of the Maglev paper; it has 200 repetitions.
const (
	paperBackends = 1000
	paperRepeats  = 3
)

// benchTables prints what Maglev's table is like.
func benchTables(c *cli.Context, format string) error {
	tables := schedbench.Tables(schedbench.PaperSizes(), paperBackends, paperRepeats)
	if err := draw(c, func(w io.Writer) error { return schedbench.ChartTables(w, format, tables) }); err != nil {
		return err
	}
	if c.String("output") == "json" {
		return printDocument(c.App.Writer, "json", struct {
			admin.Head
			Tables []schedbench.TableSize `json:"tables"`
		}{admin.NewHead("MaglevTables"), tables})
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "SLOTS\tBACKENDS\tEACH\tMAX/MEAN\tBUILT IN\tMEMORY\tLEAVE\tCHANGED\tNEEDED\n")
	for _, t := range tables {
		for i, l := range t.Leaves {
			if i == 0 {
				fmt.Fprintf(w, "%d\t%d\t%d-%d\t%.4f\t%v\t%d KiB", t.Slots, t.Backends, t.Least, t.Most, t.MaxMean,
					t.Build.Round(100*time.Microsecond), t.Memory>>10)
			} else {
				fmt.Fprint(w, "\t\t\t\t\t")
			}
			fmt.Fprintf(w, "\t%d\t%.2f %%\t%.2f %%\n", l.Backends, 100*l.Changed, 100*l.Needed)
		}
	}
	return w.Flush()
}
