package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteTable prints the report for people: a table for every figure, and what is to be said about them.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d CPUs, Linux %s; %d rounds of %g s, floods of %d connections, bulk by TCP %s\n",
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Kernel, r.Rounds, r.Seconds, r.Flows, r.Congestion)
	doubt := false
	var done []string
	for _, x := range r.Results {
		key := x.Metric + " " + x.Figure + " " + string(x.Layout)
		if slices.Contains(done, key) {
			continue
		}
		done = append(done, key)
		d, err := r.writeFigure(w, &x)
		if err != nil {
			return err
		}
		doubt = doubt || d
	}
	for _, l := range []Layout{TwoLegs, OneArm} {
		if *r.load(l) > 0 {
			fmt.Fprintf(w, "\nrtt-load, %s: beside %s packets/s\n", l, amount(*r.load(l)))
		}
	}
	if doubt {
		fmt.Fprintf(w, "\n~  the rounds differ too much to tell: more rounds, a longer time or a quieter machine may help\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(w, "failed: %s\n", f)
	}
	return nil
}

// writeFigure prints the table of the figure that a result is of.
func (r *Report) writeFigure(w io.Writer, of *Result) (doubt bool, err error) {
	better := "more is better"
	if of.LessBetter {
		better = "less is better"
	}
	// What a metric is and what the CPUs did stands once, with its first figure.
	about, first := "", of.Figure == r.firstFigure(of.Metric)
	if first {
		about = ": " + of.description
	}
	fmt.Fprintf(w, "\n%s, %s (%s, %s)%s\n", title(of), of.Layout, of.Unit, better, about)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	head := "SYSTEM\tMEDIAN\tMIN-MAX"
	var peers []string
	for _, s := range r.Systems {
		if x := r.result(of.Metric, of.Figure, s); !r.naru[s] && x != nil && x.Layout == of.Layout {
			peers = append(peers, s)
			head += "\t/" + s
		}
	}
	if first {
		for i := range of.CPUs.Each {
			head += fmt.Sprintf("\tCPU%d", i)
		}
		head += "\tBALANCER\tENDS\tSTOLEN"
	}
	fmt.Fprintln(t, head)
	for _, s := range r.Systems {
		x := r.result(of.Metric, of.Figure, s)
		if x == nil || x.Layout != of.Layout {
			continue
		}
		cells := []string{s, amount(x.Median), amount(x.Min) + "-" + amount(x.Max)}
		for _, p := range peers {
			cell := "-"
			for _, ratio := range x.Ratios {
				if ratio.To == p {
					cell = fmt.Sprintf("%.2f", ratio.Ratio)
					if ratio.Doubtful {
						cell += "~"
						doubt = true
					}
				}
			}
			cells = append(cells, cell)
		}
		if first {
			for _, c := range slices.Concat(x.CPUs.Each, []float64{x.CPUs.Balancer, x.CPUs.Ends, x.CPUs.Stolen}) {
				cells = append(cells, fmt.Sprintf("%.0f%%", c))
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return doubt, t.Flush()
}

// title names a figure and its metric.
func title(x *Result) string {
	if x.Figure == "rate" {
		return x.Metric
	}
	return x.Metric + " " + x.Figure
}

// firstFigure returns the first figure of a metric that was measured.
func (r *Report) firstFigure(metric string) string {
	for _, x := range r.Results {
		if x.Metric == metric {
			return x.Figure
		}
	}
	return ""
}

// amount writes a number with three digits or more and a unit prefix.
func amount(v float64) string {
	prefix := ""
	for _, p := range []string{"k", "M", "G"} {
		if v >= 999.5 {
			v, prefix = v/1000, p
		}
	}
	switch {
	case v >= 99.5:
		return fmt.Sprintf("%.0f%s", v, prefix)
	case v >= 9.95:
		return fmt.Sprintf("%.1f%s", v, prefix)
	}
	return fmt.Sprintf("%.2f%s", v, prefix)
}
