package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// check looks at how the parts fit together. What was not read well is zero and already reported: it is passed over.
func (d *decoder) check() {
	d.checkCPUs()
	d.checkInterfaces()
	d.checkVIPs()
	d.checkNeighbors()
	d.checkServices()
	d.checkOverlaps()
	d.checkAddresses()
	d.checkSourcePorts()
	d.checkCodes()
	d.checkTuples()
}

func (d *decoder) checkInterfaces() {
	all := d.cfg.Interfaces
	if len(all) == 0 && !d.empty["interfaces"] {
		return
	}
	known := true
	var client, backend bool
	for i, in := range all {
		client = client || in.Side == "client" || in.Side == "both"
		backend = backend || in.Side == "backend" || in.Side == "both"
		known = known && in.Side != ""
		if j := slices.IndexFunc(all[:i], func(o Interface) bool { return o.Name == in.Name }); j >= 0 && in.Name != "" {
			d.fail(fmt.Sprintf("interfaces[%d].name", i), `name it once; "side: both" is one interface for both sides`,
				"interface %s is listed twice, first as interfaces[%d]", in.Name, j)
		}
	}
	if len(all) > maxInterfaces {
		d.fail(fmt.Sprintf("interfaces[%d]", maxInterfaces), "remove some",
			"naru works on at most %d interfaces", maxInterfaces)
	}
	if !known {
		return
	}
	if !client {
		d.fail("interfaces", `give one "side: client" or "side: both"`, "no interface leads to clients")
	}
	if !backend {
		d.fail("interfaces", `give one "side: backend" or "side: both"`, "no interface leads to backends")
	}
}

func (d *decoder) checkVIPs() {
	for i, v := range d.cfg.VIPs {
		same := func(o VIP) bool { return o.Address == v.Address }
		if j := slices.IndexFunc(d.cfg.VIPs[:i], same); j >= 0 && v.Address.IsValid() {
			d.fail(fmt.Sprintf("vips[%d].address", i), "remove one of them",
				"%s is listed twice, first as vips[%d]", v.Address, j)
		}
	}
}

func (d *decoder) checkNeighbors() {
	for i, n := range d.cfg.Neighbors {
		path := fmt.Sprintf("neighbors[%d]", i)
		same := func(o Neighbor) bool { return o.Address == n.Address && o.Interface == n.Interface }
		if j := slices.IndexFunc(d.cfg.Neighbors[:i], same); j >= 0 && n.Address.IsValid() && n.Interface != "" {
			d.fail(path+".address", "remove one of them", "%s on %s is listed twice, first as neighbors[%d]",
				n.Address, n.Interface, j)
		}
		known := slices.ContainsFunc(d.cfg.Interfaces, func(in Interface) bool { return in.Name == n.Interface })
		if n.Interface != "" && !known {
			d.fail(path+".interface", `name one of "interfaces", or add it there`,
				"interface %s is not one of naru's interfaces", n.Interface)
		}
	}
}

func (d *decoder) checkServices() {
	first := map[string]int{}
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		path := fmt.Sprintf("services[%d]", i)
		if j, twice := first[s.Name]; twice && s.Name != "" {
			d.fail(path+".name", "give each service its own name",
				"service %s is defined twice, first as services[%d]", s.Name, j)
		} else {
			first[s.Name] = i
		}
		d.checkMode(path, s)
		d.checkHealth(path, s)
		d.checkBackends(path, s)
		d.checkChoice(path, s)
	}
}

