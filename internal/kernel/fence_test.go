package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wiretest"
)

// The wire of these tests: peer (10.9.0.1) -- host (10.9.0.2), IPv6 alike; the VIPs are routed to host.
const (
	hostV4, hostV6 = "10.9.0.2", "fd09::2"
	vipV4, vipV6   = "10.9.9.9", "fd09:9::9"
)

type wire struct{ peer, host *wiretest.NS }

func newNS(t *testing.T, hint string) *wiretest.NS {
	t.Helper()
	wiretest.Root(t)
	return wiretest.NewNS(t, hint)
}

func newWire(t *testing.T) wire {
	t.Helper()
	w := wire{peer: newNS(t, "peer"), host: newNS(t, "host")}
	wiretest.Veth(t, w.host, "h0", w.peer, "p0")
	w.host.Addr(t, "h0", hostV4+"/24", hostV6+"/64")
	w.host.Sysctl(t, "net/ipv4/ip_forward", "1")
	w.host.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	// Refusals of UDP are ICMP errors: the kernel's own limit on them must not look like a fence.
	w.host.Sysctl(t, "net/ipv4/icmp_ratelimit", "0")
	w.host.Sysctl(t, "net/ipv6/icmp/ratelimit", "0")
	w.peer.Addr(t, "p0", "10.9.0.1/24", "fd09::1/64")
	addRoute(t, w.peer, "p0", vipV4+"/24", hostV4)
	addRoute(t, w.peer, "p0", vipV6+"/64", hostV6)
	addRoute(t, w.host, "h0", "0.0.0.0/0", "10.9.0.1")
	addRoute(t, w.host, "h0", "::/0", "fd09::1")
	w.settle(t)
	return w
}

// settle waits until both ends hear each other. The first question of neighbour discovery may come before the other
// end listens; the next one comes a second later, longer than dial and ask wait.
func (w wire) settle(t *testing.T) {
	t.Helper()
	w.peer.Do(t, func() {
		for _, a := range []string{hostV4, hostV6} {
			for tries := 0; dial(a, 9) != "refused"; tries++ {
				if tries == 40 {
					t.Fatalf("%s does not answer", a)
				}
			}
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return l
}

func addRoute(t *testing.T, ns *wiretest.NS, ifname, dst, gw string) {
	t.Helper()
	_, n, err := net.ParseCIDR(dst)
	must(t, err)
	must(t, ns.Handle().RouteAdd(&netlink.Route{
		LinkIndex: ns.Link(t, ifname).Attrs().Index, Dst: n, Gw: net.ParseIP(gw)}))
}

// dial says what a TCP connection attempt from here gets: "refused", "silence" or another error.
func dial(addr string, port int) string {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(addr, fmt.Sprint(port)), 250*time.Millisecond)
	switch {
	case err == nil:
		_ = c.Close()
		return "connected"
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case os.IsTimeout(err):
		return "silence"
	}
	return err.Error()
}

// ask says what a UDP datagram from here gets.
func ask(addr string, port int) string {
	c, err := net.Dial("udp", net.JoinHostPort(addr, fmt.Sprint(port)))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte("hello"))
	_ = c.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
	_, err = c.Read(make([]byte, 16))
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "silence"
	}
	return fmt.Sprint("answered ", err)
}

// snmp reads one counter of the namespace of this thread.
func snmp(t *testing.T, proto, name string) string {
	t.Helper()
	f, err := os.Open("/proc/thread-self/net/snmp")
	must(t, err)
	defer func() { _ = f.Close() }()
	var header []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if fields[0] != proto+":" {
			continue
		}
		if header != nil {
			return fields[slices.Index(header, name)]
		}
		header = fields
	}
	t.Fatalf("no %s %s", proto, name)
	return ""
}

// tap counts the frames that an ETH_P_ALL socket sees on the interface from now on.
func tap(t *testing.T, ifname string) (count func() int) {
	t.Helper()
	proto := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link(t, ifname).Attrs().Index}))
	return func() (n int) {
		for {
			if _, _, err := unix.Recvfrom(fd, make([]byte, 2048), 0); err != nil {
				return n
			}
			n++
		}
	}
}

