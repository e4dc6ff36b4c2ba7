package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

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
	return &Scenario{
		Name:         "fullnat",
		Summary:      "full NAT: client, router, naru, a switch and three servers; IPv4 and IPv6",
		Drawing:      strings.Trim(fullNATDrawing, "\n"),
		Topology:     fullNATTopology,
		Config:       fullNATConfig,
		Client:       "client",
		Director:     "director",
		ClientSide:   End{"router", "eth1"},
		BackendSide:  End{"switch", "director"},
		VIP4:         netip.MustParseAddr("200.100.50.25"),
		VIP6:         netip.MustParseAddr("2001:db8:50::25"),
		Pool:         fullNATPool,
		Backends:     []string{"server01", "server02", "server03"},
		PortLo:       1024,
		PortHi:       32767,
		UnservedPort: 81,
		Variants:     fullNATVariants,
	}
}

func fullNATPool(o Options) []netip.Addr {
	if o.FreePool {
		return []netip.Addr{netip.MustParseAddr("10.10.10.200"), netip.MustParseAddr("2001:db8:10::c8")}
	}
	return []netip.Addr{netip.MustParseAddr("10.10.10.254"), netip.MustParseAddr("2001:db8:10::fe")}
}

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i := range s {
		out[i] = netip.MustParsePrefix(s[i])
	}
	return out
}

func fullNATTopology(o Options) Topology {
	routes := func(gateway4, gateway6 string) []Route {
		return []Route{
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr(gateway4)},
			{netip.MustParsePrefix("::/0"), netip.MustParseAddr(gateway6)},
		}
	}
	forwarding := []Sysctl{{"net/ipv4/ip_forward", "1"}, {"net/ipv6/conf/all/forwarding", "1"}}
	director := Node{
		Name: "director", Balancer: true, Routes: routes("200.100.50.1", "2001:db8:50::1"),
		Interfaces: []Interface{
			{Name: "eth0", Addrs: prefixes("200.100.50.2/24", "2001:db8:50::2/64")},
			{Name: "eth1", Addrs: prefixes("10.10.10.254/24", "2001:db8:10::fe/64")},
		},
	}
	// A gateway routes, and then its kernel would forward what is naru's if the fence did not stop it.
	if !o.NoForwarding {
		director.Sysctls = forwarding
	}
	for i := range director.Interfaces {
		director.Interfaces[i].Macvlan = o.MacvlanLegs
		director.Interfaces[i].NoSegmentation = o.NoSegment
	}
	t := Topology{
		Nodes: []Node{
			{
				Name: "client", Routes: routes("10.20.40.1", "2001:db8:20::1"),
				Interfaces: []Interface{{Name: "eth0", Addrs: prefixes("10.20.40.80/24", "2001:db8:20::80/64")}},
			},
			{
				Name: "router", Sysctls: forwarding,
				Interfaces: []Interface{
					{Name: "eth0", Addrs: prefixes("10.20.40.1/24", "2001:db8:20::1/64")},
					{Name: "eth1", Addrs: prefixes("200.100.50.1/24", "2001:db8:50::1/64")},
				},
			},
			director,
			{Name: "switch", Switch: true, Interfaces: []Interface{{Name: "director"}}},
		},
		Links: []Link{
			{End{"client", "eth0"}, End{"router", "eth0"}},
			{End{"router", "eth1"}, End{"director", "eth0"}},
			{End{"director", "eth1"}, End{"switch", "director"}},
		},
		Hosts: []Host{
			{"www.naru.test", netip.MustParseAddr("200.100.50.25")},
			{"www.naru.test", netip.MustParseAddr("2001:db8:50::25")},
		},
	}
	for i := 1; i <= 3; i++ {
		t.addServer(i)
	}
	for _, name := range []string{"client", "server01", "server02", "server03"} {
		t.Node(name).Interfaces[0].NoChecksum = o.NoChecksum
	}
	return t
}

// addServer adds server0I behind the switch. It has no route beyond its own network: full NAT must not need one.
func (t *Topology) addServer(i int) {
	name := fmt.Sprintf("server%02d", i)
	addrs := prefixes(fmt.Sprintf("10.10.10.%d/24", i), fmt.Sprintf("2001:db8:10::%d/64", i))
	t.Nodes = append(t.Nodes, Node{
		Name: name, Servers: true, Interfaces: []Interface{{Name: "eth0", Addrs: addrs}},
	})
	ports := t.Node("switch")
	ports.Interfaces = append(ports.Interfaces, Interface{Name: name})
	t.Links = append(t.Links, Link{End{name, "eth0"}, End{"switch", name}})
	for _, p := range addrs {
		t.Hosts = append(t.Hosts, Host{name, p.Addr()})
	}
}

func fullNATConfig(o Options, socket string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# naru.yaml of the lab scenario "fullnat"
version: 1

node:
  name: director

interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}

admin:
  socket: %s

services:
`, socket)
	pool := fullNATPool(o)
	for _, s := range []struct {
		name, protocol string
		port           int
	}{{"web", "tcp", 80}, {"echo", "udp", 7}, {"sum", "tcp", 9000}} {
		fullNATService(&b, s.name, s.protocol, s.port, "200.100.50.25", pool[0].String(), "10.10.10.")
		fullNATService(&b, s.name+"6", s.protocol, s.port, "2001:db8:50::25", pool[1].String(), "2001:db8:10::")
	}
	return b.String()
}

// fullNATService writes one service whose three backends are network1, network2 and network3.
func fullNATService(b *strings.Builder, name, protocol string, port int, vip, pool, network string) {
	fmt.Fprintf(b, `  - name: %s
    vip: "%s"
    ports: [%d]
    protocol: %s
    mode: fullnat
    scheduler: rr
    nat: {source_pool: ["%s"], source_ports: 1024-32767}
    backends:
`, name, vip, port, protocol, pool)
	for i := 1; i <= 3; i++ {
		fmt.Fprintf(b, "      - {name: server%02d, address: \"%s%d\", weight: 1}\n", i, network, i)
	}
}
