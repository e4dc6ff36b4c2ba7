package lab

import "net/netip"

const fullNATDrawing = `
 client          router           VIP 200.100.50.25   director          switch
+-------------+ +--------------+  www.naru.test      +----------------+  +---+
| 10.20.40.80 |-| 10.20.40.1   |         .           |      naru      |  |   |-- server01 10.10.10.1
+-------------+ | 200.100.50.1 |---------.-----------| 200.100.50.2   |  |   |-- server02 10.10.10.2
                +--------------+  200.100.50.0/24    |   10.10.10.254 |--|   |-- server03 10.10.10.3
                                                     +----------------+  +---+
 the VIP  belongs to no kernel: naru answers ARP and ND for it, and ping
 request  client > router > naru > server02   source becomes 10.10.10.254, destination 10.10.10.2
 reply    server02 > naru > router > client   source becomes the VIP again
 IPv6     client 2001:db8:20::80, VIP 2001:db8:50::25, naru 2001:db8:10::fe, server01 2001:db8:10::1
`

// fullNAT is the classic example: three servers that know nothing of naru.
func fullNAT() *Scenario {
	s := classic("fullnat", "full NAT: client, router, naru, a switch and three servers; IPv4 and IPv6",
		fullNATDrawing, ModeFullNAT)
	s.Topology = func(o Options) Topology { return twoArms(o, nil) } // full NAT must not need a route at the servers
	s.Config = func(o Options, socket string) string {
		return configure(s, fullNATPool(o), o, socket)
	}
	s.Pool = fullNATPool
	s.PortLo, s.PortHi = 1024, 32767
	s.Variants = func() []Variant { return fullNATVariants(s) }
	return s
}

func fullNATPool(o Options) []netip.Addr {
	if o.FreePool {
		return []netip.Addr{netip.MustParseAddr("10.10.10.200"), netip.MustParseAddr("2001:db8:10::c8")}
	}
	return []netip.Addr{netip.MustParseAddr("10.10.10.254"), netip.MustParseAddr("2001:db8:10::fe")}
}

// twoArms is the network of the NAT modes: naru stands between the router and the servers' network.
func twoArms(o Options, serverRoutes []Route) Topology {
	t := Topology{
		Nodes: []Node{
			clientNode(),
			// Only who calls a server by its own address needs the routes, and then naru's host is a plain router.
			routerNode(routesTo("200.100.50.2", "2001:db8:50::2", "10.10.10.0/24", "2001:db8:10::/64")...),
			directorNode(o, defaultRoutes("200.100.50.1", "2001:db8:50::1"),
				eth("eth0", "200.100.50.2/24", "2001:db8:50::2/64"), eth("eth1", "10.10.10.254/24", "2001:db8:10::fe/64")),
			{Name: "switch", Switch: true, Interfaces: []Interface{{Name: "director"}}},
		},
		Links: []Link{
			cable("client/eth0", "router/eth0"),
			cable("router/eth1", "director/eth0"),
			cable("director/eth1", "switch/director"),
		},
		Hosts: vipHosts(),
	}
	t.addServers(o, serverRoutes)
	return t
}
