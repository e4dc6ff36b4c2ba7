package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// Options say what Run measures.
type Options struct {
	Systems []System
	Metrics []Metric
	Rounds  int           // how often every system has its turn
	Time    time.Duration // how long one figure is measured
	Flows   int           // connections of a flood; 0: 1024
	Many    int           // connections to measure the memory of; 0: a million
	Exe     string        // the naru program; "" means the calling one

	// Congestion is the congestion control of the bulk streams, as the kernel names it; "": the one it uses by itself.
	Congestion string

	// Progress is told before each turn what comes now; nil: nobody is.
	Progress func(round int, system, metric string)
}

// least is how many threads run Go code at a time: those of the ends must never wait for each other's turn in the
// runtime, only for a CPU.
const least = 16

// Run measures every metric through every system, each in a fresh network, round by round. If ctx ends it returns what
// was measured so far with the error. Everything that it makes is removed again.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Flows == 0 {
		o.Flows = floodFlows
	}
	if o.Many == 0 {
		o.Many = manyFlows
	}
	if old := runtime.GOMAXPROCS(0); old < least {
		runtime.GOMAXPROCS(least)
		defer runtime.GOMAXPROCS(old)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	r := newReport(&o)
	defer r.finish()
	for round := range o.Rounds {
		for i := range o.Systems {
			if err := turn(ctx, &o, r, round, &o.Systems[i]); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// turn drives all metrics through one system. A metric that fails is in the report and does not end the run.
func turn(ctx context.Context, o *Options, r *Report, round int, s *System) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.noteForeign(round, s.Name, foreignLoad())
	runtime.GC() // nobody waits for it now
	n, err := buildNetwork(ctx, "bench"+strconv.Itoa(os.Getpid()), o.Exe, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	stop, err := n.startServers()
	if err != nil {
		return err
	}
	defer stop()
	pids, err := s.raise(ctx, n)
	if err != nil {
		return err
	}
	for i := range o.Metrics {
		metric := &o.Metrics[i]
		if !metric.carries(s) {
			continue
		}
		if o.Progress != nil {
			o.Progress(round, s.Name, metric.Name)
		}
		m := &measurement{n: n, s: s, time: o.Time, warm: min(o.Time/4, 500*time.Millisecond), flows: o.Flows,
			many: o.Many, control: o.Congestion, load: r.load(s.Layout), round: round, pids: pids, values: map[string]float64{}}
		failure := metric.run(ctx, m)
		if err := ctx.Err(); err != nil {
			return err
		}
		if failure != nil {
			failure = fmt.Errorf("%s through %s, round %d: %w", metric.Name, s.Name, round+1, failure)
		}
		r.add(metric, s, m, failure)
	}
	return nil
}

// close removes the network.
func (n *network) close() error {
	for _, s := range n.sinks {
		s.close()
	}
	return n.Down()
}

// lookTime is how long foreignLoad looks.
const lookTime = 100 * time.Millisecond

// foreignLoad returns the use of the CPUs, in per cent of all of them, while we do nothing.
func foreignLoad() float64 {
	before := takeLoad(nil)
	time.Sleep(lookTime)
	sum := 0.0
	c := takeLoad(nil).since(before)
	for _, each := range c.Each {
		sum += each
	}
	return max(0, sum-c.Ends) / float64(max(len(c.Each), 1))
}
