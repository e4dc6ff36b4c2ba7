package director

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"naru/forwarder"
	"naru/internal/admin"
	"naru/internal/config"
	"naru/internal/conntrack"
	"naru/internal/link"
	"naru/internal/roster"
	"naru/internal/wire"
)

// Status returns what there is to say about this naru. Figures are at most a second old.
func (d *Director) Status() admin.Status {
	last, now := d.samples.get()
	rates := seconds(last, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := admin.Status{Head: admin.NewHead("Status"), Node: d.cfg.Node.Name, Version: d.opt.Version, PID: os.Getpid(),
		Started: d.standing.start.UTC().Round(time.Millisecond), Uptime: time.Since(d.standing.start).Seconds(),
		Config: d.loaded.document(d.cfg.File), Interfaces: d.interfaces(),
		Reasons: reasonsOf(&last.counters, &now.counters, rates), Workers: d.workerStatus(),
		Ports: portsOf(last, now, rates), FlowLog: d.flowLog(), Hints: []string{}}
	if s.Node == "" {
		s.Node, _ = os.Hostname()
	}
	c := d.Counters()
	s.Connections = admin.Connections{Active: c.Active, Capacity: uint64(d.cfg.Node.Connections), Made: c.Connections,
		Ended: c.Ended, Evicted: c.EvictedClosed + c.EvictedHandshakes + c.EvictedQuestions}
	s.Packets = admin.Packets{Received: c.Received, Transmitted: c.Transmitted, Consumed: c.Consumed, Passed: c.Passed,
		Dropped: c.Dropped, Held: c.Held, Balanced: c.Balanced()}
	s.Services = d.services(last, now)
	s.Summary, s.Health = summary(s.Services)
	if d.opt.Hints != nil {
		s.Hints = append(s.Hints, d.opt.Hints()...)
	}
	return s
}

// summary counts what is up, and judges.
func summary(services []admin.Service) (s admin.Summary, health string) {
	for _, svc := range services {
		s.Services++
		if svc.State == admin.Up {
			s.ServicesUp++
		}
		for _, b := range svc.Backends {
			if b.Removed {
				continue
			}
			s.Backends++
			if b.State == admin.Up {
				s.BackendsUp++
			}
		}
	}
	switch {
	case s.ServicesUp == 0 && s.Services > 0:
		return s, admin.Down
	case s.ServicesUp < s.Services:
		return s, admin.Degraded
	}
	return s, admin.OK
}

// seconds is the time between two samples; 0 if they are one.
func seconds(last, now *sample) float64 { return now.at.Sub(last.at).Seconds() }

// perSecond is how fast a counter grows.
func perSecond(last, now uint64, s float64) float64 {
	if s <= 0 || now < last {
		return 0
	}
	return float64(now-last) / s
}

func reasonsOf(last, now *forwarder.Counters, s float64) []admin.Reason {
	out := []admin.Reason{}
	for i, n := range now.ByReason {
		if r := wire.Reason(i); n > 0 && r != wire.ReasonNone {
			out = append(out, admin.Reason{Reason: r.String(), Verdict: r.Verdict().String(), Packets: n,
				Rate: perSecond(last.ByReason[i], n, s), Advice: r.Advice(),
				Fix: r.Fix()})
		}
	}
	return out
}

func (d *Director) workerStatus() []admin.Worker {
	out := []admin.Worker{}
	for i, w := range d.workers {
		c := w.published.Load()
		out = append(out, admin.Worker{Worker: i, CPU: w.cpu, Connections: c.Active,
			Capacity: uint64(d.cfg.Node.Connections / len(d.workers)), Received: c.Received, Transmitted: c.Transmitted,
			Dropped: c.Dropped, HandedOver: c.HandedOver, TakenOver: c.TakenOver})
	}
	return out
}

// interfaces sums up the devices of all workers. Whoever calls it holds mu.
func (d *Director) interfaces() []admin.Interface {
	out := []admin.Interface{}
	for i, ifc := range d.cfg.Interfaces {
		leg := &d.compiled.Legs[i]
		row := admin.Interface{Name: ifc.Name, Side: ifc.Side, Driver: d.workers[0].set.Devices[i].Info().Driver,
			MAC: net.HardwareAddr(leg.MAC[:]).String(), MTU: leg.MTU, Up: d.up[ifc.Name]}
		for _, w := range d.workers {
			s := w.set.Devices[i].Stats()
			row.RxFrames += s.RxFrames
			row.RxBytes += s.RxBytes
			row.RxMissed += s.RxMissed
			row.RxTruncated += s.RxTruncated
			row.TxFrames += s.TxFrames
			row.TxBytes += s.TxBytes
			row.TxDropped += s.TxDropped
		}
		if r, ok := d.workers[0].set.Devices[i].(link.Ringed); ok { // such devices have one worker
			k := r.Rings()
			row.Rings = &admin.Rings{RxDropped: k.RxDropped, RxFull: k.RxFull, RxInvalid: k.RxInvalid, FillEmpty: k.FillEmpty,
				TxInvalid: k.TxInvalid, TxEmpty: k.TxEmpty, Queues: k.Queues, QueuesNow: k.QueuesNow}
		}
		out = append(out, row)
	}
	return out
}

// portsOf returns the pools of local ports, the fullest first.
func portsOf(last, now *sample, s float64) []admin.Ports {
	out := []admin.Ports{}
	for name, p := range now.pools {
		row := admin.Ports{Service: name.Service, Backend: name.Backend, Local: name.local.String(), Size: p.Size, Free: p.Free}
		if rate := perSecond(uint64(p.Free), uint64(last.pools[name].Free), s); rate > 0 {
			left := float64(p.Free) / rate
			row.Exhausted = &left
		}
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b admin.Ports) int {
		return cmp.Or(cmp.Compare(a.Free*b.Size, b.Free*a.Size), cmp.Compare(a.Service, b.Service),
			cmp.Compare(a.Backend, b.Backend), cmp.Compare(a.Local, b.Local))
	})
	return out
}

