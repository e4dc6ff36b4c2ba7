package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// with is the farm's configuration with a service of its own: the keys are YAML of the service, weights and more of the
// backends' are put where the words say, as "b1=weight: 4".
func (f *farm) with(keys string, backends ...string) string {
	text := strings.Replace(f.config(), "    slow_start: 10m\n", keys, 1)
	for _, b := range backends {
		name, more, _ := strings.Cut(b, "=")
		text = strings.Replace(text, "{name: "+name+",", "{name: "+name+", "+more+",", 1)
	}
	return text
}

// reload gives the running naru another configuration.
func (f *farm) reload(t *testing.T, text string) {
	t.Helper()
	f.write(t, text)
	f.must(t, "reload", "-q")
}

// hold opens connections one after the other and returns how many each backend has, and what ends them.
func (f *farm) hold(t *testing.T, n int) (hits map[string]int, end func()) {
	t.Helper()
	hits = map[string]int{}
	var all []net.Conn
	for range n {
		c, who, err := f.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		hits[who]++
		all = append(all, c)
	}
	end = func() {
		for _, c := range all {
			c.Close()
		}
	}
	t.Cleanup(end)
	return hits, end
}

// idle waits until no connection counts any more.
func (f *farm) idle(t *testing.T) {
	t.Helper()
	f.until(t, "all connections are over", func() bool { return f.status(t).Services[0].Active == 0 })
}

// TestEverySchedulerShares: each name in a configuration gives real connections the shares that it stands for.
func TestEverySchedulerShares(t *testing.T) {
	f := newFarm(t)
	weights := []string{"b1=weight: 4", "b2=weight: 3", "b3=weight: 2"}
	for _, tt := range []struct {
		keys    string
		weights bool
		want    string // of nine connections that stay
	}{
		{"scheduler: rr", true, "map[b1:3 b2:3 b3:3]"},
		{"scheduler: weighted-round-robin", true, "map[b1:4 b2:3 b3:2]"},
		{"scheduler: least-conn", true, "map[b1:3 b2:3 b3:3]"},
		{"scheduler: wlc", true, "map[b1:4 b2:3 b3:2]"},
		{"scheduler: sed", true, "map[b1:4 b2:3 b3:2]"},
		{"scheduler: nq", true, "map[b1:4 b2:3 b3:2]"},
		{"scheduler: source", true, "one"},
		{"scheduler: sh\n    hash: source-port", false, "all"},
		{"scheduler: mh", true, "one"},
		{"scheduler: mh\n    hash: dest", true, "one"},
		{"scheduler: maglev\n    hash: 5-tuple\n    mh: {table_size: 251}", false, "all"},
		{"scheduler: mh\n    bounded: 1.0", false, "map[b1:3 b2:3 b3:3]"},
		{"scheduler: sh\n    bounded: 1.0", false, "map[b1:3 b2:3 b3:3]"},
		{"scheduler: twos", false, "all"},
	} {
		f.reload(t, f.with("    "+tt.keys+"\n", weights[:map[bool]int{true: 3}[tt.weights]]...))
		n := 9
		if tt.want == "all" {
			n = 40
		}
		hits, end := f.hold(t, n)
		ok := fmt.Sprint(hits) == tt.want || tt.want == "one" && len(hits) == 1 || tt.want == "all" && len(hits) == 3
		if !ok {
			t.Errorf("%s: %v, want %s", tt.keys, hits, tt.want)
		}
		end()
		f.idle(t)
	}
}

// TestWhoGetsConnectionsByLimitsBackupsAndAffinity goes through what a service says of its backends beside the scheduler.
func TestWhoGetsConnectionsByLimitsBackupsAndAffinity(t *testing.T) {
	f := newFarm(t)
	refused := func(what string) {
		t.Helper()
		if _, who, err := f.connect(t); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %q %v, want that it is refused", what, who, err)
		}
	}
	try := func(what, keys, want string, n int, full bool, backends ...string) {
		t.Helper()
		f.reload(t, f.with(keys, backends...))
		hits, end := f.hold(t, n)
		if fmt.Sprint(hits) != want {
			t.Errorf("%s: %v, want %s", what, hits, want)
		}
		if full {
			refused(what)
		}
		end()
		f.idle(t)
		if _, who, err := f.connect(t); err != nil {
			t.Errorf("%s: after the others have ended: %q %v", what, who, err)
		}
		f.idle(t)
	}
	one := "b2=max_connections: 1"
	try("a service's limit", "    max_connections: 4\n    scheduler: lc\n", "map[b1:2 b2:1 b3:1]", 4, true)
	try("a backend's limit, others take the rest", "    scheduler: lc\n", "map[b1:4 b2:1 b3:4]", 9, false, one)
	try("all are full", "", "map[b1:1 b2:1 b3:1]", 3, true, "b1=max_connections: 1", one, "b3=max_connections: 1")
	try("a backend's limit, refused", "    on_backend_full: refuse\n    scheduler: mh\n", "map[b2:1]", 1, true,
		"b1=weight: 0", one, "b3=weight: 0")
	try("a backup helps those that are full", "", "map[b1:1 b2:1 b3:4]", 6, false, "b1=max_connections: 1", one, "b3=backup: true")
	try("affinity", "    affinity: {timeout: 1h, prefix4: 24}\n", "map[b1:9]", 9, false, "b2=weight: 0", "b3=weight: 0")

	f.reload(t, f.with("    affinity: {timeout: 1h, prefix4: 24}\n")) // b1 is remembered over the reload
	if hits, _ := f.hold(t, 4); hits["b1"] != 4 {
		t.Errorf("affinity over a reload: %v", hits)
	}
	f.must(t, "drain", "web/b1")
	if hits, _ := f.hold(t, 4); len(hits) != 1 || hits["b1"] != 0 {
		t.Errorf("affinity with a backend that drains: %v", hits)
	}
	f.must(t, "ready", "web/b1")

	f.reload(t, f.with("", "b3=backup: true"))
	if hits, end := f.hold(t, 4); hits["b3"] != 0 {
		t.Errorf("a backup that is not needed: %v", hits)
	} else {
		end()
	}
	f.stop[0]()
	f.stop[1]()
	f.until(t, "two are down", func() bool { return f.status(t).Summary.BackendsUp == 1 })
	if hits, _ := f.hold(t, 3); hits["b3"] != 3 {
		t.Errorf("a backup that is needed: %v", hits)
	}
	f.serve(t, 0)
	f.until(t, "b1 is back", func() bool { return f.backend(t, 0).State == "up" })
	if hits, _ := f.hold(t, 3); hits["b1"] != 3 {
		t.Errorf("a backup that is not needed any more: %v", hits)
	}
}

