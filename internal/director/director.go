package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/conntrack"
	"naru/internal/flowlog"
	"naru/internal/kernel"
	"naru/internal/link"
	"naru/internal/roster"
)

// ErrRestart says that a change of the configuration cannot be made while naru runs.
var ErrRestart = errors.New("needs a restart of naru")

// Options are what New needs. All but Record, Version and Hints are required.
type Options struct {
	Config *config.Config
	// Open opens the devices of one worker, one a configured interface, in order. It is called once a worker, after
	// the fence is up.
	Open func(worker, workers int) (link.Set, error)
	// Own is for devices that take packets away from the kernel instead of tapping them: it says which. There is no
	// fence then. It is called after Open, before the first packet, and again when that changes. nil: the devices are taps.
	Own  func(kernel.FenceSpec) error
	Log  *slog.Logger
	Seed forwarder.Seed
	// Record gets the decision record of every packet, on a worker's goroutine; it must not keep it. nil: off.
	Record forwarder.Trace
	// Version is naru's, for the status.
	Version string
	// Hints says what could be done to this host to make naru faster; nil: nothing.
	Hints func() []string
}

// Director is a live naru.
type Director struct {
	opt     Options
	log     *slog.Logger
	limit   limiter
	owner   *kernel.Owner
	mirror  *kernel.Mirror
	fence   *kernel.Fence // nil with fence: none, and with Options.Own
	workers []*worker
	start   time.Time // the workers' time counts from here
	events  chan forwarder.Event
	samples *samples
	flows   *flowlog.Log // nil with log.flows: off
	queues  queueWatch

	listeners listeners

	// What follows belongs to whoever holds mu: New, the loop of Run, Reload.
	mu       sync.Mutex
	cfg      *config.Config
	claims   claims
	spec     kernel.FenceSpec
	compiled forwarder.Config
	snapshot *forwarder.Snapshot
	program  []bpf.RawInstruction // by which the kernel shares traffic out among several workers
	groups   []map[[6]byte]bool
	up       map[string]bool // interfaces that were up when last seen
	paths    paths
	standing standing
	loaded   loaded
	closed   bool
}

