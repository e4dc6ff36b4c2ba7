package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// TestAPoolSmallerThanTheRequests: 192 local ports, all workers together, and ten times as many requests; no request fails,
// whichever end closes first.
func TestAPoolSmallerThanTheRequests(t *testing.T) {
	f := newFarmOf(t, strings.Replace(farmConfig, "1024-32767", "1024-1087", 1))
	for _, first := range []string{"client", "backend"} {
		const each, clients = 250, 8
		var failed atomic.Int32
		ended := make(chan struct{})
		for range clients {
			go f.client.Do(t, func() {
				defer func() { ended <- struct{}{} }()
				for range each {
					if err := oneRequest(first == "backend"); err != nil {
						t.Log(err)
						failed.Add(1)
					}
				}
			})
		}
		for range clients {
			<-ended
		}
		if n := failed.Load(); n > 0 {
			t.Errorf("the %s closes first: %d of %d requests failed", first, n, each*clients)
		}
	}
	f.until(t, "4000 connections are counted", func() bool { return f.status(t).Services[0].Made >= 4000 })
	if p := f.status(t).Ports[0]; p.Size != 64 {
		t.Errorf("%d ports a backend", p.Size)
	}
}

// oneRequest opens a connection, asks and closes it.
func oneRequest(backendFirst bool) error {
	c, err := net.DialTimeout("tcp", "192.0.2.25:80", 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := askAgain(c); err != nil || !backendFirst {
		return err
	}
	if _, err := io.WriteString(c, "bye"); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if err == io.EOF {
		return nil
	}
	return fmt.Errorf("the backend does not close: %w", err)
}

// download is a connection over which a backend sends without an end.
type download struct {
	who   string
	conn  net.Conn
	bytes atomic.Int64
	err   chan error
}

// download begins one; each byte is looked at.
func (f *farm) download(t *testing.T) *download {
	t.Helper()
	d := &download{err: make(chan error, 1)}
	var err error
	if d.conn, d.who, err = f.connect(t); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.conn.Close() })
	_ = d.conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(d.conn, "more"); err != nil {
		t.Fatal(err)
	}
	go func() {
		buf := make([]byte, 32<<10)
		for next := 0; ; {
			n, err := d.conn.Read(buf)
			for _, b := range buf[:n] {
				if int(b) != next%251 {
					err = fmt.Errorf("byte %d is %d", next, b)
				}
				next++
			}
			d.bytes.Add(int64(n))
			if err != nil {
				d.err <- err
				return
			}
		}
	}()
	return d
}

// goesOn reports whether it has not ended and more comes.
func (d *download) goesOn(f *farm, t *testing.T) {
	t.Helper()
	had := d.bytes.Load()
	f.until(t, "the download of "+d.who+" goes on", func() bool {
		select {
		case err := <-d.err:
			t.Fatalf("the download of %s ended: %v", d.who, err)
		default:
		}
		return d.bytes.Load() > had
	})
}

// TestDownloadsOutliveEveryChange: while short connections come all the time, backends are drained, reordered, added, removed
// and killed. Only connections to the one that is killed fail.
func TestDownloadsOutliveEveryChange(t *testing.T) {
	f := newFarmOf(t, strings.Replace(farmConfig, "    slow_start: 10m\n", "    scheduler: rr\n", 1))
	all := map[string]*download{}
	for len(all) < 3 {
		d := f.download(t)
		all[d.who] = d
	}
	stop := f.load(t, 3)
	on := func(names ...string) {
		t.Helper()
		for _, name := range names {
			all[name].goesOn(f, t)
		}
	}
	text := f.config()
	on("b1", "b2", "b3")
	f.must(t, "drain", "web/b1")
	on("b1", "b2", "b3")
	lines := strings.SplitAfter(text, "\n")
	n := len(lines) - 1
	lines[n-1], lines[n-3] = lines[n-3], "      - {name: b4, address: 10.10.10.2, port: 8080}\n"+lines[n-1]
	f.reload(t, strings.Join(lines, "")) // b3, b2, b4, b1
	on("b1", "b2", "b3")
	f.reload(t, strings.Replace(text, "      - {name: b1, address: 10.10.10.1, port: 8080}\n", "", 1))
	on("b1", "b2", "b3")
	f.reload(t, text)
	f.must(t, "ready", "web/b1")
	on("b1", "b2", "b3")
	if hits, failed := stop(); failed > 0 || len(hits) != 3 {
		t.Errorf("%d requests failed; %v", failed, hits)
	}
	f.stop[1]()
	f.until(t, "b2 is down", func() bool { return f.backend(t, 1).State == "down" })
	stop = f.load(t, 3)
	select {
	case err := <-all["b2"].err:
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the download of the backend that is down: %v", err)
		}
	case <-time.After(patience):
		t.Error("the download of the backend that is down does not end")
	}
	on("b1", "b3")
	if hits, failed := stop(); failed > 0 || hits["b2"] > 0 {
		t.Errorf("while b2 is down %d requests failed; %v", failed, hits)
	}
}

