package wiretest

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// Side is one of the two sides of an oracle.
type Side int

// The sides.
const (
	ClientSide Side = iota
	BackendSide
)

// The interfaces of the oracle's middle namespace, by side.
var oracleIfs = [2]string{"a1", "b0"}

// Oracle is the kernel's own translation between two veth pairs, driven one packet at a time: what goes in on one side
// is known when the next goes in, so nothing depends on time. Nobody but the test speaks on either side, since the
// outer namespaces have no addresses, and no checksum is left to a device.
type Oracle struct {
	middle  *NS
	sockets [2]int
	macs    [2]wire.MAC
}

// OracleService is one DNAT rule: what goes to VIP is sent to Backend, from the oracle's local address.
type OracleService struct {
	VIP, Backend netip.AddrPort
	Proto        uint8
}

// OracleAddrs are the addresses of the oracle in one family. Legs are those of the kernel in the middle, by Side. It
// sends to backends from Local, which it need not hold; clients are behind Router.
type OracleAddrs struct {
	Local, Backend netip.Addr
	Legs           [2]netip.Prefix
	Router         netip.Addr
}

// OracleIPv4 and OracleIPv6 are the oracle's addresses. Those of VIPs and clients may be any others.
var (
	OracleIPv4 = OracleAddrs{netip.MustParseAddr("10.255.2.1"), netip.MustParseAddr("10.255.2.10"), [2]netip.Prefix{
		netip.MustParsePrefix("198.18.255.1/30"), netip.MustParsePrefix("10.255.2.1/24")}, netip.MustParseAddr("198.18.255.2")}
	OracleIPv6 = OracleAddrs{netip.MustParseAddr("fd00:b::1"), netip.MustParseAddr("fd00:b::10"), [2]netip.Prefix{
		netip.MustParsePrefix("fd00:a::1/64"), netip.MustParsePrefix("fd00:b::1/64")}, netip.MustParseAddr("fd00:a::2")}
)

// OracleNeighbors are the MAC addresses that the kernel sends to: the clients' router and the backend, by Side.
var OracleNeighbors = [2]wire.MAC{{2, 0, 0, 0, 0xaa, 1}, {2, 0, 0, 0, 0xbb, 1}}

// OracleFrame is a frame that the kernel sent, and where.
type OracleFrame struct {
	Side  Side
	Frame []byte
}

// OracleSetup is what an oracle is made for.
type OracleSetup struct {
	MTU        [2]int // by Side
	Services   []OracleService
	SNAT       bool           // else replies come to the client's address
	IPv4, IPv6 *OracleAddrs   // nil: OracleIPv4, OracleIPv6
	MACs       *[2]wire.MAC   // of the kernel's interfaces; nil: as it likes
	Host       []netip.Prefix // addresses that the kernel has and answers for, as a host without listeners
}

// NewOracle makes three namespaces and the kernel's NAT in the middle one. mtu is that of the interfaces to the
// clients and to the backend. All is gone at the end of the test. It needs root (see Root).
func NewOracle(t testing.TB, mtu [2]int, services []OracleService) *Oracle {
	t.Helper()
	return NewOracleFor(t, OracleSetup{MTU: mtu, Services: services, SNAT: true})
}

// NewDNATOracle is NewOracle without the translation of sources: replies come to the client's address.
func NewDNATOracle(t testing.TB, mtu [2]int, services []OracleService) *Oracle {
	t.Helper()
	return NewOracleFor(t, OracleSetup{MTU: mtu, Services: services})
}

// NewOracleFor is NewOracle with all that can be chosen.
func NewOracleFor(t testing.TB, s OracleSetup) *Oracle {
	t.Helper()
	if s.IPv4 == nil {
		s.IPv4 = &OracleIPv4
	}
	if s.IPv6 == nil {
		s.IPv6 = &OracleIPv6
	}
	o := newOracle(t, s.MTU)
	if s.MACs != nil {
		o.setMACs(t, s.MACs)
	}
	o.sysctls(t)
	o.addresses(t, s.IPv4)
	o.addresses(t, s.IPv6)
	for _, a := range s.Host {
		o.middle.Addr(t, "lo", a.String())
		o.awaitLocal(t, a.Addr())
	}
	o.rules(t, &s)
	return o
}

