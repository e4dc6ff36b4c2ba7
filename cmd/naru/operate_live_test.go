package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"naru/internal/admin"
)

// farm is a live network with three servers at 10.10.10.1 to 10.10.10.3, which a running naru serves by full NAT.
type farm struct {
	*liveNet
	daemon *process
	socket string
	text   string    // the configuration, but for the path of the socket
	stop   [3]func() // ends a server
}

const farmConfig = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
node: {connections: 4096, name: lb1, workers: 2}
admin: {socket: SOCKET}
log: {flows: file, flows_file: SOCKET.flows}
services:
  - name: web
    vip: 192.0.2.25
    ports: [80]
    protocol: tcp
    mode: fullnat
    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}
    slow_start: 10m
    health: {type: tcp, interval: 100ms, timeout: 90ms, rise: 2, fall: 2}
    backends:
      - {name: b1, address: 10.10.10.1, port: 8080}
      - {name: b2, address: 10.10.10.2, port: 8080}
      - {name: b3, address: 10.10.10.3, port: 8080}
`

func newFarm(t *testing.T) *farm { return newFarmOf(t, farmConfig) }

// without is what comes without an end, again and again: numbers modulo 251.
var without = func() (b []byte) {
	for i := range 251 * 64 {
		b = append(b, byte(i%251))
	}
	return b
}()

// newFarmOf starts a farm with another configuration, whose last three backends are those of farmConfig.
func newFarmOf(t *testing.T, text string) *farm {
	t.Helper()
	f := &farm{liveNet: newLiveNet(t), text: text}
	f.socket = filepath.Join(filepath.Dir(f.file), "naru.sock")
	f.server.Addr(t, "eth0", "10.10.10.2/24")
	f.server.Addr(t, "eth0", "10.10.10.3/24")
	for i := range f.stop {
		f.serve(t, i)
	}
	f.write(t, f.config())
	f.daemon = f.run(t)
	f.until(t, "every backend is probed", func() bool {
		_, out, _ := f.do("status", "-o", "json")
		return strings.Count(out, `"healthy"`) == strings.Count(text, "{name: b")
	})
	return f
}

func (f *farm) config() string { return strings.ReplaceAll(f.text, "SOCKET", f.socket) }

// serve starts server number i: it says its name once something comes, and goes on with the connection. To "bye" it closes, to
// "more" it sends without an end.
func (f *farm) serve(t *testing.T, i int) {
	t.Helper()
	var l net.Listener
	f.server.Do(t, func() {
		var err error
		if l, err = net.Listen("tcp", fmt.Sprintf("10.10.10.%d:8080", i+1)); err != nil {
			t.Fatal(err)
		}
	})
	f.stop[i] = func() { l.Close() }
	t.Cleanup(f.stop[i])
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64)
				for {
					n, err := c.Read(buf)
					if err != nil || string(buf[:n]) == "bye" {
						return
					}
					for string(buf[:n]) == "more" && err == nil {
						_, err = c.Write(without)
					}
					if _, err := fmt.Fprintf(c, "b%d", i+1); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// do runs a command against the farm's naru, in this process: the socket is no part of a network namespace.
func (f *farm) do(words ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	args := append([]string{"naru", words[0], "--socket", f.socket}, words[1:]...)
	code = run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func (f *farm) must(t *testing.T, words ...string) string {
	t.Helper()
	code, out, errs := f.do(words...)
	if code != 0 {
		t.Fatalf("naru %v: exit %d, %s%s", words, code, out, errs)
	}
	return out
}

func (f *farm) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			_, out, _ := f.do("status", "-o", "wide")
			t.Fatalf("not in time: %s\n%s", what, out)
		}
	}
}

func (f *farm) status(t *testing.T) (s admin.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(f.must(t, "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *farm) backend(t *testing.T, i int) admin.Backend {
	t.Helper()
	return f.status(t).Services[0].Backends[i]
}

// open opens a connection to the VIP and asks who is there.
func (f *farm) connect(t *testing.T) (c net.Conn, who string, err error) {
	t.Helper()
	f.client.Do(t, func() { c, err = net.DialTimeout("tcp", "192.0.2.25:80", 5*time.Second) })
	if err != nil {
		return nil, "", err
	}
	if who, err = askAgain(c); err != nil {
		c.Close()
	}
	return c, who, err
}

func askAgain(c net.Conn) (string, error) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "?"); err != nil {
		return "", err
	}
	buf := make([]byte, 2)
	_, err := io.ReadFull(c, buf)
	return string(buf), err
}

// oneEach opens a connection to each backend.
func (f *farm) oneEach(t *testing.T) map[string]net.Conn {
	t.Helper()
	all := map[string]net.Conn{}
	for len(all) < 3 {
		c, who, err := f.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all[who] = c
	}
	return all
}

// ends reports whether a connection is reset.
func ends(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, syscall.ECONNRESET)
}

// load opens short connections until its function is called, which returns how many of them each backend had, and failures.
func (f *farm) load(t *testing.T, workers int) (stop func() (hits map[string]int, failed int)) {
	var end atomic.Bool
	var mu sync.Mutex
	var wait sync.WaitGroup
	hits, failed := map[string]int{}, 0
	for range workers {
		wait.Go(func() {
			f.client.Do(t, func() {
				for !end.Load() {
					who, err := "", error(nil)
					c, err := net.DialTimeout("tcp", "192.0.2.25:80", 5*time.Second)
					if err == nil {
						who, err = askAgain(c)
						c.Close()
					}
					mu.Lock()
					if hits[who]++; err != nil {
						failed++
					}
					mu.Unlock()
					time.Sleep(time.Millisecond)
				}
			})
		})
	}
	return func() (map[string]int, int) {
		end.Store(true)
		wait.Wait()
		return hits, failed
	}
}

func TestOrdersAreFollowed(t *testing.T) {
	f := newFarm(t)
	old := f.oneEach(t)
	stop := f.load(t, 2)
	for _, step := range []struct {
		order []string
		says  string
	}{
		{[]string{"drain", "web/b1"}, "web/b1 is draining, weight 1, share 0.0%"},
		{[]string{"weight", "web/b2", "3"}, "web/b2 is up, weight 3, share 75.0%"},
		{[]string{"ready", "web/b1"}, "web/b1 is up, weight 1, share 1.2%, "},
		{[]string{"ready", "web/b2"}, "web/b2 is up, weight 1, share 48.8%, "},
		{[]string{"weight", "web/b3", "0"}, "web/b3 is draining, weight 0, share 0.0%"},
	} {
		if out := f.must(t, step.order...); !strings.HasPrefix(out, step.says) {
			t.Errorf("%v: %s", step.order, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// A reload keeps orders, unless it is told not to, and moves no connection.
	f.write(t, strings.Replace(f.config(), "{name: b1,", "{name: b9, address: 10.10.10.9}\n      - {name: b1,", 1))
	if out := f.must(t, "reload"); !strings.Contains(out, "rev 2   +backend web/b9") {
		t.Errorf("reload: %s", out)
	}
	if b := f.backend(t, 3); b.Backend != "b3" || b.Weight != 0 || b.Configured != 1 || !b.Operator {
		t.Errorf("after a reload: %+v", b)
	}
	f.write(t, f.config())
	f.must(t, "reload", "--reset", "-q")
	if b := f.backend(t, 2); b.Weight != 1 || b.State != "up" || b.Operator {
		t.Errorf("after a reload with --reset: %+v", b)
	}
	hits, failed := stop()
	if failed > 0 || hits["b2"] == 0 || hits["b3"] == 0 {
		t.Errorf("%d requests failed; %v", failed, hits)
	}
	for name, c := range old {
		if who, err := askAgain(c); err != nil || who != name {
			t.Errorf("the old connection to %s: %q %v", name, who, err)
		}
	}
	if out := f.must(t, "events"); !strings.Contains(out, "web/b1 is draining: drained by an operator") ||
		!strings.Contains(out, "revision 3 is in force") {
		t.Errorf("events:\n%s", out)
	}
}

func TestDrainSaysWhatItWouldDo(t *testing.T) {
	f := newFarm(t)
	out := f.must(t, "drain", "web/b1", "--dry-run", "--deadline", "5m")
	if !strings.Contains(out, "web/b1 is up; drained, its 0 connections would end by themselves, what is left after 5m0s be ended, "+
		"and new ones go to b2, b3; nothing was changed") || f.backend(t, 0).State != "up" {
		t.Errorf("%+v: %s", f.backend(t, 0), out)
	}
	f.must(t, "disable", "web/b2")
	f.must(t, "disable", "web/b3")
	if out := f.must(t, "drain", "web/b1", "--dry-run"); !strings.Contains(out, "and nobody of web would take new ones") {
		t.Error(out)
	}
	if code, _, errs := f.do("drain", "web/b9", "--dry-run"); code != exitUsage || !strings.Contains(errs, "there are web/b1, web/b2") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if code, _, errs := f.do("drain", "web/b1", "--dry-run", "--wait"); code != exitUsage || !strings.Contains(errs, "leave --wait") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestStatusWaits(t *testing.T) {
	f := newFarm(t)
	if code, out, errs := f.do("status", "--wait", "1m", "--brief"); code != 0 || !strings.HasPrefix(out, "OK ") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	f.must(t, "disable", "web/b1")
	if code, _, errs := f.do("status", "web/b1", "--wait", "300ms"); code != exitUnhealthy {
		t.Errorf("exit %d: %s", code, errs)
	}
	done := make(chan int)
	go func() {
		code, _, _ := f.do("status", "web/b1", "--wait", "1m")
		done <- code
	}()
	f.must(t, "ready", "web/b1")
	if code := <-done; code != 0 {
		t.Errorf("exit %d after it is back", code)
	}
	if code, _, errs := f.do("status", "--wait=-1s"); code != exitUsage || !strings.Contains(errs, "--wait -1s is in the past") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestDrainWaits(t *testing.T) {
	f := newFarm(t)
	var c net.Conn
	for who := ""; who != "b1"; {
		var err error
		if c, who, err = f.connect(t); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	code, _, errs := f.do("drain", "web/b1", "--wait", "--deadline", "300ms")
	if code != exitDeadline || !strings.Contains(errs, "web/b1 still had 1 connection at the deadline") {
		t.Errorf("exit %d: %s", code, errs)
	}
	f.until(t, "the deadline ends service", func() bool { return f.backend(t, 0).State == "disabled" })
	f.must(t, "ready", "web/b1")
	f.must(t, "drain", "web/b2")
	f.must(t, "drain", "web/b3")
	if c, who, err := f.connect(t); err != nil || who != "b1" {
		t.Errorf("%q %v", who, err)
	} else {
		go func() {
			time.Sleep(100 * time.Millisecond)
			c.Close()
		}()
	}
	c.Close()
	f.must(t, "ready", "web/b2")
	if out := f.must(t, "drain", "web/b1", "--wait"); !strings.Contains(out, "web/b1 drained in ") {
		t.Errorf("%s", out)
	}
}

func TestHealthTakesBackendsOutAndBack(t *testing.T) {
	f := newFarm(t)
	f.stop[1]()
	f.until(t, "b2 is down", func() bool { return f.backend(t, 1).State == "down" })
	if b := f.backend(t, 1); b.Why != "tcp 10.10.10.2:8080: connection refused" || b.Health != "failed" || b.Share != 0 {
		t.Errorf("%+v", b)
	}
	stop := f.load(t, 2)
	time.Sleep(100 * time.Millisecond)
	if hits, failed := stop(); failed > 0 || hits["b1"] == 0 || hits["b2"] > 0 {
		t.Errorf("while b2 is down: %v, %d failed", hits, failed)
	}
	if code, out, _ := f.do("status", "--brief", "--check"); code != 0 || !strings.HasPrefix(out, "OK services=1/1 backends=2/3") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, _, _ := f.do("status", "web/b2", "--check"); code != exitUnhealthy {
		t.Errorf("the status of a backend that is down: exit %d", code)
	}
	f.stop[0]()
	f.stop[2]()
	f.until(t, "all are down", func() bool { return f.status(t).Health == admin.Down })
	if _, _, err := f.connect(t); err == nil {
		t.Error("somebody answers though all are down")
	}
	if code, out, _ := f.do("status", "--brief", "--check"); code != exitUnhealthy || !strings.HasPrefix(out, "FAIL services=0/1") {
		t.Errorf("exit %d: %s", code, out)
	}
	f.until(t, "the refusal is counted", func() bool {
		for _, r := range f.status(t).Reasons {
			if r.Reason == "no_backend_answered" && r.Packets > 0 {
				return true
			}
		}
		return false
	})
	for i := range 3 {
		f.serve(t, i)
	}
	f.until(t, "all are back", func() bool { return f.status(t).Summary.BackendsUp == 3 })
	if _, _, err := f.connect(t); err != nil {
		t.Error(err)
	}
}

func TestStatusTellsWhatIsCarried(t *testing.T) {
	f := newFarm(t)
	for range 6 {
		c, _, err := f.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var s admin.Status
	f.until(t, "the connections are counted", func() bool {
		s = f.status(t)
		return s.Services[0].Made == 6 && s.Connections.Active == 6 && s.Services[0].Backends[2].OutRate.Bits > 0
	})
	web := s.Services[0]
	if web.Active != 6 || web.In.Packets < 12 || web.Out == nil || web.Out.Bytes == 0 || web.Backends[0].Active != 2 ||
		len(s.Interfaces) != 2 || s.Interfaces[0].RxFrames == 0 || len(s.Ports) != 3 || s.Ports[0].Size-s.Ports[0].Free != 2 ||
		s.Interfaces[0].Driver == "unknown" || s.Connections.Active != 6 || len(s.Workers) == 0 || s.Node != "lb1" || s.Health != admin.OK {
		t.Errorf("%+v", s)
	}
	table := f.must(t, "status")
	for _, want := range []string{"NODE lb1  up ", "health OK  connections 6/4.1k",
		"SERVICE  VIP                MODE     SCHED  STATE  CONNS", "web      192.0.2.25:80/tcp", "  -> b3  10.10.10.3:8080 "} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
	for _, args := range [][]string{{"-o", "wide"}, {"--rate"}, {"--stats"}, {"-o", "yaml"}, {"web/b2"}, {"-o", "wide", "--no-headers"}} {
		if out := f.must(t, append([]string{"status"}, args...)...); !strings.Contains(out, "b2") {
			t.Errorf("%v:\n%s", args, out)
		}
	}
	if code, _, errs := f.do("status", "wbe"); code != exitUsage || !strings.Contains(errs, "there are web") {
		t.Errorf("exit %d: %s", code, errs)
	}
	f.daemon.end(t, syscall.SIGTERM)
	if code, _, errs := f.do("status"); code != exitNoDaemon || !strings.Contains(errs, "no naru runs with the socket") {
		t.Errorf("after the end: exit %d, %s", code, errs)
	}
	if _, err := os.Stat(f.socket); err == nil {
		t.Error("the socket is left")
	}
}

// TestOnlyConnectionsOfABackendThatGoesEnd kills one backend, disables another and lets the deadline of a third pass.
func TestOnlyConnectionsOfABackendThatGoesEnd(t *testing.T) {
	f := newFarm(t)
	old := f.oneEach(t)
	stays := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if who, err := askAgain(old[name]); err != nil || who != name {
				t.Errorf("the connection to %s: %q %v", name, who, err)
			}
		}
	}
	f.stop[1]() // the listener; its old connection would go on
	f.until(t, "b2 is down", func() bool { return f.backend(t, 1).State == "down" })
	if !ends(old["b2"]) {
		t.Error("the connection to b2 goes on though b2 is down")
	}
	stays("b1", "b3")
	// Reordering and removing moves nobody.
	f.write(t, strings.NewReplacer("name: b1, address: 10.10.10.1,", "name: b3, address: 10.10.10.3,",
		"      - {name: b3, address: 10.10.10.3, port: 8080}\n", "").Replace(f.config()))
	f.must(t, "reload")
	stays("b1", "b3")
	if s := f.status(t).Services[0]; len(s.Backends) != 3 || !s.Backends[2].Removed || s.Backends[2].Backend != "b1" ||
		s.Backends[2].Active != 1 {
		t.Errorf("%+v", s.Backends)
	}
	f.write(t, f.config())
	f.must(t, "reload")
	f.until(t, "b1 is back", func() bool { return f.backend(t, 0).State == "up" })
	f.must(t, "disable", "web/b1")
	if !ends(old["b1"]) {
		t.Error("the connection to b1 goes on though b1 is disabled")
	}
	stays("b3")
	f.must(t, "drain", "web/b3", "--deadline", "200ms")
	if !ends(old["b3"]) {
		t.Error("the connection to b3 goes on though the deadline has passed")
	}
}

func TestTheSocketRefusesWhatMakesNoSense(t *testing.T) {
	f := newFarm(t)
	c := admin.NewClient(f.socket)
	for _, tt := range []struct {
		method, path string
		in           any
		status       int
	}{
		{"GET", "/v1/services/none", nil, 404},
		{"GET", "/v1/events?since=x", nil, 400},
		{"POST", "/v1/backends/web/b9/state", admin.StateOrder{State: "drain"}, 404},
		{"POST", "/v1/backends/web/b1/state", admin.StateOrder{State: "up"}, 400},
		{"POST", "/v1/backends/web/b1/state", admin.StateOrder{State: "drain", Deadline: -1}, 400},
		{"POST", "/v1/backends/web/b1/state", admin.StateOrder{State: "ready", Deadline: 1}, 400},
		{"POST", "/v1/backends/web/b1/state", admin.StateOrder{State: "drain", Deadline: 1e300}, 400},
		{"POST", "/v1/backends/web/b1/state", map[string]int{"sate": 1}, 400},
		{"POST", "/v1/backends/web/b1/state", "drain", 400},
		{"PUT", "/v1/backends/web/b1/weight", admin.WeightOrder{}, 400},
		{"PUT", "/v1/backends/web/b1/weight", map[string]int{"weight": 65536}, 400},
		{"PUT", "/v1/backends/web/b1/weight", map[string]int{"weight": -1}, 400},
		{"POST", "/v1/config:check", admin.ConfigText{Text: "version: 2"}, 422},
		{"POST", "/v1/config:apply", admin.ConfigText{Text: "version: 1\ninterfaces: [{name: eth0, side: both}]\n"}, 409},
	} {
		err := c.Do(t.Context(), tt.method, tt.path, tt.in, nil)
		if p := (*admin.Problem)(nil); !errors.As(err, &p) || p.Status != tt.status {
			t.Errorf("%s %s %+v: %v, want status %d", tt.method, tt.path, tt.in, err, tt.status)
		}
	}
	var result admin.ConfigResult
	text := strings.Replace(f.config(), "{name: b1,", "{name: b1, weight: 7,", 1)
	err := c.Do(t.Context(), "POST", "/v1/config:check", admin.ConfigText{Text: text}, &result)
	if err != nil || len(result.Changes) != 1 || result.Changes[0] != "~web/b1: weight 1 -> 7" || result.Revision != 1 {
		t.Errorf("check: %+v %v", result, err)
	}
	err = c.Do(t.Context(), "POST", "/v1/config:apply", admin.ConfigText{Text: text}, &result)
	if b := f.backend(t, 0); err != nil || result.Revision != 2 || b.Weight != 7 {
		t.Errorf("apply: %+v %v, %+v", result, err, b)
	}
	var services admin.Services
	var drops admin.Drops
	if err := errors.Join(c.Get(t.Context(), "/v1/services", &services), c.Get(t.Context(), "/v1/drops", &drops)); err != nil ||
		len(services.Services) != 1 || drops.Kind != "Drops" {
		t.Errorf("%v %+v %+v", err, services, drops)
	}
}

func TestABadReloadIsRefusedAndTold(t *testing.T) {
	f := newFarm(t)
	before, _, _ := strings.Cut(f.config(), "fullnat")
	place := fmt.Sprintf(":%d:11: ", 1+strings.Count(before, "\n"))
	f.write(t, strings.Replace(f.config(), "mode: fullnat", "mode: fulnat", 1))
	code, _, errs := f.do("reload")
	if code != exitConfig || !strings.Contains(errs, `mode: "fulnat" is not one of fullnat`) || !strings.Contains(errs, place) {
		t.Errorf("exit %d: %s", code, errs)
	}
	if s := f.status(t); s.Config.Revision != 1 || !strings.Contains(s.Config.Error, "fulnat") || s.Health != admin.OK {
		t.Errorf("%+v", s.Config)
	}
	f.write(t, strings.Replace(f.config(), "connections: 4096", "connections: 8192", 1))
	if code, _, errs := f.do("reload"); code != exitFailed || !strings.Contains(errs, "needs a restart") {
		t.Errorf("exit %d: %s", code, errs)
	}
	f.write(t, f.config())
	if out := f.must(t, "reload"); !strings.Contains(out, "rev 2   nothing changed") {
		t.Errorf("%s", out)
	}
	if s := f.status(t); s.Config.Error != "" {
		t.Errorf("%+v", s.Config)
	}
}

func TestASecondNaruDoesNotTakeTheSocket(t *testing.T) {
	f := newFarm(t)
	other := newLiveNet(t)
	other.write(t, strings.Replace(liveConfig, "version: 1\n", "version: 1\nadmin: {socket: "+f.socket+"}\n", 1))
	p := other.start(t, 0, "run", "-c", other.file)
	if code := p.code(t); code != exitFailed || !strings.Contains(p.stderr.String(), "another naru listens there") {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
	if other.hasFence(t) {
		t.Error("it left its fence")
	}
	if s := f.status(t); s.PID != f.daemon.cmd.Process.Pid {
		t.Errorf("naru %d answers", s.PID)
	}
}

// TestOthersMayNotGiveOrders asks as a user without a role.
func TestOthersMayNotGiveOrders(t *testing.T) {
	f := newFarm(t)
	const nobody = 65534
	f.open(t)
	p := f.start(t, nobody, "status", "--socket", f.socket)
	if code := p.code(t); code != exitPermission {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
	if err := os.Chmod(f.socket, 0o666); err != nil { // as it is where a group naru-ro exists
		t.Fatal(err)
	}
	p = f.start(t, nobody, "drain", "web/b1", "--socket", f.socket)
	if code := p.code(t); code != exitPermission || !strings.Contains(p.stderr.String(), "may not change anything") {
		t.Errorf("exit %d: %s", code, p.stderr.String())
	}
	if b := f.backend(t, 0); b.State != "up" {
		t.Errorf("%+v", b)
	}
}
