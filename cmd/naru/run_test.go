package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"naru/internal/wiretest"
)

// asNaru makes the test binary be naru: the live tests run it as a process of its own in a network namespace.
const asNaru = "NARU_TEST_BINARY_IS_NARU"

func init() {
	if os.Getenv(asNaru) != "" {
		os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
}

// patience bounds every wait; nothing takes that long.
const patience = 20 * time.Second

const liveConfig = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
node: {connections: 1024}
services:
  - name: web
    vip: 192.0.2.25
    ports: [80]
    protocol: tcp
    mode: fullnat
    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}
    backends:
      - {name: server01, address: 10.10.10.1}
`

// live is client -- naru -- server, each a network namespace.
type liveNet struct {
	client, naru, server *wiretest.NS
	file                 string // the configuration
	stdout               *os.File
}

func newLiveNet(t *testing.T) *liveNet {
	t.Helper()
	wiretest.Root(t)
	n := &liveNet{
		client: wiretest.NewNS(t, "client"), naru: wiretest.NewNS(t, "naru"), server: wiretest.NewNS(t, "server"),
		file: filepath.Join(t.TempDir(), "naru.yaml"),
	}
	wiretest.Veth(t, n.client, "eth0", n.naru, "eth0")
	wiretest.Veth(t, n.naru, "eth1", n.server, "eth0")
	n.client.Addr(t, "eth0", "192.0.2.1/24")
	n.naru.Addr(t, "eth0", "192.0.2.2/24")
	n.naru.Addr(t, "eth1", "10.10.10.254/24")
	n.server.Addr(t, "eth0", "10.10.10.1/24")
	n.write(t, liveConfig)
	n.server.Do(t, func() {
		for _, port := range []string{":80", ":81"} {
			l, err := net.Listen("tcp", port)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go serve(l)
		}
	})
	return n
}

// serve says to every client which address it has.
func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(c, c.RemoteAddr())
		c.Close()
	}
}

func (n *liveNet) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(n.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// request returns what a client of the VIP gets.
func (n *liveNet) request(t *testing.T, port int) (answer string, err error) {
	t.Helper()
	return n.requestTo(t, "192.0.2.25", port)
}

func (n *liveNet) requestTo(t *testing.T, vip string, port int) (answer string, err error) {
	t.Helper()
	n.client.Do(t, func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", net.JoinHostPort(vip, strconv.Itoa(port)), 5*time.Second); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		var b []byte
		b, err = io.ReadAll(c)
		answer = string(b)
	})
	return answer, err
}

func (n *liveNet) mustServe(t *testing.T, port int) {
	t.Helper()
	if got, err := n.request(t, port); err != nil || !strings.HasPrefix(got, "10.10.10.254:") {
		t.Fatalf("a request to port %d: %q, %v", port, got, err)
	}
}

// hasFence reports whether the table is there.
func (n *liveNet) hasFence(t *testing.T) (has bool) {
	t.Helper()
	n.naru.Do(t, func() {
		tables, err := (&nftables.Conn{}).ListTablesOfFamily(nftables.TableFamilyNetdev)
		if err != nil {
			t.Fatal(err)
		}
		has = len(tables) == 1 && tables[0].Name == "naru"
	})
	return has
}

// process is naru, running.
type process struct {
	cmd    *exec.Cmd
	stderr lockedBuffer
	ended  chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts naru in its namespace. The process dies with the thread that started it, so it cannot outlive the test.
func (n *liveNet) start(t *testing.T, uid uint32, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	p := &process{cmd: exec.CommandContext(ctx, exe, args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asNaru+"=1")
	p.cmd.Stderr = &p.stderr
	if n.stdout != nil {
		p.cmd.Stdout = n.stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if uid != 0 {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		n.naru.Do(t, func() {
			err := p.cmd.Start()
			started <- err
			if err == nil {
				_ = p.cmd.Wait()
			}
		})
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("naru %v said:\n%s", args, p.stderr.String())
		}
	})
	return p
}

// run starts naru and waits until it is ready.
func (n *liveNet) run(t *testing.T) *process {
	t.Helper()
	p := n.start(t, 0, "run", "-c", n.file, "--seed", "1", "--log-level", "debug")
	p.waitFor(t, `"running"`)
	return p
}

// waitFor waits until naru has said something.
func (p *process) waitFor(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.stderr.String(), what); {
		select {
		case <-p.ended:
			if !strings.Contains(p.stderr.String(), what) {
				t.Fatalf("naru ended (%v) before it said %s", p.cmd.ProcessState, what)
			}
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("naru does not say %s", what)
		}
	}
}

// end sends a signal and returns the exit code.
func (p *process) end(t *testing.T, s syscall.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return p.code(t)
}

func (p *process) code(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatal("naru does not end")
		return -1
	}
}

func TestRunServesReloadsAndLeavesNothingBehind(t *testing.T) {
	n := newLiveNet(t)
	p := n.run(t)
	n.mustServe(t, 80)
	if !n.hasFence(t) {
		t.Error("no fence")
	}
	if _, err := n.request(t, 81); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port without a service: %v", err)
	}

	second := n.start(t, 0, "run", "-c", n.file)
	want := fmt.Sprintf("another naru runs in this network namespace (pid %d)", p.cmd.Process.Pid)
	if code := second.code(t); code != exitFailed || !strings.Contains(second.stderr.String(), want) {
		t.Errorf("second naru: exit code %d, %s", code, second.stderr.String())
	}
	clear := n.start(t, 0, "fence", "clear")
	if code := clear.code(t); code != exitFailed || !strings.Contains(clear.stderr.String(), want) {
		t.Errorf("fence clear: exit code %d, %s", code, clear.stderr.String())
	}
	n.mustServe(t, 80)

	n.write(t, strings.Replace(liveConfig, "mode: fullnat", "mode: fulnat", 1))
	p.signal(t, syscall.SIGHUP)
	p.waitFor(t, "reload refused")
	n.mustServe(t, 80)
	n.write(t, strings.Replace(liveConfig, "ports: [80]", "ports: [80, 81]", 1))
	p.signal(t, syscall.SIGHUP)
	p.waitFor(t, `"reloaded"`)
	n.mustServe(t, 81)
	n.write(t, strings.Replace(liveConfig, "connections: 1024", "connections: 2048", 1))
	p.signal(t, syscall.SIGHUP)
	p.waitFor(t, "needs a restart")

	n.naru.Do(t, func() {
		c := &nftables.Conn{}
		c.FlushRuleset()
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	})
	p.waitFor(t, "the fence was taken away")
	if !n.hasFence(t) {
		t.Error("the fence is not back")
	}

	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	if n.hasFence(t) {
		t.Error("a fence is left behind")
	}
	if said := p.stderr.String(); !strings.Contains(said, `"counters"`) || !strings.Contains(said, `"rx_missed":`) {
		t.Error("no counters at the end")
	}
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func TestAFenceThatAKilledNaruLeftIsAdopted(t *testing.T) {
	n := newLiveNet(t)
	p := n.run(t)
	n.mustServe(t, 80)
	p.end(t, syscall.SIGKILL)
	if !n.hasFence(t) {
		t.Fatal("the fence is gone with a killed naru")
	}
	again := n.run(t)
	again.waitFor(t, "adopted the fence")
	n.mustServe(t, 80)
	if code := again.end(t, syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
	if n.hasFence(t) {
		t.Error("a fence is left behind")
	}

	n.run(t).end(t, syscall.SIGKILL)
	clear := n.start(t, 0, "fence", "clear")
	if code := clear.code(t); code != 0 || n.hasFence(t) {
		t.Errorf("fence clear: exit code %d, %s", code, clear.stderr.String())
	}
}

func TestRunFollowsTheKernel(t *testing.T) {
	n := newLiveNet(t)
	n.server.Addr(t, "eth0", "10.10.20.1/24") // behind a route that comes later
	n.write(t, strings.Replace(liveConfig, "address: 10.10.10.1}", "address: 10.10.20.1}", 1))
	p := n.run(t)
	_, dst, err := net.ParseCIDR("10.10.20.0/24")
	if err != nil {
		t.Fatal(err)
	}
	via := &netlink.Route{Dst: dst, LinkIndex: n.naru.Link(t, "eth1").Attrs().Index, Gw: net.ParseIP("10.10.10.1")}
	if err := n.naru.Handle().RouteAdd(via); err != nil {
		t.Fatal(err)
	}
	p.waitFor(t, "followed a change")
	for deadline := time.Now().Add(patience); ; {
		got, err := n.request(t, 80)
		if err == nil && got != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	// An address that becomes the kernel's is still fenced, and said.
	n.naru.Addr(t, "eth0", "192.0.2.25/24")
	p.waitFor(t, "no longer fits")
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestRunServesAgainAfterALinkWasDown(t *testing.T) {
	n := newLiveNet(t)
	p := n.run(t)
	n.naru.Down(t, "eth0")
	p.waitFor(t, `"up":false`)
	n.naru.Up(t, "eth0")
	p.waitFor(t, `"up":true`)
	n.mustServe(t, 80)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestAVIPThatComesWithAReloadIsAnsweredFor(t *testing.T) {
	n := newLiveNet(t)
	n.client.Addr(t, "eth0", "2001:db8:1::1/64")
	n.naru.Addr(t, "eth0", "2001:db8:1::2/64")
	n.naru.Addr(t, "eth1", "2001:db8:10::fe/64")
	n.server.Addr(t, "eth0", "2001:db8:10::1/64")
	p := n.run(t)
	n.write(t, liveConfig+`  - name: web6
    vip: "2001:db8:1::25"
    ports: [80]
    protocol: tcp
    mode: fullnat
    nat: {source_pool: ["2001:db8:10::c8"], source_ports: 1024-32767}
    backends:
      - {name: server01, address: "2001:db8:10::1"}
