package forwarder

import (
	"slices"

	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// Keep sets how many bytes of each frame the decision records have, from the next call of Process on; 0, the value at
// first, is none. Copying costs a traced packet time. Only the goroutine that owns the engine may call it.
func (e *Engine) Keep(bytes int) { e.rec.keep, e.late.keep = bytes, bytes }

func (r *Record) reach(s Stage) {
	if n := len(r.Stages); n == 0 || r.Stages[n-1] != s {
		r.Stages = append(r.Stages, s)
	}
}

// endsAt says at which stage a packet ends that another one than the last stage refuses.
var endsAt = map[wire.Reason]Stage{
	wire.ICMPNoConn: StageLookup,
	wire.NoService:  StageService, wire.MidstreamTCP: StageService, wire.Hairpin: StageService,
	wire.NotOurAddress: StageService, wire.NotOurPort: StageService,
	wire.NoBackend: StageSchedule, wire.BackendFull: StageSchedule, wire.ServiceFull: StageSchedule,
	wire.NoBackendAnswered: StageSchedule, wire.BackendFullAnswered: StageSchedule, wire.ServiceFullAnswered: StageSchedule,
	wire.PortsExhausted: StageSource, wire.TupleClash: StageSource, wire.TableFull: StageSource,
	wire.PortsExhaustedAnswered: StageSource, wire.TupleClashAnswered: StageSource,
	wire.NoRoute: StageRoute, wire.NeighFull: StageRoute,
	wire.TooBig: StageMTU, wire.TooBigAnswered: StageMTU,
	wire.NeighUnresolved: StageNextHop,
}

// start begins the record of a packet that was parsed.
func (r *Record) start(e *Engine, p *wire.Packet) {
	*r = Record{Time: e.now, Leg: e.snap.legs[p.Leg].Name, Conn: conntrack.None, keep: r.keep, pieces: 1,
		Stages: r.Stages[:0], Candidates: r.Candidates[:0], Frame: r.Frame[:0], Sent: r.Sent[:0]}
	r.Before.read(p)
	r.frame(&p.Frame)
	if p.Version != 0 && p.Reason == wire.ReasonNone {
		r.Longest = p.SegmentLen()
	}
	r.reach(StageParse)
}

// frame keeps a frame as it came.
func (r *Record) frame(f *wire.Frame) {
	d := f.Bytes()
	r.FrameLen, r.Offload = len(d), f.Offload
	r.Frame = append(r.Frame, d[:min(len(d), r.keep)]...)
}

func (r *Record) lookup(e *Engine, id conntrack.ID, dir conntrack.Dir) {
	r.reach(StageLookup)
	r.Conn, r.Dir = id, dir
	r.Connections, r.Capacity = e.table.Len(), e.table.Cap()
	if id != conntrack.None {
		r.path(e, e.table.Conn(id))
	}
}

func (r *Record) path(e *Engine, c *conntrack.Conn) {
	pi := &e.paths[c.Path]
	r.Service, r.Backend = pi.key.service, pi.key.backend
	r.Mode, r.Encap = pi.key.mode, pi.key.l3dsr.Encap
	if pi.pool != nil {
		r.PortsFree, r.PortsAll = pi.pool.Free(), pi.pool.Size()
	}
}

func (r *Record) service(svc *service) {
	r.reach(StageService)
	r.Service, r.Mode, r.Encap = svc.Name, svc.Mode, svc.L3DSR.Encap
}

// pick notes the choice; the backend that was chosen counts counted connections for it already.
func (r *Record) pick(svc *service, chosen int, counted int64) {
	r.reach(StageSchedule)
	r.Candidates = r.Candidates[:0]
	r.Scheduler, r.Affinity = svc.Scheduler.String(), svc.affinity != nil
	for i, b := range svc.Backends {
		active := svc.backends[i].Active.Load()
		if i == chosen {
			active -= counted
		}
		r.Candidates = append(r.Candidates, Candidate{Name: b.Name, Addr: svc.addrs[i], Port: b.Port, Weight: b.Weight,
			State: b.State, Share: b.Share, Active: active, Chosen: i == chosen, Max: int64(b.MaxConnections),
			Backup: b.Backup})
	}
}

func (r *Record) translate(e *Engine, c *conntrack.Conn, id conntrack.ID, dir conntrack.Dir) {
	r.NewConn = r.Conn == conntrack.None && id != conntrack.None
	if r.NewConn {
		r.reach(StageSource)
	}
	r.reach(StageRoute)
	r.reach(StageMTU)
	r.reach(StageTranslate)
	r.Conn, r.Dir, r.State = id, dir, c.State
	r.path(e, c)
}

// wrapped notes the headers of a packet that was wrapped: overhead bytes were put in front of it.
func (r *Record) wrapped(p *wire.Packet, overhead int) {
	outer := wire.Packet{Frame: p.Frame}
	if outer.ParseLink() != wire.ReasonNone || outer.ParseNetwork() != wire.ReasonNone ||
		outer.Frag != wire.Whole {
		return
	}
	r.Outer.read(&outer)
	inner := *p
	inner.L3, inner.L4 = inner.L3+overhead, inner.L4+overhead
	r.After.read(&inner)
}

// tooBig notes what did not fit.
func (r *Record) tooBig(p *wire.Packet, mtu int) { r.Longest, r.Room = p.SegmentLen(), mtu }

// finish ends the record and hands it over.
func (r *Record) finish(e *Engine, p *wire.Packet, hop neigh.ID) {
	r.Verdict, r.Reason = p.Verdict, p.Reason
	r.Flow = r.flow(e)
	switch {
	case hop != neigh.None:
		r.leaves(e, p, hop)
	case p.Verdict == wire.Consume && p.Reason != wire.NeighborLearned && p.Reason != wire.PathMTULearned:
		r.end()
		r.reach(StageAnswer)
		r.Out = e.snap.legs[p.Leg].Name
		r.After.read(p)
		r.sent(e, p.Leg)
	default:
		r.end()
	}
	e.trace(r)
}

// end notes the stage that refused the packet.
func (r *Record) end() {
	if s, ok := endsAt[r.Reason]; ok {
		r.reach(s)
	}
}

// leaves notes what is known of a packet that goes to a next hop, or waits for it.
func (r *Record) leaves(e *Engine, p *wire.Packet, hop neigh.ID) {
	if !slices.Contains(r.Stages, StageMTU) {
		r.Stages = append(r.Stages, StageRoute, StageMTU)
	}
	r.reach(StageNextHop)
	leg := &e.snap.legs[e.neigh.Leg(hop)]
	r.Out, r.MTU, r.NextHop = leg.Name, leg.MTU, e.neigh.Addr(hop)
	r.Room = r.MTU
	if r.Conn != conntrack.None && r.Mode == L3DSR && r.Dir == conntrack.Original {
		r.Room = e.mtu(&e.paths[e.table.Conn(r.Conn).Path], r.MTU)
	}
	if r.Outer.Version == 0 {
		r.After.read(p)
	}
	if r.Verdict == wire.Held {
		e.held.note(r)
		return
	}
	if mac := e.neigh.Peek(hop); mac != nil && r.Verdict == wire.Transmit {
		r.After.DstMAC, r.After.SrcMAC = *mac, leg.MAC // of all frames that the packet has become
		if r.Outer.Version != 0 {
			r.Outer.DstMAC, r.Outer.SrcMAC = *mac, leg.MAC
		}
	}
	r.sent(e, p.Leg)
}

// sent keeps the frames that left last by a leg.
func (r *Record) sent(e *Engine, leg uint8) {
	if out := e.out.Legs[leg]; r.keep > 0 {
		r.Sent = append(r.Sent, out[len(out)-r.pieces:]...)
	}
}

// flow names the connection, or the packet's own flow.
func (r *Record) flow(e *Engine) wire.FlowID {
	f := wire.Flow{Src: r.Before.Src, Dst: r.Before.Dst, SrcPort: r.Before.SrcPort, DstPort: r.Before.DstPort,
		Proto: r.Before.Proto}
	switch {
	case r.Conn != conntrack.None:
		c := e.table.Conn(r.Conn)
		path := e.table.Path(c.Path)
		f = wire.Flow{Src: c.Client, Dst: path.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: path.Proto}
	case r.Before.Version == 0:
		return 0
	case f.Proto != wire.ProtoTCP && f.Proto != wire.ProtoUDP:
		f.SrcPort, f.DstPort = 0, 0
	}
	return f.ID()
}

// holdNote is what the record of a held packet says of it, for the second one.
type holdNote struct {
	leg, service, backend string
	mode                  Mode
	encap                 Encap
	flow                  wire.FlowID
}

// note keeps it with the packet that was held last.
func (h *holdTable) note(r *Record) {
	h.frames[h.order[h.used-1]].note = holdNote{r.Leg, r.Service, r.Backend, r.Mode, r.Encap, r.Flow}
}

// release is the second record of a packet that was held: before it leaves, or is dropped.
func (r *Record) release(e *Engine, f *heldFrame) {
	*r = Record{Time: e.now, Leg: f.note.leg, Service: f.note.service, Backend: f.note.backend, Mode: f.note.mode,
		Encap: f.note.encap, Flow: f.note.flow, Late: true, Conn: conntrack.None, keep: r.keep, pieces: 1,
		Stages: append(r.Stages[:0], StageNextHop), Candidates: r.Candidates[:0], Frame: r.Frame[:0], Sent: r.Sent[:0]}
	p := wire.Packet{Frame: f.Frame}
	if p.ParseLink() == wire.ReasonNone {
		_ = p.ParseNetwork() // as far as it can be read
	}
	r.Before.read(&p)
	r.frame(&p.Frame)
	r.NextHop = f.to
	f.note = holdNote{}
}

// released hands over the second record of a packet that left.
func (r *Record) released(e *Engine, f *heldFrame) {
	leg := &e.snap.legs[f.Leg]
	r.Verdict, r.Out, r.MTU, r.After = wire.Transmit, leg.Name, leg.MTU, r.Before
	d := f.Bytes()
	r.After.DstMAC, r.After.SrcMAC = wire.MAC(d[:6]), wire.MAC(d[6:12])
	r.sent(e, f.Leg)
	e.trace(r)
}

// lost hands over the second record of a packet whose next hop did not answer.
func (r *Record) lost(e *Engine) {
	r.Verdict, r.Reason = wire.Drop, wire.NeighUnresolved
	e.trace(r)
}
