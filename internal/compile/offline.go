package compile

import (
	"net/netip"
	"slices"

	"naru/internal/config"
	"naru/internal/host"
)

// The network that Offline makes up. The addresses are of the block for benchmarks (RFC 2544, RFC 5180), where nobody's
// service is, the MAC addresses are locally administered.
const (
	offlineMTU   = 1500
	offlineLeg   = 0     // 198.19.255.1 and on, 2001:2:0:ffff::1 and on
	offlineGates = 0x100 // the routers: 198.19.254.1 and on, 2001:2:0:fffe::1 and on
)

// LegMAC returns the MAC address of leg i of a made-up host, counted from 0: 02:6e:61:72:75 ("naru"), then i+1.
func LegMAC(i int) [6]byte { return [6]byte{0x02, 'n', 'a', 'r', 'u', byte(i + 1)} }

// RouterMAC returns the MAC address of the router behind leg i of a made-up host: 02:00:5e:00:01, then i+1.
func RouterMAC(i int) [6]byte { return [6]byte{0x02, 0x00, 0x5e, 0x00, 0x01, byte(i + 1)} }

// BackendMAC returns the MAC address of the i-th backend address of a configuration on a made-up host, counted from 0:
// 02:00:5e:10, then i+1 in two bytes. An entry of neighbors: in the configuration wins over it.
func BackendMAC(i int) [6]byte {
	return [6]byte{0x02, 0x00, 0x5e, 0x10, byte((i + 1) >> 8), byte(i + 1)}
}

// Offline makes up the host that a configuration is for, so that the engine can run without one. Every interface of the
// configuration is there, with an MTU of 1500, an address of each family that nobody else uses, and MAC address LegMAC.
// Each backend is reached on-link by the interface that neighbors: gives it, else by the first backend interface;
// everybody else by a router behind the first client interface. All MAC addresses are known, so nobody is asked. Backends
// of earlier configurations, with the same interfaces, stay where they were.
func Offline(cfg *config.Config, earlier ...*config.Config) *host.State {
	h := &host.State{}
	for i, ifc := range cfg.Interfaces {
		h.Links = append(h.Links, host.Link{Index: i + 1, Name: ifc.Name, MAC: LegMAC(i), MTU: offlineMTU, Up: true})
		for _, a := range offlineAddrs(offlineLeg, i) {
			h.Addrs = append(h.Addrs, host.Addr{Link: i + 1, Prefix: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	client, backend := LegOf(cfg, "backend"), LegOf(cfg, "client")
	seen := map[netip.Addr]bool{}
	for _, c := range append(slices.Clone(earlier), cfg) {
		for i := range c.Services {
			for _, b := range c.Services[i].Backends {
				if !seen[b.Address] {
					offlineBackend(h, c, b.Address, backend, len(seen))
					seen[b.Address] = true
				}
			}
		}
	}
	for _, gate := range offlineAddrs(offlineGates, client) {
		h.Routes = append(h.Routes, host.Route{Prefix: netip.PrefixFrom(zeroOf(gate), 0), Link: client + 1, Gateway: gate})
		h.Neighbors = append(h.Neighbors, host.Neighbor{Link: client + 1, Addr: gate, MAC: RouterMAC(client), Permanent: true})
	}
	return h
}

// LegOf returns the first leg whose side is not the one given: LegOf(cfg, "backend") is where clients are.
func LegOf(cfg *config.Config, not string) int {
	return max(0, slices.IndexFunc(cfg.Interfaces, func(i config.Interface) bool { return i.Side != not }))
}

func offlineBackend(h *host.State, cfg *config.Config, a netip.Addr, leg, number int) {
	for _, n := range cfg.Neighbors {
		if n.Address == a {
			leg = slices.IndexFunc(cfg.Interfaces, func(i config.Interface) bool { return i.Name == n.Interface })
		}
	}
	h.Routes = append(h.Routes, host.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Link: leg + 1})
	h.Neighbors = append(h.Neighbors, host.Neighbor{Link: leg + 1, Addr: a, MAC: BackendMAC(number), Permanent: true})
}

// offlineAddrs returns an address of each family for leg i: of the leg itself or of the router behind it.
func offlineAddrs(what, i int) [2]netip.Addr {
	third := 0xff - byte(what>>8)
	return [2]netip.Addr{
		netip.AddrFrom4([4]byte{198, 19, third, byte(i + 1)}),
		netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 3: 0x02, 6: 0xff, 7: third, 15: byte(i + 1)}),
	}
}

func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
