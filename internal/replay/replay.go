package replay

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/roster"
	"naru/internal/wire"
)

// Our own choices.
const (
	begin    = wire.Time(time.Second) // the engine's time of the first packet; 0 would look like none
	forever  = wire.Time(1) << 61     // later stamps are taken for this one
	tickStep = 10 * time.Millisecond  // as a live worker does
	longStep = 64                     // in a pause, a step is that part of what has passed of it
	maxTable = 1 << 20                // connections, whatever the configuration says
	room     = wire.Headroom + wire.MaxFrame + pcapfile.MaxPacket
)

// Options are what New needs.
type Options struct {
	Config *config.Config
	Seed   uint64
	Script Script
	// Load reads the configuration of a reload; needed for a script that has one.
	Load func(path string) (*config.Config, error)

	// Frames gets every packet as pcapng, on the leg where it arrived, and what was sent because of it, on the leg where
	// it left, each with a comment. nil: off.
	Frames io.Writer
	// Flows gets a JSON line for every connection when it ends, and at the end for those that live. nil: off.
	Flows io.Writer
	// Trace gets the decision record of each packet. nil: off.
	Trace forwarder.Trace
	Keep  int // bytes of a frame that a record has, see forwarder.Engine.Keep
	// Sent gets what is sent, with the leg in the frame; valid during the call. nil: off.
	Sent func(at wire.Time, f *wire.Frame)
	// Backends says who answers for the backends.
	Backends Backends
	Sim      Simulation // of Simulated backends
	// StateIn is where an earlier run has left off, as it wrote it to its StateOut; this run goes on there. It needs the same
	// Config, Seed, Backends, Sim and Table. nil: from the beginning.
	StateIn io.Reader
	// StateOut gets, at the end, where this run leaves off; what living connections, simulated ends and the script still do
	// is left to the run that goes on. nil: off.
	StateOut io.Writer
	// Table is the capacity of the connection table; 0: that of the configuration, at most 1048576.
	Table int
}

// Backends says who answers for the backends in a replay.
type Backends uint8

// Who answers.
const (
	// AsCaptured takes every packet as it is in the capture.
	AsCaptured Backends = iota
	// Recorded takes what the VIP sends in the capture for answers of the backend that the connection went to: in the NAT
	// modes they come from there, in direct server return they pass naru by.
	Recorded
	// Simulated leaves out what the VIP sends and lets made-up backends answer, and made-up clients follow.
	Simulated
)

// Replay is one run.
type Replay struct {
	opt      Options
	cfg      *config.Config
	earlier  []*config.Config // that were reloaded since
	reloaded []string         // the files of the reloads
	loaded   map[string]*config.Config
	compiled forwarder.Config
	snapshot *forwarder.Snapshot
	engine   *forwarder.Engine
	out      *forwarder.Output
	roster   roster.Roster
	legs     legs
	script   Script // what is still to come

	base    int64 // capture time of the instant begin
	based   bool
	now     wire.Time
	tick    wire.Time // the next one
	pause   wire.Time // when the last packet came
	stamp   int64     // capture time of the packet at hand
	batch   [1]wire.Packet
	buf     []byte
	frames  *frameWriter
	flows   *flowWriter
	numbers *numbers        // nil when nobody asks
	sim     *simulation     // nil without
	trace   forwarder.Trace // nil when nobody asks
	result  Result
	err     error
}

// New makes a replay. The error is one of the configuration or the script, or of StateIn.
func New(opt Options) (*Replay, error) {
	r := &Replay{opt: opt, cfg: opt.Config, script: opt.Script, now: begin, tick: begin.Add(tickStep), pause: begin,
		buf: make([]byte, room)}
	if opt.Flows != nil || opt.StateOut != nil {
		r.numbers = newNumbers()
	}
	if err := r.checkScript(); err != nil {
		return nil, err
	}
	if opt.Table == 0 {
		r.opt.Table = min(max(1024, r.cfg.Node.Connections), maxTable)
	}
	if err := r.start(); err != nil {
		return nil, err
	}
	r.out = forwarder.NewOutput(len(r.compiled.Legs))
	r.engine.WatchEnds(r.ended)
	if opt.Frames != nil {
		r.frames = newFrameWriter(opt.Frames, r.cfg)
		opt.Keep = max(1, opt.Keep) // else records do not name the frames that were sent
	}
	r.engine.Keep(opt.Keep)
	if opt.Frames != nil || opt.Trace != nil {
		r.trace = r.traced
	}
	if opt.Flows != nil {
		r.flows = newFlowWriter(opt.Flows)
	}
	if r.numbers != nil {
		r.engine.WatchStarts(r.numbers.begin)
	}
	return r, nil
}

