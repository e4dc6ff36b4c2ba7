package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// The addresses of the classic example.
var (
	vip4 = netip.MustParseAddr("200.100.50.25")
	vip6 = netip.MustParseAddr("2001:db8:50::25")
)

// forwarding makes a node a router.
var forwarding = []Sysctl{{"net/ipv4/ip_forward", "1"}, {"net/ipv6/conf/all/forwarding", "1"}}

var backendNames = []string{"server01", "server02", "server03"}

// classic returns a scenario with what all have in common: nodes, VIPs, backends.
func classic(name, summary, drawing string, mode Mode) *Scenario {
	return &Scenario{
		Name: name, Summary: summary, Drawing: strings.Trim(drawing, "\n"), Mode: mode,
		Client: "client", Director: "director", Router: "router",
		ClientSide:  End{"router", "eth1"},
		BackendSide: End{"switch", "director"},
		VIP4:        vip4, VIP6: vip6,
		Via4: netip.MustParseAddr("10.10.10.254"), Via6: netip.MustParseAddr("2001:db8:10::fe"),
		Backends:     backendNames,
		UnservedPort: 81,
	}
}

func prefixes(s ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(s))
	for i := range s {
		out[i] = netip.MustParsePrefix(s[i])
	}
	return out
}

// routesTo returns routes to prefixes via a gateway of each IP version.
func routesTo(gateway4, gateway6 string, to ...string) []Route {
	var routes []Route
	for _, p := range prefixes(to...) {
		gateway := gateway4
		if p.Addr().Is6() {
			gateway = gateway6
		}
		routes = append(routes, Route{To: p, Via: netip.MustParseAddr(gateway)})
	}
	return routes
}

// defaultRoutes returns the default routes via a gateway.
func defaultRoutes(gateway4, gateway6 string) []Route {
	return routesTo(gateway4, gateway6, "0.0.0.0/0", "::/0")
}

// eth returns an interface of that name with its addresses.
func eth(name string, addrs ...string) Interface {
	return Interface{Name: name, Addrs: prefixes(addrs...)}
}

// clientNode is the client of every scenario. Its gateway is the router.
func clientNode() Node {
	return Node{
		Name: "client", Routes: defaultRoutes("10.20.40.1", "2001:db8:20::1"),
		Interfaces: []Interface{eth("eth0", "10.20.40.80/24", "2001:db8:20::80/64")},
	}
}

// routerNode is the client's gateway where the VIPs are on a network of their own.
func routerNode(routes ...Route) Node {
	return Node{
		Name: "router", Sysctls: forwarding, Routes: routes,
		Interfaces: []Interface{
			eth("eth0", "10.20.40.1/24", "2001:db8:20::1/64"), eth("eth1", "200.100.50.1/24", "2001:db8:50::1/64"),
		},
	}
}

// directorNode returns the node that naru runs in. A gateway routes, and then its kernel would forward what is naru's
// if the fence did not stop it.
func directorNode(o Options, routes []Route, interfaces ...Interface) Node {
	n := Node{Name: "director", Balancer: true, Routes: routes, Interfaces: interfaces}
	if !o.NoForwarding {
		n.Sysctls = forwarding
	}
	for i := range n.Interfaces {
		n.Interfaces[i].Macvlan = o.MacvlanLegs
		n.Interfaces[i].NoSegmentation = o.NoSegment
	}
	return n
}

// vipHosts are the names of the VIPs.
func vipHosts() []Host { return []Host{{"www.naru.test", vip4}, {"www.naru.test", vip6}} }

// addServers adds server01 to server03 behind the switch, on 10.10.10.0/24, with their routes.
func (t *Topology) addServers(o Options, routes []Route) {
	for i := range backendNames {
		t.addServer("switch", i+1, "10.10.10.", "2001:db8:10::", routes)
	}
	for _, name := range append([]string{"client"}, backendNames...) {
		t.Node(name).Interfaces[0].NoChecksum = o.NoChecksum
	}
}

// addServer adds server0I behind a switch. The networks are the beginnings of its addresses.
func (t *Topology) addServer(at string, i int, network4, network6 string, routes []Route) {
	name := backendNames[i-1]
	server := eth("eth0", fmt.Sprintf("%s%d/24", network4, i), fmt.Sprintf("%s%d/64", network6, i))
	t.Nodes = append(t.Nodes, Node{Name: name, Servers: true, Interfaces: []Interface{server}, Routes: routes})
	ports := t.Node(at)
	ports.Interfaces = append(ports.Interfaces, Interface{Name: name})
	t.Links = append(t.Links, Link{End{name, "eth0"}, End{at, name}})
	for _, p := range server.Addrs {
		t.Hosts = append(t.Hosts, Host{name, p.Addr()})
	}
}

// cable returns a cable between two interfaces, each NODE/INTERFACE.
func cable(a, b string) Link {
	end := func(s string) End {
		node, name, _ := strings.Cut(s, "/")
		return End{node, name}
	}
	return Link{end(a), end(b)}
}
