//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"naru/internal/backend"
	"naru/internal/config"
)

// protocols are the numbers of the protocols that a service can have (IANA).
var protocols = map[string]uint8{"tcp": 6, "udp": 17}

// targetOf returns the configuration and the backend that the one argument of a command names.
func targetOf(c *cli.Context) (*config.Config, backend.Target, error) {
	switch c.NArg() {
	case 0:
		return nil, backend.Target{}, usagef("missing argument SERVICE/BACKEND")
	case 1:
	default:
		return nil, backend.Target{}, usagef("too many arguments: %q; it takes one SERVICE/BACKEND", c.Args().Get(1))
	}
	service, name, ok := strings.Cut(c.Args().First(), "/")
	if !ok || service == "" || name == "" {
		return nil, backend.Target{}, usagef("%q does not name a backend; write SERVICE/BACKEND", c.Args().First())
	}
	cfg, _, err := loadConfig(c.String("config"), c.App.Reader, c.App.ErrWriter)
	if err != nil {
		return nil, backend.Target{}, err
	}
	all := targets(cfg)
	i := slices.IndexFunc(all, func(t backend.Target) bool { return t.Service == service && t.Backend == name })
	if i < 0 {
		return nil, backend.Target{}, noSuchBackend(all, service, name)
	}
	return cfg, all[i], nil
}

// noSuchBackend names the backends that there are.
func noSuchBackend(all []backend.Target, service, name string) error {
	var known []string
	for _, t := range all {
		known = append(known, t.Name())
	}
	want := service + "/" + name
	if s := config.Suggest(want, known); s != "" {
		return usagef("there is no backend %s; did you mean %s?", want, s)
	}
	if len(known) == 0 {
		return usagef("there is no backend %s; the configuration has none", want)
	}
	return usagef("there is no backend %s; there are %s", want, strings.Join(known, ", "))
}

// targets returns every backend of the configuration.
func targets(cfg *config.Config) []backend.Target {
	var out []backend.Target
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, b := range s.Backends {
			t := backend.Target{Service: s.Name, Backend: b.Name, VIP: s.VIP, Proto: protocols[s.Protocol],
				Address: b.Address, BackendPort: b.Port, Way: backend.Way(s.Mode), MTU: b.MTU}
			if len(s.Ports) > 0 {
				t.Port = s.Ports[0].Lo
			}
			if s.Mode == "l3dsr" {
				t.Way = backend.Way(s.L3DSR.Encap)
				t.Code, t.GUEPort, t.Variant = uint8(s.L3DSR.DSCP), s.L3DSR.Port, uint8(s.L3DSR.Variant)
				t.Source = s.L3DSR.Source
			}
			out = append(out, t)
		}
	}
	return out
}

// serves reports whether the service has that port.
func serves(cfg *config.Config, service string, port uint16) bool {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		has := func(p config.Ports) bool { return p.Lo <= port && port <= p.Hi }
		if s.Name == service && slices.ContainsFunc(s.Ports, has) {
			return true
		}
	}
	return false
}

// viaOf returns the director's address on the backends' side: that of --via, else on the director itself the one that
// leads to the backend.
func viaOf(c *cli.Context, t backend.Target) (netip.Addr, error) {
	if text := c.String("via"); text != "" {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Addr{}, usagef("--via %q is no address", text)
		}
		return a.Unmap(), nil
	}
	if t.Way != backend.NAT {
		return netip.Addr{}, nil
	}
	a, err := backend.Towards(t.Address)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w; give the director's address on the backends' side with --via ADDRESS", err)
	}
	return a, nil
}
