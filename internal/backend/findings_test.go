package backend

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

func nftTables() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	var names []string
	for _, t := range tables {
		names = append(names, t.Name)
	}
	return names, err
}

// rule adds a rule to a namespace.
func rule(t *testing.T, ns *wiretest.NS, hook *nftables.ChainHook, kind nftables.ChainType, prio int32, exprs ...expr.Any) {
	t.Helper()
	if err := in(t, ns, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "test", Family: nftables.TableFamilyIPv4})
		chain := conn.AddChain(&nftables.Chain{Name: "c", Table: table, Type: kind, Hooknum: hook,
			Priority: nftables.ChainPriorityRef(nftables.ChainPriority(prio))})
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		return conn.Flush()
	}); err != nil {
		t.Fatal(err)
	}
}

func tcpOnly() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}}}
}

// bleach clears the DSCP, at priority -350: before the backend's own rule.
func bleach(t *testing.T, ns *wiretest.NS) {
	rule(t, ns, nftables.ChainHookPrerouting, nftables.ChainTypeFilter, -350,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 3}, Xor: []byte{0, 0}},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0,
			Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: 10})
}

func TestEveryFindingIsNamed(t *testing.T) {
	l2, dscp, ipip, gue := target(L2DSR, vip4, backend4), target(DSCP, vip4, backend4), target(IPIP, vip4, backend4),
		target(GUE, vip4, backend4)
	ipip6, gue6 := target(IPIP, vip6, backend6), target(GUE, vip6, backend6)
	ready := func(t *testing.T, r *rig, tg Target) {
		r.setup(t, tg)
		if tg.tunnel() {
			r.decap(t, DecapOptions{Mode: tg.Way, Port: tg.GUEPort})
		}
		r.serve(t, tg.VIP.String())
	}
	tests := []struct {
		name   string
		target Target
		make   func(t *testing.T, r *rig, tg Target)
		check  string
		words  []string
	}{
		{"host down", l2, func(t *testing.T, r *rig, _ Target) { r.server.Down(t, serverLeg) }, "arp",
			[]string{"10.0.0.11 does not answer"}},
		{"port closed", l2, func(t *testing.T, r *rig, tg Target) { r.setup(t, tg) }, "answer",
			[]string{"RST from 203.0.113.10:80", "nothing listens on 203.0.113.10:80 at b1"}},
		{"UDP port closed", func() Target { tg := dscp; tg.Proto = wire.ProtoUDP; return tg }(),
			func(t *testing.T, r *rig, tg Target) { r.setup(t, tg) }, "answer",
			[]string{"ICMP port unreachable from 203.0.113.10", "nothing listens"}},
		{"listens on its own address only", l2, func(t *testing.T, r *rig, tg Target) {
			r.setup(t, tg)
			r.serve(t, "10.0.0.11")
		}, "answer", []string{"RST from 203.0.113.10:80"}},
		{"VIP missing on lo", l2, func(t *testing.T, r *rig, tg Target) { r.serve(t, "") }, "answer",
			[]string{"nothing, instead of SYN/ACK from 203.0.113.10", "the VIP is not on lo at b1", "ip addr add 203.0.113.10/32 dev lo"}},
		{"VIP missing on a router", l2, func(t *testing.T, r *rig, tg Target) {
			r.server.Sysctl(t, "net/ipv4/ip_forward", "1")
			r.serve(t, "")
		}, "answer", []string{"the VIP is not on lo at b1"}},
		{"VIP missing behind a tunnel", ipip, func(t *testing.T, r *rig, tg Target) {
			r.decap(t, DecapOptions{Mode: IPIP, VIPs: []netip.Addr{tg.VIP}})
			r.serve(t, "")
		}, "answer", []string{"the VIP is not on lo at b1"}},
		{"answers ARP for the VIP", l2, func(t *testing.T, r *rig, tg Target) {
			ready(t, r, tg)
			r.server.Sysctl(t, "net/ipv4/conf/all/arp_ignore", "0")
			r.server.Sysctl(t, "net/ipv4/conf/"+serverLeg+"/arp_ignore", "0")
		}, "arp", []string{"b1 answers for 203.0.113.10", "arp_ignore=1"}},
		{"VIP on the interface, IPv6", target(L2DSR, vip6, backend6), func(t *testing.T, r *rig, tg Target) {
			r.server.Addr(t, serverLeg, tg.VIP.String()+"/128")
			r.serve(t, tg.VIP.String())
		}, "nd", []string{"b1 answers for 2001:db8:99::10"}},
		{"decapsulation missing, ipip", ipip, func(t *testing.T, r *rig, tg Target) { r.setup(t, tg) }, "answer",
			[]string{"ICMP protocol unreachable from 10.0.0.11", "naru backend decap --mode ipip"}},
		{"decapsulation missing, gue", gue, func(t *testing.T, r *rig, tg Target) { r.setup(t, tg) }, "answer",
			[]string{"ICMP port unreachable from 10.0.0.11", "naru backend decap --mode gue"}},
		{"decapsulation missing, ipip over IPv6", ipip6, func(t *testing.T, r *rig, tg Target) { r.setup(t, tg) }, "answer",
			[]string{"ICMPv6 unrecognized next header", "nothing takes the outer header off"}},
		{"decapsulation missing, gue over IPv6", gue6, func(t *testing.T, r *rig, tg Target) { r.setup(t, tg) }, "answer",
			[]string{"ICMPv6 port unreachable", "nothing takes the outer header off"}},
		{"DSCP rule missing", dscp, func(t *testing.T, r *rig, tg Target) {
			r.setup(t, target(L2DSR, vip4, backend4))
			r.serve(t, "")
		}, "answer", []string{"SYN/ACK from 10.0.0.11 instead of", "the DSCP rule is missing at b1", "ip dscp 10"}},
		{"service on another port filtered", l2, func(t *testing.T, r *rig, tg Target) {
			ready(t, r, tg)
			rule(t, r.server, nftables.ChainHookInput, nftables.ChainTypeFilter, 0,
				append(tcpOnly(), &expr.Verdict{Kind: expr.VerdictDrop})...)
		}, "answer", []string{"nothing, instead of SYN/ACK", "though the VIP answers otherwise", "a firewall on b1"}},
		{"refused by a firewall", l2, func(t *testing.T, r *rig, tg Target) {
			ready(t, r, tg)
			rule(t, r.server, nftables.ChainHookInput, nftables.ChainTypeFilter, 0,
				append(tcpOnly(), &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: 13})...)
		}, "answer", []string{"ICMP type 3 code 13", "a firewall on b1"}},
		{"reply from the wrong address", l2, func(t *testing.T, r *rig, tg Target) {
			ready(t, r, tg)
			other := netip.MustParseAddr("10.0.0.77")
			rule(t, r.server, nftables.ChainHookOutput, nftables.ChainTypeFilter, 0, append(tcpOnly(),
				&expr.Immediate{Register: 1, Data: other.AsSlice()},
				&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader,
					Offset: 12, Len: 4, CsumType: expr.CsumTypeInet, CsumOffset: 10, CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR})...)
		}, "answer", []string{"SYN/ACK from 10.0.0.77 instead of SYN/ACK from 203.0.113.10", "rewritten"}},
		{"MSS too large", ipip, func(t *testing.T, r *rig, tg Target) {
			ready(t, r, tg)
			if err := in(t, r.server, func() error {
				_, err := (&rulesChange{target: tg}).undo(nil)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}, "mss", []string{"segments of 1460 bytes, 1440 fit"}},
		{"full NAT, port closed", target(FullNAT, vip4, backend4), func(*testing.T, *rig, Target) {}, "answer",
			[]string{"RST from 10.0.0.11:80", "nothing listens on 10.0.0.11:80"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			test.make(t, r, test.target)
			want(t, r.doctor(t, test.target), test.check, test.words...)
		})
	}
}