`)
	p.signal(t, syscall.SIGHUP)
	p.waitFor(t, `"reloaded"`)
	if got, err := n.requestTo(t, "2001:db8:1::25", 80); err != nil || !strings.HasPrefix(got, "[2001:db8:10::c8]:") {
		t.Errorf("the new VIP: %q, %v", got, err)
	}
	n.write(t, liveConfig)
	p.signal(t, syscall.SIGHUP)
	p.waitFor(t, `"services":1}`)
	n.mustServe(t, 80)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestOfASharedVIPTheKernelKeepsAllButTheServices(t *testing.T) {
	n := newLiveNet(t)
	n.naru.Addr(t, "eth0", "192.0.2.25/32")
	n.write(t, liveConfig+"vips:\n  - {address: 192.0.2.25, owner: shared}\n")
	n.naru.Do(t, func() {
		l, err := net.Listen("tcp", "192.0.2.25:22")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go serve(l)
	})
	n.run(t)
	n.mustServe(t, 80)
	if got, err := n.request(t, 22); err != nil || !strings.HasPrefix(got, "192.0.2.1:") {
		t.Errorf("the kernel's own service: %q, %v", got, err)
	}
	if _, err := n.request(t, 23); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port of nobody: %v", err)
	}
}

func TestRunEndsWhenAnInterfaceIsRemoved(t *testing.T) {
	n := newLiveNet(t)
	p := n.run(t)
	if err := n.naru.Handle().LinkDel(n.naru.Link(t, "eth1")); err != nil {
		t.Fatal(err)
	}
	if code := p.code(t); code != exitFailed || !strings.Contains(p.stderr.String(), "eth1") {
		t.Errorf("exit code %d", code)
	}
	if n.hasFence(t) {
		t.Error("a fence is left behind")
	}
}

func TestRunRecordsDecisions(t *testing.T) {
	n := newLiveNet(t)
	file := filepath.Join(t.TempDir(), "records.jsonl")
	p := n.start(t, 0, "run", "-c", n.file, "--record", file)
	p.waitFor(t, `"running"`)
	n.mustServe(t, 80)
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"verdict":"transmit"`, `"new_connection":true`, `"backend":"server01"`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}