// TestSlowStartLive: a backend that comes back gets little, then more and more, then its part.
func TestSlowStartLive(t *testing.T) {
	f := newFarm(t)
	again := func() {
		f.must(t, "drain", "web/b2")
		f.must(t, "ready", "web/b2")
	}
	for _, tt := range []struct {
		keys string
		most int // of 60 connections while it begins
	}{
		{"scheduler: rr", 3}, {"scheduler: wrr", 3}, {"scheduler: twos", 6},
		{"scheduler: lc", 3}, {"scheduler: wlc", 3}, {"scheduler: sed", 3},
		{"scheduler: mh\n    hash: source-port", 6}, {"scheduler: sh\n    hash: source-port", 6},
	} {
		keys := "    " + tt.keys + "\n    slow_start: "
		f.reload(t, f.with(keys+"1h\n"))
		again()
		hits, end := f.hold(t, 60)
		if hits["b2"] > tt.most || hits["b1"] < 15 || hits["b3"] < 15 {
			t.Errorf("%s: while b2 begins %v", tt.keys, hits)
		}
		end()
		f.idle(t)
		f.reload(t, f.with(keys+"0s\n"))
		hits, end = f.hold(t, 60)
		if hits["b2"] < 10 || hits["b2"] > 30 {
			t.Errorf("%s: without slow start %v", tt.keys, hits)
		}
		end()
		f.idle(t)
	}

	f.reload(t, f.with("    slow_start: 1s\n"))
	again()
	seen, last := map[float64]bool{}, 0.0
	f.until(t, "the slow start is over", func() bool {
		b := f.backend(t, 1)
		if b.SlowStart < last {
			t.Errorf("the share falls from %v to %v", last, b.SlowStart)
		}
		last = b.SlowStart
		seen[last] = true
		return last == 1
	})
	if len(seen) < 3 {
		t.Errorf("the share was %v", seen)
	}
	var out, errs bytes.Buffer
	args := []string{"naru", "sched", "show", "web", "-c", f.file, "--socket", f.socket}
	if code := run(args, nil, &out, &errs); code != 0 || strings.Count(out.String(), "100 %       33.33 %") != 3 {
		t.Errorf("sched show: exit %d, %s%s", code, out.String(), errs.String())
	}
}

// TestTwoNarusWithOneKeyAgree: each client port leads to the same backend, whatever the order in the file, the seed and the
// number of workers.
func TestTwoNarusWithOneKeyAgree(t *testing.T) {
	key := filepath.Join(t.TempDir(), "hash.key")
	if err := os.WriteFile(key, []byte("000102030405060708090a0b0c0d0e0f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	node := "node: {hash_key_file: " + key + ", "
	text := strings.Replace(farmConfig, "node: {", node, 1)
	text = strings.Replace(text, "    slow_start: 10m\n", "    scheduler: mh\n    hash: 5-tuple\n", 1)
	a := newFarmOf(t, text)
	b := newFarmOf(t, strings.Replace(text, "workers: 2", "workers: 1", 1))
	b.daemon.end(t, syscall.SIGTERM)
	lines := strings.SplitAfter(b.config(), "\n")
	n := len(lines) - 1 // behind the last line end is nothing
	lines[n-1], lines[n-3] = lines[n-3], lines[n-1]
	b.write(t, strings.Join(lines, ""))
	b.daemon = b.start(t, 0, "run", "-c", b.file, "--seed", "99")
	b.daemon.waitFor(t, `"running"`)
	where := func(f *farm) (all string) {
		for port := 30000; port < 30060; port++ {
			f.client.Do(t, func() {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port}, Timeout: 5 * time.Second}
				c, err := d.Dial("tcp", "192.0.2.25:80")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.(*net.TCPConn).SetLinger(0) // no TIME-WAIT: the port is used again
				who, err := askAgain(c)
				if err != nil {
					t.Fatal(err)
				}
				all += who[1:]
			})
		}
		return all
	}
	one, other := where(a), where(b)
	if one != other {
		t.Errorf("two nodes with one key choose\n%s and\n%s", one, other)
	}
	for _, b := range "123" {
		if !strings.ContainsRune(one, b) {
			t.Errorf("b%c gets none: %s", b, one)
		}
	}
	if err := os.WriteFile(key, []byte("ff0102030405060708090a0b0c0d0e0f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.daemon.end(t, syscall.SIGTERM)
	b.run(t)
	if where(b) == one {
		t.Error("another key changes nothing")
	}
}
