// Package compile puts a configuration and the state of a host into the engine's words: forwarder.Config.
//
// Contract: plain computation; the same configuration and host give the same result, in the same order. The host is a
// picture of a live kernel's state or, for replay and explain, one that Offline makes up. It opens nothing, so it builds
// wherever Go does. It does not check: config.Load and the director's host checks have done that.
package compile

import (
	"fmt"
	"net/netip"
	"slices"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/host"
	"naru/internal/wire"
	"naru/sched"
)

var (
	modes = map[string]forwarder.Mode{
		"fullnat": forwarder.FullNAT, "nat": forwarder.NAT, "l2dsr": forwarder.L2DSR, "l3dsr": forwarder.L3DSR,
	}
	rejects = map[string]forwarder.Reject{
		"rst": forwarder.RejectRST, "icmp": forwarder.RejectICMP, "drop": forwarder.RejectDrop,
	}
	midstreams = map[string]forwarder.Midstream{
		"reject": forwarder.MidstreamReject, "drop": forwarder.MidstreamDrop, "pickup": forwarder.MidstreamPickup,
	}
	echoes = map[string]forwarder.Echo{
		"answer": forwarder.EchoAnswer, "pass": forwarder.EchoPass, "drop": forwarder.EchoDrop,
	}
	encaps = map[string]forwarder.Encap{
		"dscp": forwarder.EncapDSCP, "ipip": forwarder.EncapIPIP, "gue": forwarder.EncapGUE,
	}
	onIdle    = map[string]forwarder.OnIdle{"silent": forwarder.IdleSilent, "rst": forwarder.IdleReset}
	onDownTCP = map[string]forwarder.OnDownTCP{
		"rst": forwarder.DownTCPReset, "keep": forwarder.DownTCPKeep, "reschedule": forwarder.DownTCPReschedule,
	}
	onDownUDP = map[string]forwarder.OnDownUDP{"rehash": forwarder.DownUDPRehash, "drop": forwarder.DownUDPDrop}
	hashes    = map[string]forwarder.Hash{
		"source": forwarder.HashSource, "5-tuple": forwarder.HashTuple, "source-port": forwarder.HashSourcePort,
		"dest": forwarder.HashDest,
	}
	protocols = map[string]uint8{"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP}
)

// Protocol returns the number of "tcp" or "udp".
func Protocol(name string) uint8 { return protocols[name] }

// Config puts the configuration and the state of the host into the engine's words. An interface that the host does not
// have is an error.
func Config(cfg *config.Config, h *host.State) (forwarder.Config, error) {
	legs, byIndex, err := compileLegs(cfg, h)
	if err != nil {
		return forwarder.Config{}, err
	}
	out := forwarder.Config{
		Legs:      legs,
		Routes:    compileRoutes(h, byIndex),
		Neighbors: compileNeighbors(cfg, h, byIndex),
		HostAddrs: HostAddrs(h),
		Limits:    forwarder.Limits(cfg.Node.Limits),
		HashKey:   cfg.Node.HashKey,
	}
	for _, v := range cfg.VIPs {
		out.VIPs = append(out.VIPs, forwarder.VIP{
			Addr: v.Address, Shared: v.Owner == "shared", Reject: rejects[v.Reject], Echo: echoes[v.Echo],
		})
	}
	for i := range cfg.Services {
		out.Services = append(out.Services, compileService(&cfg.Services[i], h))
	}
	return out, nil
}

// compileLegs also returns the leg of each interface index.
func compileLegs(cfg *config.Config, h *host.State) ([]forwarder.Leg, map[int]int, error) {
	var legs []forwarder.Leg
	byIndex := map[int]int{}
	for i, ifc := range cfg.Interfaces {
		l, ok := h.Link(ifc.Name)
		if !ok {
			return nil, nil, fmt.Errorf("compile: interface %s is gone", ifc.Name)
		}
		leg := forwarder.Leg{Name: ifc.Name, MAC: l.MAC, MTU: l.MTU,
			Client: ifc.Side != "backend", Backend: ifc.Side != "client"}
		for _, a := range h.Addrs {
			if a.Link == l.Index {
				leg.Addrs = append(leg.Addrs, a.Prefix)
			}
		}
		byIndex[l.Index] = i
		legs = append(legs, leg)
	}
	return legs, byIndex, nil
}

// compileRoutes keeps routes that leave by no leg of ours: what they hide must not be sent by a shorter prefix.
func compileRoutes(h *host.State, byIndex map[int]int) []forwarder.Route {
	var out []forwarder.Route
	for _, r := range h.Routes {
		leg, ours := byIndex[r.Link]
		if !ours {
			leg = -1
		}
		out = append(out, forwarder.Route{Prefix: r.Prefix, Leg: leg, Gateway: r.Gateway})
	}
	return out
}

// compileNeighbors takes from the kernel what an operator entered by hand, and next hops of backends and routes that it
// has confirmed a short while ago: what it only remembers may be wrong, and the engine asks by itself. Other neighbours
// come and go without a new snapshot. A static neighbour of the configuration wins over the kernel's entry.
func compileNeighbors(cfg *config.Config, h *host.State, byIndex map[int]int) []forwarder.Neighbor {
	var out []forwarder.Neighbor
	type key struct {
		leg  int
		addr netip.Addr
	}
	static := map[key]bool{}
	for _, n := range cfg.Neighbors {
		leg := slices.IndexFunc(cfg.Interfaces, func(i config.Interface) bool { return i.Name == n.Interface })
		static[key{leg, n.Address}] = true
		out = append(out, forwarder.Neighbor{Leg: leg, Addr: n.Address, MAC: n.MAC, Static: true})
	}
	wanted := nextHops(cfg, h)
	for _, n := range h.Neighbors {
		leg, ours := byIndex[n.Link]
		useful := n.Permanent || n.State == host.NeighborReachable && wanted[n.Addr]
		if ours && useful && !static[key{leg, n.Addr}] {
			out = append(out, forwarder.Neighbor{Leg: leg, Addr: n.Addr, MAC: n.MAC, Static: n.Permanent})
		}
	}
	return out
}

// nextHops returns the addresses that packets are sent to whoever the clients are.
func nextHops(cfg *config.Config, h *host.State) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, r := range h.Routes {
		if r.Gateway.IsValid() {
			out[r.Gateway] = true
		}
	}
	for i := range cfg.Services {
		for _, b := range cfg.Services[i].Backends {
			out[b.Address] = true
		}
	}
	return out
}

