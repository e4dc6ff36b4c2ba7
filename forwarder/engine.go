package forwarder

import (
	"fmt"
	"sync/atomic"

	"naru/dsr"
	"naru/internal/conntrack"
	"naru/internal/frag"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/nat"
)

// Our own choices.
const (
	// MaxBatch is the most frames that one call of Process takes.
	MaxBatch = 256

	neighbors  = 16384 // next hops of all legs, unless Options say otherwise
	heldFrames = 64    // packets that wait for a next hop
	heldOneHop = 16    // of them: for one next hop
	heldSize   = 2048  // bytes of such a packet; longer ones do not wait
	ownFrames  = 64    // frames that naru makes itself in one call
	ownSize    = 128   // bytes of such a frame
	tickBudget = 2048  // connections that one Tick visits
	maxEvents  = 64
	apart      = 16   // unused elements that make an allocation a multiple of cache lines
	touchFrom  = 4096 // connections that the processor's caches have at hand
)

// Options are what an engine is made with; they do not change.
type Options struct {
	Seed            Seed
	Worker, Workers int // which of how many workers; 0 of 1
	Connections     int // capacity of the connection table
	Datagrams       int // fragmented datagrams under way that are followed; 0 means 512
	Neighbors       int // next hops of all legs that are remembered; 0 means 16384

	// LongFrames says that frames come which are longer than the MTU of their leg and no super-frames, as captures have
	// them: there is room to fragment them whatever the configuration.
	LongFrames bool

	// Memory is the table's memory; the zero value lets the engine allocate it.
	Memory conntrack.Memory

	// Exchange is what the workers have in common; required for more than one.
	Exchange *Exchange
}

// Output collects the frames to send, a list a leg, in order.
type Output struct {
	Legs [][]*wire.Frame
}

// NewOutput makes an Output for so many legs that Process fills without allocating.
func NewOutput(legs int) *Output {
	o := &Output{Legs: make([][]*wire.Frame, legs, legs+apart)} // no cache line with another worker's
	for i := range o.Legs {
		o.Legs[i] = make([]*wire.Frame, 0, MaxBatch+heldFrames+heldFragments+ownFrames+resetFrames+burstFrames)
	}
	return o
}

// Reset empties the lists.
func (o *Output) Reset() {
	for i := range o.Legs {
		o.Legs[i] = o.Legs[i][:0]
	}
}

// Trace is called with the decision record of each packet; the record is valid during the call only.
type Trace func(*Record)

// Engine is the data path of one worker.
type Engine struct {
	opt  Options
	next atomic.Pointer[Snapshot] // what Swap left
	snap *Snapshot                // what is applied

	now    wire.Time
	table  *conntrack.Table
	neigh  *neigh.Table
	limit  limiter
	source [4]uint64 // key of the source hash

	// What connections hold instead of pointers: the place of a path here is its id.
	paths  []path
	pathID map[pathKey]conntrack.PathID
	used   map[usedKey]*used
	ids    [][]conntrack.PathID // by service, then as service.keys

	// leaving are local addresses that no configuration names any more, and the paths whose connections still use them.
	leaving map[wire.Addr][]conntrack.PathID

	newPools bool // a path with connections has got another pool

	// hops changes when a next hop that was looked up may be wrong.
	hops     uint32
	neighGen uint32

	out    *Output
	trace  Trace
	rec    Record
	late   Record // of packets that were held
	end    func(conntrack.ID) bool
	held   holdTable
	own    ownTable
	resets resetTable
	burst  burst
	lastID uint32

	alone    conntrack.Conn // stands for the entry of a packet that is forwarded without one
	fellBack wire.Time      // when that was done last; 0: never

	frags      *frag.Table
	datagramID uint32 // that the datagram at hand has on our side; 0: none yet

	// What crosses workers.
	taken bool   // the packet at hand was handed over: it is not handed on
	lent  bool   // packets that were taken are still in use
	turn  int    // who is asked last
	rang  uint64 // workers whose bell was rung

	tell     announcer
	announce atomic.Bool

	found uint32 // the changes of the table up to which the lookups of the batch hold

	counters Counters
	samples  [wire.NumReasons]dropped
	events   []Event
	sink     uint64 // keeps the loads of Touch

	started, ended func(*Connection) // nil: nobody watches
	last           Connection        // the one that begins or ends
}