// TestWhatBecomesOfConnectionsByConfiguration: on_backend_down for TCP, and on_idle.
func TestWhatBecomesOfConnectionsByConfiguration(t *testing.T) {
	f := newFarm(t)
	bring := func(up bool) {
		t.Helper()
		want := "down"
		if !up {
			f.stop[1]()
		} else {
			f.serve(t, 1)
			want = "up"
		}
		f.until(t, "b2 is "+want, func() bool { return f.backend(t, 1).State == want })
	}
	f.reload(t, f.with("    on_backend_down: {tcp: keep}\n"))
	old := f.oneEach(t)
	bring(false)
	if who, err := askAgain(old["b2"]); err != nil || who != "b2" {
		t.Errorf("keep: %q %v", who, err)
	}
	bring(true)

	f.reload(t, f.with("    on_backend_down: {tcp: reschedule}\n    midstream: reject\n"))
	old = f.oneEach(t)
	bring(false)
	if _, err := askAgain(old["b2"]); !errors.Is(err, syscall.ECONNRESET) { // midstream: reject
		t.Errorf("reschedule: %v", err)
	}
	if who, err := askAgain(old["b1"]); err != nil || who != "b1" {
		t.Errorf("reschedule, the connection of another backend: %q %v", who, err)
	}
	bring(true)

	f.reload(t, f.with("    on_idle: rst\n    timeouts: {tcp_established: 300ms}\n"))
	c, _, err := f.connect(t)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 4 {
		time.Sleep(100 * time.Millisecond)
		if _, err := askAgain(c); err != nil {
			t.Fatalf("a connection that is not idle: %v", err)
		}
	}
	if !ends(c) {
		t.Error("on_idle: rst says nothing")
	}
}

const udpFarm = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
node: {connections: 4096}
admin: {socket: SOCKET}
services:
  - name: dns
    vip: 192.0.2.25
    ports: [53]
    protocol: udp
    mode: fullnat
    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}
    health: {type: tcp, interval: 100ms, timeout: 90ms, rise: 2, fall: 2, port: 8080}
    on_backend_down: {udp: REST}
    backends:
      - {name: b1, address: 10.10.10.1}
      - {name: b2, address: 10.10.10.2}
      - {name: b3, address: 10.10.10.3}
