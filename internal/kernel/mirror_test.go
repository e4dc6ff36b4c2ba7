package kernel

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wiretest"
)

// eventually waits for the mirror to show something; the time is a bound, not an expectation.
func eventually(t *testing.T, m *Mirror, what string, ok func(*State) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if ok(m.State()) {
			return
		}
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("the mirror does not show %s: %+v", what, m.State())
		}
	}
}

func routeTo(s *State, prefix string) (Route, bool) {
	i := slices.IndexFunc(s.Routes, func(r Route) bool { return r.Prefix == netip.MustParsePrefix(prefix) })
	if i < 0 {
		return Route{}, false
	}
	return s.Routes[i], true
}

func startMirror(t *testing.T, ns *wiretest.NS) (m *Mirror) {
	t.Helper()
	ns.Do(t, func() {
		var err error
		m, err = NewMirror(func(err error) { t.Error(err) })
		must(t, err)
	})
	t.Cleanup(m.Close)
	return m
}

func TestTheMirrorShowsWhatIsThereAtStart(t *testing.T) {
	w := newWire(t)
	var index int
	w.peer.Do(t, func() {
		must(t, netlink.LinkSetMTU(link(t, "p0"), 1400))
		index = link(t, "p0").Attrs().Index
	})
	s := startMirror(t, w.peer).State()
	l, ok := s.Link("p0")
	if !ok || l.Index != index || l.MTU != 1400 || !l.Up || l.MAC == ([6]byte{}) {
		t.Errorf("link %+v", l)
	}
	held, p, ok := s.HoldsAddress(netip.MustParseAddr("10.9.0.1"))
	if !ok || held.Name != "p0" || p.Bits() != 24 {
		t.Errorf("address held by %+v with %v", held, p)
	}
	if _, _, ok := s.HoldsAddress(netip.MustParseAddr("127.0.0.1")); !ok {
		t.Error("127.0.0.1 is not held")
	}
	if _, _, ok := s.HoldsAddress(netip.MustParseAddr(hostV4)); ok {
		t.Error("the other end's address is held")
	}
	want := Route{Prefix: netip.MustParsePrefix("10.9.9.0/24"), Link: index, Gateway: netip.MustParseAddr(hostV4)}
	if r, _ := routeTo(s, "10.9.9.0/24"); r != want {
		t.Errorf("route %+v, want %+v", r, want)
	}
	if r, ok := routeTo(s, "10.9.0.0/24"); !ok || r.Gateway.IsValid() {
		t.Errorf("connected route %+v, %v", r, ok)
	}
	if r, ok := routeTo(s, "fd09:9::/64"); !ok || r.Gateway != netip.MustParseAddr(hostV6) {
		t.Errorf("IPv6 route %+v, %v", r, ok)
	}
	w.host.Do(t, func() {
		s, err := ReadState()
		must(t, err)
		for _, d := range []string{"0.0.0.0/0", "::/0"} {
			if r, ok := routeTo(s, d); !ok || !r.Gateway.IsValid() {
				t.Errorf("default route %s: %+v, %v", d, r, ok)
			}
		}
	})
}

