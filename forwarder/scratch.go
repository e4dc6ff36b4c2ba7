package forwarder

import (
	"fmt"

	"naru/dsr"
	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/nat"
	"naru/sched"
)

// scratchConnections is how many connections a scratch engine has room for: our own choice, more than one packet may need.
const scratchConnections = 64

// Scratch is an engine to ask what a live one would do with a packet. It shares nothing with the live one that anybody
// changes, so nothing that happens to it can be seen there: it is made from the same configuration and seed, and Fill
// copies what the decision may depend on.
//
// What it does not have: fragments under way, and what other workers hold. A connection that would clash with one of
// another service over a local port is not seen.
type Scratch struct {
	engine *Engine
	out    *Output
	now    wire.Time

	connections, capacity int // of the live engine
}

// NewScratch makes an engine for a configuration, as worker opt.Worker of opt.Workers has one; of opt only Seed, Worker,
// Workers and Neighbors matter, and must be those of the live engine. It may take milliseconds: not on a worker's goroutine.
func NewScratch(opt Options, cfg Config) (*Scratch, error) {
	snap, err := Compile(cfg, opt.Workers, opt.Seed, nil)
	if err != nil {
		return nil, err
	}
	e, err := New(Options{Seed: opt.Seed, Worker: opt.Worker, Workers: opt.Workers, Neighbors: opt.Neighbors, Datagrams: 1,
		Connections: scratchConnections, Exchange: &Exchange{workers: opt.Workers}}, snap)
	if err != nil {
		return nil, fmt.Errorf("forwarder: scratch: %w", err)
	}
	e.opt.Exchange = nil // nothing is handed over to anybody
	return &Scratch{engine: e, out: NewOutput(len(cfg.Legs))}, nil
}

// Fill copies from a live engine what a decision about a frame may depend on: its connection, the state of schedulers,
// neighbours and limits. The pools of local ports are copied for one backend only, which a first question tells; empty
// names copy none. Only the goroutine that owns the live engine may call it, once for each Scratch; it takes less than a
// millisecond.
func (s *Scratch) Fill(live *Engine, frame []byte, service, backend string) {
	e := s.engine
	s.now, s.connections, s.capacity = live.now, live.table.Len(), live.table.Cap()
	if live.snap == nil { // nothing was ever processed
		return
	}
	e.begin(live.now, s.out, nil)
	e.snap.plain, e.snap.fenced = live.snap.plain, live.snap.fenced // never changed, once compiled
	e.neigh.Copy(live.neigh)
	e.neighGen = e.neigh.Generation()
	e.limit, e.lastID, e.found = live.limit, live.lastID, 0
	e.hops++
	s.fillServices(live, service, backend)
	s.fillMTU(live)
	p := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if p.ParseLink() == wire.ReasonNone && p.ParseNetwork() == wire.ReasonNone && p.Version != 0 {
		s.fillFlows(live, &p)
	}
	s.fillUp(live)
}

// fillServices copies the turns of schedulers and the counts of backends, by name.
func (s *Scratch) fillServices(live *Engine, service, backend string) {
	for _, to := range s.engine.snap.services {
		for _, from := range live.snap.services {
			if from.Name != to.Name || from.Scheduler != to.Scheduler {
				continue
			}
			sched.Copy(to.scheduler, from.scheduler)
			if to.backups != nil && from.backups != nil {
				sched.Copy(to.backups, from.backups)
			}
			to.load.Copy(from.load)
			for i := range to.backends {
				for j := range from.backends {
					if to.Backends[i].Name == from.Backends[j].Name {
						to.backends[i].Load.Copy(from.backends[j].Load)
					}
				}
			}
			for _, key := range to.keys {
				if key.service == service && key.backend == backend {
					s.fillPool(live, key)
				}
			}
		}
	}
}

// fillPool copies the pool of a path.
func (s *Scratch) fillPool(live *Engine, key pathKey) {
	to, from := poolOf(s.engine, key), poolOf(live, key)
	if to != nil && from != nil {
		to.Copy(from)
	}
}

func poolOf(e *Engine, key pathKey) *nat.Pool {
	if id, ok := e.pathID[key]; ok {
		return e.paths[id].pool
	}
	return nil
}

// fillMTU copies what routers have told.
func (s *Scratch) fillMTU(live *Engine) {
	for key, id := range live.pathID {
		if pi := &live.paths[id]; pi.told != 0 {
			if own, ok := s.engine.pathID[key]; ok {
				s.engine.paths[own].told, s.engine.paths[own].toldUntil = pi.told, pi.toldUntil
			}
		}
	}
}

