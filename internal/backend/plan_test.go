package backend

import (
	"net/netip"
	"strings"
	"testing"

	"naru/internal/wire"
)

var (
	vip4     = netip.MustParseAddr("203.0.113.10")
	vip6     = netip.MustParseAddr("2001:db8:99::10")
	backend4 = netip.MustParseAddr("10.0.0.11")
	backend6 = netip.MustParseAddr("2001:db8:1::11")
)

// target returns a TCP service on port 80 in one of the ways.
func target(way Way, vip, addr netip.Addr) Target {
	t := Target{Service: "web", Backend: "b1", VIP: vip, Proto: wire.ProtoTCP, Port: 80, Address: addr, Way: way}
	switch way {
	case DSCP:
		t.Code = 10
	case GUE:
		t.GUEPort = 6080
	case NAT:
		t.Via = netip.MustParseAddr("10.0.0.1")
		if addr.Is6() {
			t.Via = netip.MustParseAddr("2001:db8:1::1")
		}
	}
	return t
}

func text(t *testing.T, tg Target, opt PlanOptions, format string) string {
	t.Helper()
	p, err := NewPlan(tg, opt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Text(format)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCommandsOfEachMode(t *testing.T) {
	tests := []struct {
		name   string
		target Target
		want   []string // lines in this order
		never  string
	}{
		{"l2dsr", target(L2DSR, vip4, backend4), []string{
			"# on b1 (10.0.0.11), as root",
			"sysctl -w net/ipv4/conf/all/arp_ignore=1",
			"sysctl -w net/ipv4/conf/all/arp_announce=2",
			"ip addr replace 203.0.113.10/32 dev lo scope host",
			"# undo",
			"# ip addr del 203.0.113.10/32 dev lo",
			"# sysctl -w net/ipv4/conf/all/arp_ignore=0",
			"# proof: naru backend doctor web/b1",
		}, "nft"},
		{"l2dsr IPv6", target(L2DSR, vip6, backend6),
			[]string{"ip addr replace 2001:db8:99::10/128 dev lo nodad noprefixroute"}, "arp_"},
		{"dscp", target(DSCP, vip4, backend4), []string{
			"table inet naru.web.b1 {}", "delete table inet naru.web.b1",
			"    ip dscp 10 ip daddr 10.0.0.11 counter ip daddr set 203.0.113.10",
			"ip addr replace 203.0.113.10/32 dev lo scope host",
			"# nft delete table inet naru.web.b1",
		}, "maxseg"},
		{"ipip", target(IPIP, vip4, backend4), []string{
			"ip link add naru-ipip type ipip local 10.0.0.11 remote any",
			"# where the kernel has no such device: " +
				"naru backend decap --mode ipip --local 10.0.0.11 --vip 203.0.113.10",
			"    ip saddr 203.0.113.10 tcp flags & (syn|rst) == syn tcp option maxseg size > 1440 counter " +
				"tcp option maxseg size set 1440",
		}, ""},
		{"ipip 6in4", target(IPIP, vip6, backend4), []string{"ip link add naru-sit type sit local 10.0.0.11 remote any"},
			"arp_"},
		{"gue", target(GUE, vip4, backend4), []string{
			"ip fou add port 6080 gue",
			"    ip saddr 203.0.113.10 tcp flags & (syn|rst) == syn tcp option maxseg size > 1428 counter " +
				"tcp option maxseg size set 1428",
		}, ""},
		{"nat", target(NAT, vip4, backend4), []string{"ip route replace default via 10.0.0.1 dev $IF"}, "dev lo"},
		{"fullnat", target(FullNAT, vip4, backend4), []string{"# note: mode fullnat needs nothing on the backend"}, "undo"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rest := text(t, test.target, PlanOptions{}, "sh")
			all := rest
			for _, want := range test.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("missing %q, or it stands too early, in\n%s", want, all)
				}
				rest = after
			}
			if test.never != "" && strings.Contains(all, test.never) {
				t.Errorf("unwanted %q in\n%s", test.never, all)
			}
		})
	}
}