func hostSpec() FenceSpec {
	v4, v6 := netip.MustParseAddr(hostV4), netip.MustParseAddr(hostV6)
	return FenceSpec{
		Interfaces: []string{"h0"},
		VIPs:       []netip.Addr{netip.MustParseAddr(vipV4), netip.MustParseAddr(vipV6)},
		LocalPorts: []FencePorts{
			{v4, unix.IPPROTO_TCP, 1024, 32767}, {v4, unix.IPPROTO_UDP, 1024, 32767},
			{v6, unix.IPPROTO_TCP, 1024, 32767}, {v6, unix.IPPROTO_UDP, 1024, 32767},
		},
		Services: []FencePorts{{v4, unix.IPPROTO_TCP, 80, 80}},
	}
}

func fenceUp(t *testing.T, ns *wiretest.NS, spec FenceSpec) (f *Fence) {
	t.Helper()
	ns.Do(t, func() {
		var err error
		f, err = FenceUp(spec)
		must(t, err)
	})
	return f
}

func TestTheFenceKeepsTheKernelFromWhatIsOursAndFromNothingElse(t *testing.T) {
	w := newWire(t)
	answers := func() map[string]string {
		got := map[string]string{}
		w.peer.Do(t, func() {
			for _, a := range []string{hostV4, hostV6} {
				got[a+" tcp local port"] = dial(a, 2000)
				got[a+" udp local port"] = ask(a, 2000)
				got[a+" tcp other port"] = dial(a, 99)
				got[a+" udp other port"] = ask(a, 99)
			}
			got["service port"] = dial(hostV4, 80)
			got["port beside the service"] = dial(hostV4, 81)
			got["upper end"] = dial(hostV4, 32767)
			got["behind the upper end"] = dial(hostV4, 32768)
		})
		return got
	}
	for what, got := range answers() {
		if got != "refused" {
			t.Errorf("without a fence: %s: %s", what, got)
		}
	}
	f := fenceUp(t, w.host, hostSpec())
	var seen func() int
	var rsts string
	w.host.Do(t, func() { seen, rsts = tap(t, "h0"), snmp(t, "Tcp", "OutRsts") })
	w.peer.Do(t, func() {
		if got := dial(hostV4, 2001); got != "silence" {
			t.Errorf("fenced port: %s", got)
		}
	})
	w.host.Do(t, func() {
		if now := snmp(t, "Tcp", "OutRsts"); now != rsts {
			t.Errorf("the kernel sent a RST: OutRsts %s -> %s", rsts, now)
		}
	})
	if seen() == 0 {
		t.Error("an ETH_P_ALL tap does not see what the fence drops")
	}
	for what, got := range answers() {
		want := "refused"
		if strings.Contains(what, "local port") || what == "service port" || what == "upper end" {
			want = "silence"
		}
		if got != want {
			t.Errorf("with the fence: %s: %s, want %s", what, got, want)
		}
	}
	w.host.Do(t, func() { must(t, f.Down()) })
	w.peer.Do(t, func() {
		if got := dial(hostV4, 2000); got != "refused" {
			t.Errorf("after Down: %s", got)
		}
	})
}

func TestTheFenceStopsForwardingToAVIP(t *testing.T) {
	w := newWire(t)
	forwarded := func() (v string) {
		w.peer.Do(t, func() { _ = ask(vipV4, 53) })
		w.host.Do(t, func() { v = snmp(t, "Ip", "ForwDatagrams") })
		return v
	}
	if before := forwarded(); before == "0" {
		t.Fatal("without a fence the packet is not forwarded: the test shows nothing")
	}
	f := fenceUp(t, w.host, hostSpec())
	first := forwarded()
	w.peer.Do(t, func() { _ = ask(vipV6, 53) })
	if again := forwarded(); again != first {
		t.Errorf("ForwDatagrams %s -> %s", first, again)
	}
	w.host.Do(t, func() {
		s, err := ShowFence()
		must(t, err)
		if i := slices.IndexFunc(s.Counters, func(c FenceCounter) bool { return c.Name == counterVIP }); i < 0 ||
			s.Counters[i].Packets < 3 {
			t.Errorf("counters %+v: want three packets to VIPs", s.Counters)
		}
		must(t, f.Down())
	})
}

