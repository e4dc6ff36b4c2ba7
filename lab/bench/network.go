package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/backend"
	"naru/lab"
)

// Names of nodes and of their interfaces.
const (
	clientNode   = "client"
	balancerNode = "director"
	switchNode   = "switch"

	endLeg     = "eth0" // of the client and of every server; of the balancer, the one towards the client
	backendLeg = "eth1" // of a balancer with two legs
)

var serverNodes = []string{"server01", "server02", "server03"}

// Ports that the servers have open, or for flood that nobody has: packets to it are counted and dropped.
const (
	httpPort  = 80
	bulkPort  = 5001
	echoPort  = 7
	floodPort = 9
)

var (
	vip        = netip.MustParseAddr("200.100.50.25")
	clientNet  = netip.MustParsePrefix("10.20.40.0/24")
	backendNet = netip.MustParsePrefix("10.10.10.0/24")
	balancerIn = netip.MustParseAddr("10.20.40.1")   // the client's gateway with two legs
	balancerAt = netip.MustParseAddr("10.10.10.254") // the servers' with two legs, the client's with one arm
)

// poolSize is how many local addresses naru gets for full NAT. With three servers they serve 1.5 M connections.
const poolSize = 8

// serverAddr returns the address of server i, from 0 on.
func serverAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 10, 10, byte(1 + i)}) }

// poolAddr returns local address i of naru, which no kernel holds.
func poolAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 10, 10, byte(200 + i)}) }

// Layout is where the balancer stands.
type Layout string

// The layouts.
const (
	TwoLegs Layout = "two legs" // between the client's network and the servers'; replies pass it
	OneArm  Layout = "one arm"  // on one segment with the client and the servers, which answer the client themselves
)

// quiet are the kernel parameters of every node: no address but those given, no packet but those meant.
var quiet = []lab.Sysctl{
	{Path: "net/ipv6/conf/all/disable_ipv6", Value: "1"},
	{Path: "net/ipv6/conf/default/disable_ipv6", Value: "1"},
	{Path: "net/ipv4/conf/all/rp_filter", Value: "0"},
	{Path: "net/ipv4/conf/default/rp_filter", Value: "0"},
	{Path: "net/ipv4/conf/all/send_redirects", Value: "0"},
	{Path: "net/ipv4/conf/default/send_redirects", Value: "0"},
	// Many short connections from one address must not run out of ports.
	{Path: "net/ipv4/ip_local_port_range", Value: "1024 65535"},
	{Path: "net/ipv4/tcp_tw_reuse", Value: "1"},
}

// silentVIP lets a server hold the VIP without answering for it.
var silentVIP = []lab.Sysctl{
	{Path: "net/ipv4/conf/all/arp_ignore", Value: "1"},
	{Path: "net/ipv4/conf/all/arp_announce", Value: "2"},
}

// clientAddr returns the address of the client.
func (l Layout) clientAddr() netip.Addr {
	if l == OneArm {
		return netip.MustParseAddr("10.10.10.80")
	}
	return netip.MustParseAddr("10.20.40.80")
}

// gateway returns the balancer's address on the client's network.
func (l Layout) gateway() netip.Addr {
	if l == OneArm {
		return balancerAt
	}
	return balancerIn
}

// serverLeg returns the balancer's interface towards the servers.
func (l Layout) serverLeg() string {
	if l == OneArm {
		return endLeg
	}
	return backendLeg
}

// topology returns the network. finished says that the client and the servers finish checksums themselves.
func (l Layout) topology(finished bool) lab.Topology {
	eth := func(name string, a netip.Addr) lab.Interface {
		return lab.Interface{Name: name, Addrs: []netip.Prefix{netip.PrefixFrom(a, 24)}}
	}
	end := func(a netip.Addr) []lab.Interface {
		i := eth(endLeg, a)
		i.NoChecksum = finished
		return []lab.Interface{i}
	}
	client := lab.Node{Name: clientNode, Sysctls: quiet, Interfaces: end(l.clientAddr()),
		Routes: []lab.Route{{To: netip.PrefixFrom(vip, 32), Via: l.gateway()}}}
	balancer := lab.Node{Name: balancerNode, Sysctls: quiet}
	ports := lab.Node{Name: switchNode, Switch: true, Sysctls: quiet,
		Interfaces: []lab.Interface{{Name: balancerNode}}}
	cable := func(a, ai, b, bi string) lab.Link {
		return lab.Link{A: lab.End{Node: a, Interface: ai}, B: lab.End{Node: b, Interface: bi}}
	}
	var t lab.Topology
	server := lab.Node{Sysctls: quiet}
	if l == OneArm {
		balancer.Interfaces = []lab.Interface{eth(endLeg, balancerAt)}
		ports.Interfaces = append(ports.Interfaces, lab.Interface{Name: clientNode})
		t.Links = append(t.Links, cable(clientNode, endLeg, switchNode, clientNode))
		server.Sysctls = append(quiet[:len(quiet):len(quiet)], silentVIP...)
	} else {
		client.Routes = append(client.Routes, lab.Route{To: backendNet, Via: balancerIn})
		balancer.Interfaces = []lab.Interface{eth(endLeg, balancerIn), eth(backendLeg, balancerAt)}
		t.Links = append(t.Links, cable(clientNode, endLeg, balancerNode, endLeg))
		server.Routes = []lab.Route{{To: clientNet, Via: balancerAt}}
	}
	t.Links = append(t.Links, cable(balancerNode, l.serverLeg(), switchNode, balancerNode))
	for i, name := range serverNodes {
		server.Name, server.Interfaces = name, end(serverAddr(i))
		t.Nodes = append(t.Nodes, server)
		ports.Interfaces = append(ports.Interfaces, lab.Interface{Name: name})
		t.Links = append(t.Links, cable(name, endLeg, switchNode, name))
	}
	t.Nodes = append(t.Nodes, client, balancer, ports)
	return t
}