func TestTheDoctorNamesWhoChangesTheMark(t *testing.T) {
	tg := target(DSCP, vip4, netip.MustParseAddr("10.0.1.11"))
	r, router := newRouted(t)
	r.setup(t, tg)
	r.serve(t, tg.VIP.String())
	want(t, r.doctor(t, tg), "")
	// Behind the router's TTL check: its own ICMP error still shows the mark.
	rule(t, router, nftables.ChainHookForward, nftables.ChainTypeFilter, 0,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 3}, Xor: []byte{0, 0}},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0,
			Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: 10})
	rep := r.doctor(t, tg)
	if c := find(rep, "dscp"); c.Status != Fail || c.Text != "sent with 10, seen with 0 at b1" ||
		c.Cause != "a switch or router on the way rewrites the mark, between 10.0.0.254 and 10.0.1.11" {
		t.Errorf("%+v", c)
	}
	if c := find(rep, "answer"); c.Status != Fail || c.Cause != "the mark was changed on the way, see dscp" {
		t.Errorf("%+v", c)
	}
}

func TestAMarkClearedAtTheBackendIsSeen(t *testing.T) {
	r := newRig(t)
	tg := target(DSCP, vip4, backend4)
	r.setup(t, tg)
	bleach(t, r.server)
	r.serve(t, "")
	if c := find(r.doctor(t, tg), "dscp"); c.Status != Fail || c.Text != "sent with 10, seen with 0 at b1" {
		t.Errorf("%+v", c)
	}
}

