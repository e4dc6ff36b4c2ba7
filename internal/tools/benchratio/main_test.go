package main

import (
	"strings"
	"testing"
)

func TestRatiosAreToTheFastestBaseline(t *testing.T) {
	in := `pkg: naru/forwarder
BenchmarkBaseline-2  	 100	 50.0 ns/op	 14.75 Mpps	 0 B/op	 0 allocs/op
BenchmarkBaseline-2  	 100	 40.0 ns/op	 14.75 Mpps	 0 B/op	 0 allocs/op
BenchmarkFullNAT/conns=1000-2  	 100	 100 ns/op	 6.3 Mpps	 0 B/op	 1 allocs/op
PASS
`
	var out strings.Builder
	if err := run(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	printed, found := strings.CutPrefix(out.String(), in)
	if !found {
		t.Error("the input was not passed on")
	}
	got := strings.Fields(printed)
	want := strings.Fields("benchmark ns ratio allocs/op Baseline 40.0 1.00 0 FullNAT/conns=1000 100.0 2.50 1")
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("printed %q", got)
	}
}

func TestAFailureIsOne(t *testing.T) {
	for _, in := range []string{"", "--- FAIL: BenchmarkX\nFAIL\n"} {
		if err := run(strings.NewReader(in), new(strings.Builder)); err == nil {
			t.Errorf("%q is no error", in)
		}
	}
}
