package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wiretest"
)

// probeConfig has a server behind a router.
var probeConfig = strings.NewReplacer("protocol: tcp", "protocol: udp",
	"mode: fullnat\n    nat: {source_pool: [10.10.10.254], source_ports: 1024-32767}",
	"mode: l3dsr\n    l3dsr: {encap: dscp, dscp: 10}",
	"address: 10.10.10.1}", "address: 10.10.20.1, mtu: probe}").Replace(liveConfig)

// newNarrowNet has the server of newLiveNet as a router to another one, by a link that carries mtu bytes.
func newNarrowNet(t *testing.T, mtu int) (n *liveNet, far *wiretest.NS) {
	t.Helper()
	n = newLiveNet(t)
	far = wiretest.NewNS(t, "far")
	wiretest.Veth(t, n.server, "eth1", far, "eth0")
	n.server.Addr(t, "eth1", "10.10.20.254/24")
	far.Addr(t, "eth0", "10.10.20.1/24")
	n.server.Sysctl(t, "net/ipv4/ip_forward", "1")
	n.routeBy(t, far, "0.0.0.0/0", "10.10.20.254", "eth0")
	n.routeBy(t, n.naru, "10.10.20.0/24", "10.10.10.1", "eth1")
	n.narrow(t, far, mtu)
	n.write(t, probeConfig)
	return n, far
}

func (n *liveNet) narrow(t *testing.T, far *wiretest.NS, mtu int) {
	t.Helper()
	for ns, name := range map[*wiretest.NS]string{n.server: "eth1", far: "eth0"} {
		if err := ns.Handle().LinkSetMTU(ns.Link(t, name), mtu); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *liveNet) routeBy(t *testing.T, ns *wiretest.NS, dst, gw, name string) {
	t.Helper()
	_, prefix, err := net.ParseCIDR(dst)
	if err == nil {
		index := ns.Link(t, name).Attrs().Index
		err = ns.Handle().RouteAdd(&netlink.Route{Dst: prefix, LinkIndex: index, Gw: net.ParseIP(gw)})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// told sends packets of 1450 bytes with DF to the VIP until the client's kernel has heard of a path that carries want
// bytes, and returns what it has heard last.
func (n *liveNet) told(t *testing.T, want int) (mtu int) {
	t.Helper()
	n.client.Do(t, func() {
		c, err := net.Dial("udp4", "192.0.2.25:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		option := func(f func(fd int) error) {
			if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil || err != nil {
				t.Fatal(e, err)
			}
		}
		option(func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		})
		for deadline := time.Now().Add(patience); mtu != want && time.Now().Before(deadline); {
			_, _ = c.Write(make([]byte, 1450-28)) // an error is that of the packet before
			time.Sleep(20 * time.Millisecond)
			option(func(fd int) (err error) { mtu, err = unix.GetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU); return err })
		}
	})
	return mtu
}

func TestTheClientIsToldAboutANarrowPathThatAProbeFound(t *testing.T) {
	n, far := newNarrowNet(t, 1400)
	p := n.run(t)
	p.waitFor(t, `"mtu":1400`)
	if got := n.told(t, 1400); got != 1400 {
		t.Errorf("told %d, want 1400", got)
	}
	n.narrow(t, far, 1350)
	n.routeBy(t, n.naru, "10.10.20.1/32", "10.10.10.1", "eth1")
	p.waitFor(t, `"mtu":1350`)
	if got := n.told(t, 1350); got != 1350 {
		t.Errorf("after a change of routes: told %d, want 1350", got)
	}
	n.write(t, strings.Replace(probeConfig, "mtu: probe", "mtu: 1300", 1))
	p.signal(t, unix.SIGHUP)
	if got := n.told(t, 1300); got != 1300 {
		t.Errorf("after a reload: told %d, want 1300", got)
	}
	if code := p.end(t, unix.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
