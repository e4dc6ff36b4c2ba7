package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"naru/internal/wiretest"
	"naru/lab/server"
)

// buildDir is where naru is built, once for all tests.
var buildDir string

var buildOnce = sync.OnceValues(func() (exe string, err error) {
	exe = filepath.Join(buildDir, "naru")
	cmd := exec.Command("go", "build", "-o", exe, "naru/cmd/naru")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return exe, nil
})

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "naru-lab-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// program returns the built program, for tests with root only.
func program(t *testing.T) string {
	t.Helper()
	wiretest.Root(t)
	exe, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// labName returns a name that no other run has.
func labName(kind string) string { return kind + strconv.Itoa(os.Getpid()) }

// quietLab builds a lab without naru and removes it at the end of the test.
func quietLab(t *testing.T, name string) *Lab {
	t.Helper()
	l, err := Up(t.Context(), Spec{
		Scenario: "fullnat", Name: name, Exe: program(t), Options: Options{NoNaru: true}, Private: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		noTrace(t, name)
	})
	return l
}

// noTrace fails if anything of a lab is left.
func noTrace(t *testing.T, name string) {
	t.Helper()
	if left := namespaces(namespacePrefix + name + "-"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if exists(filepath.Join(stateDir, name)) {
		t.Errorf("left behind: the state of %s", name)
	}
	if p := leftovers(name); len(p) > 0 {
		t.Errorf("left behind: %v", p)
	}
}

func TestNodesReachEachOther(t *testing.T) {
	l := quietLab(t, labName("net"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, tt := range []struct{ node, to string }{
		{"client", "10.20.40.1"}, {"client", "200.100.50.2"}, {"client", "2001:db8:50::2"},
		{"director", "10.10.10.1"}, {"director", "2001:db8:10::3"}, {"server01", "10.10.10.2"},
	} {
		if _, err := l.ping(ctx, tt.node, netip.MustParseAddr(tt.to)); err != nil {
			t.Errorf("%s to %s: %v", tt.node, tt.to, err)
		}
	}
}

func TestServersAnswerInTheirNodes(t *testing.T) {
	l := quietLab(t, labName("srv"))
	for i, name := range l.Scenario().Backends {
		for _, addr := range []string{"10.10.10." + strconv.Itoa(i+1), "2001:db8:10::" + strconv.Itoa(i+1)} {
			vip := netip.MustParseAddr(addr)
			client := l.httpClient("director", netip.AddrPortFrom(vip, server.HTTPPort), false)
			a, err := get(t.Context(), client, vip, "/")
			if err != nil || a.backend != name {
				t.Errorf("%s: %+v, %v", addr, a, err)
			}
		}
	}
}

func TestALabIsThereOnce(t *testing.T) {
	l := quietLab(t, labName("one"))
	_, err := Up(t.Context(), Spec{Scenario: "fullnat", Name: l.Name, Options: Options{NoNaru: true}})
	if err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second one: %v", err)
	}
}

func TestAnInterruptedUpLeavesNothing(t *testing.T) {
	exe := program(t)
	for _, after := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		l, err := Up(ctx, Spec{Scenario: "fullnat", Name: labName("int"), Exe: exe, Options: Options{NoNaru: true}})
		cancel()
		if err == nil { // it was faster
			if err := l.Down(); err != nil {
				t.Error(err)
			}
		}
		noTrace(t, labName("int"))
	}
}

func TestExecRunsAProgramInANode(t *testing.T) {
	exe := program(t)
	l := quietLab(t, labName("exec"))
	tests := []struct {
		name, node, script, stdin string
		want                      string // part of the output
		code                      int
	}{
		{"the exit code is passed on", "client", "exit 9", "", "", 9},
		{"standard input too", "client", "cat", "hello", "hello", 0},
		{"/sys shows the node's interfaces", "director", "ls /sys/class/net", "", "eth1", 0},
		{"names resolve", "client", "cat /etc/hosts", "", "200.100.50.25 www.naru.test", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), exe, "lab", "exec", "--name", l.Name, tt.node, "--", "/bin/sh", "-c",
				tt.script)
			cmd.Stdin = strings.NewReader(tt.stdin)
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.want) {
				t.Errorf("code %d, %q, %v", code, out, err)
			}
		})
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil || bytes.Contains(hosts, []byte("naru.test")) {
		t.Errorf("the machine's own hosts file was touched: %v", err)
	}
}

func TestCleanRemovesWhatAKillLeaves(t *testing.T) {
	exe := program(t)
	name := labName("kill")
	t.Cleanup(func() { // whatever happens
		if _, err := Clean(name); err != nil {
			t.Error(err)
		}
		noTrace(t, name)
	})
	for _, after := range []time.Duration{10 * time.Millisecond, 30 * time.Millisecond, 5 * time.Second} {
		cmd := exec.CommandContext(t.Context(), exe, "lab", "up", "fullnat", "--no-naru", "--name", name)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended: // it is up; the kill hits its servers
			s, err := loadState(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range s.Processes {
				if p.alive() {
					_ = syscall.Kill(p.PID, syscall.SIGKILL)
				}
			}
		case <-time.After(after):
			_ = cmd.Process.Kill()
			<-ended
		}
		out, err := exec.CommandContext(t.Context(), exe, "lab", "clean", "--yes", name).CombinedOutput()
		if err != nil {
			t.Fatalf("clean: %v: %s", err, out)
		}
		noTrace(t, name)
	}
}

func TestCleanFindsALabWithoutItsState(t *testing.T) {
	name := labName("lost")
	l := quietLab(t, name)
	state := filepath.Join(l.Dir(), "state.json")
	if err := os.Rename(state, state+".away"); err != nil {
		t.Fatal(err)
	}
	removed, err := Clean(name)
	if err != nil || len(removed) != 1 {
		t.Errorf("%v, %v", removed, err)
	}
	noTrace(t, name)
}

func TestOthersLeaveABusyLabAlone(t *testing.T) {
	l := quietLab(t, labName("busy"))
	out, err := exec.CommandContext(t.Context(), program(t), "lab", "clean", "--yes", l.Name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "nothing to clean") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), program(t), "lab", "down", l.Name).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is in use by process") {
		t.Errorf("%v: %s", err, out)
	}
}