// newOracle makes the namespaces and what joins them.
func newOracle(t testing.TB, mtu [2]int) *Oracle {
	t.Helper()
	Root(t)
	outer := [2]*NS{NewNS(t, "clients"), NewNS(t, "backend")}
	o := &Oracle{middle: NewNS(t, "oracle")}
	for side, ns := range outer {
		for _, kind := range []string{"all", "default"} {
			ns.Sysctl(t, "net/ipv6/conf/"+kind+"/disable_ipv6", "1")
		}
		Veth(t, o.middle, oracleIfs[side], ns, "e0")
		setMTU(t, ns, "e0", 9000) // as much as any test sends; the middle's own MTU bounds what comes out
		setMTU(t, o.middle, oracleIfs[side], mtu[side])
		noOffloads(t, ns, "e0")
		noOffloads(t, o.middle, oracleIfs[side])
		copy(o.macs[side][:], o.middle.Link(t, oracleIfs[side]).Attrs().HardwareAddr)
		o.sockets[side] = rawSocket(t, ns, "e0")
	}
	return o
}

// MACs returns the kernel's own MAC addresses, by Side: where frames go to.
func (o *Oracle) MACs() [2]wire.MAC { return o.macs }

// sysctls makes the kernel forward everything, track connections liberally (it has not seen their start), leave wrong
// transport checksums alone and send every error.
func (o *Oracle) sysctls(t testing.TB) {
	t.Helper()
	for path, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv4/icmp_ratelimit": "0",
		"net/ipv6/icmp/ratelimit": "0", "net/ipv4/conf/all/send_redirects": "0",
	} {
		o.middle.Sysctl(t, path, value)
	}
	for _, dev := range []string{"all", oracleIfs[0], oracleIfs[1]} {
		o.middle.Sysctl(t, "net/ipv4/conf/"+dev+"/rp_filter", "0")
		o.middle.Sysctl(t, "net/ipv4/conf/"+dev+"/accept_local", "1")
		o.middle.Sysctl(t, "net/ipv4/conf/"+dev+"/send_redirects", "0")
	}
}

// trackingSysctls are set when the rules have brought connection tracking into the namespace. No machine is so busy that a
// flow is forgotten during a test.
func (o *Oracle) trackingSysctls(t testing.TB) {
	t.Helper()
	o.middle.Sysctl(t, "net/netfilter/nf_conntrack_tcp_be_liberal", "1")
	o.middle.Sysctl(t, "net/netfilter/nf_conntrack_tcp_loose", "1")
	o.middle.Sysctl(t, "net/netfilter/nf_conntrack_checksum", "0")
	o.middle.Sysctl(t, "net/netfilter/nf_conntrack_udp_timeout", "3600")
	o.middle.Sysctl(t, "net/netfilter/nf_conntrack_udp_timeout_stream", "3600")
}

func (o *Oracle) setMACs(t testing.TB, macs *[2]wire.MAC) {
	t.Helper()
	for side, name := range oracleIfs {
		if err := o.middle.Handle().LinkSetHardwareAddr(o.middle.Link(t, name), macs[side][:]); err != nil {
			t.Fatalf("wiretest: oracle: %s: MAC address: %v", name, err)
		}
	}
	o.macs = *macs
}