// network is a layout that was built.
type network struct {
	*lab.Lab
	layout Layout
	sinks  []*sink

	servers []*server // nil until startServers
}

// buildNetwork builds the network of a system under a name, with everything known to everybody: no ARP, no learning, no
// flooding falls into a measurement.
func buildNetwork(ctx context.Context, name, exe string, s *System) (*network, error) {
	l, err := lab.UpBare(ctx, name, exe, s.Layout.topology(s.xdp()))
	if err != nil {
		return nil, err
	}
	n := &network{Lab: l, layout: s.Layout}
	if err := n.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: network: %w", err), l.Down())
	}
	return n, nil
}

func (n *network) prepare() error {
	segment := []netip.Addr{balancerAt}
	for i := range serverNodes {
		segment = append(segment, serverAddr(i))
	}
	local := []netip.Addr{}
	for i := range poolSize {
		local = append(local, poolAddr(i))
	}
	if n.layout == OneArm {
		segment = append(segment, n.layout.clientAddr())
	} else if err := errors.Join(n.knows(clientNode, endLeg, nil, balancerIn),
		n.knows(balancerNode, endLeg, nil, n.layout.clientAddr())); err != nil {
		return err
	}
	for _, node := range append(serverNodes[:len(serverNodes):len(serverNodes)], n.onSegment()...) {
		leg := endLeg
		if node == balancerNode {
			leg = n.layout.serverLeg()
		}
		if err := n.knows(node, leg, local, segment...); err != nil {
			return err
		}
	}
	if err := n.Do(switchNode, n.fixSwitch); err != nil {
		return fmt.Errorf("%s: %w", switchNode, err)
	}
	for i, node := range serverNodes {
		s := &sink{}
		if err := n.Do(node, func() (err error) {
			if n.layout == OneArm {
				if err := holdVIP(); err != nil {
					return err
				}
			}
			return s.open(endLeg)
		}); err != nil {
			return fmt.Errorf("%s: %w", serverNodes[i], err)
		}
		n.sinks = append(n.sinks, s)
	}
	return nil
}

// onSegment returns who is on the servers' segment beside them.
func (n *network) onSegment() []string {
	if n.layout == OneArm {
		return []string{balancerNode, clientNode}
	}
	return []string{balancerNode}
}

// knows tells a node the MAC addresses of others on the link of an interface; naru's local addresses are the balancer's.
func (n *network) knows(node, leg string, local []netip.Addr, others ...netip.Addr) error {
	return n.Do(node, func() error {
		link, err := netlink.LinkByName(leg)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", node, leg, err)
		}
		add := func(a netip.Addr, mac [6]byte) error {
			if [6]byte(link.Attrs().HardwareAddr) == mac {
				return nil // its own
			}
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET,
				State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac[:]})
		}
		for _, a := range others {
			if err := add(a, lab.MAC(a)); err != nil {
				return fmt.Errorf("%s/%s: neighbour %s: %w", node, leg, a, err)
			}
		}
		for _, a := range local {
			if err := add(a, lab.MAC(balancerAt)); err != nil {
				return fmt.Errorf("%s/%s: neighbour %s: %w", node, leg, a, err)
			}
		}
		return nil
	})
}

// fixSwitch enters every MAC address at its port of the bridge. It runs in the switch's namespace.
func (n *network) fixSwitch() error {
	at := map[string]netip.Addr{balancerNode: balancerAt}
	for i, node := range serverNodes {
		at[node] = serverAddr(i)
	}
	if n.layout == OneArm {
		at[clientNode] = n.layout.clientAddr()
	}
	for port, addr := range at {
		link, err := netlink.LinkByName(port)
		if err != nil {
			return fmt.Errorf("port %s: %w", port, err)
		}
		mac := lab.MAC(addr)
		if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE,
			State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER, HardwareAddr: net.HardwareAddr(mac[:])}); err != nil {
			return fmt.Errorf("port %s: %w", port, err)
		}
	}
	return nil
}

// holdVIP gives the calling thread's node the VIP.
func holdVIP() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
		return fmt.Errorf("lo: address %s: %w", vip, err)
	}
	return nil
}

// readMarks makes the servers put the VIP back by the DSCP, as naru backend setup does.
func (n *network) readMarks() error {
	for i, node := range serverNodes {
		p, err := backend.NewPlan(backend.Target{Service: "bench", Backend: node, VIP: vip, Proto: unix.IPPROTO_TCP,
			Port: httpPort, Address: serverAddr(i), Way: backend.DSCP, Code: dscpCode}, backend.PlanOptions{})
		if err == nil {
			err = n.Do(node, func() error { _, err := p.Apply(); return err })
		}
		if err != nil {
			return fmt.Errorf("%s: %w", node, err)
		}
	}
	return nil
}
