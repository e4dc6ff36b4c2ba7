package lab

import "net/netip"

const l2dsrDrawing = `
 client          router                            switch
+-------------+ +--------------+                   +---+
| 10.20.40.80 |-| 10.20.40.1   |                   |   |-- director 10.10.10.254  naru
+-------------+ | 10.10.10.253 |-------------------|   |-- server01 10.10.10.1    VIP on lo, no ARP
                +--------------+  10.10.10.0/24    |   |-- server02 10.10.10.2    VIP on lo, no ARP
                 VIP 200.100.50.25                 |   |-- server03 10.10.10.3    VIP on lo, no ARP
                 is on its link                    +---+
 the VIP  www.naru.test: the router asks for it where the servers are, and only naru may answer
 request  client > router > naru > server02   the two MAC addresses change, not a byte more
 reply    server02 > router > client          straight: naru never sees it
 IPv6     client 2001:db8:20::80, VIP 2001:db8:50::25, naru 2001:db8:10::fe, server01 2001:db8:10::1
`

// l2dsr is direct server return on one segment: naru, the servers and the router are neighbours.
func l2dsr() *Scenario {
	s := classic("l2dsr", "direct server return on one segment: naru changes MAC addresses, servers answer themselves",
		l2dsrDrawing, ModeL2DSR)
	s.ClientSide = s.BackendSide
	s.Topology = oneSegment
	s.Config = func(o Options, socket string) string { return configure(s, nil, o, socket) }
	s.Variants = func() []Variant { return directVariants(s) }
	return s
}

// oneSegment is a network where the router reaches the VIP on the servers' segment.
func oneSegment(o Options) Topology {
	gateway := defaultRoutes("10.10.10.253", "2001:db8:10::fd")
	var onLink []Route
	for _, vip := range []netip.Addr{vip4, vip6} {
		onLink = append(onLink, Route{To: netip.PrefixFrom(vip, vip.BitLen()), Dev: "eth1"})
	}
	t := Topology{
		Nodes: []Node{
			clientNode(),
			{
				Name: "router", Sysctls: forwarding, Routes: onLink,
				Interfaces: []Interface{
					eth("eth0", "10.20.40.1/24", "2001:db8:20::1/64"), eth("eth1", "10.10.10.253/24", "2001:db8:10::fd/64"),
				},
			},
			directorNode(o, gateway, eth("eth0", "10.10.10.254/24", "2001:db8:10::fe/64")),
			{Name: "switch", Switch: true, Interfaces: []Interface{{Name: "router"}, {Name: "director"}}},
		},
		Links: []Link{
			cable("client/eth0", "router/eth0"),
			cable("router/eth1", "switch/router"),
			cable("director/eth0", "switch/director"),
		},
		Hosts: vipHosts(),
	}
	t.addServers(o, gateway)
	return t
}
