package backend

import (
	"errors"
	"os"
	"strings"
	"testing"

	"naru/internal/wire"
)

func TestAfterSetupTheDoctorFindsNothing(t *testing.T) {
	for _, tg := range directWays() {
		for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
			tg.Proto = proto
			t.Run(caseName(tg), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.server.Sysctl(t, "net/ipv4/conf/all/rp_filter", "1") // as some distributions have it
				r.setup(t, tg)
				if tg.tunnel() {
					r.decap(t, DecapOptions{Mode: tg.Way, Port: tg.GUEPort})
				}
				r.serve(t, tg.VIP.String())
				rep := r.doctor(t, tg)
				want(t, rep, "")
				if c := find(rep, "answer"); c.Status != OK || !strings.Contains(c.Text, tg.VIP.String()) {
					t.Errorf("answer: %+v", c)
				}
				if c := find(rep, "mtu"); c.Status != OK {
					t.Errorf("mtu: %+v", c)
				}
				if c := find(rep, "mss"); tg.Proto == wire.ProtoTCP && c.Status != OK {
					t.Errorf("mss: %+v", c)
				}
			})
		}
	}
}

func TestSetupIsIdempotentAndUndoTakesItBack(t *testing.T) {
	for _, tg := range []Target{target(L2DSR, vip4, backend4), target(DSCP, vip4, backend4), target(DSCP, vip6, backend6),
		target(IPIP, vip4, backend4)} {
		t.Run(caseName(tg), func(t *testing.T) {
			r := newRig(t)
			before := r.sysctl(t, "net/ipv4/conf/all/arp_ignore") + r.sysctl(t, "net/ipv4/conf/eth0/arp_announce")
			changed := 0
			for _, s := range r.setup(t, tg) {
				if s.Changed {
					changed++
				}
			}
			if changed == 0 || !r.onLo(t, tg.VIP) {
				t.Errorf("%d steps changed something; VIP on lo: %t", changed, r.onLo(t, tg.VIP))
			}
			for _, s := range r.setup(t, tg) {
				if s.Changed {
					t.Errorf("the second run changed %s", s.What)
				}
			}
			r.undo(t, tg)
			after := r.sysctl(t, "net/ipv4/conf/all/arp_ignore") + r.sysctl(t, "net/ipv4/conf/eth0/arp_announce")
			if r.onLo(t, tg.VIP) || before != after {
				t.Errorf("VIP on lo: %t; arp %s, then %s", r.onLo(t, tg.VIP), before, after)
			}
			r.undo(t, tg)
		})
	}
}

func TestApplyRefusesToRunElsewhere(t *testing.T) {
	r := newRig(t)
	p, err := NewPlan(target(L2DSR, vip4, backend4), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := in(t, r.director, func() error { _, err := p.Apply(); return err }); !errors.Is(err, ErrElsewhere) {
		t.Errorf("got %v", err)
	}
}

func TestABackendInModeNATGetsItsDefaultRoute(t *testing.T) {
	for _, tg := range []Target{target(NAT, vip4, backend4), target(NAT, vip6, backend6)} {
		t.Run(caseName(tg), func(t *testing.T) {
			r := newRig(t)
			r.serve(t, "")
			want(t, r.doctor(t, tg), "route", "default route")
			r.setup(t, tg)
			for _, s := range r.setup(t, tg) {
				if s.Changed {
					t.Errorf("the second run changed %s", s.What)
				}
			}
			want(t, r.doctor(t, tg), "")
			r.undo(t, tg)
			want(t, r.doctor(t, tg), "route")
		})
	}
}

func TestTheDoctorLeavesNothingBehind(t *testing.T) {
	r := newRig(t)
	tg := target(L2DSR, vip4, backend4)
	r.setup(t, tg)
	r.serve(t, tg.VIP.String())
	r.doctor(t, tg)
	if err := in(t, r.director, func() error {
		conn, err := nftTables()
		if err == nil && len(conn) > 0 {
			t.Errorf("tables %v", conn)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.server.Do(t, func() {
		// The connection that the doctor began is gone: one line of headings, one for the listener.
		text, err := os.ReadFile("/proc/thread-self/net/tcp")
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n != 2 {
			t.Errorf("%d sockets:\n%s", n-1, text)
		}
	})
}