// returns says what replies look like in each mode.
var returns = [...]conntrack.Return{FullNAT: conntrack.ReturnLocal, NAT: conntrack.ReturnClient,
	L2DSR: conntrack.ReturnNone, L3DSR: conntrack.ReturnNone}

// path is what the engine knows of an interned path beyond its addresses.
type path struct {
	key     pathKey
	service *service // as configured now or, when it was removed, last
	backend int      // index into service.backends
	fate    fate
	pool    *nat.Pool // of full NAT
	used    *used     // of the backend
	mtu     int       // of the way to the backend, as configured; 0: the leg's
	next    neigh.ID  // the next hop to the backend, valid while hops is current
	hops    uint32

	// Of tunnels: the outer header, whether it could be made, and the MTU that a router told until when.
	tunnel    dsr.Tunnel
	open      bool
	told      int
	toldUntil wire.Time
}

// New makes an engine. snap must have been compiled for opt.Workers workers.
func New(opt Options, snap *Snapshot) (*Engine, error) {
	if opt.Worker < 0 || opt.Worker >= opt.Workers {
		return nil, fmt.Errorf("forwarder: worker %d of %d", opt.Worker, opt.Workers)
	}
	if opt.Workers > 1 && (opt.Exchange == nil || opt.Exchange.workers != opt.Workers) {
		return nil, fmt.Errorf("forwarder: %d workers without their exchange", opt.Workers)
	}
	if opt.Memory.Conns == nil {
		if opt.Connections < 1 {
			return nil, fmt.Errorf("forwarder: %d connections", opt.Connections)
		}
		opt.Memory = conntrack.Alloc(opt.Connections)
	}
	if opt.Datagrams == 0 {
		opt.Datagrams = datagrams
	}
	if opt.Neighbors == 0 {
		opt.Neighbors = neighbors
	}
	table, err := conntrack.New(opt.Memory, opt.Seed.words(forTable))
	if err != nil {
		return nil, fmt.Errorf("forwarder: %w", err)
	}
	e := &Engine{
		opt: opt, table: table, neigh: neigh.NewTable(opt.Neighbors, opt.Seed.words(forNeighbors)[0]),
		source: opt.Seed.words(forSource), pathID: map[pathKey]conntrack.PathID{},
		used: map[usedKey]*used{}, leaving: map[wire.Addr][]conntrack.PathID{},
		events: make([]Event, 0, maxEvents),
	}
	if opt.LongFrames {
		e.burst.open()
	}
	e.frags = frag.New(opt.Datagrams, heldFragments, opt.Seed.words(forFragments)[0])
	e.lastID = uint32(opt.Seed.words(forIDs)[0]) + uint32(opt.Worker)
	e.limit.key, e.limit.cost = opt.Seed.words(forLimit)[0], 1000*int64(opt.Workers)
	e.end = e.endOne
	e.held.init()
	e.rec.Candidates = make([]Candidate, 0, 64)
	e.Swap(snap)
	return e, nil
}

// Swap hands over a snapshot; it is applied at the start of the next call of Process or Tick. Any goroutine may call it.
func (e *Engine) Swap(s *Snapshot) { e.next.Store(s) }

// Apply applies what Swap left at once, at a time between two calls, as a call of Tick would. Only the goroutine that owns
// the engine may call it.
func (e *Engine) Apply(now wire.Time) {
	e.now = max(e.now, now)
	if s := e.next.Load(); s != e.snap {
		e.apply(s)
	}
}

// Announce makes the engine announce all addresses that naru answers for. Any goroutine may call it.
func (e *Engine) Announce() { e.announce.Store(true) }

// Counters returns what was counted so far. Only the goroutine that owns the engine may call it.
func (e *Engine) Counters() Counters {
	c := e.counters
	c.Active = uint64(e.table.Len())
	return c
}