func TestRunGoesOnWhenNobodyReadsTheRecords(t *testing.T) {
	for name, leave := range map[string]func(*os.File) error{
		"the reader has gone":            (*os.File).Close,
		"the reader has stopped reading": func(r *os.File) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			n := newLiveNet(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = r.Close(), w.Close() })
			n.stdout = w
			p := n.start(t, 0, "run", "-c", n.file, "--record", "-")
			p.waitFor(t, `"running"`)
			if err := errors.Join(w.Close(), leave(r)); err != nil {
				t.Fatal(err)
			}
			for range 30 { // more than a pipe holds
				n.mustServe(t, 80)
			}
			if code := p.end(t, syscall.SIGTERM); code != 0 || !strings.Contains(p.stderr.String(), "records are missing") {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

const nobody = 65534

var refusals = map[string]struct {
	change func(t *testing.T, n *liveNet)
	uid    uint32
	code   int
	want   []string
}{
	"the kernel holds the VIP": {
		change: func(t *testing.T, n *liveNet) { n.naru.Addr(t, "eth0", "192.0.2.25/32") },
		code:   exitFailed,
		want:   []string{":8:10: services[0].vip", "ip addr del 192.0.2.25/32 dev eth0", "owner: shared"},
	},
	"an interface is missing": {
		change: func(t *testing.T, n *liveNet) {
			n.write(t, strings.Replace(liveConfig, "name: eth1", "name: eth9", 1))
		},
		code: exitFailed, want: []string{"no interface eth9", "eth0, eth1"},
	},
	"an interface is down": {
		change: func(t *testing.T, n *liveNet) { n.naru.Down(t, "eth1") },
		code:   exitFailed, want: []string{"eth1", "down"},
	},
	"the kernel uses the local ports": {
		change: func(t *testing.T, n *liveNet) {
			n.naru.Sysctl(t, "net/ipv4/ip_local_port_range", "20000 60999")
		},
		code: exitFailed, want: []string{"20000-60999", "source_ports: 1024-19999"},
	},
	"no privilege": {
		uid: nobody, code: exitPermission, want: []string{"CAP_NET_ADMIN", "root"},
	},
	"a processor that is not there": {
		change: func(t *testing.T, n *liveNet) {
			n.write(t, strings.Replace(liveConfig, "node: {", "node: {cpus: [0, 1000], ", 1))
		},
		code: exitFailed, want: []string{"node.cpus[1]", "processor 1000 is not there"},
	},
	"a bad configuration": {
		change: func(t *testing.T, n *liveNet) { n.write(t, liveConfig+"colour: blue\n") },
		code:   exitConfig, want: []string{"colour"},
	},
}

func TestRunRefusesAHostThatDoesNotFit(t *testing.T) {
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			n := newLiveNet(t)
			if c.uid != 0 {
				n.open(t)
			}
			if c.change != nil {
				c.change(t, n)
			}
			p := n.start(t, c.uid, "run", "-c", n.file)
			if code := p.code(t); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(p.stderr.String(), want) {
					t.Errorf("no %q in: %s", want, p.stderr.String())
				}
			}
			if n.hasFence(t) {
				t.Error("a fence is left behind")
			}
		})
	}
}

// open lets another user read the configuration and run the test binary.
func (n *liveNet) open(t *testing.T) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{exe, n.file} {
		for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}