func TestShowFenceTellsWhatIsDropped(t *testing.T) {
	w := newWire(t)
	spec := hostSpec()
	spec.Pool = []netip.Addr{netip.MustParseAddr("10.9.0.200")}
	f := fenceUp(t, w.host, spec)
	w.host.Do(t, func() {
		s, err := ShowFence()
		must(t, err)
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprint(p.What, p.Addrs))
		}
		slices.Sort(ports)
		got := fmt.Sprint(s.Up, s.Held, s.Interfaces, s.VIPs, s.Pool, ports, len(s.Counters))
		want := "true false [h0] [10.9.9.9 fd09:9::9] [10.9.0.200] [" +
			"local ports tcp 1024-32767[10.9.0.2] local ports tcp 1024-32767[fd09::2] " +
			"local ports udp 1024-32767[10.9.0.2] local ports udp 1024-32767[fd09::2] service tcp 80[10.9.0.2]] 6"
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		must(t, f.Down())
		if s, err = ShowFence(); err != nil || s.Up {
			t.Errorf("after Down: %+v, %v", s, err)
		}
		must(t, f.Down())
	})
}

func TestAnUpdateNeverOpensTheFence(t *testing.T) {
	w := newWire(t)
	f := fenceUp(t, w.host, hostSpec())
	var c net.Conn
	w.peer.Do(t, func() {
		var err error
		c, err = net.Dial("udp", net.JoinHostPort(hostV4, "2000"))
		must(t, err)
	})
	defer func() { _ = c.Close() }()
	stop, leaks := make(chan struct{}), make(chan int)
	go func() { // a steady stream to a port that stays fenced: a refusal is a leak
		n := 0
		for {
			select {
			case <-stop:
				leaks <- n
				return
			default:
				if _, err := c.Write([]byte("x")); errors.Is(err, unix.ECONNREFUSED) {
					n++
				}
			}
		}
	}()
	w.host.Do(t, func() {
		for i := range 200 {
			spec := hostSpec()
			if i%2 == 0 {
				spec.VIPs = append(spec.VIPs, netip.MustParseAddr("10.9.9.10"))
				spec.Services = append(spec.Services, FencePorts{netip.MustParseAddr(hostV4), unix.IPPROTO_UDP, 53, 60})
			}
			must(t, f.Update(spec))
		}
	})
	close(stop)
	if n := <-leaks; n != 0 {
		t.Errorf("%d packets came through during updates", n)
	}
	w.host.Do(t, func() { must(t, f.Down()) })
}

func TestAFenceLeftBehindIsAdopted(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T){
		"of the same shape": func(t *testing.T) {
			spec := hostSpec()
			spec.VIPs = []netip.Addr{netip.MustParseAddr("10.9.9.77")}
			_, err := FenceUp(spec) // and nobody takes it down
			must(t, err)
		},
		"of another interface": func(t *testing.T) {
			must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "gone0"}, PeerName: "gone1"}))
			spec := hostSpec()
			spec.Interfaces = []string{"gone0"}
			_, err := FenceUp(spec)
			must(t, err)
			must(t, netlink.LinkDel(link(t, "gone0")))
		},
		"of an unknown shape": func(t *testing.T) {
			c := &nftables.Conn{}
			table := c.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev})
			must(t, c.AddSet(&nftables.Set{Table: table, Name: counterVIP + "4", KeyType: nftables.TypeEtherAddr}, nil))
			c.AddChain(&nftables.Chain{Name: sharedName, Table: table, Device: "h0", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter})
			other := c.AddChain(&nftables.Chain{Name: "other", Table: table})
			c.AddRule(&nftables.Rule{Table: table, Chain: other, Exprs: []expr.Any{&expr.Counter{}}})
			must(t, c.Flush())
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			w.host.Do(t, func() { leave(t) })
			f := fenceUp(t, w.host, hostSpec())
			if !f.Adopted() {
				t.Error("the fence was not adopted")
			}
			w.host.Do(t, func() {
				s, err := ShowFence()
				must(t, err)
				if got := fmt.Sprint(s.Interfaces, s.VIPs, len(s.Ports)); got != "[h0] [10.9.9.9 fd09:9::9] 5" {
					t.Errorf("adopted fence: %s", got)
				}
			})
			w.peer.Do(t, func() {
				if got := dial(hostV4, 2000); got != "silence" {
					t.Errorf("fenced port: %s", got)
				}
			})
			w.host.Do(t, func() { must(t, f.Down()) })
		})
	}
}