// Process decides about a batch of at most MaxBatch frames, each with its Leg set, in order. The frames to send are
// appended to out; out and the batch must stay as they are until the frames are sent. trace may be nil.
func (e *Engine) Process(now wire.Time, batch []wire.Packet, out *Output, trace Trace) {
	e.begin(now, out, trace)
	e.counters.Received += uint64(len(batch))
	for i := range batch {
		e.parse(&batch[i])
	}
	e.find(batch)
	for i := range batch {
		if p := &batch[i]; p.Hash == 0 || trace != nil {
			e.process(p)
		} else if !e.short(p) {
			e.flow(p)
		}
	}
	e.ask()
}

// find looks up all flows of a batch in one go: what one lookup waits for does not keep the next.
func (e *Engine) find(batch []wire.Packet) {
	if e.table.Len() > touchFrom {
		e.touch(batch)
	}
	e.table.FindAll(batch)
	e.found = e.table.Changes()
}

// touch loads what the lookups of a batch will need, in two short loops without anything else in them: so the processor
// waits for memory about twice a batch instead of twice a packet. The second load needs the first.
func (e *Engine) touch(batch []wire.Packet) {
	var sink uint64
	for i := range batch {
		sink += e.table.TouchIndex(batch[i].Hash)
	}
	for i := range batch {
		sink += uint64(e.table.Touch(batch[i].Hash))
	}
	e.sink = sink
}

// Tick does what time asks for: ends idle connections, asks for next hops, lets held packets go and announces addresses.
// Call it every few milliseconds. A call visits a bounded number of connections.
func (e *Engine) Tick(now wire.Time, out *Output, trace Trace) {
	e.begin(now, out, trace)
	e.table.Expire(e.now, tickBudget, e.end)
	if e.table.Sweeping() {
		e.table.Sweep(sweepBudget, e.end)
	}
	e.lostFragments()
	e.tellUses()
	e.letGo()
	e.ask()
	e.announceSome()
}

// begin starts a call: time stands still rather than run backwards, and a new snapshot is applied.
func (e *Engine) begin(now wire.Time, out *Output, trace Trace) {
	e.now = max(e.now, now)
	e.out, e.trace = out, trace
	e.table.Advance(e.now)
	e.own.reset()
	e.resets.reset()
	e.held.reset()
	e.burst.reset()
	e.frags.Reset()
	if s := e.next.Load(); s != e.snap {
		e.apply(s)
	}
}

// apply takes over a snapshot: paths that are new are interned, those that are gone live on with their connections.
func (e *Engine) apply(s *Snapshot) {
	e.snap = s
	for key, id := range e.pathID { // no order shows: ids mean nothing outside
		if e.table.PathGone(id) {
			delete(e.pathID, key)
		}
	}
	e.newPools = false
	stays := make(map[pathKey]bool, len(e.pathID))
	e.ids = make([][]conntrack.PathID, len(s.services))
	for i, svc := range s.services {
		for k, key := range svc.keys {
			stays[key] = true
			e.ids[i] = append(e.ids[i], e.intern(svc, k, key))
		}
	}
	clear(e.leaving)
	for key, id := range e.pathID {
		if stays[key] {
			continue
		}
		if e.table.DropPath(id) {
			delete(e.pathID, key)
		} else if s.owned[key.local] == nil && key.mode == FullNAT {
			e.leaving[key.local] = append(e.leaving[key.local], id)
		}
	}
	if e.newPools {
		e.claimPorts()
	}
	e.neigh.Loosen(e.now)
	for _, n := range s.neighbors {
		e.neigh.Set(e.now, uint8(n.Leg), wire.AddrFrom(n.Addr), n.MAC, n.Static)
	}
	for i := range s.legs {
		if s.legs[i].MTU != s.legs[0].MTU {
			e.burst.open() // packets may have to be fragmented
		}
	}
	e.neighGen = e.neigh.Generation()
	e.hops = max(1, e.hops+1)
	e.shareUses()
	e.restartAnnouncer(s)
}

