package director

import (
	"net/netip"
	"reflect"
	"testing"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/kernel"
)

// modesConfig has a service of each mode besides full NAT.
func modesConfig() *config.Config {
	cfg := testConfig()
	tunnel := config.L3DSR{Encap: "gue", Port: 6080, Variant: 1,
		Source: prefixes("10.200.0.0/16", "2001:db8:10::77/128")}
	far := netip.MustParseAddr("2001:db8:10::3")
	one := []config.Backend{{Name: "server01", Address: server, Weight: 1}}
	cfg.Services = []config.Service{
		{Name: "ssh", VIP: vip4, Protocol: "tcp", Ports: []config.Ports{{Lo: 22, Hi: 22}, {Lo: 1000, Hi: 1999}}, Mode: "nat",
			Backends: []config.Backend{{Name: "server01", Address: server, Weight: 1},
				{Name: "server02", Address: netip.MustParseAddr("10.10.10.2"), Port: 2222, Weight: 1}}},
		{Name: "web", VIP: vip4, Protocol: "tcp", Ports: []config.Ports{{Lo: 80, Hi: 80}}, Mode: "l2dsr", Backends: one},
		{Name: "mail", VIP: vip4, Protocol: "tcp", Ports: []config.Ports{{Lo: 25, Hi: 25}}, Mode: "l3dsr",
			L3DSR:    config.L3DSR{Encap: "dscp", DSCP: 10},
			Backends: []config.Backend{{Name: "server01", Address: server, Weight: 1, MTU: 1400}}},
		{Name: "game", VIP: vip4, Protocol: "udp", Ports: []config.Ports{{Lo: 1, Hi: 65535}}, Mode: "l3dsr", L3DSR: tunnel,
			Backends: []config.Backend{one[0], {Name: "far", Address: far, Weight: 1}}},
	}
	cfg.VIPs[0].Echo, cfg.VIPs[1].Echo = "answer", "drop"
	return cfg
}

func TestCompileKnowsWhatEachModeNeeds(t *testing.T) {
	c, err := compile.Config(modesConfig(), testHost())
	if err != nil {
		t.Fatal(err)
	}
	if c.VIPs[0].Echo != forwarder.EchoAnswer || c.VIPs[1].Echo != forwarder.EchoDrop {
		t.Errorf("echo %+v", c.VIPs)
	}
	want := []forwarder.L3DSROptions{{}, {}, {Encap: forwarder.EncapDSCP, DSCP: 10}, {Encap: forwarder.EncapGUE, Port: 6080,
		Variant: 1, Source4: netip.MustParsePrefix("10.200.0.0/16"), Source6: netip.MustParsePrefix("2001:db8:10::77/128")}}
	modes := []forwarder.Mode{forwarder.NAT, forwarder.L2DSR, forwarder.L3DSR, forwarder.L3DSR}
	for i, s := range c.Services {
		if s.Mode != modes[i] || !reflect.DeepEqual(s.L3DSR, want[i]) {
			t.Errorf("%s: mode %d, %+v, want %d, %+v", s.Name, s.Mode, s.L3DSR, modes[i], want[i])
		}
	}
	if got := c.Services[2].Backends[0].MTU; got != 1400 {
		t.Errorf("MTU %d", got)
	}
}

func TestTheFenceHasTheRepliesOfNATAndTheOuterSources(t *testing.T) {
	cfg := modesConfig()
	var c claims
	c.add(cfg)
	second := netip.MustParseAddr("10.10.10.2")
	want := kernel.FenceSpec{
		Interfaces: []string{"eth0", "eth1"},
		VIPs:       []netip.Addr{vip4, vip6},
		Pool:       []netip.Addr{netip.MustParseAddr("2001:db8:10::77")},
		Outer:      prefixes("10.200.0.0/16"),
		Replies: []kernel.FencePorts{{Addr: server, Proto: 6, Lo: 22, Hi: 22}, {Addr: server, Proto: 6, Lo: 1000, Hi: 1999},
			{Addr: second, Proto: 6, Lo: 2222, Hi: 2222}},
		ReplyInterfaces: []string{"eth1"},
		Host: []netip.Addr{held4, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.168.0.2"),
			netip.MustParseAddr("200.100.50.2"), netip.MustParseAddr("2001:db8:10::fe")},
	}
	if got := fenceSpec(cfg, testHost(), &c); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A source that the kernel holds is the kernel's; connections of a service that is gone keep their fence.
	host := testHost()
	host.Addrs = append(host.Addrs, kernel.Addr{Link: 5, Prefix: netip.MustParsePrefix("2001:db8:10::77/64")})
	cfg.Services = cfg.Services[3:]
	c.add(cfg)
	got := fenceSpec(cfg, host, &c)
	if got.Pool != nil || !reflect.DeepEqual(got.Replies, want.Replies) || len(got.Host) != len(want.Host)+1 {
		t.Errorf("got %+v", got)
	}
}

func TestAnOuterSourceIsAskedForWhereTheKernelDoesNotHoldIt(t *testing.T) {
	c, _ := compile.Config(modesConfig(), testHost())
	c.VIPs = c.VIPs[:1]
	want := []map[[6]byte]bool{{allNodes: true}, {{0x33, 0x33, 0xff, 0, 0, 0x77}: true, allNodes: true}}
	if got := groups(&c); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.HostAddrs = append(c.HostAddrs, netip.MustParseAddr("2001:db8:10::77"))
	if got := groups(&c); len(got[1]) != 1 {
		t.Errorf("got %v", got)
	}
}

func TestHostChecksKnowTheModes(t *testing.T) {
	routed := netip.MustParseAddr("198.51.100.1")
	for name, c := range map[string]struct {
		change func(*config.Config, *kernel.State)
		want   string
	}{
		"a host that fits": {func(*config.Config, *kernel.State) {}, ""},
		"l2dsr through a router": {func(c *config.Config, _ *kernel.State) { c.Services[1].Backends[0].Address = routed },
			"services[1].backends[0].address: 198.51.100.1 is behind the router 200.100.50.1, and mode l2dsr reaches only what " +
				"is on an interface's own segment; use mode l3dsr, or give this host an address in the backend's subnet"},
		"a prefix with this host in it": {
			func(c *config.Config, _ *kernel.State) {
				c.Services[3].L3DSR.Source[0] = netip.MustParsePrefix("10.10.10.0/24")
			},
			"services[3].l3dsr.source: this host's kernel holds 10.10.10.254, which is in 10.10.10.0/24, and a prefix is " +
				"naru's as a whole; take a prefix without an address of this host"},
		"a prefix with neighbours in it": {
			func(c *config.Config, _ *kernel.State) {
				c.Services[3].L3DSR.Source[0] = netip.MustParsePrefix("10.10.10.64/26")
			},
			"services[3].l3dsr.source: 10.10.10.64/26 is part of the subnet 10.10.10.0/24 of this host, and naru answers for " +
				"every address of it; take a prefix of its own that routers send here"},
		"no address for the outer header": {
			func(c *config.Config, h *kernel.State) {
				c.Services[3].L3DSR.Source = c.Services[3].L3DSR.Source[:1]
				h.Addrs[2].Prefix = netip.MustParsePrefix("fe80::1/64")
			},
			"services[3].l3dsr: no interface towards backends has an IPv6 address that outer packets could come from; " +
				"give it one, or write l3dsr.source"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, host := modesConfig(), testHost()
			c.change(cfg, host)
			got := ""
			for _, p := range CheckHost(cfg, host, PortRange{32768, 60999}) {
				got += p.String()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