// addresses gives the kernel its addresses, neighbours and routes of a family: the backend on-link, everybody else
// behind the router.
func (o *Oracle) addresses(t testing.TB, a *OracleAddrs) {
	t.Helper()
	for side, to := range [2]netip.Addr{a.Router, a.Backend} {
		o.middle.Addr(t, oracleIfs[side], a.Legs[side].String())
		link, mac := o.middle.Link(t, oracleIfs[side]).Attrs().Index, OracleNeighbors[side]
		err := o.middle.Handle().NeighAdd(&netlink.Neigh{LinkIndex: link, State: netlink.NUD_PERMANENT, IP: to.AsSlice(),
			HardwareAddr: mac[:]})
		if err != nil {
			t.Fatalf("wiretest: oracle: neighbour %s: %v", to, err)
		}
		if !a.Legs[side].Contains(to) {
			o.route(t, side, netip.PrefixFrom(to, to.BitLen()), netip.Addr{})
		}
	}
	everybody, _ := a.Router.Prefix(0)
	o.route(t, int(ClientSide), everybody, a.Router)
	o.awaitLocal(t, a.Legs[BackendSide].Addr())
}

// route adds a route, on-link without a gateway.
func (o *Oracle) route(t testing.TB, side int, to netip.Prefix, gateway netip.Addr) {
	t.Helper()
	r := &netlink.Route{LinkIndex: o.middle.Link(t, oracleIfs[side]).Attrs().Index, Gw: gateway.AsSlice(),
		Dst: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}}
	if !gateway.IsValid() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := o.middle.Handle().RouteAdd(r); err != nil {
		t.Fatalf("wiretest: oracle: route to %s: %v", to, err)
	}
}

// awaitLocal waits until the kernel takes packets to an IPv6 address of its own as such: it says so a little after
// the address was added, and sends redirects until then.
func (o *Oracle) awaitLocal(t testing.TB, a netip.Addr) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		routes, err := o.middle.Handle().RouteGet(a.AsSlice())
		if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
	}
	t.Fatalf("wiretest: oracle: %s does not become an address of this host", a)
}

// Step sends one frame in on a side and returns what the kernel sends for it; see Await.
func (o *Oracle) Step(t testing.TB, in Side, frame []byte, wait time.Duration) []OracleFrame {
	t.Helper()
	if _, err := unix.Write(o.sockets[in], frame); err != nil {
		t.Fatalf("wiretest: oracle: send %d bytes: %v", len(frame), err)
	}
	return o.Await(t, wait)
}

// Await returns what the kernel sends on either side: it waits at most that long for a first frame and takes what else is
// there then. Frames that the kernel sends on its own account, to groups, are left out.
func (o *Oracle) Await(t testing.TB, wait time.Duration) (out []OracleFrame) {
	t.Helper()
	for deadline := time.Now().Add(wait); ; {
		for side, fd := range o.sockets {
			out = append(out, receive(t, Side(side), fd)...)
		}
		left := time.Until(deadline)
		if len(out) > 0 || left <= 0 {
			return out
		}
		fds := []unix.PollFd{{Fd: int32(o.sockets[0]), Events: unix.POLLIN}, {Fd: int32(o.sockets[1]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			t.Fatalf("wiretest: oracle: poll: %v", err)
		}
	}
}

// receive returns the frames that wait in a socket and are addressed to the neighbour behind it.
func receive(t testing.TB, side Side, fd int) (out []OracleFrame) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EAGAIN {
			return out
		}
		if err != nil {
			t.Fatalf("wiretest: oracle: receive: %v", err)
		}
		if n >= wire.EthernetLen && wire.MAC(buf[:6]) == OracleNeighbors[side] {
			out = append(out, OracleFrame{side, append([]byte(nil), buf[:n]...)})
		}
	}
}

// rawSocket opens a non-blocking packet socket that does not see its own frames.
func rawSocket(t testing.TB, ns *NS, name string) int {
	t.Helper()
	index := ns.Link(t, name).Attrs().Index
	fd := -1
	ns.Do(t, func() {
		var err error
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatalf("wiretest: %s/%s: packet socket: %v", ns, name, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		check(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
		check(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8, Ifindex: index}))
	})
	return fd
}

func setMTU(t testing.TB, ns *NS, name string, mtu int) {
	t.Helper()
	if err := ns.Handle().LinkSetMTU(ns.Link(t, name), mtu); err != nil {
		t.Fatalf("wiretest: %s/%s: MTU %d: %v", ns, name, mtu, err)
	}
}
