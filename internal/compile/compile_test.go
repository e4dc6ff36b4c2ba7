package compile

import (
	"net/netip"
	"testing"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/host"
	"naru/sched"
)

func TestEveryModeAndAnswerOfTheConfigurationIsKnown(t *testing.T) {
	for _, m := range []string{"fullnat", "nat", "l2dsr", "l3dsr"} {
		if _, ok := modes[m]; !ok {
			t.Errorf("mode %s", m)
		}
	}
	for _, name := range sched.Names() {
		s := config.Service{Scheduler: name}
		if got := compileService(&s, &host.State{}).Scheduler.String(); got != name {
			t.Errorf("scheduler %s: %s", name, got)
		}
	}
}

func TestEveryWordOfTheConfigurationIsKnownToCompile(t *testing.T) {
	for _, name := range config.ExampleModes() {
		text, err := config.Example(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, _, err := config.Load(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := modes[cfg.Services[0].Mode]; !ok {
			t.Errorf("mode %s", cfg.Services[0].Mode)
		}
		if encap := cfg.Services[0].L3DSR.Encap; encap != "" {
			if _, ok := encaps[encap]; !ok {
				t.Errorf("encap %s", encap)
			}
		}
		if _, ok := echoes[cfg.VIPs[0].Echo]; !ok {
			t.Errorf("echo %s", cfg.VIPs[0].Echo)
		}
	}
}

func TestOfflineReachesEveryBackendOfEveryExample(t *testing.T) {
	for _, name := range config.ExampleModes() {
		text, err := config.Example(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg, _, err := config.Load(name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		out, err := Config(cfg, Offline(cfg))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := forwarder.Compile(out, 1, forwarder.Seed{}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		known := map[netip.Addr]forwarder.Neighbor{}
		for _, n := range out.Neighbors {
			known[n.Addr] = n
		}
		for _, s := range out.Services {
			for _, b := range s.Backends {
				if n := known[b.Addr]; !n.Static || !out.Legs[n.Leg].Backend {
					t.Errorf("%s: backend %v: neighbour %+v", name, b.Addr, n)
				}
			}
		}
		for _, r := range out.Routes {
			if n := known[r.Gateway]; r.Gateway.IsValid() && (!n.Static || n.Leg != r.Leg || !out.Legs[n.Leg].Client) {
				t.Errorf("%s: router %v: neighbour %+v", name, r.Gateway, n)
			}
		}
	}
}

func TestOfflineTakesTheInterfaceOfAStaticNeighbour(t *testing.T) {
	b := netip.MustParseAddr("10.1.1.1")
	cfg := &config.Config{
		Interfaces: []config.Interface{{Name: "a", Side: "client"}, {Name: "b", Side: "backend"}, {Name: "c", Side: "backend"}},
		Neighbors:  []config.Neighbor{{Address: b, MAC: [6]byte{2, 9}, Interface: "c"}},
		Services:   []config.Service{{Backends: []config.Backend{{Name: "x", Address: b}}}},
	}
	out, err := Config(cfg, Offline(cfg))
	if err != nil {
		t.Fatal(err)
	}
	if r := out.Routes[0]; r.Prefix.Addr() != b || r.Leg != 2 {
		t.Errorf("route %+v", r)
	}
	if n := out.Neighbors[0]; n.MAC != [6]byte{2, 9} || n.Leg != 2 {
		t.Errorf("neighbour %+v", n)
	}
}
