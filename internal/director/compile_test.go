package director

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/kernel"
	"naru/sched"
)

var (
	vip4, vip6   = netip.MustParseAddr("200.100.50.25"), netip.MustParseAddr("2001:db8:50::25")
	held4, free4 = netip.MustParseAddr("10.10.10.254"), netip.MustParseAddr("10.10.10.200")
	free6        = netip.MustParseAddr("2001:db8:10::c8")
	server       = netip.MustParseAddr("10.10.10.1")
	mac1         = [6]byte{2, 0, 0, 0, 0, 1}
	mac2         = [6]byte{2, 0, 0, 0, 0, 2}
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// testConfig is the classic example, with IPv6 beside it.
func testConfig() *config.Config {
	timeouts := config.Timeouts{TCPSyn: 1, TCPEstablished: 2, TCPClosing: 3, UDP: 4, UDPUnreplied: 5}
	return &config.Config{
		Interfaces: []config.Interface{{Name: "eth0", Side: "client"}, {Name: "eth1", Side: "backend"}},
		Fence:      "nft",
		Node:       config.Node{Connections: 1024},
		VIPs: []config.VIP{{Address: vip4, Owner: "naru", Reject: "rst"},
			{Address: vip6, Owner: "naru", Reject: "drop"}},
		Neighbors: []config.Neighbor{{Address: server, MAC: mac2, Interface: "eth1"}},
		Services: []config.Service{
			{Name: "web", VIP: vip4, Protocol: "tcp", Ports: []config.Ports{{Lo: 80, Hi: 80}}, Mode: "fullnat", Scheduler: "lc",
				NAT: config.NAT{SourcePool: []netip.Addr{held4, free4}, SourcePorts: config.Ports{Lo: 1024, Hi: 32767},
					PortRest: time.Minute},
				Timeouts: timeouts, Reject: "icmp", Midstream: "pickup",
				Backends: []config.Backend{{Name: "server01", Address: server, Port: 8080, Weight: 3}}},
			{Name: "dns6", VIP: vip6, Protocol: "udp", Ports: []config.Ports{{Lo: 53, Hi: 60}}, Mode: "fullnat", Scheduler: "rr",
				NAT: config.NAT{SourcePool: []netip.Addr{free6}, SourcePorts: config.Ports{Lo: 1024, Hi: 32767}}},
		},
	}
}

// testHost has the legs and one interface that is not ours.
func testHost() *kernel.State {
	addr := func(link int, p string) kernel.Addr { return kernel.Addr{Link: link, Prefix: netip.MustParsePrefix(p)} }
	gw := netip.MustParseAddr("200.100.50.1")
	return &kernel.State{
		Links: []kernel.Link{{Index: 1, Name: "lo"}, {Index: 5, Name: "eth1", MAC: mac2, MTU: 9000, Up: true},
			{Index: 7, Name: "eth0", MAC: mac1, MTU: 1500, Up: true}, {Index: 9, Name: "mgmt", MAC: mac1, MTU: 1500}},
		Addrs: []kernel.Addr{addr(1, "127.0.0.1/8"), addr(5, "10.10.10.254/24"), addr(5, "2001:db8:10::fe/64"),
			addr(7, "200.100.50.2/24"), addr(9, "192.168.0.2/24")},
		Routes: []kernel.Route{
			{Prefix: netip.MustParsePrefix("192.0.2.0/24")},
			{Prefix: netip.MustParsePrefix("10.10.10.0/24"), Link: 5},
			{Prefix: netip.MustParsePrefix("192.168.0.0/24"), Link: 9},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Link: 7, Gateway: gw},
		},
		Neighbors: []kernel.Neighbor{
			{Link: 5, Addr: server, MAC: mac1}, {Link: 7, Addr: gw, MAC: mac2, State: kernel.NeighborStale},
			{Link: 7, Addr: netip.MustParseAddr("200.100.50.9"), MAC: mac2, Permanent: true}, {Link: 9, Addr: server, MAC: mac1},
		},
	}
}

