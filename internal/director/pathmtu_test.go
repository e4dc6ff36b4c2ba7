package director

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
)

// probeConfig has two services with a backend to probe, which are one host, and one that has a number.
func probeConfig() *config.Config {
	cfg := testConfig()
	dscp := config.L3DSR{Encap: "dscp", DSCP: 10}
	probed := config.Backend{Name: "server01", Address: server, Weight: 1, ProbeMTU: true}
	for _, port := range []uint16{25, 26} {
		cfg.Services = append(cfg.Services, config.Service{Name: "mail", VIP: vip4, Protocol: "tcp",
			Ports: []config.Ports{{Lo: port, Hi: port}}, Mode: "l3dsr", L3DSR: dscp,
			Backends: []config.Backend{probed,
				{Name: "server02", Address: netip.MustParseAddr("10.10.10.2"), Weight: 1, MTU: 1300}}})
	}
	cfg.Services = cfg.Services[len(cfg.Services)-2:]
	return cfg
}

func kicked(p *paths) bool {
	select {
	case <-p.kick:
		return true
	default:
		return false
	}
}

func TestEachAddressIsProbedOnceAndAgainWhenTheWayToItChanges(t *testing.T) {
	cfg, host, p := probeConfig(), testHost(), newPaths()
	p.follow(cfg, host)
	if !kicked(&p) || len(p.targets) != 1 || p.targets[0].addr != server || p.targets[0].mtu == 0 {
		t.Fatalf("targets %+v", p.targets)
	}
	if p.follow(cfg, host); kicked(&p) {
		t.Error("probed again though nothing has changed")
	}
	host.Links = append(host.Links[:0:0], host.Links...)
	for i := range host.Links {
		host.Links[i].MTU += 100
	}
	if p.follow(cfg, host); !kicked(&p) {
		t.Error("not probed with the interface's new MTU")
	}
}

func TestAProbedMTUIsForgottenWithItsLastBackend(t *testing.T) {
	cfg, host, p := probeConfig(), testHost(), newPaths()
	p.follow(cfg, host)
	p.known[server] = pathMTU{mtu: 1400}
	cfg.Services = cfg.Services[:1]
	if p.follow(cfg, host); p.known[server].mtu != 1400 {
		t.Errorf("forgotten: %+v", p.known)
	}
	cfg.Services[0].Backends = cfg.Services[0].Backends[1:]
	if p.follow(cfg, host); len(p.known) != 0 || len(p.targets) != 0 {
		t.Errorf("still known: %+v, %+v", p.known, p.targets)
	}
}

func TestWhatWasProbedIsTheBackendsMTU(t *testing.T) {
	cfg, p := probeConfig(), newPaths()
	for _, known := range []int{0, 1400} {
		p.known[server] = pathMTU{mtu: known}
		out, err := compile.Config(cfg, testHost())
		if err != nil {
			t.Fatal(err)
		}
		p.fill(cfg, &out)
		for _, s := range out.Services {
			if got := mtus(s); got != [2]int{known, 1300} {
				t.Errorf("%v, want %d and 1300", got, known)
			}
		}
	}
}

func mtus(s forwarder.Service) [2]int { return [2]int{s.Backends[0].MTU, s.Backends[1].MTU} }

func TestASilentBackendIsAskedAgainSoonThenSaidOnceAndKeepsItsMTU(t *testing.T) {
	var text strings.Builder
	d := &Director{cfg: probeConfig(), paths: newPaths(), log: slog.New(slog.NewTextHandler(&text, nil))}
	d.paths.follow(d.cfg, testHost())
	target := d.paths.targets[0]
	d.paths.known[server] = pathMTU{mtu: 1400}
	for i, want := range []int{0, 1, 1, 1} {
		d.notePath(target, 0, errNoAnswer)
		if got := strings.Count(text.String(), "could not be probed"); got != want {
			t.Errorf("after %d rounds said %d times, want %d", i+1, got, want)
		}
		if soon := d.untilNextRound() == probeSoon; soon != (i == 0) {
			t.Errorf("after %d rounds: asked again soon: %v", i+1, soon)
		}
	}
	if got := d.paths.known[server].mtu; got != 1400 {
		t.Errorf("MTU %d, want 1400", got)
	}
	target.mtu = 0
	d.paths.targets[0], d.paths.known[server] = target, pathMTU{silent: 1}
	if d.untilNextRound() == probeSoon {
		t.Error("a backend without a route is asked again soon")
	}
}
