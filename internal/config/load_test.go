package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// base is a good file; the tests of mistakes replace a part of it.
const base = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
services:
  - name: web
    vip: 192.0.2.10
    ports: [80]
    protocol: tcp
    mode: fullnat
    nat:
      source_pool: [10.0.0.254]
    backends:
      - {name: b1, address: 10.0.0.1}
      - {name: b2, address: 10.0.0.2, port: 8080, weight: 3}
`

// second is a service that may follow base, with lines from 16 on.
const second = `  - name: dns
    vip: 192.0.2.11
    ports: [53]
    protocol: udp
    mode: fullnat
    nat: {source_pool: [10.0.0.254]}
    backends: [{name: d1, address: 10.0.0.3}]
`

// problemsOf returns the problems of a text, one line each, without the name of the file.
func problemsOf(t *testing.T, text string) []string {
	t.Helper()
	cfg, problems, err := Load("f", []byte(text))
	if err != nil {
		invalid := (*InvalidError)(nil)
		if !errors.As(err, &invalid) {
			t.Fatalf("the error is a %T", err)
		}
		problems = invalid.Problems
	}
	if (cfg == nil) != (err != nil) {
		t.Fatalf("cfg %v with error %v", cfg, err)
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(p.String(), "f: "), "f:"))
	}
	return lines
}

func compare(t *testing.T, got []string, want string) {
	t.Helper()
	if s := strings.Join(got, "\n"); s != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", s, strings.TrimSpace(want))
	}
}

// mistake replaces old by new in base (or in base and second) and names the problems that must come of it.
type mistake struct{ name, old, new, want string }

func (m mistake) run(t *testing.T, text string) {
	t.Run(m.name, func(t *testing.T) {
		if !strings.Contains(text, m.old) {
			t.Fatalf("the file has no %q", m.old)
		}
		compare(t, problemsOf(t, strings.Replace(text, m.old, m.new, 1)), m.want)
	})
}

func TestAGoodFileHasNoProblems(t *testing.T) {
	compare(t, problemsOf(t, base), "")
	compare(t, problemsOf(t, base+second), "")
}

func TestDefaultsAreFilledIn(t *testing.T) {
	cfg, _, err := Load("f", []byte(base))
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Services[0]
	got := fmt.Sprintf("%+v %s %+v | %+v | %s %s %s %s %s %d %+v", cfg.Node, cfg.Fence, cfg.Admin, cfg.VIPs,
		s.Scheduler, s.Reject, s.Midstream, s.NAT.SourcePorts, s.NAT.PortRest, s.Backends[0].Weight, s.Timeouts)
	want := "{Name: Workers:0 CPUs:{Auto:true List:[]} Connections:1048576 Limits:{Handshakes:262144 TCP:1048576 UDP:524288} " +
		"HashKeyFile: HashKey:<nil>} nft {Socket:/run/naru/naru.sock} | " +
		"[{Address:192.0.2.10 Owner:naru Reject:rst Echo:answer}] | rr rst reject 1024-32767 1m0s 1 " +
		"{TCPSyn:30s TCPEstablished:2h4m0s TCPClosing:4m0s UDP:5m0s UDPUnreplied:30s}"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDefaultsHoldWhereverTheyStand(t *testing.T) {
	cfg, _, err := Load("f", []byte(base+`defaults:
  scheduler: least-connections
  reject: drop
  midstream: pickup
  timeouts: {udp: 1d, tcp_syn: 1.5s}
`))
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Services[0]
	if s.Scheduler != "lc" || s.Reject != "drop" || s.Midstream != "pickup" || cfg.VIPs[0].Reject != "drop" {
		t.Errorf("%+v", s)
	}
	if s.Timeouts.UDP != 24*time.Hour || s.Timeouts.TCPSyn != 1500*time.Millisecond {
		t.Errorf("%+v", s.Timeouts)
	}
}

func TestAllKeysAreRead(t *testing.T) {
	const file = "testdata/all.yaml"
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems, err := Load(file, src)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	cfg.places = nil
	golden(t, "testdata/all.golden", fmt.Sprintf("%+v\n", *cfg))
}

func TestTheOldestAndTheNewestLineEndsMeanTheSame(t *testing.T) {
	for _, text := range []string{
		strings.ReplaceAll(base, "\n", "\r\n"),
		"\ufeff" + base,
		"---\n" + base,
		base + "...\n",
		"# a comment\n\n" + base,
		strings.TrimSuffix(base, "\n"),
	} {
		compare(t, problemsOf(t, text), "")
	}
}

func TestAtFindsAPathOrWhatIsAroundIt(t *testing.T) {
	cfg, _, err := Load("naru.yaml", []byte(base))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"services[0].backends[1].port":    "naru.yaml:15:45",
		"services[0].nat.source_pool[0]":  "naru.yaml:12:21",
		"services[0].nat.source_ports":    "naru.yaml:12:7",
		"services[0].timeouts.tcp_syn":    "naru.yaml:6:5",
		"services[0].backends[0].address": "naru.yaml:14:29",
		"vips[0].owner":                   "naru.yaml:1:1",
		"interfaces[1].name":              "naru.yaml:4:12",
		"":                                "naru.yaml:1:1",
	} {
		if got := cfg.At(path).String(); got != want {
			t.Errorf("At(%q) = %s, want %s", path, got, want)
		}
	}
	p := cfg.Problem("interfaces[1].name", "there is no such interface", "look at ip link")
	const want = "naru.yaml:4:12: interfaces[1].name: there is no such interface; look at ip link"
	if got := p.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheProblemsOfAFileArePrintedWithTheirLines(t *testing.T) {
	const file = "testdata/broken.yaml"
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = Load("broken.yaml", src)
	invalid := (*InvalidError)(nil)
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	golden(t, "testdata/broken.golden", Format(invalid.Problems, src)+"\n"+err.Error()+"\n")
}

// golden compares got with a file, or writes the file if NARU_UPDATE is set.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("NARU_UPDATE") != "" {
		if err := os.WriteFile(filepath.FromSlash(file), []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func TestEveryExampleLoadsWithoutAWord(t *testing.T) {
	for _, mode := range ExampleModes() {
		text, err := Example(mode)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, problemsOf(t, text), "")
		cfg, _, _ := Load(mode, []byte(text))
		s := cfg.Services[0]
		if got := strings.TrimSuffix(s.Mode+"-"+s.L3DSR.Encap, "-"); got != mode {
			t.Errorf("the example of %s is of mode %s", mode, got)
		}
	}
	const want = `unknown mode "l3dsr"; use one of fullnat, nat, l2dsr, l3dsr-dscp, l3dsr-ipip, l3dsr-gue`
	if _, err := Example("l3dsr"); err == nil || err.Error() != want {
		t.Errorf("Example(l3dsr): %v", err)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"scheduler", "source_pool", "vip", "ports", "protocol"}
	for word, want := range map[string]string{
		"schedular": "scheduler", "Scheduler": "scheduler", "sourcePool": "source_pool", "vpi": "vip", "port": "ports",
		"proto": "", "colour": "", "": "", strings.Repeat("x", 100): "",
	} {
		if got := Suggest(word, known); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
}
