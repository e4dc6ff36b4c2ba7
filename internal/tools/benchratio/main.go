// Command benchratio reads what "go test -bench" writes, passes it on, and closes with a table: each benchmark's time by
// that of BenchmarkBaseline of the same run, which says more than nanoseconds of some machine.
//
// Contract: with several runs of a benchmark (-count) the fastest counts. It exits with 1 if a benchmark failed.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// result is the fastest run of one benchmark.
type result struct {
	name   string
	ns     float64
	allocs string
}

var (
	line   = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op`)
	allocs = regexp.MustCompile(`(\d+) allocs/op`)
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "benchratio:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var all []result
	failed := false
	for s := bufio.NewScanner(in); s.Scan(); {
		text := s.Text()
		fmt.Fprintln(out, text)
		failed = failed || strings.HasPrefix(text, "FAIL") || strings.HasPrefix(text, "--- FAIL")
		if m := line.FindStringSubmatch(text); m != nil {
			ns, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				return err
			}
			r := result{m[1], ns, "-"}
			if a := allocs.FindStringSubmatch(text); a != nil {
				r.allocs = a[1]
			}
			all = add(all, r)
		}
	}
	table(out, all)
	if failed || len(all) == 0 {
		return fmt.Errorf("%d benchmarks ran, and something failed", len(all))
	}
	return nil
}

// add keeps the fastest run of a benchmark.
func add(all []result, r result) []result {
	for i := range all {
		if all[i].name == r.name {
			if r.ns < all[i].ns {
				all[i] = r
			}
			return all
		}
	}
	return append(all, r)
}

func table(out io.Writer, all []result) {
	base := 0.0
	for _, r := range all {
		if r.name == "Baseline" {
			base = r.ns
		}
	}
	if base == 0 {
		return
	}
	fmt.Fprintf(out, "\n%-44s %12s %8s %10s\n", "benchmark", "ns", "ratio", "allocs/op")
	for _, r := range all {
		fmt.Fprintf(out, "%-44s %12.1f %8.2f %10s\n", r.name, r.ns, r.ns/base, r.allocs)
	}
}
