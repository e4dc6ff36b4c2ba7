package director

import (
	"fmt"
	"net/netip"
	"slices"

	"naru/internal/config"
	"naru/internal/kernel"
)

// segment checks that the backends of mode l2dsr are on a segment of ours: a frame to a router would come back.
func (c *hostCheck) segment(i int) {
	s := &c.cfg.Services[i]
	if s.Mode != "l2dsr" {
		return
	}
	for j, b := range s.Backends {
		if r, ok := c.routeTo(b.Address); ok && r.Gateway.IsValid() {
			c.warn(fmt.Sprintf("services[%d].backends[%d].address", i, j),
				fmt.Sprintf("%s is behind the router %s, and mode l2dsr reaches only what is on an interface's own segment",
					b.Address, r.Gateway), "use mode l3dsr, or give this host an address in the backend's subnet")
		}
	}
}

// routeTo returns the route that the kernel would take, if there is one.
func (c *hostCheck) routeTo(a netip.Addr) (kernel.Route, bool) {
	i := slices.IndexFunc(c.host.Routes, func(r kernel.Route) bool { return r.Prefix.Contains(a) })
	if i < 0 {
		return kernel.Route{}, false
	}
	return c.host.Routes[i], true
}

// outer checks where tunnelled packets come from.
func (c *hostCheck) outer(i int) {
	s := &c.cfg.Services[i]
	if s.L3DSR.Encap != "ipip" && s.L3DSR.Encap != "gue" {
		return
	}
	for _, p := range s.L3DSR.Source {
		if !p.IsSingleIP() {
			c.outerPrefix(fmt.Sprintf("services[%d].l3dsr.source", i), p)
		}
	}
	for _, family := range []string{"IPv4", "IPv6"} {
		of := func(a netip.Addr) bool { return a.Is4() == (family == "IPv4") }
		if slices.ContainsFunc(s.Backends, func(b config.Backend) bool { return of(b.Address) }) &&
			!slices.ContainsFunc(s.L3DSR.Source, func(p netip.Prefix) bool { return of(p.Addr()) }) && !c.hasAddress(of) {
			c.problem(fmt.Sprintf("services[%d].l3dsr", i),
				fmt.Sprintf("no interface towards backends has an %s address that outer packets could come from", family),
				"give it one, or write l3dsr.source")
		}
	}
}

// outerPrefix checks that nobody else has an address in a prefix of ours.
func (c *hostCheck) outerPrefix(path string, p netip.Prefix) {
	for _, held := range c.host.Addrs {
		switch a := held.Prefix.Addr(); {
		case p.Contains(a):
			c.problem(path, fmt.Sprintf("this host's kernel holds %s, which is in %s, and a prefix is naru's as a whole", a, p),
				"take a prefix without an address of this host")
			return
		case held.Prefix.Masked().Overlaps(p) && !held.Prefix.IsSingleIP():
			c.warn(path, fmt.Sprintf("%s is part of the subnet %s of this host, and naru answers for every address of it",
				p, held.Prefix.Masked()), "take a prefix of its own that routers send here")
			return
		}
	}
}

// hasAddress reports whether an interface towards backends has such an address that is good beyond its own segment.
func (c *hostCheck) hasAddress(such func(netip.Addr) bool) bool {
	for _, ifc := range c.cfg.Interfaces {
		l, _ := c.host.Link(ifc.Name)
		for _, held := range c.host.Addrs {
			a := held.Prefix.Addr()
			if ifc.Side != "client" && held.Link == l.Index && such(a) && !a.IsLinkLocalUnicast() {
				return true
			}
		}
	}
	return false
}