func TestAFenceThatWasTakenAwayIsPutUpAgain(t *testing.T) {
	w := newWire(t)
	f := fenceUp(t, w.host, hostSpec())
	ensure := func(want bool) {
		t.Helper()
		restored, err := f.Ensure()
		must(t, err)
		if restored != want {
			t.Errorf("Ensure: restored %v, want %v", restored, want)
		}
	}
	w.host.Do(t, func() {
		ensure(false)
		c := &nftables.Conn{}
		c.FlushRuleset()
		must(t, c.Flush())
		ensure(true)
		ensure(false)
		must(t, f.Down())
		ensure(false)
	})
}

func TestTheFenceWaitsForAnInterface(t *testing.T) {
	w := newWire(t)
	spec := hostSpec()
	spec.Interfaces = append(spec.Interfaces, "late0")
	f := fenceUp(t, w.host, spec)
	w.host.Do(t, func() {
		for round := range 2 {
			must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "late0"}, PeerName: "late1"}))
			_, err := f.Ensure()
			must(t, err)
			s, err := ShowFence()
			must(t, err)
			if !slices.Contains(s.Interfaces, "late0") {
				t.Errorf("round %d: interfaces %v", round, s.Interfaces)
			}
			must(t, netlink.LinkDel(link(t, "late0")))
		}
		must(t, f.Down())
	})
}

func TestTheFenceHoldsManyAddressesAndPorts(t *testing.T) {
	w := newWire(t)
	spec := hostSpec()
	addr := netip.MustParseAddr("198.18.0.0")
	for i := range uint16(2000) {
		addr = addr.Next()
		spec.VIPs = append(spec.VIPs, addr, addr)
		if i < 300 {
			spec.Services = append(spec.Services, FencePorts{addr, unix.IPPROTO_TCP, 5000 + i, 5000 + i})
		}
	}
	f := fenceUp(t, w.host, spec)
	w.host.Do(t, func() {
		must(t, f.Update(spec))
		s, err := ShowFence()
		must(t, err)
		if len(s.VIPs) != 2002 || len(s.Ports) != 305 {
			t.Errorf("%d VIPs, %d port rules", len(s.VIPs), len(s.Ports))
		}
		must(t, f.Down())
	})
}

func TestClearRefusesWhileSomebodyHoldsTheFence(t *testing.T) {
	w := newWire(t)
	fenceUp(t, w.host, hostSpec())
	w.host.Do(t, func() {
		owner, err := Own()
		must(t, err)
		var owned *OwnedError
		if _, err := ClearFence(); !errors.As(err, &owned) || owned.PID != os.Getpid() {
			t.Errorf("clear while it is held: %v", err)
		}
		if s, err := ShowFence(); err != nil || !s.Held || s.PID != os.Getpid() || !s.Up {
			t.Errorf("show: %+v, %v", s, err)
		}
		owner.Release()
		for _, want := range []bool{true, false} {
			existed, err := ClearFence()
			must(t, err)
			if existed != want {
				t.Errorf("clear: existed %v, want %v", existed, want)
			}
		}
	})
}

func TestTheRulesetReadsWell(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft(8)")
	}
	w := newWire(t)
	spec, more := hostSpec(), repliesSpec()
	spec.Replies, spec.ReplyInterfaces, spec.Host = more.Replies, more.ReplyInterfaces, more.Host
	spec.Outer = []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16")}
	f := fenceUp(t, w.host, spec)
	w.host.Do(t, func() {
		text, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		must(t, err)
		for _, want := range []string{"table netdev naru", `hook ingress device "h0" priority -500`, "@vip4",
			`counter name "local_ports" drop comment "local ports tcp 1024-32767"`,
			"jump replies", `tcp sport 80 meta pkttype host ip daddr != @host4`, `ip daddr 10.200.0.0/16 counter name "outer" drop`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		must(t, f.Down())
	})
}
