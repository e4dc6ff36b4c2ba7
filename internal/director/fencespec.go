package director

import (
	"net/netip"

	"naru/internal/config"
	"naru/internal/kernel"
)

// localPorts are ports of a local address that connections may have.
type localPorts struct {
	addr  netip.Addr
	proto uint8
	ports config.Ports
}

// locals are all local ports that were naru's since it started. A connection that an earlier configuration made keeps
// its local address and port, so the kernel is kept off them until the end.
type locals struct {
	seen map[localPorts]bool
	list []localPorts
}

func (l *locals) add(cfg *config.Config) {
	if l.seen == nil {
		l.seen = map[localPorts]bool{}
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, a := range s.NAT.SourcePool {
			lp := localPorts{a, protocols[s.Protocol], s.NAT.SourcePorts}
			if !l.seen[lp] {
				l.seen[lp] = true
				l.list = append(l.list, lp)
			}
		}
	}
}

// fenceSpec says what the kernel must be kept away from.
func fenceSpec(cfg *config.Config, host *kernel.State, locals *locals) kernel.FenceSpec {
	var spec kernel.FenceSpec
	for _, ifc := range cfg.Interfaces {
		spec.Interfaces = append(spec.Interfaces, ifc.Name)
	}
	shared := map[netip.Addr]bool{}
	for _, v := range cfg.VIPs {
		if v.Owner == "shared" {
			shared[v.Address] = true
		} else {
			spec.VIPs = append(spec.VIPs, v.Address)
		}
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		if !shared[s.VIP] {
			continue
		}
		for _, p := range s.Ports {
			spec.Services = append(spec.Services, kernel.FencePorts{
				Addr: s.VIP, Proto: protocols[s.Protocol], Lo: p.Lo, Hi: p.Hi,
			})
		}
	}
	pool := map[netip.Addr]bool{}
	for _, l := range locals.list {
		_, _, held := host.HoldsAddress(l.addr)
		switch {
		case held:
			spec.LocalPorts = append(spec.LocalPorts, kernel.FencePorts{
				Addr: l.addr, Proto: l.proto, Lo: l.ports.Lo, Hi: l.ports.Hi,
			})
		case !pool[l.addr]:
			pool[l.addr] = true
			spec.Pool = append(spec.Pool, l.addr)
		}
	}
	return spec
}
