package main

import (
	"fmt"

	"naru/internal/config"
	"naru/internal/steer"
	"naru/internal/wire"
)

// checkSteering finds out whether the kernel can share the traffic out among several workers: its programs have a greatest
// length. Where the number of workers follows from the machine, that is a warning: with one worker there is no program.
func checkSteering(cfg *config.Config) []config.Problem {
	o := steer.Options{Workers: max(cfg.Node.Workers, len(cfg.Node.CPUs.List))}
	path := "node.workers"
	switch {
	case cfg.IO.Driver == "xdp" || o.Workers == 1:
		return nil
	case cfg.Node.Workers == 0 && o.Workers > 0:
		path = "node.cpus"
	case o.Workers == 0:
		o.Workers, path = 2, "services" // the length does not depend on how many
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		o.VIPs = append(o.VIPs, wire.AddrFrom(s.VIP))
		o.ByPort = o.ByPort || s.NAT.KeepClientPort
		for _, a := range s.NAT.SourcePool {
			o.Locals = append(o.Locals, wire.AddrFrom(a))
		}
		for j := range s.Backends {
			if s.Mode == "nat" {
				o.Routed = append(o.Routed, wire.AddrFrom(s.Backends[j].Address))
			}
		}
	}
	for _, v := range cfg.VIPs {
		o.VIPs = append(o.VIPs, wire.AddrFrom(v.Address))
	}
	if _, err := steer.New(o).Program(); err != nil {
		p := cfg.Problem(path, fmt.Sprintf("the kernel cannot share the traffic out among several workers: %v", err),
			"fewer addresses in nat.source_pool, or node.workers: 1")
		p.Warning = cfg.Node.Workers+len(cfg.Node.CPUs.List) == 0
		return []config.Problem{p}
	}
	return nil
}