`

func TestWhatBecomesOfUDPWhenItsBackendIsDown(t *testing.T) {
	f := newFarmOf(t, strings.Replace(udpFarm, "REST", "drop", 1))
	for i := range 3 {
		f.server.Do(t, func() {
			l, err := net.ListenPacket("udp", fmt.Sprintf("10.10.10.%d:53", i+1))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go func() {
				for buf := make([]byte, 8); ; {
					_, from, err := l.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = l.WriteTo(fmt.Appendf(nil, "b%d", i+1), from)
				}
			}()
		})
	}
	ask := func(c net.Conn, patient time.Duration) string {
		buf := make([]byte, 8)
		_ = c.SetDeadline(time.Now().Add(patient))
		_, _ = io.WriteString(c, "?")
		n, _ := c.Read(buf)
		return string(buf[:n])
	}
	old := map[string]net.Conn{}
	for len(old) < 3 {
		f.client.Do(t, func() {
			c, err := net.Dial("udp", "192.0.2.25:53")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			old[ask(c, patience)] = c
		})
	}
	f.stop[1]()
	f.until(t, "b2 is down", func() bool { return f.backend(t, 1).State == "down" })
	if who := ask(old["b2"], 200*time.Millisecond); who != "" {
		t.Errorf("drop: %q answers", who)
	}
	f.reload(t, strings.Replace(f.config(), "drop", "rehash", 1))
	if who := ask(old["b2"], patience); who != "b1" && who != "b3" {
		t.Errorf("rehash: %q answers", who)
	}
	for _, name := range []string{"b1", "b3"} {
		if who := ask(old[name], patience); who != name {
			t.Errorf("%q answers the client of %s", who, name)
		}
	}
}

// TestLocalPortsRunOutForOneServiceOnly: the client is told at once, status says which pool it is, and another service goes on
// though it has the same local address.
func TestLocalPortsRunOutForOneServiceOnly(t *testing.T) {
	text := strings.Replace(farmConfig, "1024-32767", "1024-1087", 1)
	text = strings.Replace(text, "workers: 2", "workers: 1", 1)
	f := newFarmOf(t, text)
	other := strings.NewReplacer("- name: web", "- name: other", "ports: [80]", "ports: [81]", "port: 8080", "port: 8081")
	_, service, _ := strings.Cut(f.config(), "services:\n")
	service = strings.Replace(other.Replace(service), "health: {", "health: {port: 8080, ", 1)
	f.reload(t, f.with("", "b2=weight: 0", "b3=weight: 0")+service)
	f.server.Do(t, func() {
		l, err := net.Listen("tcp", ":8081")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go serve(l)
	})
	_, end := f.hold(t, 64)
	if _, who, err := f.connect(t); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("without a free port: %q %v", who, err)
	}
	if _, err := f.request(t, 81); err != nil {
		t.Errorf("the other service: %v", err)
	}
	f.until(t, "the pool that is used up comes first", func() bool {
		p := f.status(t).Ports[0]
		return p.Service == "web" && p.Backend == "b1" && p.Free == 0 && p.Size == 64
	})
	if out := f.must(t, "status", "-o", "wide"); !strings.Contains(out, "source_ports_exhausted_answered") {
		t.Errorf("status says nothing of the refusal:\n%s", out)
	}
	end()
	f.idle(t)
	if _, _, err := f.connect(t); err != nil {
		t.Errorf("with free ports again: %v", err)
	}
}

// flood sends n frames from the client's interface, each from another source of 198.18.0.0/15 (RFC 2544).
func (f *farm) flood(t *testing.T, frame []byte, n int) {
	t.Helper()
	f.client.Do(t, func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: f.client.Link(t, "eth0").Attrs().Index}
		ip, be := frame[14:], binary.BigEndian
		sum := map[byte]int{6: 36, 17: 26}[ip[9]]
		for i := range uint32(n) {
			old := be.Uint32(ip[12:])
			source := 0xc6120000 | i&0x1ffff
			be.PutUint32(ip[12:], source)
			be.PutUint16(ip[10:], fixed(be.Uint16(ip[10:]), old, source))
			be.PutUint16(ip[sum:], fixed(be.Uint16(ip[sum:]), old, source))
			if err := unix.Sendto(fd, frame, 0, to); err != nil && err != unix.ENOBUFS {
				t.Fatal(err)
			}
		}
	})
}

// fixed is a checksum after a word has changed (RFC 1624).
func fixed(sum uint16, old, now uint32) uint16 {
	s := uint32(^sum) + ^old>>16 + ^old&0xffff + now>>16 + now&0xffff
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// resident is the memory of a process, in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFloodsCostEstablishedConnectionsNothing: SYNs and datagrams from forged sources, many times what the table holds, while
// connections carry data.
func TestFloodsCostEstablishedConnectionsNothing(t *testing.T) {
	f := newFarmOf(t, farmConfig+strings.Replace(udpFarm[strings.Index(udpFarm, "  - name: dns"):], "REST", "drop", 1))
	var held []net.Conn
	for range 60 {
		c, _, err := f.connect(t)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	var mac [2]wire.MAC
	copy(mac[0][:], f.client.Link(t, "eth0").Attrs().HardwareAddr)
	copy(mac[1][:], f.naru.Link(t, "eth0").Attrs().HardwareAddr)
	for _, frame := range []wiretest.Frame{
		{SrcMAC: mac[0], DstMAC: mac[1], Src: "198.18.0.0:4000", Dst: "192.0.2.25:80", TCP: "S", Seq: 7},
		{SrcMAC: mac[0], DstMAC: mac[1], Src: "198.18.0.0:4000", Dst: "192.0.2.25:53", UDP: true, Payload: []byte("?")},
	} {
		f.flood(t, frame.Bytes(t), 10_000) // fills the table
		before := resident(t, f.daemon.cmd.Process.Pid)
		over := make(chan struct{})
		go func() {
			defer close(over)
			f.flood(t, frame.Bytes(t), 100_000)
		}()
		for flooding := true; flooding; {
			for i, c := range held {
				if _, err := askAgain(c); err != nil {
					t.Fatalf("connection %d of those that were there before: %v", i, err)
				}
			}
			select {
			case <-over:
				flooding = false
			default:
			}
		}
		s := f.status(t)
		if s.Connections.Active > s.Connections.Capacity || s.Connections.Evicted < 1000 || s.Services[0].Active < 60 {
			t.Errorf("connections %+v, service %d", s.Connections, s.Services[0].Active)
		}
		if after := resident(t, f.daemon.cmd.Process.Pid); after > before+8<<10 && !wiretest.Raced {
			t.Errorf("memory grew from %d to %d KiB", before, after)
		}
	}
	if _, _, err := f.connect(t); err != nil {
		t.Errorf("a new connection after the floods: %v", err)
	}
}
