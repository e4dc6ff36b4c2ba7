package bench

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Report is what Run has measured.
type Report struct {
	Kind       string   `json:"kind"`       // "Bench"
	APIVersion string   `json:"apiVersion"` // "naru/v1"
	Machine    Machine  `json:"machine"`
	Rounds     int      `json:"rounds"`
	Seconds    float64  `json:"seconds"`    // of one figure
	Flows      int      `json:"flows"`      // of a flood
	Congestion string   `json:"congestion"` // congestion control of the bulk streams
	Systems    []string `json:"systems"`    // in the order of their turns
	Results    []Result `json:"results"`
	Failures   []string `json:"failures"` // metrics that gave no figure, each with the reason
	Notes      []string `json:"notes"`    // what makes the figures doubtful, and who was treated differently

	Loads map[Layout]*float64 `json:"loads"` // packets a second beside round trips

	naru map[string]bool
}

// load returns where the load of a layout is written down.
func (r *Report) load(l Layout) *float64 {
	if r.Loads[l] == nil {
		r.Loads[l] = new(float64)
	}
	return r.Loads[l]
}

// Machine is what the figures are of.
type Machine struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
}

// Result is one figure of one system over all rounds.
type Result struct {
	Metric      string    `json:"metric"`
	Figure      string    `json:"figure"`
	Unit        string    `json:"unit"`
	LessBetter  bool      `json:"less_is_better"`
	System      string    `json:"system"`
	Layout      Layout    `json:"layout"` // only systems of the same are compared
	Runs        []float64 `json:"runs"`   // by round; a round that failed is left out
	Median      float64   `json:"median"`
	Min         float64   `json:"min"`
	Max         float64   `json:"max"`
	CPUs        CPU       `json:"cpu"` // medians
	Ratios      []Ratio   `json:"ratios"`
	rounds      []int     // of Runs
	cpus        []CPU
	description string
}

// Ratio compares a system with a peer.
type Ratio struct {
	To    string  `json:"to"`
	Ratio float64 `json:"ratio"` // of the medians
	Low   float64 `json:"low"`   // the least and the greatest of the rounds' own ratios
	High  float64 `json:"high"`

	// Doubtful says that the rounds differ too much for the ratio to mean anything, see doubtful.
	Doubtful bool `json:"doubtful"`
}

func newReport(o *Options) *Report {
	r := &Report{Kind: "Bench", APIVersion: "naru/v1", Machine: thisMachine(), Rounds: o.Rounds,
		Seconds: o.Time.Seconds(), Flows: o.Flows,
		Congestion: usedCongestion(o.Congestion), Failures: []string{}, Notes: []string{}, Results: []Result{},
		Loads: map[Layout]*float64{}, naru: map[string]bool{}}
	for _, s := range o.Systems {
		r.Systems = append(r.Systems, s.Name)
		r.naru[s.Name] = s.Naru
		if s.xdp() {
			r.Notes = append(r.Notes, s.Name+": its client and servers finish checksums themselves (tx off), and XDP takes "+
				"segmentation offload (tso) from whoever sends to the balancer")
		}
	}
	return r
}

func thisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	b, _ := os.ReadFile("/proc/cpuinfo") // without it the name is missing
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// tooBusy is the use of the CPUs by others, in per cent, from which on a turn is noted. tooSlow is the same of a
// hypervisor, in per cent of all CPUs, over the median of all measurements.
const (
	tooBusy = 10
	tooSlow = 5
)

// noteForeign notes what others do on the machine before a turn.
func (r *Report) noteForeign(round int, system string, percent float64) {
	if percent >= tooBusy {
		r.Notes = append(r.Notes, fmt.Sprintf("round %d, before %s: other programs used %.0f %% of the CPUs", round+1, system,
			percent))
	}
}

