package director

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/kernel"
)

// Our own choices.
const (
	probeEvery  = 5 * time.Minute // routers on the way change without a word
	probeSoon   = 5 * time.Second // a backend that was silent for the first time may just start, or its next hop
	probeAtOnce = 16              // backends asked at the same time
)

// paths knows the longest packets that get to the backends with "mtu: probe". It belongs to whoever holds the
// director's mu, but for kick.
type paths struct {
	targets []pathTarget // one an address, by address
	known   map[netip.Addr]pathMTU
	kick    chan struct{} // a round of probes is due
}

// pathTarget is a backend to ask, and how this host sends to it.
type pathTarget struct {
	addr  netip.Addr
	route kernel.Route // the zero Route: there is none
	mtu   int          // of the interface
}

// pathMTU is what the last probes of an address found.
type pathMTU struct {
	mtu    int // 0: the interface's
	silent int // rounds without an answer; mtu is from before
}

func newPaths() paths { return paths{known: map[netip.Addr]pathMTU{}, kick: make(chan struct{}, 1)} }

// fill puts what is known into the engine's words.
func (p *paths) fill(cfg *config.Config, out *forwarder.Config) {
	for i := range cfg.Services {
		for j, b := range cfg.Services[i].Backends {
			if b.ProbeMTU {
				out.Services[i].Backends[j].MTU = p.known[b.Address].mtu
			}
		}
	}
}

// follow asks for a round of probes if there is a new target or a target is reached in another way.
func (p *paths) follow(cfg *config.Config, host *kernel.State) {
	targets := pathTargets(cfg, host)
	if slices.Equal(targets, p.targets) {
		return
	}
	p.targets = targets
	for a := range p.known {
		if !slices.ContainsFunc(targets, func(t pathTarget) bool { return t.addr == a }) {
			delete(p.known, a)
		}
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func pathTargets(cfg *config.Config, host *kernel.State) []pathTarget {
	var out []pathTarget
	c := hostCheck{cfg: cfg, host: host}
	seen := map[netip.Addr]bool{}
	for i := range cfg.Services {
		for _, b := range cfg.Services[i].Backends {
			if !b.ProbeMTU || seen[b.Address] {
				continue
			}
			seen[b.Address] = true
			t := pathTarget{addr: b.Address}
			t.route, _ = c.routeTo(b.Address)
			if k := slices.IndexFunc(host.Links, func(l kernel.Link) bool { return l.Index == t.route.Link }); k >= 0 {
				t.mtu = host.Links[k].MTU
			}
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b pathTarget) int { return a.addr.Compare(b.addr) })
	return out
}

// startProbing probes until the context ends or the function that it returns is called, which waits for the end.
func (d *Director) startProbing(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		again := time.NewTimer(probeEvery)
		defer again.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-d.paths.kick:
			case <-again.C:
			}
			d.probeRound(ctx)
			again.Reset(d.untilNextRound())
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// probeRound asks every target once. What one answers counts at once: another may be slow.
func (d *Director) probeRound(ctx context.Context) {
	d.mu.Lock()
	targets := d.paths.targets
	d.mu.Unlock()
	var wait sync.WaitGroup
	room := make(chan struct{}, probeAtOnce)
	for _, t := range targets {
		if t.mtu == 0 {
			continue
		}
		room <- struct{}{}
		wait.Go(func() {
			mtu, err := probePath(ctx, t.addr, t.mtu, probeWait)
			if ctx.Err() == nil {
				d.notePath(t, mtu, err)
			}
			<-room
		})
	}
	wait.Wait()
}

func (d *Director) untilNextRound() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.paths.targets {
		if t.mtu != 0 && d.paths.known[t.addr].silent == 1 {
			return probeSoon
		}
	}
	return probeEvery
}

// notePath takes the result of a probe in. One about a way that is no longer taken is dropped: another round is due.
func (d *Director) notePath(t pathTarget, mtu int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.paths.targets, t) {
		return
	}
	before := d.paths.known[t.addr]
	if err != nil {
		d.paths.known[t.addr] = pathMTU{mtu: before.mtu, silent: before.silent + 1}
		if before.silent == 1 {
			d.log.Warn("the path MTU of a backend could not be probed", "backend", t.addr, "error", err,
				"used", before.used(t), "fix", "let the backend answer echo requests (ping), or write its mtu as a number")
		}
		return
	}
	now := pathMTU{mtu: mtu}
	if mtu == t.mtu {
		now.mtu = 0
	}
	d.paths.known[t.addr] = now
	if now.mtu == before.mtu {
		return
	}
	d.log.Info("the path MTU of a backend", "backend", t.addr, "mtu", mtu, "before", before.used(t))
	if err := d.apply(d.cfg, d.mirror.State()); err != nil {
		d.say("apply", slog.LevelError, "a path MTU could not be followed", "error", err)
	}
}

// used is what the engine goes by.
func (p pathMTU) used(t pathTarget) int {
	if p.mtu == 0 {
		return t.mtu
	}
	return min(p.mtu, t.mtu)
}