// checkBackends checks the backends of one service among themselves.
func (d *decoder) checkBackends(path string, s *Service) {
	at := join(path, "backends")
	_, written := d.keys[at]
	if !written || d.empty[at] {
		d.warn(at, `add "backends:" with "- {name: b1, address: 192.0.2.1}"`,
			"service %s has no backends; it refuses every connection", s.Name)
	}
	weight := 0
	names, targets := map[string]int{}, map[netip.AddrPort]int{}
	for i, b := range s.Backends {
		weight += b.Weight
		item := fmt.Sprintf("%s[%d]", at, i)
		if j, twice := names[b.Name]; twice && b.Name != "" {
			d.fail(item+".name", "give each backend of a service its own name",
				"backend %s is defined twice, first as %s[%d]", b.Name, at, j)
		} else {
			names[b.Name] = i
		}
		target := netip.AddrPortFrom(b.Address, b.Port)
		if j, twice := targets[target]; twice && b.Address.IsValid() {
			d.warn(item+".address", "remove one, or give one of them more weight",
				"the same server as %s (%s)", s.Backends[j].Name, b.Address)
		} else {
			targets[target] = i
		}
	}
	if len(s.Backends) > 0 && weight == 0 {
		d.warn(at, "give one backend a weight above 0",
			"every backend of service %s has weight 0; it takes no new connections", s.Name)
	}
}

// claim is a range of ports that a service has.
type claim struct {
	Ports
	service, item int
}

// checkOverlaps finds ports of a VIP that two services have, or one service twice.
func (d *decoder) checkOverlaps() {
	type key struct {
		vip      netip.Addr
		protocol string
	}
	claims := map[key][]claim{}
	var keys []key
	for i, s := range d.cfg.Services {
		k := key{s.VIP, s.Protocol}
		if !s.VIP.IsValid() || s.Protocol == "" {
			continue
		}
		if claims[k] == nil {
			keys = append(keys, k)
		}
		for j, p := range s.Ports {
			if p != (Ports{}) {
				claims[k] = append(claims[k], claim{p, i, j})
			}
		}
	}
	for _, k := range keys {
		d.checkClaims(claims[k])
	}
}

// checkClaims reports each claim that begins inside one that begins before it, at the later of the two in the file.
func (d *decoder) checkClaims(claims []claim) {
	slices.SortStableFunc(claims, func(a, b claim) int { return cmp.Compare(a.Lo, b.Lo) })
	var widest claim
	for i, c := range claims {
		if i > 0 && c.Lo <= widest.Hi {
			d.overlap(widest, c)
		}
		if i == 0 || c.Hi > widest.Hi {
			widest = c
		}
	}
}

func (d *decoder) overlap(a, b claim) {
	if cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.item, b.item)) > 0 {
		a, b = b, a
	}
	path := fmt.Sprintf("services[%d].ports[%d]", b.service, b.item)
	if a.service == b.service {
		d.fail(path, "remove one of them", "%s overlaps %s of the same service", b.Ports, a.Ports)
		return
	}
	sa, sb := d.cfg.Services[a.service], d.cfg.Services[b.service]
	d.fail(path, "a packet belongs to one service; change the ports or the VIP",
		"port %s of %s/%s overlaps port %s of service %s (services[%d])",
		b.Ports, sb.VIP, sb.Protocol, a.Ports, sa.Name, a.service)
}

// own are the addresses that are naru's, each with the place of the file that says so first.
type own struct {
	vips, pools map[netip.Addr]string
	outer       []outerSource
}

// outerSource is an outer source of mode l3dsr.
type outerSource struct {
	prefix netip.Prefix
	path   string
}

// checkAddresses finds an address that is used for two things that exclude each other.
func (d *decoder) checkAddresses() {
	own := d.own()
	for i, s := range d.cfg.Services {
		for j, a := range s.NAT.SourcePool {
			if at, is := own.vips[a]; is {
				d.fail(fmt.Sprintf("services[%d].nat.source_pool[%d]", i, j),
					"use another address of naru's on the backends' side",
					"%s is a VIP (%s); a reply to it could not be told from a request", a, at)
			}
		}
		for j, b := range s.Backends {
			d.checkNotOurs(fmt.Sprintf("services[%d].backends[%d].address", i, j), "a backend", b.Address, &own)
		}
	}
	for _, o := range own.outer {
		for _, v := range d.cfg.VIPs {
			d.checkNotVIP(o, v.Address)
		}
		for _, s := range d.cfg.Services {
			if !slices.ContainsFunc(d.cfg.VIPs, func(v VIP) bool { return v.Address == s.VIP }) {
				d.checkNotVIP(o, s.VIP)
			}
		}
	}
	for i, n := range d.cfg.Neighbors {
		d.checkNotOurs(fmt.Sprintf("neighbors[%d].address", i), "a neighbour", n.Address, &own)
	}
}