// New brings naru up to where packets can flow. The error is a *HostError if the host does not fit the configuration, a
// *kernel.OwnedError if another naru runs here, and wraps os.ErrPermission or kernel.ErrUnsupported where those are the
// cause. After an error nothing is left behind.
func New(opt Options) (*Director, error) {
	d := &Director{opt: opt, log: opt.Log, cfg: opt.Config, up: map[string]bool{}, start: time.Now(),
		events: make(chan forwarder.Event, eventRoom), paths: newPaths(), standing: newStanding(),
		samples: newSamples(), queues: queueWatch{}, loaded: loaded{at: time.Now(), revision: 1}}
	if err := d.build(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// build does the steps of New in order; Close undoes those that were done.
func (d *Director) build() (err error) {
	if d.owner, err = kernel.Own(); err != nil {
		return err
	}
	if d.mirror, err = kernel.NewMirror(d.mirrorTrouble); err != nil {
		return err
	}
	host := d.mirror.State()
	if err := d.checkHost(d.cfg, host); err != nil {
		return err
	}
	d.claims.add(d.cfg)
	d.spec = fenceSpec(d.cfg, host, &d.claims)
	if err := d.raiseFence(); err != nil {
		return err
	}
	if d.compiled, err = compile.Config(d.cfg, host); err != nil {
		return err
	}
	d.standing.roster, _ = d.standing.configured(d.cfg)
	d.standing.roster.Fill(&d.compiled)
	workers := Workers(d.cfg)
	if d.snapshot, err = forwarder.Compile(d.compiled, workers, d.opt.Seed, nil); err != nil {
		return err
	}
	if err := d.startFlowLog(workers); err != nil {
		return err
	}
	if err := d.addWorkers(workers); err != nil {
		return err
	}
	if d.opt.Own != nil {
		if err := d.opt.Own(d.spec); err != nil {
			return err
		}
	}
	d.paths.follow(d.cfg, host)
	d.groups = groups(&d.compiled)
	if err := regroup(d.workers[0].set.Devices, nil, d.groups); err != nil {
		return err
	}
	d.noteLinks(host)
	return nil
}

// addWorkers makes the workers in order: their number is the order in which their devices join the groups that share the
// traffic out. Until the last has joined, what comes to the wrong one is handed over.
func (d *Director) addWorkers(workers int) error {
	allowed, err := allowedCPUs()
	if err != nil {
		return err
	}
	if err := hostError(checkCPUs(d.cfg, allowed)); err != nil {
		return err
	}
	opt := forwarder.Options{Seed: d.opt.Seed, Workers: workers}
	if workers > 1 {
		opt.Exchange = forwarder.NewExchange(workers)
	}
	cpus := processors(d.cfg.Node.CPUs, workers, allowed)
	for opt.Worker = range workers {
		if err := d.addWorker(opt, cpus[opt.Worker]); err != nil {
			return err
		}
	}
	introduce(d.workers)
	return d.steer(d.snapshot)
}

func (d *Director) addWorker(opt forwarder.Options, cpu int) error {
	set, err := d.opt.Open(opt.Worker, opt.Workers)
	if err != nil {
		return err
	}
	if opt.Memory, err = tableMemory(d.cfg.Node.Connections / opt.Workers); err != nil {
		_ = set.Close()
		return err
	}
	engine, err := forwarder.New(opt, d.snapshot)
	if err != nil {
		_ = set.Close()
		return err
	}
	w := newWorker(opt.Worker, set, engine, d.opt.Record, d.queueEvent)
	w.cpu, w.start = cpu, d.start
	if d.flows != nil {
		d.flows.Watch(w.id, engine)
	}
	d.workers = append(d.workers, w)
	return nil
}

// tableMemory maps the memory of a connection table; it lives as long as the process.
func tableMemory(connections int) (conntrack.Memory, error) {
	pages, err := kernel.HugePages(conntrack.Bytes(connections))
	if err != nil {
		return conntrack.Memory{}, fmt.Errorf("director: node.connections: room for %d: %w", connections, err)
	}
	return conntrack.Place(pages, connections)
}

func (d *Director) raiseFence() (err error) {
	if d.opt.Own != nil {
		return nil
	}
	if d.cfg.Fence == "none" {
		d.log.Warn("no fence: this host's kernel answers beside naru (RST, ICMP unreachable) and forwards what it can",
			"fix", "fence: nft")
		return nil
	}
	if d.fence, err = kernel.FenceUp(d.spec); err != nil {
		return err
	}
	if d.fence.Adopted() {
		d.log.Warn("adopted the fence of a naru that did not end by itself; its connections are lost")
	}
	return d.fence.Guard(d.fenceTrouble)
}

// Run moves packets until the context ends (nil) or something breaks. It may be called once.
func (d *Director) Run(ctx context.Context) error {
	failed := make(chan error, len(d.workers))
	for _, w := range d.workers {
		w.engine.Announce()
		go func() { failed <- w.run() }()
	}
	defer d.stopWorkers()
	defer d.startProbing(ctx)()
	defer d.startStanding(ctx)()
	defer d.startSampling(ctx)()
	d.log.Info("running", "services", len(d.cfg.Services), "vips", len(d.cfg.VIPs), "workers", len(d.workers))
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-d.mirror.Changed():
			d.hostChanged()
		case e := <-d.events:
			d.logEvent(e)
		}
	}
}

func (d *Director) stopWorkers() {
	for _, w := range d.workers {
		w.stop()
	}
	for _, w := range d.workers {
		<-w.done
	}
}

