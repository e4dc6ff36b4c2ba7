package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"naru/internal/admin"
	"naru/internal/link/pcapfile"
	"naru/internal/record"
)

// followed runs a command of naru that follows packets, and sends what makes them as soon as it listens: send is called
// again and again until the command ends.
func (f *farm) followed(t *testing.T, send func(), words ...string) (code int, stdout, stderr string) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		code, stdout, stderr = f.do(words...)
	}()
	for deadline := time.Now().Add(patience); ; send() {
		select {
		case <-ended:
			return code, stdout, stderr
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("naru %v does not end", words)
		}
	}
}

// scan sends a TCP segment that no connection has: a SYN with a FIN.
func (f *farm) scan(t *testing.T) {
	t.Helper()
	f.client.Do(t, func() {
		c, err := net.Dial("ip4:tcp", "192.0.2.25")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte{0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 3, 0xff, 0xff, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
	})
}

func (f *farm) exchange(t *testing.T) {
	t.Helper()
	f.client.Do(t, func() {
		c, err := net.DialTimeout("tcp", "192.0.2.25:80", patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLookingAtThePacketsOfARunningNaru(t *testing.T) {
	f := newFarm(t)
	both := func() { f.exchange(t); f.scan(t) }

	t.Run("trace", func(t *testing.T) {
		_, out, _ := f.followed(t, both, "trace", "-n", "3", "--new", "-o", "jsonl", "tcp and dst port 80")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		for _, line := range lines {
			var r record.Traced
			if err := json.Unmarshal([]byte(line), &r); err != nil || !r.NewConnection || r.Service != "web" || r.Frames != nil {
				t.Errorf("%v: %s", err, line)
			}
		}
		if len(lines) != 3 {
			t.Errorf("%d lines", len(lines))
		}
		if _, out, _ = f.followed(t, both, "trace", "-n", "1", "--verdict", "drop"); !strings.Contains(out, "DROP") ||
			!strings.HasSuffix(out, "> 192.0.2.25:80 [FS]  tcp_flags\n") {
			t.Errorf("a drop: %s", out)
		}
		if _, out, _ = f.followed(t, both, "trace", "-n", "1", "-x", "--verdict", "transmit"); !strings.Contains(out, "^^") {
			t.Errorf("without bytes: %s", out)
		}
	})
	t.Run("capture", func(t *testing.T) { captured(t, f, both) })
	t.Run("drops", func(t *testing.T) {
		f.until(t, "the counters are summed up", func() bool { return strings.Contains(f.must(t, "drops"), "tcp_flags") })
		var d admin.Drops
		if err := json.Unmarshal([]byte(f.must(t, "drops", "tcp_flags", "-o", "json")), &d); err != nil {
			t.Fatal(err)
		}
		if len(d.Reasons) != 1 || d.Reasons[0].Fix == "" || len(d.Reasons[0].Samples) == 0 || d.Reasons[0].Last == nil ||
			!strings.HasPrefix(d.Reasons[0].Samples[0].Packet, "tcp 192.0.2.1:40000 > 192.0.2.25:80") || !d.Balanced {
			t.Errorf("%+v", d)
		}
		if out := f.must(t, "drops", "neigh_full"); !strings.Contains(out, "neigh_full  0      0/s   -     none since naru's start") {
			t.Errorf("a reason without packets:\n%s", out)
		}
		if out := f.must(t, "drops"); !strings.Contains(out, "tcp_flags") || !strings.Contains(out, "balanced") {
			t.Errorf("got %s", out)
		}
	})
	t.Run("explain", func(t *testing.T) {
		out := f.must(t, "explain", "tcp 192.0.2.1:39999 > 192.0.2.25:80 syn")
		again := f.must(t, "explain", "tcp 192.0.2.1:39999 > 192.0.2.25:80 syn") // to which the turn would have moved on
		if !strings.Contains(out, "verdict  TRANSMIT to web/b") || choice(out) != choice(again) {
			t.Errorf("got %s", out)
		}
		if code, _, errs := f.do("explain", "--flow", "f-00000001"); code != exitUsage || !strings.Contains(errs, "there is no connection") {
			t.Errorf("a flow that is not there: %d %s", code, errs)
		}
		var errs bytes.Buffer
		words := []string{"naru", "explain", "-s", f.socket + "x", "udp 1.1.1.1:1 > 2.2.2.2:2"}
		if code := run(words, nil, io.Discard, &errs); code != exitNoDaemon || !strings.Contains(errs.String(), "-c FILE explains") {
			t.Errorf("without a naru: %d %s", code, errs.String())
		}
	})
}

// captured checks what naru capture writes, with tshark too where it is installed.
func captured(t *testing.T, f *farm, send func()) {
	file := filepath.Join(t.TempDir(), "out.pcapng")
	if code, _, errs := f.followed(t, send, "capture", "-w", file, "-n", "8", "--service", "web"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapfile.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	for p := (pcapfile.Packet{}); r.Next(&p) == nil; {
		seen[p.Interface]++
	}
	if len(r.Interfaces()) != 2 || seen[0] < 4 || seen[1] < 4 {
		t.Errorf("%d interfaces, packets %v", len(r.Interfaces()), seen)
	}
	if tshark, err := exec.LookPath("tshark"); err == nil {
		out, err := exec.Command(tshark, "-n", "-r", file, "-Y", `frame.comment contains "web/b" && frame.comment contains "new"`,
			"-T", "fields", "-e", "frame.interface_name").Output()
		if err != nil || !strings.HasPrefix(string(out), "eth0\neth1\n") {
			t.Errorf("tshark: %v %q", err, out)
		}
	}
	if code, _, errs := f.followed(t, send, "capture", "-w", file, "--ring", "10s", "--trigger", "reason=tcp_flags"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if text, err = os.ReadFile(file); err != nil || !bytes.Contains(text, []byte("drop reason=tcp_flags")) {
		t.Errorf("the trigger is not in the ring's capture: %v", err)
	}
	for _, words := range [][]string{{"capture"}, {"capture", "-w", file, "--ring", "1s"},
		{"capture", "-w", file, "--ring", "1s", "--trigger", "x"}, {"trace", "--verdict", "lost"}, {"trace", "-f", "-n", "1"}, {"trace", "greater", "5"}} {
		if code, _, errs := f.do(words...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", words, code, errs)
		}
	}
}

// choice is the backend that an explanation tells.
func choice(text string) string {
	_, text, _ = strings.Cut(text, "TRANSMIT to ")
	name, _, _ := strings.Cut(text, " ")
	return name
}