// start makes the engine, new or as StateIn says, and the simulated ends.
func (r *Replay) start() error {
	if r.opt.StateIn != nil {
		return r.goOn()
	}
	if err := r.configure(); err != nil {
		return err
	}
	var err error
	if r.engine, err = forwarder.New(r.engineOptions(), r.snapshot); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	r.engine.Apply(r.now)
	r.result.begin(r)
	if r.opt.Backends == Simulated {
		r.sim = newSimulation(r, r.opt.Sim)
	}
	return nil
}

func (r *Replay) engineOptions() forwarder.Options {
	return forwarder.Options{Seed: seed(r.opt.Seed), Workers: 1, Connections: r.opt.Table, LongFrames: true}
}

// seed is the engine's seed of a number, as naru run --seed makes it.
func seed(n uint64) (s forwarder.Seed) {
	binary.LittleEndian.PutUint64(s[:], n)
	return s
}

// configure compiles r.cfg for the state of the roster.
func (r *Replay) configure() error {
	if err := r.compile(); err != nil {
		return err
	}
	return r.recompile()
}

// compile puts r.cfg into the engine's words.
func (r *Replay) compile() error {
	compiled, err := compile.Config(r.cfg, compile.Offline(r.cfg, r.earlier...))
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	r.roster.Configure(r.now, members(r.cfg))
	r.compiled = compiled
	r.legs.set(r.cfg, &compiled)
	return nil
}

// recompile hands the engine a snapshot with the roster's present state, which holds from now on.
func (r *Replay) recompile() error {
	r.roster.Fill(&r.compiled)
	next, err := forwarder.Compile(r.compiled, 1, seed(r.opt.Seed), r.snapshot)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	r.snapshot = next
	if r.engine != nil {
		r.engine.Swap(next)
		r.engine.Apply(r.now)
	}
	return nil
}

// members is what the roster needs of a configuration. Nobody probes: what a probe would find is in the script.
func members(cfg *config.Config) []roster.Member {
	list := compile.Members(cfg)
	for i := range list {
		list[i].Probed = ""
	}
	return list
}

// Packet runs one packet of a capture. ifname is the name of its interface in the capture. The error is one of a script's
// event or of writing; the replay cannot go on after it.
func (r *Replay) Packet(p *pcapfile.Packet, ifname string) error {
	r.result.Packets++
	if p.Length > len(p.Data) {
		r.result.Cut++
	}
	if !r.based {
		r.base, r.based = p.Time, true
	}
	r.result.span(p.Time - r.base)
	at := r.engineTime(p.Time)
	r.advance(at)
	r.now, r.stamp = at, p.Time // what happened before has its own stamps
	f := &r.batch[0]
	*f = wire.Packet{Frame: wire.Frame{Buf: r.buf, Off: wire.Headroom}}
	frame, missing, part := pcapfile.AppendWhole(r.buf[:wire.Headroom], p)
	f.Len = len(frame) - wire.Headroom
	switch part {
	case pcapfile.UnknownLink:
		r.result.NotEthernet++
		return r.err
	case pcapfile.CutShort:
		r.cutShort(f, p, ifname)
		return r.err
	}
	switch r.prepare(f, ifname, missing) {
	case passesBy:
		r.result.PassedBy++
	case toNaru:
		r.process(f, p)
	}
	r.settle(at)
	return r.err
}

