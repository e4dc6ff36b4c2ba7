package backend

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// rig is a director and a backend on one segment. The director has no naru: the doctor's own probes, or the test's, take
// its part.
type rig struct {
	director, server *wiretest.NS
}

const (
	directorLeg = "leg0"
	serverLeg   = "eth0"
)

var (
	own4 = netip.MustParseAddr("10.0.0.1")
	own6 = netip.MustParseAddr("2001:db8:1::1")
)

func newRig(t *testing.T) *rig {
	t.Helper()
	wiretest.Root(t)
	r := &rig{wiretest.NewNS(t, "director"), wiretest.NewNS(t, "server")}
	wiretest.Veth(t, r.director, directorLeg, r.server, serverLeg)
	r.director.Addr(t, directorLeg, "10.0.0.1/24", "2001:db8:1::1/64")
	r.server.Addr(t, serverLeg, "10.0.0.11/24", "2001:db8:1::11/64")
	// ICMP errors are limited by default to one a second: the tests ask faster.
	for _, p := range []string{"net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"} {
		r.server.Sysctl(t, p, "0")
	}
	return r
}

// in runs f in a namespace and returns its error.
func in(t *testing.T, ns *wiretest.NS, f func() error) (err error) {
	t.Helper()
	ns.Do(t, func() { err = f() })
	return err
}

// setup applies the plan of a target on the server.
func (r *rig) setup(t *testing.T, tg Target) []Result {
	t.Helper()
	p, err := NewPlan(tg, PlanOptions{Decap: "auto"})
	if err != nil {
		t.Fatal(err)
	}
	var done []Result
	if err := in(t, r.server, func() error { done, err = p.Apply(); return err }); err != nil {
		t.Fatal(err)
	}
	r.settle(t, tg)
	return done
}

// settle waits until the server takes what is to the VIP for its own: the kernel adds the route of an IPv6 address a moment
// after the address.
func (r *rig) settle(t *testing.T, tg Target) {
	t.Helper()
	for range 500 {
		routes, err := r.server.Handle().RouteGet(tg.VIP.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL || !tg.direct() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatalf("the server does not take %v for its own", tg.VIP)
}

// undo takes it back.
func (r *rig) undo(t *testing.T, tg Target) {
	t.Helper()
	p, err := NewPlan(tg, PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := in(t, r.server, func() error { _, err := p.Undo(PlanOptions{}); return err }); err != nil {
		t.Fatal(err)
	}
}

// serve runs a TCP and a UDP server on port 80 of an address (empty: all) until the end of the test. UDP echoes.
func (r *rig) serve(t *testing.T, addr string) {
	t.Helper()
	r.server.Do(t, func() {
		at := net.JoinHostPort(addr, "80")
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
			}
		}()
		p, err := net.ListenPacket("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = p.WriteTo(buf[:n], from)
			}
		}()
	})
}

// doctor examines the target from the director, with little patience.
func (r *rig) doctor(t *testing.T, tg Target) Report {
	t.Helper()
	var rep Report
	if err := in(t, r.director, func() (err error) {
		rep, err = Doctor(t.Context(), DoctorOptions{Target: tg, Timeout: 400 * time.Millisecond})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return rep
}

// find returns the check with that name, the last one.
func find(rep Report, name string) Check {
	for i := len(rep.Checks) - 1; i >= 0; i-- {
		if rep.Checks[i].Name == name {
			return rep.Checks[i]
		}
	}
	return Check{}
}

// want holds a report against the one check that must fail; an empty name is a report without a failure.
func want(t *testing.T, rep Report, name string, words ...string) {
	t.Helper()
	if name == "" {
		if rep.Failed() > 0 {
			t.Errorf("%d checks failed: %+v", rep.Failed(), rep.Checks)
		}
		return
	}
	for _, c := range rep.Checks {
		if c.Status == Fail && c.Name != name {
			t.Errorf("failed besides: %+v", c)
		}
	}
	for _, c := range rep.Checks {
		if c.Name != name || c.Status != Fail {
			continue
		}
		for _, w := range words {
			if !strings.Contains(c.Text+"\n"+c.Cause+"\n"+c.Effect+"\n"+c.Fix, w) {
				t.Errorf("%q is not in %+v", w, c)
			}
		}
		if c.Cause == "" || c.Effect == "" || c.Fix == "" {
			t.Errorf("cause, effect or fix is missing: %+v", c)
		}
		return
	}
	t.Errorf("no failed %s in %+v", name, rep.Checks)
}

// decap runs the decapsulator on the server until the end of the test.
func (r *rig) decap(t *testing.T, opt DecapOptions) *Decap {
	t.Helper()
	var d *Decap
	if err := in(t, r.server, func() (err error) { d, err = OpenDecap(opt); return err }); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("decapsulator: %v", d.Counters())
		}
	})
	return d
}

// directWays are the modes in which the backend answers the client itself, in every pair of families.
func directWays() []Target {
	all := []Target{target(L2DSR, vip4, backend4), target(L2DSR, vip6, backend6), target(DSCP, vip4, backend4),
		target(DSCP, vip6, backend6)}
	for _, way := range []Way{IPIP, GUE} {
		for _, vip := range []netip.Addr{vip4, vip6} {
			for _, addr := range []netip.Addr{backend4, backend6} {
				all = append(all, target(way, vip, addr))
			}
		}
	}
	one := target(GUE, vip6, backend4)
	one.Variant = 1
	return append(all, one)
}

func caseName(tg Target) string {
	name := string(tg.Way) + " " + familyName(tg.VIP) + " in " + familyName(tg.Address)
	if tg.Variant == 1 {
		name += " variant 1"
	}
	if tg.Proto == wire.ProtoUDP {
		name += " UDP"
	}
	return name
}

// onLo reports whether the server has the address on lo.
func (r *rig) onLo(t *testing.T, a netip.Addr) bool {
	t.Helper()
	list, err := r.server.Handle().AddrList(r.server.Link(t, "lo"), netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if got, ok := netip.AddrFromSlice(x.IP); ok && got.Unmap() == a {
			if ones, bits := x.Mask.Size(); ones != bits || x.Broadcast != nil && !x.Broadcast.Equal(x.IP) && a.Is4() ||
				x.Flags&unix.IFA_F_TENTATIVE != 0 {
				t.Errorf("%s: mask /%d, broadcast %s, flags %#x", a, ones, x.Broadcast, x.Flags)
			}
			return true
		}
	}
	return false
}

// sysctl reads a parameter of the server.
func (r *rig) sysctl(t *testing.T, path string) string {
	t.Helper()
	var b []byte
	if err := in(t, r.server, func() (err error) { b, err = os.ReadFile("/proc/sys/" + path); return err }); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}
