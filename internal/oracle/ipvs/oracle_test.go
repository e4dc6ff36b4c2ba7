package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"testing"
)

// TestChoicesAreThoseOfTheRules holds without a virtual machine what the machine showed: where the documentation says that
// naru chooses as IPVS does, package sched does as the rules do, and where it says otherwise it does otherwise.
func TestChoicesAreThoseOfTheRules(t *testing.T) {
	other := map[string]int{}
	for _, c := range cases() {
		mine, stated := playOurs(&c), playRule(&c)
		at := firstOther(mine.Choices, stated.Choices)
		if at >= 0 && !c.differs() {
			t.Errorf("%v: choice %d: naru %s, IPVS %s", &c, at+1, letters(mine.Choices), letters(stated.Choices))
		}
		if c.differs() {
			other[c.Scheduler+", "+c.Pattern] += at + 1
		}
	}
	for name, n := range other {
		if n == 0 {
			t.Errorf("%s: all cases are equal, the documentation says they differ", name)
		}
	}
}

// TestRulesGiveWhatIPVSGave has choices that IPVS of Linux 6.1 made in the virtual machine.
func TestRulesGiveWhatIPVSGave(t *testing.T) {
	for _, c := range []struct {
		scheduler string
		weights   []uint32
		want      string
	}{
		{"wrr", []uint32{4, 3, 2}, "AABABCABCAAB"},
		{"wlc", []uint32{4, 3, 2}, "ABCABACBAABC"},
		{"sed", []uint32{4, 3, 2}, "ABACBAABCABA"},
		{"nq", []uint32{4, 3, 2}, "ABCABAABCABA"},
		{"sh", []uint32{1, 1, 1}, "ACCCBCCCCCCBBBCCBBBBBCCBBBBBBB"},
		{"mh", []uint32{1, 1, 1}, "BBCBACCBACAABBBBCAAAAAAAAACCBA"},
		{"mh", []uint32{4, 3, 2}, "BBABCAABAAAABBBBACACCAAAAAACBA"},
	} {
		var steps []Step
		for i := range c.want {
			steps = append(steps, Step{Op: Open, Conn: i, Client: i})
		}
		if got := letters(playRule(&Case{Scheduler: c.scheduler, Weights: c.weights, Steps: steps}).Choices); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.scheduler, c.weights, got, c.want)
		}
	}
}

func TestReportFindsWhatIsNotAsDocumented(t *testing.T) {
	all := cases()
	theirs := func() []Result {
		var rs []Result
		for i := range all {
			rs = append(rs, playRule(&all[i]))
		}
		return rs
	}
	var out strings.Builder
	if !report(&out, all, theirs(), false) {
		t.Errorf("the rules' own choices are not good:\n%s", out.String())
	}
	for name, change := range map[string]func(r []Result){
		"another choice":  func(r []Result) { r[0].Choices[3]++ },
		"a choice less":   func(r []Result) { r[0].Choices = r[0].Choices[:9] },
		"another count":   func(r []Result) { r[0].Active[0]++ },
		"another one":     func(r []Result) { r[len(r)-1].Choices[7] = -1 },
		"an error":        func(r []Result) { r[5].Error = "no such thing" },
		"nothing differs": func(r []Result) { equalize(all, r) },
	} {
		rs := theirs()
		change(rs)
		if report(io.Discard, all, rs, false) {
			t.Errorf("%s: good", name)
		}
	}
}

// equalize makes naru's choices those of the machine.
func equalize(all []Case, rs []Result) {
	for i := range all {
		rs[i].Choices = playOurs(&all[i]).Choices
	}
}

func TestParse(t *testing.T) {
	rs, err := parse("noise\r\n" + resultMark + `{"Choices":[0,-1],"Active":[1],"Idle":[0]}` + "\r\n")
	if err != nil || len(rs) != 1 || letters(rs[0].Choices) != "A." {
		t.Errorf("%v, %v", rs, err)
	}
	for _, text := range []string{"error module tun: no such file", resultMark + "{"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestImageIsAnArchiveOfAllFiles(t *testing.T) {
	var b bytes.Buffer
	files := map[string]string{"init": "the program", "tun.ko": "a module!", "modules": "/tun.ko"}
	if err := image(&b, []byte(files["init"]), []module{{"tun", []byte(files["tun.ko"])}}, nil); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	take := func(n int) string {
		if n > len(data) {
			t.Fatalf("%d bytes left, wanted %d", len(data), n)
		}
		part := string(data[:n])
		data = data[min((n+3)&^3, len(data)):]
		return part
	}
	for {
		const headSize = 110
		head := string(data[:headSize])
		size, _ := strconv.ParseInt(head[54:62], 16, 32)
		length, _ := strconv.ParseInt(head[94:102], 16, 32)
		name := strings.TrimSuffix(take(headSize + int(length))[headSize:], "\x00")
		if name == "TRAILER!!!" {
			break
		}
		if want, ok := files[name]; !ok && "/"+name != casesFile || ok && take(int(size)) != want {
			t.Errorf("%s: another text", name)
		} else if !ok {
			take(int(size))
		}
		delete(files, name)
	}
	if len(files) != 0 || len(data) != 0 {
		t.Errorf("missing %v, left %d bytes", files, len(data))
	}
}
