package backend

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sysctlChange sets a parameter of net.FAMILY.conf for the backend's interface, and for all.
type sysctlChange struct {
	family, name, value string
	back                string // what an undo writes; empty: it stays, since what was there before is not known
	all                 bool
}

func (c *sysctlChange) key() string { return "sysctl " + c.family + " " + c.name }

func (c *sysctlChange) apply(h *host) (bool, error) { return c.write(h, c.value) }

func (c *sysctlChange) undo(h *host) (bool, error) {
	if c.back == "" {
		return false, nil
	}
	return c.write(h, c.back)
}

func (c *sysctlChange) write(h *host, value string) (bool, error) {
	changed := false
	for _, path := range c.paths(h.ifname) {
		did, err := writeSysctl(path, value)
		if err != nil {
			return changed, err
		}
		changed = changed || did
	}
	return changed, nil
}

func (c *sysctlChange) paths(ifname string) []string {
	one := "net/" + c.family + "/conf/" + ifname + "/" + c.name
	if c.all {
		return []string{"net/" + c.family + "/conf/all/" + c.name, one}
	}
	return []string{one}
}

func (c *sysctlChange) shell(ifname string) (do, undo []string) {
	for _, path := range c.paths(ifname) {
		do = append(do, "sysctl -w "+path+"="+c.value)
		if c.back != "" {
			undo = append(undo, "sysctl -w "+path+"="+c.back)
		}
	}
	return do, undo
}

// addressChange puts the VIP on lo.
type addressChange struct{ vip netip.Addr }

func (c *addressChange) key() string { return "address " + c.vip.String() }

func (c *addressChange) prefix() netip.Prefix { return netip.PrefixFrom(c.vip, c.vip.BitLen()) }

// netlink returns the address for the kernel. An IPv4 address of scope host is never chosen as the source of what this
// machine begins; lo has no duplicate address detection, but the flag keeps it so where somebody turned it on.
func (c *addressChange) netlink() *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: c.vip.AsSlice(), Mask: net.CIDRMask(c.vip.BitLen(), c.vip.BitLen())}}
	if c.vip.Is4() {
		a.Scope = unix.RT_SCOPE_HOST
	} else {
		a.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	}
	return a
}

func (c *addressChange) apply(*host) (bool, error) {
	if name, _ := LocalInterface(c.vip); name == "lo" {
		return false, nil
	} else if name != "" {
		return false, fmt.Errorf("%s is on %s already, where this machine answers ARP for it; take it away first: "+
			"ip addr del %s dev %s", c.vip, name, c.prefix(), name)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return false, err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return false, err
	}
	return true, netlink.AddrAdd(lo, c.netlink())
}

func (c *addressChange) undo(*host) (bool, error) {
	if name, _ := LocalInterface(c.vip); name != "lo" {
		return false, nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return false, err
	}
	return true, netlink.AddrDel(lo, c.netlink())
}

func (c *addressChange) shell(string) (do, undo []string) {
	more := " scope host"
	if c.vip.Is6() {
		more = " nodad noprefixroute"
	}
	return []string{"ip addr replace " + c.prefix().String() + " dev lo" + more},
		[]string{"ip addr del " + c.prefix().String() + " dev lo"}
}

// routeChange is the default route by the director.
type routeChange struct{ via netip.Addr }

func (c *routeChange) key() string { return "default route" }

// route is the default route with the best metric, so that one from DHCP or router advertisements stays as the second.
func (c *routeChange) route(h *host) (*netlink.Route, error) {
	l, err := netlink.LinkByName(h.ifname)
	if err != nil {
		return nil, err
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: c.via.AsSlice()}
	if c.via.Is6() {
		r.Priority = 1 // 0 means 1024 to the kernel
	}
	return r, nil
}

func (c *routeChange) apply(h *host) (bool, error) {
	want, err := c.route(h)
	if err != nil {
		return false, err
	}
	old, err := defaultRoutes(c.via)
	if err != nil {
		return false, err
	}
	for _, r := range old {
		if r.Priority != want.Priority {
			continue
		}
		if r.Gw.Equal(want.Gw) && r.LinkIndex == want.LinkIndex {
			return false, nil
		}
		h.note = fmt.Sprintf("replaced the default route by %s; it comes back with: ip route replace default via %[1]s", r.Gw)
		if err := netlink.RouteDel(&r); err != nil {
			return false, err
		}
	}
	return true, netlink.RouteAdd(want)
}

func (c *routeChange) undo(h *host) (bool, error) {
	want, err := c.route(h)
	if err != nil {
		return false, err
	}
	if err := netlink.RouteDel(want); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// defaultRoutes returns the default routes of the main table in the family of an address.
func defaultRoutes(family netip.Addr) ([]netlink.Route, error) {
	f := netlink.FAMILY_V4
	if family.Is6() {
		f = netlink.FAMILY_V6
	}
	all, err := netlink.RouteList(nil, f)
	if err != nil {
		return nil, err
	}
	var out []netlink.Route
	for _, r := range all {
		if ones := 0; r.Dst != nil {
			if ones, _ = r.Dst.Mask.Size(); ones != 0 || !r.Dst.IP.IsUnspecified() {
				continue
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func (c *routeChange) shell(ifname string) (do, undo []string) {
	family, metric := "ip", ""
	if c.via.Is6() {
		family, metric = "ip -6", " metric 1"
	}
	return []string{fmt.Sprintf("%s route replace default via %s dev %s%s", family, c.via, ifname, metric)},
		[]string{fmt.Sprintf("%s route del default via %s dev %s%s", family, c.via, ifname, metric)}
}