// services returns the services in the order of the configuration. Whoever calls it holds mu.
func (d *Director) services(last, now *sample) []admin.Service {
	active := map[roster.Key]forwarder.BackendLoad{}
	gone := map[string][]forwarder.BackendLoad{}
	for _, l := range d.snapshot.Loads() {
		active[roster.Key{Service: l.Service, Backend: l.Backend}] = l
		if l.Gone && l.Active > 0 {
			gone[l.Service] = append(gone[l.Service], l)
		}
	}
	out := []admin.Service{}
	for i := range d.cfg.Services {
		c := &d.cfg.Services[i]
		s := admin.Service{Service: c.Name, VIP: c.VIP.String(), Protocol: c.Protocol, Mode: c.Mode, Encap: c.L3DSR.Encap,
			Scheduler: c.Scheduler, State: admin.Down, Backends: []admin.Backend{}}
		for _, p := range c.Ports {
			s.Ports = append(s.Ports, p.String())
		}
		oneSided := c.Mode != "fullnat" && c.Mode != "nat"
		for j := range c.Backends {
			key := roster.Key{Service: c.Name, Backend: c.Backends[j].Name}
			b := d.backend(key, &c.Backends[j])
			b.Traffic = traffic(last.backends[key], now.backends[key], active[key].Active, seconds(last, now), oneSided)
			if b.State == admin.Up {
				s.State = admin.Up
			}
			s.Backends = append(s.Backends, b)
		}
		for _, l := range gone[c.Name] {
			key := roster.Key{Service: l.Service, Backend: l.Backend}
			b := admin.Backend{Backend: l.Backend, State: forwarder.Draining.String(), Why: "removed from the configuration",
				Removed: true, Health: roster.Unknown.String()}
			b.Traffic = traffic(last.backends[key], now.backends[key], l.Active, seconds(last, now), oneSided)
			s.Backends = append(s.Backends, b)
		}
		s.Traffic = traffic(last.services[c.Name], now.services[c.Name], 0, seconds(last, now), oneSided)
		for _, b := range s.Backends {
			s.Active += b.Active
		}
		shares(s.Backends)
		out = append(out, s)
	}
	return out
}

