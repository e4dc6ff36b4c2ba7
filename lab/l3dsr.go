package lab

import (
	"net/netip"
	"strings"
)

const l3dsrDrawing = `
 client          router           VIP 200.100.50.25   director
+-------------+ +--------------+  www.naru.test      +------------------+
| 10.20.40.80 |-| 10.20.40.1   |         .           |       naru       |
+-------------+ | 200.100.50.1 |---------.-----------| 200.100.50.2     |
                | 172.16.0.1   |  200.100.50.0/24    +------------------+
                +--------------+                      router2           switch
                       |                             +--------------+    +---+
                       +-----------------------------| 172.16.0.2   |    |   |-- server01 10.10.10.1
                         172.16.0.0/24               | 10.10.10.254 |----|   |-- server02 10.10.10.2
                                                     +--------------+    |   |-- server03 10.10.10.3
                                                                         +---+
`

// l3dsrStories say below the drawing what the mode does.
var l3dsrStories = map[Mode]string{
	ModeDSCP: `
 request  client > router > naru > router > router2 > server02  to 10.10.10.2, DSCP 10
 server   has the VIP on lo, and a rule: DSCP 10 means 200.100.50.25
 reply    server02 > router2 > router > client   straight: naru never sees it
 IPv6     client 2001:db8:20::80, VIP 2001:db8:50::25, naru 2001:db8:50::2, server01 2001:db8:10::1
`,
	ModeIPIP: `
 request  client > router > naru > router > router2 > server02  inside 200.100.50.2 > 10.10.10.2
 server   has the VIP on lo, and takes the outer header off: naru backend decap
 reply    server02 > router2 > router > client   straight: naru never sees it
 IPv6     client 2001:db8:20::80, VIP 2001:db8:50::25, naru 2001:db8:50::2, server01 2001:db8:10::1
`,
	ModeGUE: `
 request  client > router > naru > router > router2 > server02  inside UDP to 10.10.10.2:6080
 server   has the VIP on lo, and takes the outer headers off: naru backend decap
 reply    server02 > router2 > router > client   straight: naru never sees it
 IPv6     client 2001:db8:20::80, VIP 2001:db8:50::25, naru 2001:db8:50::2, server01 2001:db8:10::1
`,
}

// l3dsr is direct server return across routers: the servers are two hops behind naru.
func l3dsr(mode Mode) *Scenario {
	encap := encapOf(mode)
	s := classic("l3dsr-"+encap, map[Mode]string{
		ModeDSCP: "direct server return across routers: the DSCP tells the server which VIP it is",
		ModeIPIP: "direct server return across routers: packets travel whole inside IP packets",
		ModeGUE:  "direct server return across routers: packets travel whole inside UDP datagrams",
	}[mode], strings.TrimRight(l3dsrDrawing, "\n")+l3dsrStories[mode], mode)
	s.BackendSide = s.ClientSide
	s.Via4, s.Via6 = netip.MustParseAddr("200.100.50.2"), netip.MustParseAddr("2001:db8:50::2")
	s.Topology = routedServers
	s.Config = func(o Options, socket string) string { return configure(s, nil, o, socket) }
	s.Variants = func() []Variant { return directVariants(s) }
	return s
}

// encapOf returns the value of l3dsr.encap.
func encapOf(mode Mode) string { return strings.TrimPrefix(string(mode), "l3dsr by ") }

// routedServers is a network where naru has one arm and the servers are behind a second router.
func routedServers(o Options) Topology {
	servers := []string{"10.10.10.0/24", "2001:db8:10::/64"}
	middle := eth("eth2", "172.16.0.1/24", "2001:db8:16::1/64")
	far := eth("eth0", "172.16.0.2/24", "2001:db8:16::2/64")
	middle.MTU, far.MTU = o.PathMTU, o.PathMTU
	router := routerNode(routesTo("172.16.0.2", "2001:db8:16::2", servers...)...)
	router.Interfaces = append(router.Interfaces, middle)
	t := Topology{
		Nodes: []Node{
			clientNode(), router,
			directorNode(o, defaultRoutes("200.100.50.1", "2001:db8:50::1"),
				eth("eth0", "200.100.50.2/24", "2001:db8:50::2/64")),
			{
				Name: "router2", Sysctls: forwarding, Routes: defaultRoutes("172.16.0.1", "2001:db8:16::1"),
				Interfaces: []Interface{far, eth("eth1", "10.10.10.254/24", "2001:db8:10::fe/64")},
			},
			{Name: "switch", Switch: true, Interfaces: []Interface{{Name: "router2"}}},
		},
		Links: []Link{
			cable("client/eth0", "router/eth0"),
			cable("router/eth1", "director/eth0"),
			cable("router/eth2", "router2/eth0"),
			cable("router2/eth1", "switch/router2"),
		},
		Hosts: vipHosts(),
	}
	t.addServers(o, defaultRoutes("10.10.10.254", "2001:db8:10::fe"))
	return t
}
