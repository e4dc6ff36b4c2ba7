package director

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wiretest"
)

// pathNet is naru -- router -- server; the link to the server carries mtu bytes.
type pathNet struct{ naru, router, server *wiretest.NS }

func newPathNet(t *testing.T, mtu int) *pathNet {
	t.Helper()
	wiretest.Root(t)
	n := &pathNet{wiretest.NewNS(t, "naru"), wiretest.NewNS(t, "router"), wiretest.NewNS(t, "server")}
	wiretest.Veth(t, n.naru, "eth0", n.router, "eth0")
	wiretest.Veth(t, n.router, "eth1", n.server, "eth0")
	n.naru.Addr(t, "eth0", "10.0.0.1/24", "2001:db8:a::1/64")
	n.router.Addr(t, "eth0", "10.0.0.2/24", "2001:db8:a::2/64")
	n.router.Addr(t, "eth1", "10.0.1.2/24", "2001:db8:b::2/64")
	n.server.Addr(t, "eth0", "10.0.1.3/24", "2001:db8:b::3/64")
	n.router.Sysctl(t, "net/ipv4/ip_forward", "1")
	n.router.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	defaultRoute(t, n.naru, "eth0", "10.0.0.2", "2001:db8:a::2")
	defaultRoute(t, n.server, "eth0", "10.0.1.2", "2001:db8:b::2")
	n.narrow(t, mtu)
	n.await(t, "10.0.1.3", leastMTU4)
	n.await(t, "2001:db8:b::3", leastMTU6)
	return n
}

// await waits until the new links carry packets.
func (n *pathNet) await(t *testing.T, addr string, size int) {
	t.Helper()
	for range 30 {
		if _, err := n.probe(t, t.Context(), addr, size); err == nil {
			return
		}
	}
	t.Fatalf("%s cannot be reached", addr)
}

func defaultRoute(t *testing.T, ns *wiretest.NS, name string, gateways ...string) {
	t.Helper()
	for _, gw := range gateways {
		r := &netlink.Route{LinkIndex: ns.Link(t, name).Attrs().Index, Gw: net.ParseIP(gw)}
		if err := ns.Handle().RouteAdd(r); err != nil {
			t.Fatalf("default route by %s: %v", gw, err)
		}
	}
}

// narrow sets what the link to the server carries.
func (n *pathNet) narrow(t *testing.T, mtu int) {
	t.Helper()
	if err := n.server.Handle().LinkSetMTU(n.server.Link(t, "eth0"), mtu); err != nil {
		t.Fatal(err)
	}
	if err := n.router.Handle().LinkSetMTU(n.router.Link(t, "eth1"), mtu); err != nil {
		t.Fatal(err)
	}
}

// dropICMP makes a namespace drop ICMP messages of a type that it sends itself.
func dropICMP(t *testing.T, ns *wiretest.NS, v4, v6 byte) {
	t.Helper()
	ns.Do(t, func() {
		c := &nftables.Conn{}
		table := c.AddTable(&nftables.Table{Name: "quiet", Family: nftables.TableFamilyINet})
		chain := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter})
		for proto, kind := range map[byte]byte{unix.IPPROTO_ICMP: v4, unix.IPPROTO_ICMPV6: v6} {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}},
				&expr.Verdict{Kind: expr.VerdictDrop},
			}})
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	})
}

func (n *pathNet) probe(t *testing.T, ctx context.Context, addr string, ceiling int) (mtu int, err error) {
	t.Helper()
	n.naru.Do(t, func() { mtu, err = probePath(ctx, netip.MustParseAddr(addr), ceiling, 100*time.Millisecond) })
	return mtu, err
}

func TestTheLongestPacketThatPassesIsFound(t *testing.T) {
	const v4, v6 = "10.0.1.3", "2001:db8:b::3"
	for _, c := range []struct {
		name      string
		addr      string
		link, leg int
		mute      bool // the router says nothing about what it drops
		want      int
	}{
		{"IPv4", v4, 1400, 1500, false, 1400},
		{"IPv4, a black hole", v4, 1400, 1500, true, 1400},
		{"IPv4, one byte is missing", v4, 1499, 1500, false, 1499},
		{"IPv4, a little more than the least", v4, 1281, 1300, false, 1281},
		{"IPv4, nothing is narrower than the leg", v4, 1500, 1500, false, 1500},
		{"IPv6", v6, 1400, 1500, false, 1400},
		{"IPv6, a black hole", v6, 1400, 1500, true, 1400},
		{"IPv4, a leg of the least", v4, 1400, 576, false, 576},
		{"IPv6, the least", v6, 1280, 1300, false, 1280},
		{"IPv6, nothing is narrower than the leg", v6, 1500, 1500, false, 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newPathNet(t, c.link)
			if c.mute {
				dropICMP(t, n.router, 3, 2)
			}
			if got, err := n.probe(t, t.Context(), c.addr, c.leg); got != c.want || err != nil {
				t.Errorf("%d, %v, want %d", got, err, c.want)
			}
		})
	}
}

func TestAfterTheWayHasChangedTheKernelsMemoryOfItDoesNotCount(t *testing.T) {
	t.Parallel()
	n := newPathNet(t, 1400)
	for _, addr := range []string{"10.0.1.3", "2001:db8:b::3"} {
		for _, mtu := range []int{1400, 1450} {
			n.narrow(t, mtu)
			if got, err := n.probe(t, t.Context(), addr, 1500); got != mtu || err != nil {
				t.Errorf("%s: %d, %v, want %d", addr, got, err, mtu)
			}
		}
	}
}

func TestOfABackendThatAnswersNoEchoRequestNothingIsSaid(t *testing.T) {
	t.Parallel()
	n := newPathNet(t, 1400)
	dropICMP(t, n.server, 0, 129)
	for _, addr := range []string{"10.0.1.3", "2001:db8:b::3"} {
		if got, err := n.probe(t, t.Context(), addr, 1500); got != 0 || !errors.Is(err, errNoAnswer) {
			t.Errorf("%s: %d, %v", addr, got, err)
		}
	}
}

func TestAProbeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	n := newPathNet(t, 1400)
	dropICMP(t, n.server, 0, 129)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got, err := n.probe(t, ctx, "10.0.1.3", 1500); got != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d, %v", got, err)
	}
}
