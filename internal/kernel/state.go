package kernel

import (
	"cmp"
	"slices"

	"naru/internal/host"
)

// The picture that a Mirror takes is plain data, which packages that know no kernel use too.
type (
	// State is the picture.
	State = host.State
	// Link is an interface.
	Link = host.Link
	// Addr is an address that this kernel holds.
	Addr = host.Addr
	// Route is an entry of the main routing table.
	Route = host.Route
	// Neighbor is an entry of the neighbour tables.
	Neighbor = host.Neighbor
	// NeighborState is how sure the kernel is of it.
	NeighborState = host.NeighborState
)

// How sure the kernel is of a neighbour's MAC address.
const (
	NeighborReachable = host.NeighborReachable
	NeighborStale     = host.NeighborStale
	NeighborProbing   = host.NeighborProbing
)

// same reports whether two pictures show the same.
func same(s, o *State) bool {
	return slices.Equal(s.Links, o.Links) && slices.Equal(s.Addrs, o.Addrs) &&
		slices.Equal(s.Routes, o.Routes) && slices.Equal(s.Neighbors, o.Neighbors)
}

func sortLinks(l []Link) {
	slices.SortFunc(l, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
}

func sortAddrs(l []Addr) {
	slices.SortFunc(l, func(a, b Addr) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), a.Prefix.Addr().Compare(b.Prefix.Addr()),
			cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
	})
}

// sortRoutes keeps the kernel's order between routes of one prefix and metric.
func sortRoutes(l []Route) {
	slices.SortStableFunc(l, func(a, b Route) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()),
			cmp.Compare(a.Metric, b.Metric))
	})
}

func sortNeighbors(l []Neighbor) {
	slices.SortFunc(l, func(a, b Neighbor) int { return cmp.Or(cmp.Compare(a.Link, b.Link), a.Addr.Compare(b.Addr)) })
}
