package main

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// natConfig has the service of liveConfig by mode nat, on port 8080 of the backend.
var natConfig = strings.Replace(strings.Replace(liveConfig,
	"mode: fullnat\n    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}", "mode: nat", 1),
	"address: 10.10.10.1}", "address: 10.10.10.1, port: 8080}", 1)

// newNATNet has a backend whose default route is naru, on a host that routes, and a client that knows the way there.
func newNATNet(t *testing.T) *liveNet {
	t.Helper()
	n := newLiveNet(t)
	n.naru.Sysctl(t, "net/ipv4/ip_forward", "1")
	route := func(dst string, gw string, link netlink.Link, h *netlink.Handle) {
		_, prefix, err := net.ParseCIDR(dst)
		if err == nil {
			err = h.RouteAdd(&netlink.Route{Dst: prefix, LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gw)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	route("0.0.0.0/0", "10.10.10.254", n.server.Link(t, "eth0"), n.server.Handle())
	route("10.10.10.0/24", "192.0.2.2", n.client.Link(t, "eth0"), n.client.Handle())
	n.server.Do(t, func() {
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go echo(l)
	})
	n.write(t, natConfig)
	return n
}

// echo says to every client which address it has, and then what it says.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.WriteString(c, c.RemoteAddr().String()+"\n")
			io.Copy(c, c)
		}()
	}
}

// talk is a connection of the client that stays open.
type talk struct{ net.Conn }

func (n *liveNet) dial(t *testing.T, addr string) (k talk) {
	t.Helper()
	n.client.Do(t, func() {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		k = talk{c}
	})
	if got := k.read(t); !strings.HasPrefix(got, "192.0.2.1:") {
		t.Errorf("the backend sees %q, not the client", got)
	}
	return k
}

func (k talk) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(k, text); err != nil {
		t.Fatal(err)
	}
	if got := k.read(t); got != text {
		t.Errorf("said %q, heard %q", text, got)
	}
}

func (k talk) read(t *testing.T) string {
	t.Helper()
	k.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 64)
	c, err := k.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:c])
}

// sources counts, by their source address, the IPv4 packets that the client gets from now on.
func (n *liveNet) sources(t *testing.T) (count func() map[netip.Addr]int) {
	t.Helper()
	const all = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8
	var fd int
	n.client.Do(t, func() {
		var err error
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() map[netip.Addr]int {
		out := map[netip.Addr]int{}
		for b := make([]byte, 1<<16); ; {
			c, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return out
			}
			if c >= 20 {
				out[netip.AddrFrom4([4]byte(b[12:16]))]++
			}
		}
	}
}

func TestInModeNATTheClientHearsTheVIPOnlyAndBackendsStayReachable(t *testing.T) {
	n := newNATNet(t)
	vip, backend := netip.MustParseAddr("192.0.2.25"), netip.MustParseAddr("10.10.10.1")
	p := n.run(t)
	seen := n.sources(t)
	through := n.dial(t, "192.0.2.25:80")
	through.say(t, "one")
	if got := seen(); got[vip] < 3 || got[backend] != 0 {
		t.Errorf("through the VIP the client got packets from %v", got)
	}
	direct := n.dial(t, "10.10.10.1:8080")
	direct.say(t, "two")
	if got := seen(); got[backend] < 3 {
		t.Errorf("from the backend itself the client got packets from %v", got)
	}
	if got, err := n.requestTo(t, "10.10.10.1", 81); err != nil || !strings.HasPrefix(got, "192.0.2.1:") {
		t.Errorf("a port of the backend that is of no service: %q, %v", got, err)
	}

	// The service goes, its connection stays, and still only naru answers it.
	n.write(t, strings.Replace(natConfig, "port: 8080}", "port: 8081}", 1))
	p.signal(t, syscall.SIGHUP)
	p.waitFor(t, `"reloaded"`)
	seen()
	through.say(t, "three")
	if got := seen(); got[vip] == 0 || got[backend] != 0 {
		t.Errorf("after the reload the client got packets from %v", got)
	}
	direct.say(t, "and three")

	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	direct.say(t, "four")
	if n.hasFence(t) {
		t.Error("a fence is left behind")
	}
}