func compileService(s *config.Service, h *host.State) forwarder.Service {
	kind, _ := sched.Parse(s.Scheduler)
	out := forwarder.Service{
		Name: s.Name, VIP: s.VIP, Proto: protocols[s.Protocol], Mode: modes[s.Mode], Scheduler: kind,
		Choice:         compileChoice(&s.Choice),
		SourcePorts:    forwarder.PortRange(s.NAT.SourcePorts),
		KeepClientPort: s.NAT.KeepClientPort,
		PortRest:       s.NAT.PortRest,
		Timeouts:       forwarder.Timeouts(s.Timeouts),
		Reject:         rejects[s.Reject],
		Midstream:      midstreams[s.Midstream],
		OnIdle:         onIdle[s.OnIdle],
		OnDownTCP:      onDownTCP[s.OnBackendDown.TCP],
		OnDownUDP:      onDownUDP[s.OnBackendDown.UDP],
	}
	if s.Mode == "l3dsr" {
		out.L3DSR = compileL3DSR(&s.L3DSR)
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, forwarder.PortRange(p))
	}
	for _, a := range s.NAT.SourcePool {
		_, _, held := h.HoldsAddress(a)
		out.Locals = append(out.Locals, forwarder.Local{Addr: a, Kernel: held})
	}
	for _, b := range s.Backends {
		out.Backends = append(out.Backends, forwarder.Backend{
			Name: b.Name, Addr: b.Address, Port: b.Port, Weight: uint32(b.Weight), MTU: b.MTU,
			MaxConnections: b.MaxConnections, Backup: b.Backup,
		})
	}
	return out
}

// compileL3DSR leaves a source out that is not configured: the engine takes the address of the leg.
func compileL3DSR(o *config.L3DSR) forwarder.L3DSROptions {
	out := forwarder.L3DSROptions{Encap: encaps[o.Encap], DSCP: uint8(o.DSCP), Port: o.Port, Variant: uint8(o.Variant)}
	for _, p := range o.Source {
		if p.Addr().Is4() {
			out.Source4 = p
		} else {
			out.Source6 = p
		}
	}
	return out
}

// HostAddrs returns all addresses that the kernel holds, each once.
func HostAddrs(h *host.State) []netip.Addr {
	var out []netip.Addr
	for _, a := range h.Addrs {
		out = append(out, a.Prefix.Addr())
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func compileChoice(c *config.Choice) forwarder.Choice {
	return forwarder.Choice{
		Hash: hashes[c.Hash], Bounded: uint32(c.Bounded * sched.ShareAll), TableSize: c.TableSize,
		MaxConnections: c.MaxConnections, RefuseFull: c.OnBackendFull == "refuse",
		Affinity: forwarder.Affinity{Timeout: c.Affinity.Timeout, Prefix4: c.Affinity.Prefix4, Prefix6: c.Affinity.Prefix6,
			Clients: c.Affinity.Clients},
	}
}
