package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"naru/internal/wiretest"
)

// Behind the wire of the other tests stands a client (10.8.0.1) at host's second leg h1; the peer is the backend.
const clientV4, clientV6 = "10.8.0.1", "fd08::1"

func newRouter(t *testing.T) (w wire, client *wiretest.NS) {
	t.Helper()
	w = newWire(t)
	client = newNS(t, "client")
	wiretest.Veth(t, w.host, "h1", client, "c0")
	w.host.Addr(t, "h1", "10.8.0.2/24", "fd08::2/64")
	client.Addr(t, "c0", clientV4+"/24", clientV6+"/64")
	client.Sysctl(t, "net/ipv4/icmp_ratelimit", "0")
	client.Sysctl(t, "net/ipv6/icmp/ratelimit", "0")
	addRoute(t, client, "c0", "10.9.0.0/24", "10.8.0.2")
	addRoute(t, client, "c0", "fd09::/64", "fd08::2")
	addRoute(t, w.peer, "p0", "10.8.0.0/24", hostV4)
	addRoute(t, w.peer, "p0", "fd08::/64", hostV6)
	w.peer.Do(t, func() {
		for _, a := range []string{clientV4, clientV6} {
			for tries := 0; dial(a, 9) != "refused"; tries++ {
				if tries == 40 {
					t.Fatalf("%s does not answer", a)
				}
			}
		}
	})
	return w, client
}

// sendFrom says what a packet of the protocol from a port of this namespace gets, to a port that nobody has.
func sendFrom(proto string, port int, to string) string {
	d := net.Dialer{Timeout: 250 * time.Millisecond, LocalAddr: &net.TCPAddr{Port: port}}
	if proto == "udp" {
		d.LocalAddr = &net.UDPAddr{Port: port}
	}
	c, err := d.Dial(proto, net.JoinHostPort(to, "9"))
	if err == nil {
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte("hello"))
		_ = c.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		_, err = c.Read(make([]byte, 16))
	}
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case os.IsTimeout(err):
		return "silence"
	}
	return fmt.Sprint(err)
}

func repliesSpec() FenceSpec {
	spec := FenceSpec{Interfaces: []string{"h0", "h1"}, ReplyInterfaces: []string{"h0"}}
	for _, a := range []string{"10.9.0.1", "fd09::1"} {
		spec.Replies = append(spec.Replies, FencePorts{netip.MustParseAddr(a), unix.IPPROTO_TCP, 80, 80},
			FencePorts{netip.MustParseAddr(a), unix.IPPROTO_UDP, 5000, 5099})
	}
	for _, a := range []string{hostV4, hostV6, "10.8.0.2", "fd08::2"} {
		spec.Host = append(spec.Host, netip.MustParseAddr(a))
	}
	return spec
}

func TestTheFenceKeepsTheKernelFromForwardingRepliesAndNothingElse(t *testing.T) {
	w, _ := newRouter(t)
	look := func(want map[string]string) {
		t.Helper()
		w.peer.Do(t, func() {
			for what, answer := range want {
				proto, rest, _ := strings.Cut(what, " from ")
				port, to, _ := strings.Cut(rest, " to ")
				n := 0
				_, _ = fmt.Sscan(port, &n)
				if got := sendFrom(proto, n, to); got != answer {
					t.Errorf("%s: %s, want %s", what, got, answer)
				}
			}
		})
	}
	forwarded := map[string]string{"tcp from 80 to 10.8.0.1": "refused", "udp from 5050 to 10.8.0.1": "refused",
		"tcp from 80 to fd08::1": "refused", "udp from 5050 to fd08::1": "refused"}
	look(forwarded)
	f := fenceUp(t, w.host, repliesSpec())
	look(map[string]string{
		"tcp from 80 to 10.8.0.1": "silence", "udp from 5050 to 10.8.0.1": "silence",
		"tcp from 80 to fd08::1": "silence", "udp from 5050 to fd08::1": "silence",
		"tcp from 81 to 10.8.0.1": "refused", "udp from 80 to 10.8.0.1": "refused", "udp from 5100 to 10.8.0.1": "refused",
		"tcp from 80 to 10.9.0.2": "refused", "tcp from 80 to 10.8.0.2": "refused", "udp from 5050 to fd08::2": "refused",
	})
	w.host.Do(t, func() {
		s, err := ShowFence()
		must(t, err)
		var rules []string
		for _, p := range s.Ports {
			rules = append(rules, fmt.Sprint(p.What, p.Addrs))
		}
		slices.Sort(rules)
		const want = "[ICMP errors of backends[10.9.0.1] ICMP errors of backends[10.9.0.1] ICMP errors of backends[fd09::1] " +
			"later fragments of replies[10.9.0.1] later fragments of replies[fd09::1] replies tcp 80[10.9.0.1] replies tcp 80[fd09::1] " +
			"replies udp 5000-5099[10.9.0.1] replies udp 5000-5099[fd09::1]]"
		if got := fmt.Sprint(rules); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if c := counter(s, counterReplies); c < 4 {
			t.Errorf("%d packets of backends counted, want 4 or more", c)
		}
		spec := repliesSpec()
		spec.ReplyInterfaces = []string{"h1"}
		must(t, f.Update(spec))
	})
	look(forwarded) // on the other leg the rule says nothing
	w.host.Do(t, func() {
		must(t, f.Update(FenceSpec{Interfaces: []string{"h1"}}))
		names, err := chains(&nftables.Conn{})
		must(t, err)
		if slices.Sort(names); fmt.Sprint(names) != "[fence leg-h1]" {
			t.Errorf("chains %v are left", names)
		}
		if s, err := ShowFence(); err != nil || counter(s, counterReplies) < 4 {
			t.Errorf("the counters begin anew: %+v, %v", s, err)
		}
		must(t, f.Down())
	})
}