// fillFlows copies the connections that a packet may be of, or meet.
func (s *Scratch) fillFlows(live *Engine, p *wire.Packet) {
	s.fillFlow(live, p.Flow)
	if p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6 {
		var q wire.Quote
		if p.ParseQuote(&q) {
			s.fillFlow(live, q.Flow.Reverse())
		}
		var f wire.Flow
		if _, ok := dsr.Quoted(p, &f); ok {
			s.fillFlow(live, f)
		}
	}
	for i, to := range s.engine.snap.services {
		if i < len(live.snap.services) && to.affinity != nil {
			s.fillClient(to, live.snap.services[i], p)
		}
	}
	for _, svc := range live.snap.services { // a new connection of mode NAT may look like another one to the backend
		if svc.Mode != NAT || svc.vip != p.Flow.Dst || svc.Proto != p.Proto {
			continue
		}
		for i, b := range svc.Backends {
			port := b.Port
			if port == 0 {
				port = p.Flow.DstPort
			}
			s.fillFlow(live, wire.Flow{Src: svc.addrs[i], Dst: p.Flow.Src, SrcPort: port, DstPort: p.Flow.SrcPort, Proto: p.Proto})
		}
	}
}

// fillClient copies where a client was sent before.
func (s *Scratch) fillClient(to, from *service, p *wire.Packet) {
	if from.affinity == nil || from.Name != to.Name {
		return
	}
	key := from.client(&p.Flow.Src)
	id, known := from.affinity.Find(key, s.now)
	if !known {
		return
	}
	for i := range to.Backends {
		if b := from.byID(id); b >= 0 && from.Backends[b].Name == to.Backends[i].Name {
			to.affinity.Keep(key, s.now, s.now.Add(to.Affinity.Timeout), to.ids[i], to.ids[i])
		}
	}
}

// fillFlow copies the connection of a flow, if there is one.
func (s *Scratch) fillFlow(live *Engine, f wire.Flow) {
	e := s.engine
	id, _ := live.table.Lookup(&f, live.table.Hash(&f))
	if id == conntrack.None {
		return
	}
	if have, _ := e.table.Lookup(&f, e.table.Hash(&f)); have != conntrack.None {
		return
	}
	c := live.table.Conn(id)
	key := live.paths[c.Path].key
	s.fillPool(live, key)
	path, ok := e.pathID[key]
	if !ok {
		path = s.foreign(live, c.Path)
	}
	e.table.Copy(live.now, c, path)
}

// foreign adds a path that no configuration names any more; its counts are its own.
func (s *Scratch) foreign(live *Engine, from conntrack.PathID) conntrack.PathID {
	e := s.engine
	id := e.table.CopyPath(live.table, from)
	pi := live.paths[from]
	pi.pool, pi.hops, pi.backend = nil, 0, 0
	pi.service = &service{Service: pi.service.Service, load: new(sched.Load),
		backends: []sched.Backend{{Load: new(sched.Load)}}}
	for int(id) >= len(e.paths) {
		e.paths = append(e.paths, path{})
	}
	e.paths[id] = pi
	e.pathID[pi.key] = id
	return id
}

// fillUp makes the table as full as the live one is, when that has no room: of the connections that would make room there
// is one of each kind.
func (s *Scratch) fillUp(live *Engine) {
	if live.table.Len() < live.table.Cap() {
		return
	}
	e := s.engine
	for class := range conntrack.NumClasses {
		if id := live.table.Peek(class); id != conntrack.None {
			c := live.table.Conn(id)
			path := live.table.Path(c.Path)
			s.fillFlow(live, wire.Flow{Src: c.Client, Dst: path.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: path.Proto})
		}
	}
	e.table.Shrink()
}

// Ask gives the scratch engine a packet that comes in by a leg, which stays as it is, and hands the decision record to
// seen, which must not keep it. It may be called once, by any goroutine.
func (s *Scratch) Ask(p wire.Packet, leg int, seen Trace) {
	d := p.Bytes()
	p.Buf = make([]byte, wire.Headroom+max(len(d), wire.MinBuffer))
	p.Off, p.Leg = wire.Headroom, uint8(leg)
	copy(p.Buf[p.Off:], d)
	s.engine.Keep(wire.MaxFrame)
	s.out.Reset()
	asked := false
	s.engine.Process(s.now, []wire.Packet{p}, s.out, func(r *Record) {
		if !asked {
			asked = true
			if r.Capacity != 0 {
				r.Connections, r.Capacity = s.connections, s.capacity
			}
			seen(r)
		}
	})
}

// FindFlow looks for a connection by its name, from a place in the table on, and returns the flow of its client. next is
// the place to go on at, conntrack.None at the end: a call looks at a few thousand places. Only the goroutine that owns
// the engine may call it.
func (e *Engine) FindFlow(id wire.FlowID, from conntrack.ID) (f wire.Flow, next conntrack.ID, ok bool) {
	const places = 8192
	next = e.table.Some(from, places, func(c *conntrack.Conn) bool {
		path := e.table.Path(c.Path)
		g := wire.Flow{Src: c.Client, Dst: path.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: path.Proto}
		if g.ID() == id && !e.table.Expired(c, e.now) {
			f, ok = g, true
		}
		return !ok
	})
	return f, next, ok
}
