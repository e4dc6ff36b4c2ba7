package director

import (
	"net/netip"

	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/kernel"
)

// localPorts are ports of a local address that connections may have.
type localPorts struct {
	addr  netip.Addr
	proto uint8
	ports config.Ports
}

// claims are all local ports, and all ports of backends of mode nat, that were naru's since it started. A connection that
// an earlier configuration made keeps its addresses and ports, so the kernel is kept off them until the end.
type claims struct {
	locals     []localPorts
	replies    []kernel.FencePorts
	seenLocals map[localPorts]bool
	seen       map[kernel.FencePorts]bool
}

func (c *claims) add(cfg *config.Config) {
	if c.seen == nil {
		c.seenLocals, c.seen = map[localPorts]bool{}, map[kernel.FencePorts]bool{}
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, a := range s.NAT.SourcePool {
			lp := localPorts{a, compile.Protocol(s.Protocol), s.NAT.SourcePorts}
			if !c.seenLocals[lp] {
				c.seenLocals[lp] = true
				c.locals = append(c.locals, lp)
			}
		}
		if s.Mode == "nat" {
			c.addReplies(s)
		}
	}
}

// addReplies notes where the answers to a service come from.
func (c *claims) addReplies(s *config.Service) {
	for _, b := range s.Backends {
		ports := s.Ports
		if b.Port != 0 {
			ports = []config.Ports{{Lo: b.Port, Hi: b.Port}}
		}
		for _, p := range ports {
			fp := kernel.FencePorts{Addr: b.Address, Proto: compile.Protocol(s.Protocol), Lo: p.Lo, Hi: p.Hi}
			if !c.seen[fp] {
				c.seen[fp] = true
				c.replies = append(c.replies, fp)
			}
		}
	}
}

// fenceSpec says what the kernel must be kept away from.
func fenceSpec(cfg *config.Config, host *kernel.State, claims *claims) kernel.FenceSpec {
	var spec kernel.FenceSpec
	for _, ifc := range cfg.Interfaces {
		spec.Interfaces = append(spec.Interfaces, ifc.Name)
	}
	fenceVIPs(cfg, &spec)
	pool := map[netip.Addr]bool{}
	for _, l := range claims.locals {
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
	fenceOuter(cfg, host, &spec, pool)
	if claims.replies != nil {
		// A copy: the spec is compared with the next one, which may have more.
		spec.Replies = append(spec.Replies, claims.replies...)
		spec.Host = compile.HostAddrs(host)
		for _, ifc := range cfg.Interfaces {
			if ifc.Side != "client" {
				spec.ReplyInterfaces = append(spec.ReplyInterfaces, ifc.Name)
			}
		}
	}
	return spec
}

// fenceVIPs adds the VIPs that are naru's, and the services of those that it shares.
func fenceVIPs(cfg *config.Config, spec *kernel.FenceSpec) {
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
				Addr: s.VIP, Proto: compile.Protocol(s.Protocol), Lo: p.Lo, Hi: p.Hi,
			})
		}
	}
}

// fenceOuter adds the outer sources that the kernel does not hold. What comes to one that it holds are errors about
// packets that it did not send, which it ignores.
func fenceOuter(cfg *config.Config, host *kernel.State, spec *kernel.FenceSpec, pool map[netip.Addr]bool) {
	seen := map[netip.Prefix]bool{}
	for i := range cfg.Services {
		for _, p := range cfg.Services[i].L3DSR.Source {
			_, _, held := host.HoldsAddress(p.Addr())
			switch {
			case seen[p], p.IsSingleIP() && (held || pool[p.Addr()]):
			case p.IsSingleIP():
				spec.Pool = append(spec.Pool, p.Addr())
			default:
				spec.Outer = append(spec.Outer, p)
			}
			seen[p] = true
		}
	}
}
