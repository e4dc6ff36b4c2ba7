package compile

import (
	"net/netip"

	"naru/internal/config"
	"naru/internal/roster"
)

// Members returns what the configuration says of each backend's service, in its order.
func Members(cfg *config.Config) []roster.Member {
	var out []roster.Member
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Backends {
			b := &s.Backends[j]
			m := roster.Member{Key: roster.Key{Service: s.Name, Backend: b.Name}, Weight: uint32(b.Weight),
				SlowStart: b.SlowStart}
			if a := Probed(s, b); a.IsValid() {
				m.Probed = s.Health.Type + " " + a.String()
			}
			out = append(out, m)
		}
	}
	return out
}

// Probed returns the address and port at which a backend is probed; the zero AddrPort if it is not.
func Probed(s *config.Service, b *config.Backend) netip.AddrPort {
	port := s.Health.Port
	if port == 0 {
		port = b.Port
	}
	if port == 0 && len(s.Ports) > 0 {
		port = s.Ports[0].Lo
	}
	if s.Health.Type == "none" {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(b.Address, port)
}