// Reload replaces the configuration while Run runs. After an error the old one goes on: a *HostError if the host does
// not fit, one that wraps ErrRestart if only a restart can do it.
func (d *Director) Reload(cfg *config.Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.reload(cfg); err != nil {
		d.refused(err)
		return err
	}
	d.accepted()
	d.announce()
	return nil
}

func (d *Director) reload(cfg *config.Config) error {
	if err := needsRestart(d.cfg, cfg); err != nil {
		return err
	}
	host := d.mirror.State()
	if err := d.checkHost(cfg, host); err != nil {
		return err
	}
	return d.apply(cfg, host)
}

// needsRestart says what cannot be changed while naru runs.
func needsRestart(old, cfg *config.Config) error {
	switch {
	case !reflect.DeepEqual(old.Interfaces, cfg.Interfaces):
		return fmt.Errorf("interfaces: a change %w", ErrRestart)
	case old.IO != cfg.IO:
		return fmt.Errorf("io: a change %w", ErrRestart)
	case old.Fence != cfg.Fence:
		return fmt.Errorf("fence: a change %w", ErrRestart)
	case old.Log != cfg.Log:
		return fmt.Errorf("log: a change %w", ErrRestart)
	case old.Admin != cfg.Admin:
		return fmt.Errorf("admin: a change %w", ErrRestart)
	case Workers(old) != Workers(cfg):
		return fmt.Errorf("node.workers: a change %w", ErrRestart)
	case !reflect.DeepEqual(old.Node.CPUs, cfg.Node.CPUs):
		return fmt.Errorf("node.cpus: a change %w", ErrRestart)
	case Workers(cfg) > 1 && keepsPorts(cfg) && !keepsPorts(old):
		return fmt.Errorf("nat.keep_client_port: the first service with it %w with several workers", ErrRestart)
	case old.Node.Connections != cfg.Node.Connections:
		return fmt.Errorf("node.connections: a change %w", ErrRestart)
	}
	return nil
}

// apply compiles and swaps in. What has not changed is left alone.
func (d *Director) apply(cfg *config.Config, host *kernel.State) error {
	next, err := compile.Config(cfg, host)
	if err != nil {
		return err
	}
	d.paths.fill(cfg, &next)
	members, events := d.standing.roster, []roster.Event(nil)
	if cfg != d.cfg {
		members, events = d.standing.configured(cfg)
	}
	members.Fill(&next)
	changed := !reflect.DeepEqual(next, d.compiled)
	snapshot := d.snapshot
	if changed {
		if snapshot, err = forwarder.Compile(next, len(d.workers), d.opt.Seed, d.snapshot); err != nil {
			return err
		}
	}
	if err := d.steer(snapshot); err != nil {
		return err
	}
	d.claims.add(cfg)
	if err := d.updateFence(fenceSpec(cfg, host, &d.claims)); err != nil {
		return err
	}
	if cfg != d.cfg {
		d.cfg = cfg
		d.use(cfg, members, events)
	}
	d.paths.follow(cfg, host)
	if !changed {
		return nil
	}
	d.compiled, d.snapshot = next, snapshot
	d.rejoin()
	for _, w := range d.workers {
		w.engine.Swap(snapshot)
	}
	return nil
}

// updateFence comes before the engines get the snapshot: an address is fenced before it is answered for.
func (d *Director) updateFence(spec kernel.FenceSpec) error {
	update := d.opt.Own
	if d.fence != nil {
		update = d.fence.Update
	}
	if update == nil || reflect.DeepEqual(spec, d.spec) {
		return nil
	}
	if err := update(spec); err != nil {
		return err
	}
	d.spec = spec
	return nil
}

// rejoin runs on the first worker's goroutine, which owns the devices; a membership counts for all sockets of an
// interface.
func (d *Director) rejoin() {
	want := groups(&d.compiled)
	if reflect.DeepEqual(want, d.groups) {
		return
	}
	w := d.workers[0]
	var err error
	if w.call(func() { err = regroup(w.set.Devices, d.groups, want) }) && err != nil {
		d.log.Error("multicast groups", "error", err)
	}
	d.groups = want
}