// cutShort deals with a packet whose headers were not captured: nobody can say what becomes of it.
func (r *Replay) cutShort(f *wire.Packet, p *pcapfile.Packet, ifname string) {
	r.result.CutShort++
	if r.frames != nil && f.Len > 0 {
		r.arrives(f, ifname)
		r.frames.arrived(f, p, r.result.Packets)
		r.frames.undecided(r.stamp)
	}
}

// engineTime converts a stamp of the capture. Time does not run backwards.
func (r *Replay) engineTime(stamp int64) wire.Time {
	since := stamp - r.base
	if since < 0 && stamp >= r.base || since > int64(forever) { // overflow
		since = int64(forever)
	}
	return max(r.now, begin.Add(time.Duration(since)))
}

// settle notes that a packet came, which ends a pause.
func (r *Replay) settle(at wire.Time) {
	r.pause = at
	r.tick = min(r.tick, (at/wire.Time(tickStep)+1)*wire.Time(tickStep))
}

// advance lets time pass: ticks, the script's events, what changes by itself.
func (r *Replay) advance(to wire.Time) {
	for r.err == nil {
		next := r.tick
		if len(r.script) > 0 {
			next = min(next, r.script[0].at())
		}
		if t, ok := r.roster.Next(); ok {
			next = min(next, t)
		}
		if t, ok := r.sim.next(); ok {
			next = min(next, t)
		}
		if next > to {
			return
		}
		r.now = max(r.now, next)
		r.happen(next)
	}
}

// happen does what is due at an instant.
func (r *Replay) happen(at wire.Time) {
	for len(r.script) > 0 && r.script[0].at() <= at && r.err == nil {
		r.follow(&r.script[0])
		r.script = r.script[1:]
	}
	if t, ok := r.roster.Next(); ok && t <= at {
		r.roster.Advance(at)
		r.fail(r.recompile())
	}
	r.sim.run(at)
	if r.tick > at {
		return
	}
	r.out.Reset()
	r.stampNow()
	r.engine.Tick(at, r.out, r.trace)
	r.collect()
	step := max(tickStep, (at.Sub(r.pause) / longStep).Truncate(tickStep))
	r.tick = at.Add(step)
}

// stampNow makes the instant that of what happens between packets.
func (r *Replay) stampNow() { r.stamp = r.base + int64(r.now-begin) }

func (r *Replay) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// traced hands a record on.
func (r *Replay) traced(rec *forwarder.Record) {
	if r.frames != nil {
		r.frames.note(rec)
	}
	if r.opt.Trace != nil {
		r.opt.Trace(rec)
	}
}

// process gives the engine one frame; captured is what it was in the capture, or nil.
func (r *Replay) process(f *wire.Packet, captured *pcapfile.Packet) {
	r.out.Reset()
	at := r.engineTime(r.stamp)
	if r.frames != nil {
		r.frames.arrived(f, captured, r.result.Packets)
	}
	r.engine.Process(at, r.batch[:], r.out, r.trace)
	r.collect()
}

// collect takes what the engine has put out.
func (r *Replay) collect() {
	if r.frames != nil {
		r.frames.write(r.stamp, r.out)
	}
	if r.opt.Sent == nil && r.sim == nil {
		return
	}
	at := r.engineTime(r.stamp)
	for _, list := range r.out.Legs {
		for _, f := range list {
			if r.opt.Sent != nil {
				r.opt.Sent(at, f)
			}
			r.sim.sent(at, f)
		}
	}
}

// Finish ends the run: what simulated ends still have to do happens, and what the script has meanwhile; living connections
// are logged, everything is written. With StateOut the run that goes on does all that. Later events of the script do not
// happen: see Left.
func (r *Replay) Finish() (*Result, error) {
	if r.opt.StateOut != nil {
		r.fail(r.save())
	} else {
		r.sim.drain()
	}
	r.result.end(r)
	if r.frames != nil {
		r.fail(r.frames.out.Flush())
	}
	if r.flows != nil {
		r.fail(r.flows.out.Flush())
	}
	return &r.result, r.err
}

// Left returns how many events of the script have not happened.
func (r *Replay) Left() int { return len(r.script) }
