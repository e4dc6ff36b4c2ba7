package lab

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestScenarios is naru lab test: real traffic through every variant of every scenario; with -short through the first.
func TestScenarios(t *testing.T) {
	exe := program(t)
	for _, s := range Scenarios() {
		for i, v := range s.Variants() {
			if testing.Short() && i > 0 {
				continue
			}
			t.Run(s.Name+"/"+v.Name, func(t *testing.T) {
				failed, err := Test(t.Context(), TestSpec{
					Scenario: s.Name, Variants: []Variant{v}, Exe: exe,
					Report: func(r Result) {
						if r.OK {
							t.Log(r)
						} else {
							t.Error(r)
						}
					},
				})
				if failed > 0 || err != nil {
					t.Errorf("%d failed, %v", failed, err)
				}
			})
		}
	}
}

func TestTheDemonstrationShowsEveryHopAndWhy(t *testing.T) {
	var out bytes.Buffer
	if err := Demo(t.Context(), &out, program(t), "fullnat", "l2dsr"); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"server01 ####   server02 ###    server03 ###\n", // ten requests by round robin
		" 1  SYN ",
		"    client   > router   02:00:0a:14:28:50 > 02:00:0a:14:28:01  10.20.40.80:",
		"    router   > director 02:00:c8:64:32:01 > 02:00:c8:64:32:02  10.20.40.80:",
		"    naru       service      web; the packet belongs to no connection yet",
		"               choice       server02, by rr",
		"    director > server02 02:00:0a:0a:0a:fe > 02:00:0a:0a:0a:02  10.10.10.254:",
		" 2  SYN-ACK  server02 accepts",
		"    server02 > director 02:00:0a:0a:0a:02 > 02:00:0a:0a:0a:fe  10.10.10.2:80 > 10.10.10.254:",
		"    director > router   02:00:c8:64:32:02 > 02:00:c8:64:32:01  200.100.50.25:80 > 10.20.40.80:",
		"GET / HTTP/1.1",
		`: "server02 saw 10.10.10.254:`,
		"l2dsr: direct server return",
		"    server02 > router   02:00:0a:0a:0a:02 > 02:00:0a:0a:0a:fd  200.100.50.25:80 > 10.20.40.80:",
		"    naru       never sees it: the backend answers the client itself",
		`: "server02 saw 10.20.40.80:`,
		"One answer of 1 MiB, in bytes at naru",
		"All of it is removed again",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if len(line) > demoWidth || strings.TrimRight(line, " ") != line {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestDownCopesWithAKilledNaru(t *testing.T) {
	l, err := Up(t.Context(), Spec{Scenario: "fullnat", Name: labName("dead"), Exe: program(t), Private: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range l.Processes {
		if p.Role == roleNaru {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
			for limit := time.Now().Add(5 * time.Second); p.alive() && time.Now().Before(limit); {
				time.Sleep(time.Millisecond)
			}
		}
	}
	if err := l.Down(); err != nil {
		t.Error(err)
	}
	noTrace(t, l.Name)
}
