package lab

import (
	"errors"
	"fmt"
	"net/netip"
)

// Topology is a network as data. Up builds it in the order of its parts.
type Topology struct {
	Nodes []Node
	Links []Link
	Hosts []Host // the hosts file of every node
}

// Node is one machine: a network namespace of its own.
type Node struct {
	Name       string
	Switch     bool // a bridge: every interface is a port of it, without addresses
	Interfaces []Interface
	Routes     []Route
	Sysctls    []Sysctl
	Servers    bool // runs the built-in servers of package lab/server
	Balancer   bool // runs naru with the scenario's configuration
}

// Interface is one Ethernet interface of a node. Its MAC address is derived from its first IPv4 address (MAC), so that
// a packet list can be read without a table; without an IPv4 address the kernel chooses one.
type Interface struct {
	Name  string
	Addrs []netip.Prefix

	// Macvlan puts a macvlan interface of this name on top of the cable's end, which is then named Name + "-low". A
	// macvlan filters multicast as a real NIC does; a veth does not.
	Macvlan bool

	// MTU is that of the interface in bytes of an IP packet; 0: the usual 1500.
	MTU int

	// NoSegmentation turns TSO and GSO off on sending, so that the kernel cuts super-frames before the cable.
	NoSegmentation bool

	// NoChecksum turns checksum offload off on sending: frames leave finished, and whoever receives them verifies them.
	NoChecksum bool
}

// Route is an entry of a node's main routing table. The family follows from the destination.
type Route struct {
	To  netip.Prefix
	Via netip.Addr // the gateway; the zero Addr for a destination on the link of Dev
	Dev string     // the interface; "" where the gateway tells it
}

// Sysctl is a kernel parameter of a node: a path below /proc/sys and its value. Parameters that this kernel does not
// have are skipped.
type Sysctl struct{ Path, Value string }

// Host is a name that programs in the nodes resolve.
type Host struct {
	Name string
	Addr netip.Addr
}

// End is one end of a cable.
type End struct{ Node, Interface string }

// Link is a cable (a veth pair) between two interfaces.
type Link struct{ A, B End }

// MAC returns the locally administered address that belongs to an IPv4 address: 02:00 and its four bytes.
func MAC(a netip.Addr) [6]byte {
	b := a.As4()
	return [6]byte{0x02, 0x00, b[0], b[1], b[2], b[3]}
}

// Node returns the node of that name, or nil.
func (t *Topology) Node(name string) *Node {
	for i := range t.Nodes {
		if t.Nodes[i].Name == name {
			return &t.Nodes[i]
		}
	}
	return nil
}

// Interface returns the interface of that name, or nil.
func (n *Node) Interface(name string) *Interface {
	for i := range n.Interfaces {
		if n.Interfaces[i].Name == name {
			return &n.Interfaces[i]
		}
	}
	return nil
}

// mac returns the derived MAC address of an interface; ok is false when the kernel chooses one.
func (i *Interface) mac() (mac [6]byte, ok bool) {
	for _, p := range i.Addrs {
		if p.Addr().Is4() {
			return MAC(p.Addr()), true
		}
	}
	return mac, false
}

// lower returns the name of the cable's end below the interface.
func (i *Interface) lower() string {
	if i.Macvlan {
		return i.Name + "-low"
	}
	return i.Name
}

// Validate reports what makes the topology impossible to build: unknown, doubled or unconnected interfaces, names that
// Linux refuses, an address that two interfaces have.
func (t *Topology) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf("lab: "+format, args...)) }
	nodes := map[string]bool{}
	addrs := map[netip.Addr]string{}
	for _, n := range t.Nodes {
		if nodes[n.Name] || !validName(n.Name) {
			report("node %q: doubled or not a valid name", n.Name)
		}
		nodes[n.Name] = true
		for _, i := range n.Interfaces {
			if len(i.lower()) > maxInterfaceName {
				report("%s/%s: interface name longer than %d bytes", n.Name, i.lower(), maxInterfaceName)
			}
			for _, p := range i.Addrs {
				if at, taken := addrs[p.Addr()]; taken {
					report("%s/%s: address %s is taken by %s", n.Name, i.Name, p.Addr(), at)
				}
				addrs[p.Addr()] = n.Name
			}
		}
	}
	cables := map[End]int{}
	for _, l := range t.Links {
		cables[l.A]++
		cables[l.B]++
	}
	for _, n := range t.Nodes {
		for _, i := range n.Interfaces {
			end := End{n.Name, i.Name}
			if cables[end] != 1 {
				report("%s/%s: has %d cables, must have one", n.Name, i.Name, cables[end])
			}
			delete(cables, end)
		}
	}
	for end := range cables {
		report("%s/%s: a cable ends at an interface that is not there", end.Node, end.Interface)
	}
	return errors.Join(errs...)
}

// maxInterfaceName is IFNAMSIZ of linux/if.h without the final zero byte.
const maxInterfaceName = 15

// maxName keeps naru-LAB-NODE short enough to be read in a list.
const maxName = 24

// validName reports whether a lab's or a node's name consists of lower-case letters, digits and inner hyphens.
func validName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
