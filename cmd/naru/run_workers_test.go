package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"naru/internal/wiretest"
)

// crewConfig has two backends in one namespace, TCP and UDP, and two workers; 90 is a port where nobody listens.
const crewConfig = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
node: {connections: 4096, workers: WORKERS}
defaults: {scheduler: rr}
services:
  - name: web
    vip: 192.0.2.25
    ports: [82]
    protocol: tcp
    mode: fullnat
    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}
    backends: [{name: server01, address: 10.10.10.1}, {name: server02, address: 10.10.10.3}]
  - name: dns
    vip: 192.0.2.25
    ports: [53, 90]
    protocol: udp
    mode: fullnat
    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}
    backends: [{name: server01, address: 10.10.10.1}, {name: server02, address: 10.10.10.3}]
`

// newCrewNet has a server with two addresses that says by which it was reached.
func newCrewNet(t *testing.T, workers string) *liveNet {
	t.Helper()
	n := newLiveNet(t)
	n.server.Addr(t, "eth0", "10.10.10.3/24")
	n.write(t, strings.Replace(crewConfig, "WORKERS", workers, 1))
	n.server.Do(t, func() {
		l, err := net.Listen("tcp", ":82")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				fmt.Fprint(c, c.LocalAddr().(*net.TCPAddr).IP)
				c.Close()
			}
		}()
		for _, ip := range []string{"10.10.10.1", "10.10.10.3"} {
			c, err := net.ListenPacket("udp", ip+":53")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			go echoDatagrams(c, ip)
		}
	})
	return n
}

// echoDatagrams answers each datagram with an address and the same bytes.
func echoDatagrams(c net.PacketConn, ip string) {
	b := make([]byte, 9000)
	for {
		k, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(append([]byte(ip+" "), b[:k]...), from)
	}
}

// ask sends a datagram of n bytes to the VIP and returns who answered; the answer must have the same bytes.
func (n *liveNet) ask(t *testing.T, c net.Conn, size int) string {
	t.Helper()
	question := bytes.Repeat([]byte("naru"), size/4)
	b := make([]byte, size+100)
	for range 5 { // the first datagrams of a next hop may be lost: pieces do not wait for its MAC address
		if _, err := c.Write(question); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		k, err := c.Read(b)
		if err != nil {
			continue
		}
		server, echo, _ := bytes.Cut(b[:k], []byte(" "))
		if !bytes.Equal(echo, question) {
			t.Fatalf("%d bytes came back of %d", len(echo), size)
		}
		return string(server)
	}
	t.Fatalf("a datagram of %d bytes is not answered", size)
	return ""
}

func (n *liveNet) dialUDP(t *testing.T, port string) (c net.Conn) {
	t.Helper()
	n.client.Do(t, func() {
		var err error
		if c, err = net.Dial("udp", "192.0.2.25:"+port); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// lastCounters are what naru printed at its end.
type lastCounters struct {
	Msg                                     string `json:"msg"`
	Dropped                                 uint64
	Connections                             uint64
	HandedOver                              uint64 `json:"handed_over"`
	TakenOver                               uint64 `json:"taken_over"`
	Received, Transmitted, Passed, Consumed uint64
	Held                                    uint64
	Reasons                                 map[string]uint64
}

func (p *process) counters(t *testing.T) (c lastCounters) {
	t.Helper()
	for _, line := range strings.Split(p.stderr.String(), "\n") {
		if json.Unmarshal([]byte(line), &c) == nil && c.Msg == "counters" {
			return c
		}
	}
	t.Fatalf("no counters in\n%s", &p.stderr)
	return c
}

// TestWorkersShareTheTraffic wants every packet at the worker that has its connection: nothing is handed over but
// fragments, round robin stays exact, and errors find their connection.
func TestWorkersShareTheTraffic(t *testing.T) {
	n := newCrewNet(t, "2")
	p := n.run(t)
	got := map[string]int{}
	for range 40 {
		answer, err := n.request(t, 82)
		if err != nil {
			t.Fatal(err)
		}
		got[answer]++
	}
	if got["10.10.10.1"] != 20 || got["10.10.10.3"] != 20 {
		t.Errorf("TCP: %v", got)
	}
	clear(got)
	for range 40 {
		c := n.dialUDP(t, "53")
		got[n.ask(t, c, 64)]++
	}
	if got["10.10.10.1"] != 20 || got["10.10.10.3"] != 20 {
		t.Errorf("UDP: %v", got)
	}
	for range 10 { // nobody listens: the error of the backend comes back through naru
		c := n.dialUDP(t, "90")
		var err error
		for range 20 {
			if _, err = c.Write([]byte("?")); err != nil {
				break
			}
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err = c.Read(make([]byte, 10)); errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port: %v", err)
		}
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("code %d\n%s", code, &p.stderr)
	}
	if c := p.counters(t); c.HandedOver != 0 || c.Dropped != 0 || c.Connections != 90 {
		t.Errorf("packets came to the wrong worker, or were dropped: %+v", c)
	}
}

func TestFragmentsCrossWorkers(t *testing.T) {
	n := newCrewNet(t, "3")
	p := n.run(t)
	for i := range 30 {
		c := n.dialUDP(t, "53")
		first := n.ask(t, c, 4000)
		if second := n.ask(t, c, 64); second != first {
			t.Errorf("flow %d: in pieces to %s, whole to %s", i, first, second)
		}
	}
	p.signal(t, syscall.SIGHUP) // the program is set anew, and connections stay where they are
	p.waitFor(t, "reloaded")
	n.naru.Down(t, "eth0")
	n.naru.Up(t, "eth0")
	for range 10 {
		n.ask(t, n.dialUDP(t, "53"), 64)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("code %d\n%s", code, &p.stderr)
	}
	c := p.counters(t)
	if c.HandedOver == 0 || c.HandedOver != c.TakenOver || c.Reasons["handover_full"] != 0 || c.Reasons["no_connection"] != 0 {
		t.Errorf("%+v", c)
	}
	if c.Received != c.Transmitted+c.Passed+c.Consumed+c.Dropped+c.Held {
		t.Errorf("not every packet is accounted for: %+v", c)
	}
}

// A worker is bound to its processor, and to none without several.
func TestWorkersAreBoundToProcessors(t *testing.T) {
	wiretest.Root(t)
	n := newCrewNet(t, "auto, cpus: [0]")
	p := n.run(t)
	if answer, err := n.request(t, 82); err != nil {
		t.Error(answer, err)
	}
	bound := 0
	for _, line := range threads(t, p.cmd.Process.Pid, "Cpus_allowed_list") {
		if line == "0" {
			bound++
		}
	}
	if bound != 1 {
		t.Errorf("%d threads are bound to processor 0", bound)
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("code %d\n%s", code, &p.stderr)
	}
}

// threads returns a line of the status of each thread of a process (proc(5)).
func threads(t *testing.T, pid int, key string) (values []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		for _, line := range strings.Split(string(b), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && name == key {
				values = append(values, strings.TrimSpace(value))
			}
		}
	}
	return values
}