func TestTheLargestPacketIsFound(t *testing.T) {
	tg := target(IPIP, vip4, netip.MustParseAddr("10.0.1.11"))
	r, router := newRouted(t)
	r.setup(t, tg)
	r.decap(t, DecapOptions{Mode: IPIP})
	r.serve(t, tg.VIP.String())
	want(t, r.doctor(t, tg), "")
	if err := router.Handle().LinkSetMTU(router.Link(t, "r1"), 1400); err != nil {
		t.Fatal(err)
	}
	rep := r.doctor(t, tg)
	if c := find(rep, "mtu"); c.Status != Fail || c.Text != "the largest packet that gets there has 1380 bytes inside an "+
		"outer one of 20 more, not 1480" {
		t.Errorf("%+v", c)
	}
	if c := find(rep, "mss"); c.Status != Fail || c.Text != "the SYN/ACK asks for segments of 1440 bytes, 1340 fit" {
		t.Errorf("%+v", c)
	}
	tg.MTU = 1400
	r.setup(t, tg)
	want(t, r.doctor(t, tg), "")
}

// newRouted is a rig whose server, 10.0.1.11, is behind a router, 10.0.0.254.
func newRouted(t *testing.T) (*rig, *wiretest.NS) {
	t.Helper()
	wiretest.Root(t)
	r := &rig{wiretest.NewNS(t, "director"), wiretest.NewNS(t, "server")}
	router := wiretest.NewNS(t, "router")
	wiretest.Veth(t, r.director, directorLeg, router, "r0")
	wiretest.Veth(t, r.server, serverLeg, router, "r1")
	r.director.Addr(t, directorLeg, "10.0.0.1/24")
	router.Addr(t, "r0", "10.0.0.254/24")
	router.Addr(t, "r1", "10.0.1.254/24")
	r.server.Addr(t, serverLeg, "10.0.1.11/24")
	router.Sysctl(t, "net/ipv4/ip_forward", "1")
	for _, ns := range []*wiretest.NS{router, r.server} {
		ns.Sysctl(t, "net/ipv4/icmp_ratelimit", "0")
	}
	defaultRoute(t, r.director, directorLeg, "10.0.0.254")
	defaultRoute(t, r.server, serverLeg, "10.0.1.254")
	return r, router
}

func defaultRoute(t *testing.T, ns *wiretest.NS, ifname, via string) {
	t.Helper()
	gw := netip.MustParseAddr(via)
	if err := ns.Handle().RouteAdd(&netlink.Route{LinkIndex: ns.Link(t, ifname).Attrs().Index, Gw: gw.AsSlice()}); err != nil {
		t.Fatal(err)
	}
}

func TestABackendOfL2DSRBehindARouterIsNamed(t *testing.T) {
	r, _ := newRouted(t)
	tg := target(L2DSR, vip4, netip.MustParseAddr("10.0.1.11"))
	rep := r.doctor(t, tg)
	want(t, rep, "segment", "10.0.1.11 is behind the router 10.0.0.254", "changes nothing but MAC addresses", "ipip")
	if len(rep.Checks) != 1 {
		t.Errorf("asks on though nothing can come of it: %+v", rep.Checks)
	}
}
