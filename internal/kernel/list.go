package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpTries bounds how often a dump that was interrupted by a change is asked for again; what the last one brought is
// taken then, since the change itself is announced and brings the next.
const dumpTries = 5

// ReadState reads the whole picture once, in the network namespace of the calling thread.
func ReadState() (*State, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("kernel: netlink: %w", err)
	}
	defer h.Close()
	s := &State{}
	if err := refresh(h, s, changeAll); err != nil {
		return nil, err
	}
	return s, nil
}

// refresh reads the parts of the picture that changed.
func refresh(h *netlink.Handle, s *State, what change) error {
	for _, part := range []struct {
		bit  change
		name string
		read func(*netlink.Handle, *State) error
	}{
		{changeLinks, "links", listLinks},
		{changeAddrs, "addresses", listAddrs},
		{changeRoutes, "routes", listRoutes},
		{changeNeighbors, "neighbours", listNeighbors},
	} {
		if what&part.bit == 0 {
			continue
		}
		if err := part.read(h, s); err != nil {
			return fmt.Errorf("kernel: %s: %w", part.name, err)
		}
	}
	return nil
}

// dump repeats a dump that was interrupted.
func dump[T any](read func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		list, err := read()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
		if try == dumpTries {
			return list, nil
		}
	}
}

func listLinks(h *netlink.Handle, s *State) error {
	list, err := dump(h.LinkList)
	if err != nil {
		return err
	}
	s.Links = nil
	for _, l := range list {
		a := l.Attrs()
		link := Link{Index: a.Index, Name: a.Name, MTU: a.MTU,
			Up: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0}
		link.MAC, _ = mac(a.HardwareAddr)
		s.Links = append(s.Links, link)
	}
	sortLinks(s.Links)
	return nil
}

func listAddrs(h *netlink.Handle, s *State) error {
	list, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	s.Addrs = nil
	for _, a := range list {
		if p, ok := prefix(a.IPNet); ok {
			s.Addrs = append(s.Addrs, Addr{Link: a.LinkIndex, Prefix: p})
		}
	}
	sortAddrs(s.Addrs)
	return nil
}

func listRoutes(h *netlink.Handle, s *State) error {
	var out []Route
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		main := &netlink.Route{Table: unix.RT_TABLE_MAIN}
		list, err := dump(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(fam, main, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return err
		}
		for i := range list {
			if r, ok := route(&list[i], fam); ok {
				out = append(out, r)
			}
		}
	}
	sortRoutes(out)
	s.Routes = out
	return nil
}

// route translates a route; one that depends on more than the destination, or whose next hops are all dead, is left
// out, as a lookup by destination would not find it.
func route(r *netlink.Route, fam int) (Route, bool) {
	out := Route{Metric: r.Priority}
	var ok bool
	if out.Prefix, ok = destination(r.Dst, fam); !ok || r.Tos != 0 {
		return out, false
	}
	switch r.Type {
	case unix.RTN_UNICAST:
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		return out, true
	default:
		return out, false
	}
	if len(r.MultiPath) == 0 {
		out.Link, out.Gateway = r.LinkIndex, gateway(r.Gw, r.Via)
		return out, out.Link != 0 && r.Flags&unix.RTNH_F_DEAD == 0
	}
	for _, hop := range r.MultiPath {
		if hop.Flags&unix.RTNH_F_DEAD == 0 {
			out.Link, out.Gateway = hop.LinkIndex, gateway(hop.Gw, hop.Via)
			return out, true
		}
	}
	return out, false
}

func listNeighbors(h *netlink.Handle, s *State) error {
	list, err := dump(func() ([]netlink.Neigh, error) { return h.NeighList(0, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	s.Neighbors = nil
	for i := range list {
		if n, ok := neighbor(&list[i]); ok {
			s.Neighbors = append(s.Neighbors, n)
		}
	}
	sortNeighbors(s.Neighbors)
	return nil
}

// neighbor translates an entry; what has no unicast MAC address (multicast, loopback, no answer) is left out.
func neighbor(n *netlink.Neigh) (Neighbor, bool) {
	out := Neighbor{Link: n.LinkIndex}
	addr, okAddr := netip.AddrFromSlice(n.IP)
	m, okMAC := mac(n.HardwareAddr)
	if (n.Family != netlink.FAMILY_V4 && n.Family != netlink.FAMILY_V6) || !okAddr || !okMAC || m == ([6]byte{}) ||
		m[0]&1 != 0 || n.Flags&netlink.NTF_PROXY != 0 {
		return out, false
	}
	out.Addr, out.MAC = addr.Unmap(), m
	switch {
	case n.State&netlink.NUD_PERMANENT != 0:
		out.Permanent = true
	case n.State&netlink.NUD_REACHABLE != 0:
	case n.State&netlink.NUD_STALE != 0:
		out.State = NeighborStale
	case n.State&(netlink.NUD_DELAY|netlink.NUD_PROBE) != 0:
		out.State = NeighborProbing
	default:
		return out, false
	}
	return out, true
}

func mac(hw net.HardwareAddr) (m [6]byte, ok bool) {
	return m, copy(m[:], hw) == 6 && len(hw) == 6
}

// prefix keeps the host part of an address.
func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

// destination of a route; the default route may come without one.
func destination(n *net.IPNet, fam int) (netip.Prefix, bool) {
	switch {
	case n != nil:
		p, ok := prefix(n)
		return p.Masked(), ok
	case fam == netlink.FAMILY_V4:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	default:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
}

// gateway returns the next hop; RTA_VIA carries one of the other address family (RFC 5549).
func gateway(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok {
		gw = v.Addr
	}
	a, _ := netip.AddrFromSlice(gw)
	return a.Unmap()
}