// backend is what the roster knows of one.
func (d *Director) backend(key roster.Key, c *config.Backend) admin.Backend {
	st, _ := d.standing.roster.Find(key)
	b := admin.Backend{Backend: key.Backend, Address: c.Address.String(), Port: int(c.Port), State: st.State.String(),
		Why: st.Why, Since: d.standing.clock(st.Since), Health: st.Health.String(), Weight: int(st.Weight),
		Configured: int(st.Configured), Operator: st.Operator, SlowStart: float64(st.Share) / forwarder.FullShare}
	if st.Deadline != 0 {
		left := max(0, st.Deadline.Sub(d.standing.now()).Seconds())
		b.Deadline = &left
	}
	return b
}

// shares tells each backend that is up its part of the weight.
func shares(backends []admin.Backend) {
	total := 0.0
	for i := range backends {
		if b := &backends[i]; b.State == admin.Up {
			b.Share = float64(b.Weight) * b.SlowStart
			total += b.Share
		}
	}
	for i := range backends {
		if total > 0 {
			backends[i].Share /= total
		}
	}
}

// traffic puts counters into the words of the document.
func traffic(last, now forwarder.Usage, active int64, s float64, oneSided bool) admin.Traffic {
	flow := func(dir conntrack.Dir) (admin.Flow, admin.Rate) {
		return admin.Flow{Packets: now.Packets[dir], Bytes: now.Bytes[dir]},
			admin.Rate{Packets: perSecond(last.Packets[dir], now.Packets[dir], s),
				Bits: 8 * perSecond(last.Bytes[dir], now.Bytes[dir], s)}
	}
	t := admin.Traffic{Active: uint64(max(0, active)), Made: now.Made, NewRate: perSecond(last.Made, now.Made, s),
		OneSided: oneSided}
	t.In, t.InRate = flow(conntrack.Original)
	if !oneSided {
		out, rate := flow(conntrack.Reply)
		t.Out, t.OutRate = &out, &rate
	}
	return t
}

// loaded is which configuration is in force, and why the last one is not.
type loaded struct {
	at       time.Time
	revision uint64
	err      error
	errAt    time.Time
}

func (l *loaded) document(file string) admin.Config {
	c := admin.Config{File: file, Loaded: l.at.UTC().Round(time.Millisecond), Revision: l.revision}
	if l.err != nil {
		at := l.errAt.UTC().Round(time.Millisecond)
		c.Error, c.ErrorTime = l.err.Error(), &at
	}
	return c
}

// Refused notes that a new configuration was refused, for the status and the events. Reload does it itself.
func (d *Director) Refused(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused(err)
}

func (d *Director) refused(err error) {
	d.loaded.err, d.loaded.errAt = err, time.Now()
	d.event("reload", fmt.Sprintf("reload refused: %v", err))
}

func (d *Director) accepted() {
	d.loaded = loaded{at: time.Now(), revision: d.loaded.revision + 1}
	d.event("reload", fmt.Sprintf("revision %d is in force", d.loaded.revision))
}

// Reset takes back every order of an operator.
func (d *Director) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.standing.roster.Reset(d.standing.now()) {
		d.tell(e)
	}
	d.wake()
	return d.apply(d.cfg, d.mirror.State())
}

// Config returns the configuration that is in force, and its number.
func (d *Director) Config() (cfg *config.Config, revision uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg, d.loaded.revision
}

// event puts what is not about a backend into the ring.
func (d *Director) event(kind, text string) {
	d.standing.ring.Add(admin.Event{Time: time.Now().UTC().Round(time.Millisecond), Kind: kind, Text: text})
}
