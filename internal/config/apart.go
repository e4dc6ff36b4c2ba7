package config

import (
	"fmt"
	"net/netip"
)

// checkCodes holds that a backend can tell the VIPs of mode l3dsr by their DSCP.
func (d *decoder) checkCodes() {
	type code struct {
		backend netip.Addr
		dscp    int
	}
	type way struct{ backend, vip netip.Addr }
	vips, codes := map[code]int{}, map[way]int{} // to the first service
	told := map[[2]int]bool{}                    // pairs of services are told of once
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		if s.L3DSR.DSCP == 0 || !s.VIP.IsValid() || s.Mode != "l3dsr" || !encaps[s.L3DSR.Encap].dscp {
			continue
		}
		for _, b := range s.Backends {
			if !b.Address.IsValid() {
				continue
			}
			if j := first(vips, code{b.Address, s.L3DSR.DSCP}, i); d.cfg.Services[j].VIP != s.VIP && !told[[2]int{j, i}] {
				told[[2]int{j, i}] = true
				d.sameCode(i, j, b.Address)
			}
			j := first(codes, way{b.Address, s.VIP}, i)
			if d.cfg.Services[j].L3DSR.DSCP != s.L3DSR.DSCP && !told[[2]int{j, i}] {
				told[[2]int{j, i}] = true
				d.twoCodes(i, j, b.Address)
			}
		}
	}
}

// first returns the service that used the key first: i if it was nobody before.
func first[K comparable](m map[K]int, key K, i int) int {
	if j, used := m[key]; used {
		return j
	}
	m[key] = i
	return i
}

func (d *decoder) sameCode(i, j int, backend netip.Addr) {
	s, o := &d.cfg.Services[i], &d.cfg.Services[j]
	d.fail(fmt.Sprintf("services[%d].l3dsr.dscp", i), "give each VIP a value of its own",
		"%d stands for %s at %s already, in service %s (services[%d])", s.L3DSR.DSCP, o.VIP, backend, o.Name, j)
}

func (d *decoder) twoCodes(i, j int, backend netip.Addr) {
	s, o := &d.cfg.Services[i], &d.cfg.Services[j]
	d.warn(fmt.Sprintf("services[%d].l3dsr.dscp", i), "one value a VIP is enough, write the same in both",
		"%s is %d at %s in service %s (services[%d]) and %d here", s.VIP, o.L3DSR.DSCP, backend, o.Name, j, s.L3DSR.DSCP)
}

// serverPorts are the ports of a server that a service sends to.
type serverPorts struct {
	Ports
	service int
}

// checkTuples warns of two services between which a server, and so the reply, does not tell: where the client's address
// and port are kept, one client port that uses both would be one connection to the server.
func (d *decoder) checkTuples() {
	type server struct {
		addr     netip.Addr
		protocol string
	}
	uses, told := map[server][]serverPorts{}, map[[2]int]bool{} // pairs of services are told of once
	for i := range d.cfg.Services {
		s := &d.cfg.Services[i]
		if !modes[s.Mode].keepsTuple || s.Protocol == "" {
			continue
		}
		for j, b := range s.Backends {
			key := server{b.Address, s.Protocol}
			for _, p := range portsAt(s, b) {
				if !b.Address.IsValid() || p == (Ports{}) {
					continue
				}
				for _, o := range uses[key] {
					pair := [2]int{o.service, i}
					if o.service != i && o.Lo <= p.Hi && p.Lo <= o.Hi && !told[pair] {
						told[pair] = true
						d.sameTuple(fmt.Sprintf("services[%d].backends[%d].address", i, j), s, b, o)
					}
				}
				uses[key] = append(uses[key], serverPorts{p, i})
			}
		}
	}
}

func (d *decoder) sameTuple(at string, s *Service, b Backend, o serverPorts) {
	d.warn(at, "let the server listen on a port for each, or use mode fullnat",
		"service %s sends %s to port %s of %s too (services[%d]); of two connections from one client port, one through "+
			"each, naru refuses the second (tuple_clash)",
		d.cfg.Services[o.service].Name, s.Protocol, o.Ports, b.Address, o.service)
}

// portsAt returns the ports of a backend that the service sends to.
func portsAt(s *Service, b Backend) []Ports {
	if b.Port != 0 {
		return []Ports{{b.Port, b.Port}}
	}
	return s.Ports
}