// intern returns the id of a path, new or as it was.
func (e *Engine) intern(svc *service, k int, key pathKey) conntrack.PathID {
	id, there := e.pathID[key]
	if there {
		e.table.PinPath(id)
		e.table.SetIdle(id, svc.idle)
	} else {
		id = e.table.AddPath(conntrack.Path{VIP: key.vip, Local: key.local, Backend: key.address, Proto: key.proto,
			Return: returns[key.mode]}, svc.idle)
		e.pathID[key] = id
		for int(id) >= len(e.paths) {
			e.paths = append(e.paths, path{})
		}
	}
	pi := path{key: key, service: svc, backend: k / svc.ways(), used: e.usedBy(key.service, key.backend)}
	b := &svc.Backends[pi.backend]
	pi.mtu, pi.fate = b.MTU, svc.fateOf(b)
	e.doom(id, pi.fate)
	if key.mode == FullNAT {
		pi.pool = svc.pools[k][e.opt.Worker]
	}
	e.newPools = e.newPools || there && e.paths[id].pool != pi.pool
	if pi.mtu != 0 {
		e.burst.open()
	}
	if pi.tunnelled() {
		if there { // else the place was another path's
			pi.told, pi.toldUntil = e.paths[id].told, e.paths[id].toldUntil
		}
		e.openTunnel(&pi)
		e.burst.open()
	}
	e.paths[id] = pi
	return id
}

// claimPorts takes the ports of living connections out of pools that are new: other ports, another time of rest or a
// backend that has come back. What is taken there already stays so.
func (e *Engine) claimPorts() {
	e.table.Each(func(c *conntrack.Conn) {
		if pool := e.paths[c.Path].pool; pool != nil && c.Flags&conntrack.PortFreed == 0 {
			pool.Claim(c.LocalPort)
		}
	})
}

// endConn ends a connection and gives back what it holds.
func (e *Engine) endConn(id conntrack.ID) {
	c := e.table.Conn(id)
	if e.ended != nil {
		e.ending(c)
	}
	e.release(c)
	e.table.Remove(id)
	e.counters.Ended++
}

// release gives back the local port of a connection that is closed or about to be removed, and ends its being counted.
func (e *Engine) release(c *conntrack.Conn) {
	pi := &e.paths[c.Path]
	if c.Flags&conntrack.PortFreed == 0 {
		c.Flags |= conntrack.PortFreed
		if pi.pool != nil {
			pi.pool.Put(c.LocalPort, e.now)
		}
	}
	e.uncount(c, pi)
}

// ceded gives back what a connection holds that is closed, or closing. Where replies pass us by nobody sees how the backend
// closes: there a connection counts until the client's FIN, since most clients send theirs when they have all they want.
func (e *Engine) ceded(c *conntrack.Conn) {
	if c.State == conntrack.TCPClosed {
		e.release(c)
	} else if pi := &e.paths[c.Path]; pi.key.mode >= L2DSR {
		e.uncount(c, pi)
	}
}

// uncount ends a connection's being counted.
func (e *Engine) uncount(c *conntrack.Conn, pi *path) {
	if c.Flags&conntrack.Counted != 0 {
		c.Flags &^= conntrack.Counted
		pi.service.unchoose(pi.backend)
	}
}

// EventKind says what an Event tells.
type EventKind uint8

// The events.
const (
	AddressClash EventKind = iota // another host uses an address of ours
)

// Event is something that a person should hear of.
type Event struct {
	Kind EventKind
	Leg  uint8
	Addr wire.Addr
	MAC  wire.MAC
}

// Events moves what happened since the last call into dst and returns how many it moved. Events that nobody fetched in
// time are lost; counters are not. Only the goroutine that owns the engine may call it.
func (e *Engine) Events(dst []Event) int {
	n := copy(dst, e.events)
	e.events = append(e.events[:0], e.events[n:]...)
	return n
}

func (e *Engine) event(ev Event) {
	if len(e.events) < maxEvents {
		e.events = append(e.events, ev)
	}
}
