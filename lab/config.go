package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// labDSCP is the code of the VIPs in mode l3dsr by dscp.
const labDSCP = 10

// labService is one service of a lab's configuration; there is one of each for IPv4 and, with a 6 behind its name, one
// for IPv6.
type labService struct {
	name, protocol string
	port           int
}

var labServices = []labService{{"web", "tcp", 80}, {"echo", "udp", 7}, {"sum", "tcp", 9000}}

// serviceNames returns the names of all services.
func serviceNames() []string {
	var names []string
	for _, s := range labServices {
		names = append(names, s.name, s.name+"6")
	}
	return names
}

// serviceOf returns the name of a service at the VIP of an IP version.
func serviceOf(name string, vip netip.Addr) string {
	if vip.Is6() {
		return name + "6"
	}
	return name
}

// configure writes naru's configuration of a scenario. The pool is full NAT's.
func configure(s *Scenario, pool []netip.Addr, o Options, socket string) string {
	t := s.Topology(o)
	var b strings.Builder
	fmt.Fprintf(&b, "# naru.yaml of the lab scenario %q\nversion: 1\n\nnode:\n  name: director\n\ninterfaces:\n", s.Name)
	legs := t.Node(s.Director).Interfaces
	for i, leg := range legs {
		side := "client"
		switch {
		case len(legs) == 1:
			side = "both"
		case i > 0:
			side = "backend"
		}
		fmt.Fprintf(&b, "  - {name: %s, side: %s}\n", leg.Name, side)
	}
	fmt.Fprintf(&b, "\nadmin:\n  socket: %s\n\nservices:\n", socket)
	for _, service := range labServices {
		for i, vip := range s.vips() {
			name := serviceOf(service.name, vip)
			fmt.Fprintf(&b, "  - name: %s\n    vip: \"%s\"\n    ports: [%d]\n    protocol: %s\n%s    scheduler: rr\n",
				name, vip, service.port, service.protocol, modeLines(s.Mode))
			if pool != nil {
				fmt.Fprintf(&b, "    nat: {source_pool: [\"%s\"], source_ports: 1024-32767}\n", pool[i])
			}
			b.WriteString("    backends:\n")
			for _, backend := range s.Backends {
				addr := t.Node(backend).addr(vip.Is4() != o.CrossFamily)
				fmt.Fprintf(&b, "      - {name: %s, address: \"%s\", weight: 1%s}\n", backend, addr, pathMTU(s.Mode, o))
			}
		}
	}
	return b.String()
}

// pathMTU is a backend's MTU where naru cannot learn it: a router's error about a marked packet goes to the client, to
// whom it means nothing. Of its own outer headers naru hears.
func pathMTU(m Mode, o Options) string {
	if m == ModeDSCP && o.PathMTU != 0 {
		return fmt.Sprintf(", mtu: %d", o.PathMTU)
	}
	return ""
}

// modeLines are the lines of a service that choose its mode.
func modeLines(m Mode) string {
	switch {
	case m == ModeDSCP:
		return fmt.Sprintf("    mode: l3dsr\n    l3dsr: {encap: dscp, dscp: %d}\n", labDSCP)
	case m.tunnel():
		return fmt.Sprintf("    mode: l3dsr\n    l3dsr: {encap: %s}\n", encapOf(m))
	}
	return fmt.Sprintf("    mode: %s\n", m)
}

// addr returns the node's first address of an IP version.
func (n *Node) addr(is4 bool) netip.Addr {
	for _, i := range n.Interfaces {
		for _, p := range i.Addrs {
			if p.Addr().Is4() == is4 {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}