func TestTheMirrorFollowsTheKernel(t *testing.T) {
	w := newWire(t)
	m := startMirror(t, w.host)
	hw, _ := net.ParseMAC("02:00:00:00:00:77")
	var h0 int
	w.host.Do(t, func() { h0 = link(t, "h0").Attrs().Index })
	do := func(f func()) { t.Helper(); w.host.Do(t, f) }

	w.host.Addr(t, "h0", "10.9.7.1/28")
	eventually(t, m, "the new address", func(s *State) bool {
		_, p, ok := s.HoldsAddress(netip.MustParseAddr("10.9.7.1"))
		_, connected := routeTo(s, "10.9.7.0/28")
		return ok && connected && p.Bits() == 28
	})
	do(func() {
		must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: h0, IP: net.ParseIP("10.9.7.9"), HardwareAddr: hw,
			State: netlink.NUD_PERMANENT}))
		must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: h0, IP: net.ParseIP("10.9.7.10"), HardwareAddr: hw,
			State: netlink.NUD_STALE}))
	})
	eventually(t, m, "the neighbours", func(s *State) bool {
		mac := [6]byte(hw)
		return slices.Contains(s.Neighbors, Neighbor{Link: h0, Addr: netip.MustParseAddr("10.9.7.9"), MAC: mac, State: NeighborReachable, Permanent: true}) &&
			slices.Contains(s.Neighbors, Neighbor{Link: h0, Addr: netip.MustParseAddr("10.9.7.10"), MAC: mac, State: NeighborStale, Permanent: false})
	})
	do(func() {
		_, dst, _ := net.ParseCIDR("192.0.2.0/24")
		must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, Type: unix.RTN_BLACKHOLE}))
		_, dst, _ = net.ParseCIDR("198.51.100.0/24")
		must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: h0, Gw: net.ParseIP("10.9.7.2")}, {LinkIndex: h0, Gw: net.ParseIP("10.9.7.3")}}}))
		via := &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: net.ParseIP("fd09::1")}
		_, dst, _ = net.ParseCIDR("203.0.113.0/24")
		must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, LinkIndex: h0, Via: via}))
	})
	eventually(t, m, "the three routes", func(s *State) bool {
		hole, ok := routeTo(s, "192.0.2.0/24")
		multi, _ := routeTo(s, "198.51.100.0/24")
		via, _ := routeTo(s, "203.0.113.0/24")
		return ok && hole.Link == 0 && multi.Gateway == netip.MustParseAddr("10.9.7.2") && multi.Link == h0 &&
			via.Gateway == netip.MustParseAddr("fd09::1")
	})
	do(func() { must(t, netlink.LinkSetDown(link(t, "h0"))) })
	eventually(t, m, "the link down and its routes gone", func(s *State) bool {
		l, ok := s.Link("h0")
		_, connected := routeTo(s, "10.9.7.0/28")
		return ok && !l.Up && !connected
	})
	do(func() { must(t, netlink.LinkDel(link(t, "h0"))) })
	eventually(t, m, "the link gone", func(s *State) bool { _, ok := s.Link("h0"); return !ok })
}

func TestTheMirrorSurvivesLostAnnouncements(t *testing.T) {
	ns := newNS(t, "a")
	var m *Mirror
	ns.Do(t, func() {
		var err error
		m, err = NewMirror(nil)
		must(t, err)
		defer m.Close()
		lo := link(t, "lo")
		for i := range 4000 { // more than the subscription's buffer holds while it settles
			_, dst, _ := net.ParseCIDR(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String() + "/32")
			must(t, netlink.RouteAdd(&netlink.Route{Dst: dst, LinkIndex: lo.Attrs().Index}))
		}
		eventually(t, m, "4000 routes", func(s *State) bool { return len(s.Routes) >= 4000 })
	})
}

func TestTheMirrorClosesTwice(t *testing.T) {
	m := startMirror(t, newNS(t, "a"))
	m.Close()
	m.Close()
}

func TestLocalPortRangeIsThatOfTheNamespace(t *testing.T) {
	newNS(t, "a").Do(t, func() {
		must(t, os.WriteFile(portRangeFile, []byte("40000 41000"), 0))
		lo, hi, err := LocalPortRange()
		if lo != 40000 || hi != 41000 || err != nil {
			t.Errorf("%d-%d, %v", lo, hi, err)
		}
	})
}

func TestBrokenAnnouncementsAreSkipped(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":            nil,
		"half a header":    make([]byte, 7),
		"length zero":      make([]byte, 16),
		"longer than told": append([]byte{255, 0, 0, 0, unix.RTM_NEWADDR, 0}, make([]byte, 10)...),
	} {
		if got := changes(b); got != 0 {
			t.Errorf("%s: %b", name, got)
		}
	}
	one := append([]byte{17, 0, 0, 0, unix.RTM_NEWADDR, 0}, make([]byte, 14)...)
	two := append(one, append([]byte{16, 0, 0, 0, unix.RTM_DELROUTE, 0}, make([]byte, 10)...)...)
	if got := changes(two); got != changeAddrs|changeRoutes {
		t.Errorf("two messages: %b", got)
	}
}
