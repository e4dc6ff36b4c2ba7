package director

import (
	"fmt"
	"slices"

	"naru/forwarder"
	"naru/internal/link"
)

// allNodes is the Ethernet address of ff02::1, to which neighbour advertisements that nobody asked for go. The kernel
// joins it where it speaks IPv6 itself.
var allNodes = [6]byte{0x33, 0x33, 0, 0, 0, 1}

// groups returns the multicast MAC addresses that each leg must hear: NICs and macvlan interfaces filter the questions
// about addresses that the kernel does not hold. Of a prefix of outer
// sources there are too many: it is routed here and nobody asks.
func groups(cfg *forwarder.Config) []map[[6]byte]bool {
	out := make([]map[[6]byte]bool, len(cfg.Legs))
	for i, leg := range cfg.Legs {
		out[i] = map[[6]byte]bool{}
		for _, v := range cfg.VIPs {
			if leg.Client && !v.Shared && v.Addr.Is6() {
				out[i][link.SolicitedNode(v.Addr)] = true
			}
		}
		for _, s := range cfg.Services {
			for _, l := range s.Locals {
				if leg.Backend && !l.Kernel && l.Addr.Is6() {
					out[i][link.SolicitedNode(l.Addr)] = true
				}
			}
			if source := s.L3DSR.Source6; leg.Backend && source.IsValid() && source.IsSingleIP() &&
				!slices.Contains(cfg.HostAddrs, source.Addr()) {
				out[i][link.SolicitedNode(source.Addr())] = true
			}
			if s.VIP.Is6() || slices.ContainsFunc(s.Backends, func(b forwarder.Backend) bool { return b.Addr.Is6() }) {
				out[i][allNodes] = true
			}
		}
	}
	return out
}

// regroup joins and leaves so that the devices are in the new groups and in no other that was joined here. It runs on
// the goroutine that owns the devices.
func regroup(devices []link.Device, have, want []map[[6]byte]bool) error {
	for i, d := range devices {
		for mac := range want[i] {
			if have != nil && have[i][mac] {
				continue
			}
			if err := d.Join(mac); err != nil {
				return fmt.Errorf("director: %s: join %x: %w", d.Info().Name, mac, err)
			}
		}
		if have == nil {
			continue
		}
		for mac := range have[i] {
			if want[i][mac] {
				continue
			}
			if err := d.Leave(mac); err != nil {
				return fmt.Errorf("director: %s: leave %x: %w", d.Info().Name, mac, err)
			}
		}
	}
	return nil
}
