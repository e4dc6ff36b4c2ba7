package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// flowLine is what the test reads of a line of the flow log.
type flowLine struct {
	Event, Flow, Client, Local, Server, Ended string
	Packets                                   int `json:"request_packets"`
}

func (f *farm) flows(t *testing.T, file string) (lines []flowLine) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l flowLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines = append(lines, l)
	}
	return lines
}

func TestTheFlowLogOfARunningNaru(t *testing.T) {
	f := newFarm(t)
	file := f.socket + ".flows"
	var client string
	f.client.Do(t, func() {
		c, err := net.DialTimeout("tcp", "192.0.2.25:80", patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		client = c.LocalAddr().String()
	})
	of := func(file, event string) (found flowLine) {
		for _, l := range f.flows(t, file) {
			if l.Client == client && l.Event == event {
				found = l
			}
		}
		return found
	}
	f.until(t, "a line for the start", func() bool { return of(file, "start").Flow != "" })
	start := of(file, "start")
	if !strings.HasPrefix(start.Local, "10.10.10.254:") || !strings.HasSuffix(start.Server, ":8080") {
		t.Errorf("%+v", start)
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	f.until(t, "a new file", func() bool { _, err := os.Stat(file); return err == nil })
	for _, backend := range []string{"b1", "b2", "b3"} {
		f.must(t, "disable", "web/"+backend)
	}
	f.until(t, "a line for the end", func() bool { return of(file, "end").Flow != "" })
	if end := of(file, "end"); end.Flow != start.Flow || end.Local != start.Local || end.Ended != "backend" || end.Packets < 3 {
		t.Errorf("%+v after %+v", end, start)
	}
	if out := f.must(t, "status", "-o", "wide"); !strings.Contains(out, file) {
		t.Errorf("the status does not show the flow log:\n%s", out)
	}
	if code := f.daemon.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestRunRefusesAFlowLogThatCannotBe(t *testing.T) {
	n := newLiveNet(t)
	text, err := os.ReadFile(n.file)
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, string(text)+"log: {flows: file, flows_file: /nowhere/at/all/flows.jsonl}\n")
	p := n.start(t, 0, "run", "-c", n.file)
	if code := p.code(t); code != exitFailed || !strings.Contains(p.stderr.String(), "log.flows_file: ") {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
	if n.hasFence(t) {
		t.Error("a fence is left behind")
	}
}
