package lab

import (
	"net/netip"
	"slices"
)

const remoteDrawing = `
 client          router            director          wan             site-a         switch
+-------------+ +--------------+  +--------------+  +------------+  +------------+  +---+
| 10.20.40.80 |-| 10.20.40.1   |  |     naru     |  | 172.16.0.2 |  | 172.16.1.2 |  |   |-- server01
+-------------+ | 200.100.50.1 |--| 200.100.50.2 |  | 172.16.1.1 |--| 10.10.10.9 |--|   |-- server02
                +--------------+  | 172.16.0.1   |--| 172.16.2.1 |  +------------+  +---+
 VIP 200.100.50.25 www.naru.test  +--------------+  +------------+   site-b         switch-b
                                                          |         +------------+  +---+
                                                          +---------| 172.16.2.2 |  |   |
                                                                    | 10.10.20.9 |--|   |-- server03
                                                                    +------------+  +---+
 servers  10.10.10.1 and 10.10.10.2 in one place, 10.10.20.3 in another; one virtual server
 request  client > router > naru > wan > site-a > server02   source becomes 172.16.0.1
 reply    server02 > site-a > wan > naru > router > client   source becomes the VIP again
 IPv6     VIP 2001:db8:50::25, naru 2001:db8:16::1, server01 2001:db8:10::1, server03 2001:db8:11::3
`

// remote is full NAT to servers in two places, each behind routers of its own.
func remote() *Scenario {
	s := classic("remote", "servers in two places behind routers, as one virtual server by full NAT",
		remoteDrawing, ModeFullNAT)
	s.BackendSide = End{"wan", "eth0"}
	s.Via4, s.Via6 = netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("2001:db8:16::1")
	s.Topology = twoSites
	s.Pool = func(Options) []netip.Addr { return []netip.Addr{s.Via4, s.Via6} }
	s.Config = func(o Options, socket string) string { return configure(s, s.Pool(o), o, socket) }
	s.PortLo, s.PortHi = 1024, 32767
	s.Variants = func() []Variant { return remoteVariants(s) }
	return s
}

// twoSites is a network where naru reaches two places over a wide area network, whose cables carry PathMTU.
func twoSites(o Options) Topology {
	wan := func(name string, addrs ...string) Interface {
		i := eth(name, addrs...)
		i.MTU = o.PathMTU
		return i
	}
	director := directorNode(o, defaultRoutes("200.100.50.1", "2001:db8:50::1"),
		eth("eth0", "200.100.50.2/24", "2001:db8:50::2/64"), eth("eth1", "172.16.0.1/24", "2001:db8:16::1/64"))
	director.Routes = append(director.Routes, routesTo("172.16.0.2", "2001:db8:16::2",
		"10.10.0.0/16", "2001:db8:10::/64", "2001:db8:11::/64")...)
	t := Topology{
		Nodes: []Node{
			clientNode(), routerNode(), director,
			{
				Name: "wan", Sysctls: forwarding,
				Routes: slices.Concat(defaultRoutes("172.16.0.1", "2001:db8:16::1"),
					routesTo("172.16.1.2", "2001:db8:17::2", "10.10.10.0/24", "2001:db8:10::/64"),
					routesTo("172.16.2.2", "2001:db8:18::2", "10.10.20.0/24", "2001:db8:11::/64")),
				Interfaces: []Interface{
					eth("eth0", "172.16.0.2/24", "2001:db8:16::2/64"),
					wan("eth1", "172.16.1.1/24", "2001:db8:17::1/64"), wan("eth2", "172.16.2.1/24", "2001:db8:18::1/64"),
				},
			},
			{
				Name: "site-a", Sysctls: forwarding, Routes: defaultRoutes("172.16.1.1", "2001:db8:17::1"),
				Interfaces: []Interface{
					wan("eth0", "172.16.1.2/24", "2001:db8:17::2/64"), eth("eth1", "10.10.10.9/24", "2001:db8:10::9/64"),
				},
			},
			{
				Name: "site-b", Sysctls: forwarding, Routes: defaultRoutes("172.16.2.1", "2001:db8:18::1"),
				Interfaces: []Interface{
					wan("eth0", "172.16.2.2/24", "2001:db8:18::2/64"), eth("eth1", "10.10.20.9/24", "2001:db8:11::9/64"),
				},
			},
			{Name: "switch", Switch: true, Interfaces: []Interface{{Name: "site-a"}}},
			{Name: "switch-b", Switch: true, Interfaces: []Interface{{Name: "site-b"}}},
		},
		Links: []Link{
			cable("client/eth0", "router/eth0"),
			cable("router/eth1", "director/eth0"),
			cable("director/eth1", "wan/eth0"),
			cable("wan/eth1", "site-a/eth0"),
			cable("wan/eth2", "site-b/eth0"),
			cable("site-a/eth1", "switch/site-a"),
			cable("site-b/eth1", "switch-b/site-b"),
		},
		Hosts: vipHosts(),
	}
	a, b := defaultRoutes("10.10.10.9", "2001:db8:10::9"), defaultRoutes("10.10.20.9", "2001:db8:11::9")
	t.addServer("switch", 1, "10.10.10.", "2001:db8:10::", a)
	t.addServer("switch", 2, "10.10.10.", "2001:db8:10::", a)
	t.addServer("switch-b", 3, "10.10.20.", "2001:db8:11::", b)
	return t
}