func TestEveryFormatHoldsWhatTheModeNeeds(t *testing.T) {
	for _, format := range Formats() {
		s := text(t, target(DSCP, vip4, backend4), PlanOptions{}, format)
		for _, want := range []string{"203.0.113.10/32", "arp_ignore", "arp_announce", "ip dscp 10 ip daddr 10.0.0.11"} {
			if !strings.Contains(s, want) {
				t.Errorf("%s: no %q in\n%s", format, want, s)
			}
		}
		s = text(t, target(GUE, vip6, backend6), PlanOptions{Decap: "naru"}, format)
		for _, want := range []string{"2001:db8:99::10/128", "naru backend decap --mode gue", "maxseg size set 1388"} {
			if !strings.Contains(s, want) {
				t.Errorf("%s: no %q in\n%s", format, want, s)
			}
		}
	}
}

func TestAnUnknownFormatIsRefused(t *testing.T) {
	p, err := NewPlan(target(L2DSR, vip4, backend4), PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Text("freebsd"); err == nil {
		t.Error("accepted")
	}
}

func TestUndoKeepsWhatAnotherServiceNeeds(t *testing.T) {
	other := target(L2DSR, vip4, backend4)
	other.Service, other.Port = "tls", 443
	opt := PlanOptions{Others: []Target{other}}
	p, err := NewPlan(target(L2DSR, vip4, backend4), opt)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.UndoText(opt); strings.Contains(s, "\nip addr del") || strings.Contains(s, "\nsysctl") {
		t.Errorf("undoes what tls needs:\n%s", s)
	}
	if s := p.UndoText(PlanOptions{}); !strings.Contains(s, "\nip addr del 203.0.113.10/32 dev lo") {
		t.Errorf("undoes nothing:\n%s", s)
	}
}

func TestTargetsThatMakeNoSenseAreRefused(t *testing.T) {
	noVia := target(NAT, vip4, backend4)
	noVia.Via = netip.Addr{}
	for _, tg := range []Target{noVia, target(L2DSR, vip4, backend6), target(DSCP, vip6, backend4), target("gre", vip4, backend4),
		{Service: "web", Backend: "b1"}} {
		if _, err := NewPlan(tg, PlanOptions{}); err == nil {
			t.Errorf("accepted %+v", tg)
		}
	}
}

func TestOneDecapsulatorServesAllServicesOfAnAddress(t *testing.T) {
	web, six := target(GUE, vip4, backend4), target(GUE, vip6, backend4)
	six.Service = "web6"
	elsewhere, ipip := target(GUE, vip6, backend6), target(IPIP, vip4, backend4)
	elsewhere.Service, ipip.Service = "elsewhere", "ipip"
	opt := PlanOptions{Decap: "naru", Others: []Target{web, six, elsewhere, ipip}}
	want := "naru backend decap --mode gue --local 10.0.0.11 --vip 2001:db8:99::10 --vip 203.0.113.10 --port 6080\n"
	for _, tg := range []Target{web, six} {
		s := text(t, tg, opt, "networkd")
		if !strings.Contains(s, want) || !strings.Contains(s, "/naru-decap-gue-6080-10-0-0-11.service") {
			t.Errorf("%s: want %q in one unit for both:\n%s", tg.Service, want, s)
		}
	}
}

func TestADecapsulatorTakesFromEverybodyWhereOneDirectorIsNotKnown(t *testing.T) {
	web, tls := target(IPIP, vip4, backend4), target(IPIP, vip4, backend4)
	web.Source, tls.Service = []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16")}, "tls"
	if s := text(t, web, PlanOptions{}, "sh"); !strings.Contains(s, "--from 10.200.0.0/16") {
		t.Errorf("alone: no --from in\n%s", s)
	}
	if s := text(t, web, PlanOptions{Others: []Target{tls}}, "sh"); strings.Contains(s, "--from") {
		t.Errorf("with a service of unknown director:\n%s", s)
	}
}

func TestAServerOfUDPIsToldToAnswerFromTheVIP(t *testing.T) {
	tg := target(L2DSR, vip4, backend4)
	tg.Proto = 17
	if s := text(t, tg, PlanOptions{}, "sh"); !strings.Contains(s, "answer from the address that was asked") {
		t.Error(s)
	}
}
