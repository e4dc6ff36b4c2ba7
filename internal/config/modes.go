package config

import (
	"fmt"
	"slices"
)

// modeRules is what a mode allows and needs. Every check that depends on the mode reads it here.
type modeRules struct {
	sourcePool bool // the keys of "nat" have a meaning, and nat.source_pool is needed
	portChange bool // a backend may have a port of its own
	l3dsr      bool // the keys of "l3dsr" have a meaning, and l3dsr.encap is needed
	mtu        bool // a backend may have an MTU
	keepsTuple bool // replies pass, and are told apart by what the client sent: its address and port are kept

	noPortWhy   string // why a backend has no port of its own
	noSourceWhy string // why there is no source pool
	noL3DSRWhy  string // why there is nothing to say about L3DSR
	noMTUWhy    string // why a backend has no MTU
}

// modes are the modes of a service.
var modes = map[string]modeRules{
	"fullnat": {
		sourcePool: true, portChange: true,
		noL3DSRWhy: "the packets are translated",
		noMTUWhy:   "a router's error about a packet that is too big finds its way back to the client",
	},
	"nat": {
		portChange: true, keepsTuple: true,
		noSourceWhy: "the backends see the client's own address and port",
		noL3DSRWhy:  "the packets are translated",
		noMTUWhy:    "a router's error about a packet that is too big finds its way back to the client",
	},
	"l2dsr": {
		noPortWhy:   "the frame keeps its destination port",
		noSourceWhy: "the packet keeps its source",
		noL3DSRWhy:  "only the MAC addresses change",
		noMTUWhy:    "the backend is on a segment of naru's, whose MTU is the interface's",
	},
	"l3dsr": {
		l3dsr: true, mtu: true,
		noPortWhy:   "the backend gets the client's packet with its destination port",
		noSourceWhy: "the packet keeps its source",
	},
}

// modeNames returns the names of the modes, in the order of the documentation.
func modeNames() []string { return []string{"fullnat", "nat", "l2dsr", "l3dsr"} }

// checkMode holds a service against the rules of its mode. path is the service's.
func (d *decoder) checkMode(path string, s *Service) {
	rules, ok := modes[s.Mode]
	if !ok {
		return
	}
	d.checkSource(path, s, rules)
	d.checkL3DSR(path, s, rules)
	for i := range s.Backends {
		at := fmt.Sprintf("%s.backends[%d]", path, i)
		d.checkBackendPort(join(at, "port"), s, &s.Backends[i], rules)
		d.checkBackendFamily(join(at, "address"), s, s.Backends[i])
		if _, written := d.keys[join(at, "mtu")]; written && !rules.mtu {
			d.failKey(join(at, "mtu"), rules.noMTUWhy+`; remove "mtu" or use mode l3dsr`, "mode %s has no use for it", s.Mode)
		}
	}
}

// checkSource checks the keys of "nat".
func (d *decoder) checkSource(path string, s *Service, rules modeRules) {
	at := join(path, "nat")
	_, written := d.keys[at]
	if !rules.sourcePool {
		if written {
			d.failKey(at, rules.noSourceWhy+`; remove "nat" or use mode fullnat`, "mode %s has no source pool", s.Mode)
		}
		return
	}
	pool := join(at, "source_pool")
	if _, ok := d.keys[pool]; !ok {
		where := path
		if written {
			where = at
		}
		d.fail(where, `write "nat: {source_pool: [192.0.2.1]}" with an address of naru's on the backends' side`,
			"mode %s needs nat.source_pool: the address that backends see and answer", s.Mode)
		return
	}
	if d.empty[pool] {
		d.fail(pool, "write at least one address of naru's on the backends' side", "there is no address in the list")
	}
	for i, a := range s.NAT.SourcePool {
		item := fmt.Sprintf("%s[%d]", pool, i)
		if a.IsValid() && s.VIP.IsValid() && a.Is4() != s.VIP.Is4() {
			d.fail(item, "use an address of the VIP's family", "%s and the VIP %s differ in address family", a, s.VIP)
		}
		if a.IsValid() && slices.Contains(s.NAT.SourcePool[:i], a) {
			d.fail(item, "remove one of them", "%s is listed twice", a)
		}
	}
}

// checkBackendPort checks that a backend's own port has a meaning. One that equals the service's changes nothing.
func (d *decoder) checkBackendPort(at string, s *Service, b *Backend, rules modeRules) {
	if _, written := d.keys[at]; !written {
		return
	}
	single := len(s.Ports) == 1 && s.Ports[0].Lo == s.Ports[0].Hi
	switch {
	case !rules.portChange && single && b.Port == s.Ports[0].Lo:
		b.Port = 0
	case !rules.portChange:
		d.failKey(at, rules.noPortWhy+`; remove "port" or use mode fullnat`,
			"port translation is not possible in mode %s", s.Mode)
	case len(s.Ports) > 0 && !single:
		d.failKey(at, `remove "port" (the port is kept then), or give the service one port`,
			"a backend's port needs a service with exactly one port")
	}
}

// checkBackendFamily checks that packets to the VIP can travel to a backend.
func (d *decoder) checkBackendFamily(at string, s *Service, b Backend) {
	if !b.Address.IsValid() || !s.VIP.IsValid() || b.Address.Is4() == s.VIP.Is4() {
		return
	}
	const sameFamily = "use an address of the VIP's family"
	how, fix := "mode "+s.Mode, sameFamily
	if modes[s.Mode].l3dsr {
		rules, known := encaps[s.L3DSR.Encap]
		if !known || rules.outer {
			return
		}
		how, fix = "encap "+s.L3DSR.Encap, sameFamily+", or a tunnel: encap ipip or gue"
	}
	d.fail(at, fix, "%s and the VIP %s differ in address family; %s cannot translate that", b.Address, s.VIP, how)
}