// own collects naru's own addresses.
func (d *decoder) own() own {
	o := own{vips: map[netip.Addr]string{}, pools: map[netip.Addr]string{}}
	note := func(m map[netip.Addr]string, a netip.Addr, path string) {
		if _, known := m[a]; a.IsValid() && !known {
			m[a] = path
		}
	}
	for i, v := range d.cfg.VIPs {
		note(o.vips, v.Address, fmt.Sprintf("vips[%d].address", i))
	}
	for i, s := range d.cfg.Services {
		note(o.vips, s.VIP, fmt.Sprintf("services[%d].vip", i))
		for j, a := range s.NAT.SourcePool {
			note(o.pools, a, fmt.Sprintf("services[%d].nat.source_pool[%d]", i, j))
		}
		for _, p := range s.L3DSR.Source {
			o.outer = append(o.outer, outerSource{p, fmt.Sprintf("services[%d].l3dsr.source", i)})
		}
	}
	return o
}

// checkNotVIP reports an outer source with a VIP in it.
func (d *decoder) checkNotVIP(o outerSource, vip netip.Addr) {
	if o.prefix.IsValid() && o.prefix.Contains(vip) {
		d.fail(o.path, "use other addresses of naru's", "%s is a VIP, which cannot be the source of outer packets", vip)
	}
}

// checkNotOurs reports the address of another host that is one of naru's own.
func (d *decoder) checkNotOurs(path, what string, a netip.Addr, own *own) {
	if at, is := own.vips[a]; is {
		d.fail(path, "write the server's own address", "%s is a VIP (%s), not the address of %s", a, at, what)
	}
	at, is := own.pools[a]
	for _, o := range own.outer {
		if !is && o.prefix.IsValid() && o.prefix.Contains(a) {
			at, is = o.path, true
		}
	}
	if is {
		d.fail(path, "write the server's own address", "%s is naru's own address (%s), not that of %s", a, at, what)
	}
}

// portUse is how a service uses the ports of a local address.
type portUse struct {
	Ports
	rest    time.Duration
	service int
}

// checkSourcePorts holds that services share the ports of a local address or keep apart: the same ports are one pool
// for each protocol, which two ranges or two times of rest would cut in two.
func (d *decoder) checkSourcePorts() {
	type key struct {
		local    netip.Addr
		protocol string
	}
	uses := map[key][]portUse{}
	for i, s := range d.cfg.Services {
		use := portUse{s.NAT.SourcePorts, s.NAT.PortRest, i}
		if use.Ports == (Ports{}) {
			continue
		}
		for _, a := range s.NAT.SourcePool {
			k := key{a, s.Protocol}
			if !a.IsValid() || slices.ContainsFunc(uses[k], func(o portUse) bool { return d.sharesPorts(a, o, use) }) {
				continue
			}
			uses[k] = append(uses[k], use)
		}
	}
}

// sharesPorts reports whether two services have a port of a local address in common, and says so if they differ on it.
func (d *decoder) sharesPorts(a netip.Addr, old, use portUse) bool {
	path := fmt.Sprintf("services[%d].nat", use.service)
	switch {
	case old.service == use.service:
	case old.Hi < use.Lo || use.Hi < old.Lo:
		return false
	case old.Ports != use.Ports:
		d.fail(path+".source_ports", "write the same range in both, ranges that do not overlap, or use two addresses",
			"the ports %s of %s overlap %s of services[%d]", use.Ports, a, old.Ports, old.service)
	case old.rest != use.rest:
		d.fail(path+".port_rest", "write the same time in both, or use two addresses",
			"the ports of %s rest %s here and %s in services[%d]; they are one pool",
			a, printDuration(use.rest), printDuration(old.rest), old.service)
	}
	return true
}

// listed returns the words as in a sentence.
func listed(words []string) string { return strings.Join(words, ", ") }
