// Command testreport reads what "go test -json" writes and prints what "go test" would have printed, and at the end every
// test that was skipped, with the reason that it gave.
//
// Contract: it exits with 1 if a package failed, if one did not come to an end, or if there was none. It starts nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of test2json (go doc test2json), as far as it is used here.
type event struct {
	Action, Package, Test, Output, ImportPath, FailedBuild string
}

// report collects events.
type report struct {
	out     io.Writer
	output  map[string][]string // by package and test; the package's own under the empty test
	running map[string]bool     // packages that have begun and not ended
	ended   int
	failed  bool
	skipped []skip
}

// skip is a test that was left out.
type skip struct{ reason, pkg, test string }

func main() {
	r := &report{out: os.Stdout, output: map[string][]string{}, running: map[string]bool{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.finish() {
		os.Exit(1)
	}
}

// read takes all events. What is no event is passed on as it is.
func (r *report) read(in io.Reader) error {
	s := bufio.NewScanner(in)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var e event
		if json.Unmarshal(s.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(r.out, s.Text())
			continue
		}
		r.take(&e)
	}
	return s.Err()
}

func key(e *event) string { return e.Package + " " + e.Test }

func (r *report) take(e *event) {
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "start":
		r.running[e.Package] = true
	case "output":
		r.output[key(e)] = append(r.output[key(e)], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e)
		}
	}
}

// endTest shows the output of a test that failed and forgets that of others.
func (r *report) endTest(e *event) {
	lines := r.output[key(e)]
	delete(r.output, key(e))
	switch e.Action {
	case "fail":
		for _, l := range lines {
			if !strings.HasPrefix(l, "=== ") {
				fmt.Fprint(r.out, l)
			}
		}
	case "skip":
		r.skipped = append(r.skipped, skip{reason(lines), strings.TrimPrefix(e.Package, "naru/"), e.Test})
	}
}

// reason returns what a skipped test said, without the place in the source.
func reason(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		l := strings.TrimSpace(lines[i])
		if l == "" || strings.HasPrefix(l, "=== ") || strings.HasPrefix(l, "--- ") {
			continue
		}
		if _, text, found := strings.Cut(l, ".go:"); found {
			if _, said, found := strings.Cut(text, ": "); found {
				return said
			}
		}
		return l
	}
	return "no reason given"
}

// endPackage shows the line that closes a package, and everything else that it said if it failed.
func (r *report) endPackage(e *event) {
	delete(r.running, e.Package)
	r.ended++
	lines := r.output[key(e)]
	delete(r.output, key(e))
	if e.Action == "fail" {
		r.failed = true
		r.unfinished(e.Package)
	} else if len(lines) > 1 {
		lines = lines[len(lines)-1:]
	}
	for _, l := range lines {
		fmt.Fprint(r.out, l)
	}
}

// unfinished shows what the tests of a package said that had not ended when it failed: a panic, a time-out.
func (r *report) unfinished(pkg string) {
	var keys []string
	for k := range r.output {
		if strings.HasPrefix(k, pkg+" ") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprint(r.out, strings.Join(r.output[k], ""))
		delete(r.output, k)
	}
}

// finish tells what was skipped and reports whether all is well.
func (r *report) finish() bool {
	for pkg := range r.running {
		fmt.Fprintf(r.out, "FAIL\t%s did not come to an end\n", pkg)
		r.failed = true
	}
	if r.ended == 0 {
		fmt.Fprintln(r.out, "FAIL\tno package was tested")
		return false
	}
	r.leftOut()
	return !r.failed
}

// leftOut prints what was skipped by reason, the cases of one test together.
func (r *report) leftOut() {
	slices.SortStableFunc(r.skipped, func(a, b skip) int { return strings.Compare(a.reason, b.reason) })
	for i, s := range r.skipped {
		if i == 0 || s.reason != r.skipped[i-1].reason {
			fmt.Fprintf(r.out, "\nleft out: %s\n", s.reason)
		}
		test, _, isCase := strings.Cut(s.test, "/")
		same := func(o skip) bool {
			return o.reason == s.reason && o.pkg == s.pkg && strings.HasPrefix(o.test, test+"/")
		}
		switch {
		case !isCase:
			fmt.Fprintf(r.out, "    %s.%s\n", s.pkg, test)
		case slices.IndexFunc(r.skipped, same) == i:
			n := 0
			for _, o := range r.skipped {
				if same(o) {
					n++
				}
			}
			fmt.Fprintf(r.out, "    %s.%s: %d of its cases\n", s.pkg, test, n)
		}
	}
}