func counter(s FenceState, name string) uint64 {
	i := slices.IndexFunc(s.Counters, func(c FenceCounter) bool { return c.Name == name })
	if i < 0 {
		return 0
	}
	return s.Counters[i].Packets
}

func TestWhatBackendsSendToThisHostReachesItAlsoAtANewAddress(t *testing.T) {
	w := newWire(t)
	f := fenceUp(t, w.host, repliesSpec())
	from := func(to string) (got string) {
		w.peer.Do(t, func() { got = sendFrom("udp", 5001, to) })
		return got
	}
	if got := from(hostV4); got != "refused" {
		t.Errorf("to this host: %s", got)
	}
	w.host.Addr(t, "h0", "10.9.0.3/24")
	if got := from("10.9.0.3"); got != "silence" {
		t.Errorf("to an address that the fence was not told of: %s", got)
	}
	w.host.Do(t, func() {
		spec := repliesSpec()
		spec.Host = append(spec.Host, netip.MustParseAddr("10.9.0.3"))
		must(t, f.Update(spec))
	})
	if got := from("10.9.0.3"); got != "refused" {
		t.Errorf("to a new address: %s", got)
	}
	w.host.Do(t, func() {
		heard, err := net.ListenPacket("udp4", ":5001")
		must(t, err)
		defer func() { _ = heard.Close() }()
		w.peer.Do(t, func() {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 5001})
			must(t, err)
			defer func() { _ = c.Close() }()
			_, err = c.WriteTo([]byte("all"), &net.UDPAddr{IP: net.IPv4(10, 9, 0, 255), Port: 5001})
			must(t, err)
		})
		_ = heard.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := heard.ReadFrom(make([]byte, 16)); err != nil {
			t.Errorf("a broadcast from a backend's service port: %v", err)
		}
		must(t, f.Down())
	})
}

func TestTheFenceStopsWhatIsToAPrefixOfOuterSources(t *testing.T) {
	w := newWire(t)
	spec := FenceSpec{Interfaces: []string{"h0"}, Outer: []netip.Prefix{netip.MustParsePrefix("10.9.9.64/26"),
		netip.MustParsePrefix("fd09:9::/65")}}
	f := fenceUp(t, w.host, spec)
	ask4 := func(a string) (v string) {
		w.peer.Do(t, func() { _ = ask(a, 53) })
		w.host.Do(t, func() { v = snmp(t, "Ip", "ForwDatagrams") })
		return v
	}
	before := ask4("10.9.9.63")
	if within := ask4("10.9.9.127"); within != before {
		t.Errorf("ForwDatagrams %s -> %s for an address in the prefix", before, within)
	}
	if after := ask4("10.9.9.128"); after == before {
		t.Errorf("ForwDatagrams %s for addresses outside the prefix", before)
	}
	w.peer.Do(t, func() { _, _ = ask("fd09:9::1", 53), ask("fd09:9::8000:0:0:1", 53) })
	w.host.Do(t, func() {
		must(t, f.Update(spec))
		s, err := ShowFence()
		must(t, err)
		if got := fmt.Sprint(s.Outer, counter(s, counterOuter)); got != "[10.9.9.64/26 fd09:9::/65] 2" {
			t.Errorf("got %s", got)
		}
		must(t, f.Down())
	})
}
