// Package host is a picture of a machine's network configuration: links, addresses, routes and neighbours as plain values.
//
// Contract: values only; who makes one never changes it afterwards. internal/kernel takes the picture of a live kernel,
// internal/compile makes one up for work without a machine. It does not ask anybody for anything, so it builds everywhere.
package host

import (
	"net/netip"
	"slices"
)

// State is a picture of the kernel's network configuration. It is immutable and its order is fixed: the same
// configuration gives the same State.
type State struct {
	Links     []Link     // by index
	Addrs     []Addr     // by link, then address
	Routes    []Route    // longest prefix first, then by prefix, then by metric
	Neighbors []Neighbor // by link, then address
}

// Link is an interface.
type Link struct {
	Index int
	Name  string
	MAC   [6]byte // zero if the interface has none (lo, tun)
	MTU   int     // bytes of an IP packet
	Up    bool    // administratively up and with carrier
}

// Addr is an address that the kernel holds.
type Addr struct {
	Link   int          // index of its interface
	Prefix netip.Prefix // the address itself, with the length of its subnet
}

// Route is an entry of the main routing table.
type Route struct {
	Prefix  netip.Prefix // masked
	Link    int          // index of the interface; 0: the route leads nowhere (blackhole, unreachable, prohibit)
	Gateway netip.Addr   // the zero Addr: on-link
	Metric  int          // the lower wins
}

// Neighbor is an entry of the neighbour tables (ARP, ND) that has a MAC address.
type Neighbor struct {
	Link      int
	Addr      netip.Addr
	MAC       [6]byte
	State     NeighborState
	Permanent bool // entered by hand
}

// NeighborState is how sure the kernel is of a neighbour's MAC address.
type NeighborState uint8

// The states that are mirrored; an entry without an answer (incomplete, failed) is left out.
const (
	NeighborReachable NeighborState = iota // confirmed a short while ago, or permanent
	NeighborStale                          // was true once
	NeighborProbing                        // being asked for again
)

// Link returns the interface of the name.
func (s *State) Link(name string) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// HoldsAddress returns the interface and the subnet that the kernel holds the address with, and whether it does.
func (s *State) HoldsAddress(a netip.Addr) (Link, netip.Prefix, bool) {
	for _, held := range s.Addrs {
		if held.Prefix.Addr() != a {
			continue
		}
		i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Index == held.Link })
		if i < 0 {
			return Link{Index: held.Link}, held.Prefix, true
		}
		return s.Links[i], held.Prefix, true
	}
	return Link{}, netip.Prefix{}, false
}
