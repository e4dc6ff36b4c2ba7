package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// neighbour returns the MAC address that a node believes an address is at, nil if it does not know.
func (l *Lab) neighbour(node string, of netip.Addr) (mac net.HardwareAddr, err error) {
	err = l.Do(node, func() error {
		list, err := netlink.NeighList(0, family(of))
		for _, n := range list {
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == of {
				mac = n.HardwareAddr
			}
		}
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil
		}
		return err
	})
	return mac, err
}

// forget removes an address from a node's neighbour table.
func (l *Lab) forget(node string, addr netip.Addr) error {
	return l.Do(node, func() error {
		list, err := netlink.NeighList(0, family(addr))
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("lab: node %s: neighbours: %w", node, err)
		}
		for _, n := range list {
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == addr {
				if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("lab: node %s: neighbour %s: %w", node, addr, err)
				}
			}
		}
		return nil
	})
}

// addRouteIn adds a route to one address via a gateway in a node; remove takes it back.
func (l *Lab) addRouteIn(node string, to, via netip.Addr) (remove func() error, err error) {
	route := &netlink.Route{Dst: ipNet(netip.PrefixFrom(to, to.BitLen())), Gw: via.AsSlice()}
	err = l.Do(node, func() error { return netlink.RouteAdd(route) })
	if err != nil {
		return nil, fmt.Errorf("lab: node %s: route to %s: %w", node, to, err)
	}
	return func() error { return l.Do(node, func() error { return netlink.RouteDel(route) }) }, nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