func TestCompilePutsConfigurationAndHostIntoTheEnginesWords(t *testing.T) {
	got, err := compile.Config(testConfig(), testHost())
	if err != nil {
		t.Fatal(err)
	}
	gw := netip.MustParseAddr("200.100.50.1")
	want := forwarder.Config{
		Legs: []forwarder.Leg{
			{Name: "eth0", MAC: mac1, MTU: 1500, Addrs: prefixes("200.100.50.2/24"), Client: true},
			{Name: "eth1", MAC: mac2, MTU: 9000, Addrs: prefixes("10.10.10.254/24", "2001:db8:10::fe/64"), Backend: true},
		},
		VIPs: []forwarder.VIP{{Addr: vip4, Reject: forwarder.RejectRST}, {Addr: vip6, Reject: forwarder.RejectDrop}},
		Routes: []forwarder.Route{
			{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Leg: -1},
			{Prefix: netip.MustParsePrefix("10.10.10.0/24"), Leg: 1},
			{Prefix: netip.MustParsePrefix("192.168.0.0/24"), Leg: -1},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Leg: 0, Gateway: gw},
		},
		Neighbors: []forwarder.Neighbor{
			{Leg: 1, Addr: server, MAC: mac2, Static: true},
			{Leg: 0, Addr: netip.MustParseAddr("200.100.50.9"), MAC: mac2, Static: true},
		},
		HostAddrs: []netip.Addr{held4, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.168.0.2"),
			netip.MustParseAddr("200.100.50.2"), netip.MustParseAddr("2001:db8:10::fe")},
		Services: []forwarder.Service{
			{Name: "web", VIP: vip4, Proto: 6, Ports: []forwarder.PortRange{{Lo: 80, Hi: 80}}, Scheduler: sched.LC,
				Locals:      []forwarder.Local{{Addr: held4, Kernel: true}, {Addr: free4}},
				SourcePorts: forwarder.PortRange{Lo: 1024, Hi: 32767}, PortRest: time.Minute,
				Timeouts: forwarder.Timeouts{TCPSyn: 1, TCPEstablished: 2, TCPClosing: 3, UDP: 4, UDPUnreplied: 5},
				Reject:   forwarder.RejectICMP, Midstream: forwarder.MidstreamPickup,
				Backends: []forwarder.Backend{{Name: "server01", Addr: server, Port: 8080, Weight: 3}}},
			{Name: "dns6", VIP: vip6, Proto: 17, Ports: []forwarder.PortRange{{Lo: 53, Hi: 60}},
				Locals: []forwarder.Local{{Addr: free6}}, SourcePorts: forwarder.PortRange{Lo: 1024, Hi: 32767}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCompileRefusesAHostWithoutTheInterface(t *testing.T) {
	host := testHost()
	host.Links = host.Links[:2]
	if _, err := compile.Config(testConfig(), host); err == nil || err.Error() != "compile: interface eth0 is gone" {
		t.Errorf("got %v", err)
	}
}

func TestOfTheKernelsNeighboursOnlyTheUsefulAreTaken(t *testing.T) {
	gw, client := netip.MustParseAddr("200.100.50.1"), netip.MustParseAddr("200.100.50.77")
	for name, c := range map[string]struct {
		add  kernel.Neighbor
		want bool
	}{
		"a confirmed gateway":  {kernel.Neighbor{Link: 7, Addr: gw, MAC: mac1}, true},
		"a stale gateway":      {kernel.Neighbor{Link: 7, Addr: gw, MAC: mac1, State: kernel.NeighborStale}, false},
		"a probed gateway":     {kernel.Neighbor{Link: 7, Addr: gw, MAC: mac1, State: kernel.NeighborProbing}, false},
		"a confirmed backend":  {kernel.Neighbor{Link: 7, Addr: server, MAC: mac1}, true},
		"a confirmed client":   {kernel.Neighbor{Link: 7, Addr: client, MAC: mac1}, false},
		"entered by hand":      {kernel.Neighbor{Link: 7, Addr: client, MAC: mac1, Permanent: true}, true},
		"of another interface": {kernel.Neighbor{Link: 9, Addr: gw, MAC: mac1, Permanent: true}, false},
	} {
		host := testHost()
		host.Neighbors = []kernel.Neighbor{c.add}
		got, err := compile.Config(testConfig(), host)
		if err != nil {
			t.Fatal(err)
		}
		if taken := len(got.Neighbors) == 2; taken != c.want { // one is the configuration's
			t.Errorf("%s: %+v", name, got.Neighbors)
		}
	}
}

func TestTheFenceHasWhatIsOursAndNothingElse(t *testing.T) {
	cfg := testConfig()
	shared := netip.MustParseAddr("200.100.50.26")
	cfg.VIPs = append(cfg.VIPs, config.VIP{Address: shared, Owner: "shared"})
	cfg.Services = append(cfg.Services, config.Service{Name: "ssh", VIP: shared, Protocol: "tcp",
		Ports: []config.Ports{{Lo: 22, Hi: 22}, {Lo: 100, Hi: 110}},
		NAT:   config.NAT{SourcePool: []netip.Addr{free4}, SourcePorts: config.Ports{Lo: 2000, Hi: 3000}}})
	var l claims
	l.add(cfg)
	got := fenceSpec(cfg, testHost(), &l)
	want := kernel.FenceSpec{
		Interfaces: []string{"eth0", "eth1"},
		VIPs:       []netip.Addr{vip4, vip6},
		Pool:       []netip.Addr{free4, free6},
		Services:   []kernel.FencePorts{{Addr: shared, Proto: 6, Lo: 22, Hi: 22}, {Addr: shared, Proto: 6, Lo: 100, Hi: 110}},
		LocalPorts: []kernel.FencePorts{{Addr: held4, Proto: 6, Lo: 1024, Hi: 32767}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTheFenceKeepsLocalPortsOfAnEarlierConfiguration(t *testing.T) {
	cfg := testConfig()
	var l claims
	l.add(cfg)
	cfg.Services[0].NAT.SourcePool = []netip.Addr{free4}
	l.add(cfg)
	got := fenceSpec(cfg, testHost(), &l)
	if len(got.LocalPorts) != 1 || got.LocalPorts[0].Addr != held4 {
		t.Errorf("local ports %+v", got.LocalPorts)
	}
}

func TestGroupsAreTheSolicitedNodesOfAddressesThatTheKernelDoesNotHold(t *testing.T) {
	c, _ := compile.Config(testConfig(), testHost())
	got := groups(&c)
	want := []map[[6]byte]bool{
		{{0x33, 0x33, 0xff, 0, 0, 0x25}: true, allNodes: true},
		{{0x33, 0x33, 0xff, 0, 0, 0xc8}: true, allNodes: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	c.Services = c.Services[:1]
	c.VIPs = c.VIPs[:1]
	for i, g := range groups(&c) {
		if len(g) != 0 {
			t.Errorf("leg %d joins %v for IPv4 alone", i, g)
		}
	}
}

const (
	offLink = " is in the subnet of no interface, and this host does not hold it; " +
		"replies reach naru only if the backends' routers send it here"
	kernelTakes = "from which the kernel takes ports for its own connections, " +
		"and the kernel holds 10.10.10.254 (on eth1)"
	otherAddress = "or take an address for source_pool that this host does not hold instead of 10.10.10.254"
)

type hostChange struct {
	cfg  func(*config.Config)
	host func(*kernel.State)
	eph  PortRange
}

var hostChecks = map[string]struct {
	hostChange
	want []string
}{
	"a host that fits": {},
	"a VIP that this kernel holds": {
		hostChange{host: func(h *kernel.State) {
			h.Addrs = append(h.Addrs, kernel.Addr{Link: 7, Prefix: netip.PrefixFrom(vip4, 24)})
		}},
		[]string{"services[0].vip: this host's kernel holds 200.100.50.25 on eth0 and would answer beside naru; " +
			"ip addr del 200.100.50.25/24 dev eth0, or list it under vips with owner: shared"},
	},
	"a shared VIP that this kernel holds": {
		hostChange: hostChange{
			cfg: func(c *config.Config) { c.VIPs[0].Owner = "shared" },
			host: func(h *kernel.State) {
				h.Addrs = append(h.Addrs, kernel.Addr{Link: 7, Prefix: netip.PrefixFrom(vip4, 24)})
			}},
	},
	"a backend that this kernel holds": {
		hostChange{host: func(h *kernel.State) {
			h.Addrs = append(h.Addrs, kernel.Addr{Link: 7, Prefix: netip.MustParsePrefix("10.10.10.1/24")})
		}},
		[]string{"services[0].backends[0].address: this host's kernel holds 10.10.10.1 on eth0; naru's packets do not " +
			"reach their own host; run the server on another host, or in a network namespace of its own"},
	},
	"an interface that is missing": {
		hostChange{cfg: func(c *config.Config) { c.Interfaces[1].Name = "eth9" }},
		[]string{"interfaces[1].name: there is no interface eth9; this host has eth1, eth0, mgmt",
			"services[0].nat.source_pool[1]: 10.10.10.200" + offLink,
			"services[1].nat.source_pool[0]: 2001:db8:10::c8" + offLink},
	},
	"a local address off link of many services": {
		hostChange{cfg: func(c *config.Config) {
			c.Interfaces[1].Name = "eth0"
			c.Services = []config.Service{c.Services[0], c.Services[0]}
		}},
		[]string{"services[0].nat.source_pool[1]: 10.10.10.200" + offLink},
	},
	"local ports inside the kernel's range": {
		hostChange{eph: PortRange{20000, 60999}},
		[]string{"services[0].nat.source_ports: 1024-32767 overlaps 20000-60999, " + kernelTakes + "; " +
			"source_ports: 1024-19999, " + otherAddress},
	},
	"the kernel's range is in the way from below": {
		hostChange{eph: PortRange{1024, 20000}},
		[]string{"services[0].nat.source_ports: 1024-32767 overlaps 1024-20000, " + kernelTakes + "; " +
			"source_ports: 20001-32767, " + otherAddress},
	},
	"the kernel's range covers all": {
		hostChange{eph: PortRange{1024, 65535}},
		[]string{"services[0].nat.source_ports: 1024-32767 overlaps 1024-65535, " + kernelTakes +
			"; narrow net.ipv4.ip_local_port_range, " +
			otherAddress},
	},
}

func TestHostChecksNameTheFix(t *testing.T) {
	for name, c := range hostChecks {
		t.Run(name, func(t *testing.T) {
			cfg, host, eph := testConfig(), testHost(), PortRange{32768, 60999}
			if c.cfg != nil {
				c.cfg(cfg)
			}
			if c.host != nil {
				c.host(host)
			}
			if c.eph != (PortRange{}) {
				eph = c.eph
			}
			var got []string
			for _, p := range CheckHost(cfg, host, eph) {
				got = append(got, p.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestOnlyWarningsAreNoHostError(t *testing.T) {
	if err := hostError([]HostProblem{{Warning: true}}); err != nil {
		t.Error(err)
	}
	two := []HostProblem{{Path: "a", Message: "b", Fix: "c"}, {Path: "d", Message: "e", Fix: "f"}}
	if err := hostError(two); err == nil || err.Error() != "a: b; c\nd: e; f" {
		t.Error(err)
	}
}

func TestReloadSaysWhatNeedsARestart(t *testing.T) {
	for want, change := range map[string]func(*config.Config){
		"": func(c *config.Config) { c.Services = nil },
		"interfaces: a change needs a restart of naru":       func(c *config.Config) { c.Interfaces[0].Side = "both" },
		"fence: a change needs a restart of naru":            func(c *config.Config) { c.Fence = "none" },
		"io: a change needs a restart of naru":               func(c *config.Config) { c.IO.BusyPoll = true },
		"admin: a change needs a restart of naru":            func(c *config.Config) { c.Admin.Socket = "/elsewhere" },
		"node.workers: a change needs a restart of naru":     func(c *config.Config) { c.Node.Workers = 2 },
		"node.connections: a change needs a restart of naru": func(c *config.Config) { c.Node.Connections = 5 },
	} {
		next := testConfig()
		change(next)
		got := ""
		if err := needsRestart(testConfig(), next); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMessagesOfOneKindAreLimited(t *testing.T) {
	var l limiter
	start := time.Now()
	for i, c := range []struct {
		key  string
		at   time.Duration
		held int
		ok   bool
	}{
		{"a", 0, 0, true}, {"a", time.Second, 0, false}, {"b", time.Second, 0, true}, {"a", 2 * time.Second, 0, false},
		{"a", sayEvery, 2, true}, {"a", sayEvery + 1, 0, false}, {"a", 3 * sayEvery, 1, true},
	} {
		if held, ok := l.allow(c.key, start.Add(c.at)); held != c.held || ok != c.ok {
			t.Errorf("%d: %d %v, want %d %v", i, held, ok, c.held, c.ok)
		}
	}
}
