package config

import (
	"fmt"
	"slices"
)

// modeRules is what a mode allows and needs. Every check that depends on the mode reads it here.
type modeRules struct {
	available   bool
	sourcePool  bool   // the keys of "nat" have a meaning, and nat.source_pool is needed
	portChange  bool   // a backend may have a port of its own
	anyFamily   bool   // a backend's address may be of another family than the VIP
	noPortWhy   string // why a backend has no port of its own
	noSourceWhy string // why there is no source pool
}

// modes are the modes of a service.
var modes = map[string]modeRules{
	"fullnat": {available: true, sourcePool: true, portChange: true},
	"nat": {
		portChange:  true,
		noSourceWhy: "the backends see the client's own address and port",
	},
	"l2dsr": {
		noPortWhy:   "the frame keeps its destination port",
		noSourceWhy: "the packet keeps its source",
	},
	"l3dsr": {
		anyFamily:   true,
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
	for i, b := range s.Backends {
		at := fmt.Sprintf("%s.backends[%d]", path, i)
		d.checkBackendPort(join(at, "port"), s, b, rules)
		if !rules.anyFamily && b.Address.IsValid() && s.VIP.IsValid() && b.Address.Is4() != s.VIP.Is4() {
			d.fail(join(at, "address"), "use an address of the VIP's family",
				"%s and the VIP %s differ in address family; mode %s cannot translate that", b.Address, s.VIP, s.Mode)
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

// checkBackendPort checks that a backend's own port has a meaning.
func (d *decoder) checkBackendPort(at string, s *Service, b Backend, rules modeRules) {
	if _, written := d.keys[at]; !written {
		return
	}
	if !rules.portChange {
		d.failKey(at, rules.noPortWhy+`; remove "port" or use mode fullnat`,
			"port translation is not possible in mode %s", s.Mode)
		return
	}
	if len(s.Ports) > 1 || len(s.Ports) == 1 && s.Ports[0].Lo != s.Ports[0].Hi {
		d.failKey(at, `remove "port" (the port is kept then), or give the service one port`,
			"a backend's port needs a service with exactly one port")
	}
}
