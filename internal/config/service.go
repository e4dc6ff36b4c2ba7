package config

import (
	"net/netip"
	"time"
)

func (d *decoder) services(v value) {
	d.list(v, `"- name: web" items`, func(_ int, v value) { d.cfg.Services = append(d.cfg.Services, d.service(v)) })
	if d.empty[v.path] {
		d.warn(v.path, "add a service", "there are no services; naru forwards nothing")
	}
}

// service reads one service. What it does not read well is zero, and the checks pass over it.
func (d *decoder) service(v value) Service {
	s := Service{
		Scheduler: d.defaults.scheduler,
		Choice:    d.defaults.choice,
		Reject:    d.defaults.reject,
		Midstream: d.defaults.midstream,
		Timeouts:  d.defaults.timeouts,

		OnIdle:        d.defaults.onIdle,
		OnBackendDown: d.defaults.onBackendDown,
		Health:        d.defaults.health,
		NAT:           NAT{SourcePorts: defaultSourcePorts, PortRest: defaultPortRest},
	}
	if !d.mapping(v, append([]field{
		{"name", func(v value) { s.Name = d.name(v) }},
		{"vip", func(v value) { s.VIP = d.address(v, addressRule{}) }},
		{"ports", func(v value) { s.Ports = d.ports(v) }},
		{"protocol", func(v value) { set(&s.Protocol)(d.oneOf(v, protocols...)) }},
		{"mode", func(v value) { set(&s.Mode)(d.oneOf(v, modeNames()...)) }},
		{"scheduler", func(v value) { set(&s.Scheduler)(d.scheduler(v)) }},
		{"nat", func(v value) { d.nat(v, &s.NAT) }},
		{"l3dsr", func(v value) { d.l3dsr(v, &s.L3DSR) }},
		{"timeouts", func(v value) { d.timeouts(v, &s.Timeouts) }},
		{"reject", func(v value) { set(&s.Reject)(d.oneOf(v, rejects...)) }},
		{"midstream", func(v value) { set(&s.Midstream)(d.oneOf(v, midstreams...)) }},
		{"health", func(v value) { d.serviceHealth(v, &s) }},
		{"on_idle", func(v value) { d.onIdle(v, &s) }},
		{"on_backend_down", func(v value) { d.onBackendDown(v, &s.OnBackendDown) }},
	}, append(d.choiceFields(&s.Choice), field{"backends", func(v value) { s.Backends = d.backends(v, s.SlowStart) }})...)) {
		return s
	}
	d.need(v, "name", `write "name: web"`)
	d.need(v, "vip", `write "vip: 192.0.2.1"`)
	d.need(v, "ports", `write "ports: [80]"`)
	d.need(v, "protocol", `write "protocol: tcp" or "protocol: udp"`)
	d.need(v, "mode", `write "mode: fullnat"`)
	return s
}

func (d *decoder) ports(v value) []Ports {
	var all []Ports
	d.list(v, "ports: [80]", func(_ int, v value) { all = append(all, d.servicePorts(v)) })
	if d.empty[v.path] {
		d.fail(v.path, `write "ports: [80]"`, "there is no port in the list")
	}
	return all
}

func (d *decoder) nat(v value, n *NAT) {
	d.mapping(v, append([]field{
		{"source_pool", func(v value) { n.SourcePool = d.pool(v) }},
		{"source_ports", func(v value) { n.SourcePorts = d.sourcePorts(v) }},
		{"keep_client_port", func(v value) { set(&n.KeepClientPort)(d.boolean(v)) }},
		{"port_rest", func(v value) { set(&n.PortRest)(d.duration(v, 0, maxPortRest)) }},
	}, later("client_address")...))
}

func (d *decoder) pool(v value) []netip.Addr {
	var all []netip.Addr
	d.list(v, "source_pool: [192.0.2.1]", func(_ int, v value) { all = append(all, d.address(v, addressRule{})) })
	return all
}

func (d *decoder) backends(v value, slowStart time.Duration) []Backend {
	var all []Backend
	d.list(v, `"- {name: b1, address: 192.0.2.1}" lines`, func(_ int, v value) {
		b := Backend{Weight: 1, SlowStart: slowStart}
		if d.mapping(v, append([]field{
			{"name", func(v value) { b.Name = d.name(v) }},
			{"address", func(v value) { b.Address = d.address(v, addressRule{}) }},
			{"port", func(v value) {
				if p, ok := d.integer(v, 1, 65535); ok {
					b.Port = uint16(p)
				}
			}},
			{"weight", func(v value) { set(&b.Weight)(d.integer(v, 0, maxWeight)) }},
			{"slow_start", func(v value) { set(&b.SlowStart)(d.duration(v, 0, maxSlowStart)) }},
			{"max_connections", func(v value) { set(&b.MaxConnections)(d.integer(v, 1, maxConnections)) }},
			{"backup", func(v value) { set(&b.Backup)(d.boolean(v)) }},
			{"mtu", func(v value) { b.MTU, b.ProbeMTU = d.mtu(v, b.Address) }},
		}, later("health")...)) {
			d.need(v, "name", `write "name: b1"; connections follow the name`)
			d.need(v, "address", `write "address: 192.0.2.1"`)
		}
		all = append(all, b)
	})
	return all
}

// mtu reads the longest packet that the way to a backend carries, or that it is to be found. It begins at the least
// that every link carries.
func (d *decoder) mtu(v value, backend netip.Addr) (n int, probe bool) {
	if s, _ := d.scalarText(v); s == "probe" {
		return 0, true
	}
	least := leastMTU4
	if backend.Is6() {
		least = leastMTU6
	}
	n, _ = d.integer(v, least, maxMTU)
	return n, false
}