// hostChanged follows the kernel: routes, neighbours, addresses, links.
func (d *Director) hostChanged() {
	d.mu.Lock()
	defer d.mu.Unlock()
	host := d.mirror.State()
	if err := d.checkHost(d.cfg, host); err != nil {
		d.say("host", slog.LevelError, "this host no longer fits the configuration", "error", err)
	}
	if err := d.apply(d.cfg, host); err != nil {
		d.say("apply", slog.LevelError, "a change of this host could not be followed", "error", err)
		return
	}
	d.log.Debug("followed a change of the host", "routes", len(host.Routes), "neighbors", len(host.Neighbors))
	if d.noteLinks(host) {
		d.announce()
	}
}

// noteLinks tells the devices about their interfaces and reports whether one of ours came up.
func (d *Director) noteLinks(host *kernel.State) (cameUp bool) {
	for _, w := range d.workers {
		for _, dev := range w.set.Devices {
			if r, ok := dev.(interface{ Refresh() error }); ok {
				if err := r.Refresh(); err != nil {
					d.say("refresh", slog.LevelWarn, "interface", "error", err)
				}
			}
		}
	}
	for _, ifc := range d.cfg.Interfaces {
		l, _ := host.Link(ifc.Name)
		before, known := d.up[ifc.Name]
		if known && before != l.Up {
			d.log.Warn("interface changed", "interface", ifc.Name, "up", l.Up)
			d.event("interface", ifc.Name+" is "+map[bool]string{true: "up", false: "down"}[l.Up])
		}
		cameUp = cameUp || known && !before && l.Up
		d.up[ifc.Name] = l.Up
	}
	return cameUp
}

// announce is the first worker's: one announcement of an address is enough.
func (d *Director) announce() { d.workers[0].engine.Announce() }

// checkHost logs warnings and returns what is worse.
func (d *Director) checkHost(cfg *config.Config, host *kernel.State) error {
	lo, hi, err := kernel.LocalPortRange()
	if err != nil {
		return err
	}
	found := CheckHost(cfg, host, PortRange{lo, hi})
	for _, p := range found {
		if p.Warning {
			d.say(p.Path, slog.LevelWarn, p.Message, "key", p.Path, "fix", p.Fix)
		}
	}
	return hostError(found)
}

// Counters returns the sum over the workers, at most a tenth of a second old; after Run it is exact.
func (d *Director) Counters() forwarder.Counters {
	var sum forwarder.Counters
	for _, w := range d.workers {
		sum.Add(w.published.Load())
	}
	return sum
}

// DeviceStats returns the counters of the devices by interface name, summed over the workers.
func (d *Director) DeviceStats() map[string]link.Stats {
	out := map[string]link.Stats{}
	for _, w := range d.workers {
		for _, dev := range w.set.Devices {
			name, s := dev.Info().Name, dev.Stats()
			sum := out[name]
			sum.RxFrames += s.RxFrames
			sum.RxBytes += s.RxBytes
			sum.TxFrames += s.TxFrames
			sum.TxBytes += s.TxBytes
			sum.RxMissed += s.RxMissed
			sum.RxTruncated += s.RxTruncated
			sum.TxDropped += s.TxDropped
			out[name] = sum
		}
	}
	return out
}

// Close takes everything down, in the reverse order; Run must have returned. It may be called more than once.
func (d *Director) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	var errs []error
	for _, w := range d.workers {
		errs = append(errs, w.set.Close())
	}
	if d.flows != nil {
		d.flows.Close()
	}
	if d.mirror != nil {
		d.mirror.Close()
	}
	if d.fence != nil {
		errs = append(errs, d.fence.Down())
	}
	if d.owner != nil {
		d.owner.Release()
	}
	return errors.Join(errs...)
}
