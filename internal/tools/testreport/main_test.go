package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const ok = `{"Action":"start","Package":"naru/a"}
{"Action":"output","Package":"naru/a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"naru/a","Test":"TestX","Output":"    x_test.go:7: needs root: really\n"}
{"Action":"output","Package":"naru/a","Test":"TestX","Output":"--- SKIP: TestX (0.00s)\n"}
{"Action":"skip","Package":"naru/a","Test":"TestX"}
{"Action":"output","Package":"naru/a","Output":"PASS\n"}
{"Action":"output","Package":"naru/a","Output":"ok  \tnaru/a\t0.1s\n"}
{"Action":"pass","Package":"naru/a"}
`
	const failed = `{"Action":"start","Package":"naru/b"}
{"Action":"output","Package":"naru/b","Test":"TestY","Output":"=== RUN   TestY\n"}
{"Action":"output","Package":"naru/b","Test":"TestY","Output":"    y_test.go:9: wrong\n"}
{"Action":"output","Package":"naru/b","Test":"TestY","Output":"--- FAIL: TestY (0.00s)\n"}
{"Action":"fail","Package":"naru/b","Test":"TestY"}
{"Action":"output","Package":"naru/b","Output":"FAIL\n"}
{"Action":"output","Package":"naru/b","Output":"FAIL\tnaru/b\t0.1s\n"}
{"Action":"fail","Package":"naru/b"}
`
	for _, c := range []struct {
		name, in, want string
		good           bool
	}{
		{"a skipped test is named with its reason", ok,
			"ok  \tnaru/a\t0.1s\n\nleft out: needs root: really\n    a.TestX\n", true},
		{"skipped cases of a test are counted",
			`{"Action":"skip","Package":"naru/a","Test":"TestX/one"}
{"Action":"skip","Package":"naru/a","Test":"TestX/two"}
{"Action":"pass","Package":"naru/a"}
`, "\nleft out: no reason given\n    a.TestX: 2 of its cases\n", true},
		{"a failed test shows what it said", failed,
			"    y_test.go:9: wrong\n--- FAIL: TestY (0.00s)\nFAIL\nFAIL\tnaru/b\t0.1s\n", false},
		{"a package that does not build fails",
			`{"ImportPath":"naru/c","Action":"build-output","Output":"c.go:1: no\n"}
{"Action":"start","Package":"naru/c"}
{"Action":"output","Package":"naru/c","Output":"FAIL\tnaru/c [build failed]\n"}
{"Action":"fail","Package":"naru/c","FailedBuild":"naru/c"}
`, "c.go:1: no\nFAIL\tnaru/c [build failed]\n", false},
		{"a test that hangs shows what it said",
			`{"Action":"start","Package":"naru/d"}
{"Action":"output","Package":"naru/d","Test":"TestZ","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"naru/d"}
`, "panic: test timed out\n", false},
		{"a package that never ends is a failure", `{"Action":"start","Package":"naru/e"}` + "\n" + failed,
			"    y_test.go:9: wrong\n--- FAIL: TestY (0.00s)\nFAIL\nFAIL\tnaru/b\t0.1s\nFAIL\tnaru/e did not come to an end\n", false},
		{"nothing is a failure", "", "FAIL\tno package was tested\n", false},
		{"other lines pass", "go: downloading\n", "go: downloading\nFAIL\tno package was tested\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := &report{out: &out, output: map[string][]string{}, running: map[string]bool{}}
			if err := r.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			if good := r.finish(); good != c.good || out.String() != c.want {
				t.Errorf("good is %v, want %v; printed\n%s\nwant\n%s", good, c.good, out.String(), c.want)
			}
		})
	}
}