// add takes what a measurement gave.
func (r *Report) add(metric *Metric, s *System, m *measurement, failure error) {
	if failure != nil {
		r.Failures = append(r.Failures, failure.Error())
		return
	}
	for _, f := range metric.figures {
		v, there := m.values[f.name]
		if !there {
			continue
		}
		res := r.result(metric.Name, f.name, s.Name)
		if res == nil {
			r.Results = append(r.Results, Result{Metric: metric.Name, Figure: f.name, Unit: f.unit, LessBetter: f.less,
				System: s.Name, Layout: s.Layout, Ratios: []Ratio{}, description: metric.About})
			res = &r.Results[len(r.Results)-1]
		}
		res.Runs = append(res.Runs, v)
		res.rounds = append(res.rounds, m.round)
		res.cpus = append(res.cpus, m.cpu)
	}
}

func (r *Report) result(metric, figure, system string) *Result {
	for i := range r.Results {
		if x := &r.Results[i]; x.Metric == metric && x.Figure == figure && x.System == system {
			return x
		}
	}
	return nil
}

// finish works out medians and ratios: of every naru to every peer, and of peers to the first.
func (r *Report) finish() {
	var stolen []float64
	for i := range r.Results {
		x := &r.Results[i]
		x.Median, x.Min, x.Max = median(x.Runs), slices.Min(x.Runs), slices.Max(x.Runs)
		x.CPUs = medianCPU(x.cpus)
		for _, c := range x.cpus {
			stolen = append(stolen, c.Stolen/float64(max(len(c.Each), 1)))
		}
	}
	if m := median(stolen); m >= tooSlow {
		r.Notes = append(r.Notes, fmt.Sprintf("the hypervisor kept %.0f %% of the CPUs from this machine; waking up is slow then",
			m))
	}
	for i := range r.Results {
		x := &r.Results[i]
		for _, peer := range r.Systems {
			y := r.result(x.Metric, x.Figure, peer)
			if y == nil || y == x || r.naru[peer] || x.Layout != y.Layout {
				continue
			}
			if ratio, ok := compare(x, y); ok {
				x.Ratios = append(x.Ratios, ratio)
			}
		}
	}
}

// compare returns the ratio of two results; there is none to nothing.
func compare(x, y *Result) (ratio Ratio, ok bool) {
	if y.Min == 0 {
		return ratio, false
	}
	var each []float64
	for i, round := range x.rounds {
		if j := slices.Index(y.rounds, round); j >= 0 {
			each = append(each, x.Runs[i]/y.Runs[j])
		}
	}
	if len(each) == 0 {
		return ratio, false
	}
	return Ratio{To: y.System, Ratio: x.Median / y.Median, Low: slices.Min(each), High: slices.Max(each),
		Doubtful: doubtful(each)}, true
}

// maxSpread is how wide the middle of the rounds' ratios may be, as a part of their median.
const maxSpread = 0.25

// doubtful is the rule that says when the machine is too noisy to tell: with fewer than three rounds always, else if
// the middle half of the rounds' ratios is spread over more than maxSpread of their median.
func doubtful(ratios []float64) bool {
	if len(ratios) < 3 {
		return true
	}
	s := slices.Sorted(slices.Values(ratios))
	cut := len(s) / 4
	return s[len(s)-1-cut]-s[cut] > maxSpread*median(s)
}

// median returns the middle of the values, between two of them the mean, and 0 of none.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	switch n := len(s); {
	case n == 0:
		return 0
	case n%2 == 1:
		return s[n/2]
	default:
		return (s[n/2-1] + s[n/2]) / 2
	}
}

func medianCPU(list []CPU) CPU {
	of := func(pick func(CPU) float64) float64 {
		var v []float64
		for _, c := range list {
			v = append(v, pick(c))
		}
		return math.Round(median(v))
	}
	c := CPU{Balancer: of(func(c CPU) float64 { return c.Balancer }), Ends: of(func(c CPU) float64 { return c.Ends }),
		Stolen: of(func(c CPU) float64 { return c.Stolen })}
	for i := range list[0].Each {
		c.Each = append(c.Each, of(func(c CPU) float64 { return c.Each[i] }))
	}
	return c
}

// Duration returns about how long a run with the options takes.
func (o *Options) Duration() time.Duration {
	each := time.Second // building, starting and removing
	for _, m := range o.Metrics {
		each += o.Time + o.Time/4 + 50*time.Millisecond
		if m.Name == idleMetric {
			each += restTime
		}
	}
	return each * time.Duration(o.Rounds*len(o.Systems))
}
