package replay

import (
	"container/heap"
	"time"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/wire"
)

// Our own choices.
const (
	simHop   = 100 * time.Microsecond // between naru and an end
	simRTO   = 200 * time.Millisecond // of the first retransmission; each doubles it
	simTries = 6                      // retransmissions before an end gives up
	simFlows = 65536                  // flows at a time; more are not simulated
	simQueue = 256                    // segments that an end keeps
	simLast  = 2 * time.Minute        // that the ends get after the last packet
	simMSS   = 1400                   // bytes of a backend's segments
)

// MostDatagram is how many bytes a simulated backend puts into a datagram at most: it makes no fragments. Our own choice.
const MostDatagram = simMSS

// Simulation is how made-up backends behave. Made-up clients send what the captured ones sent, in that order and not
// before its time, acknowledge what they get and send again what was lost.
type Simulation struct {
	// Reply is how many bytes answer each segment with data, or each datagram, of which MostDatagram are sent; negative:
	// the backend sends what the VIP sent in the capture, when it did.
	Reply int
	Delay time.Duration // between request and answer
	Loss  float64       // share of the frames between naru and the ends that are lost, 0 to 1
	Reset float64       // share of the TCP connections that the backend resets at the first data, 0 to 1
}

// Loop is what the simulated ends saw, in flows of the capture.
type Loop struct {
	Completed    uint64 `json:"completed"`     // both ends have closed and know it; UDP: each datagram was answered
	Reset        uint64 `json:"reset"`         // ended by a RST
	Open         uint64 `json:"open"`          // all that was sent has arrived, the capture ends before the flow
	Stalled      uint64 `json:"stalled"`       // something sent has not arrived, or there was no answer
	MisDelivered uint64 `json:"mis_delivered"` // two backends, or another client, saw packets of the flow
	Lost         uint64 `json:"lost_frames"`   // by Simulation.Loss
	Ignored      uint64 `json:"ignored"`       // frames that the simulated ends do not understand: fragments, ICMP
}

// simulation is the world around naru in which frames become answers.
type simulation struct {
	r      *Replay
	opt    Simulation
	flows  map[wire.Flow]*simFlow // by what the client sends
	events simEvents
	serial uint64
	random uint64

	macs    map[wire.MAC]bool // of backends
	marks   map[mark]wire.Addr
	guePort map[uint16]bool
	current *simFlow // whose packet naru is given
	loop    Loop
}

// mark is how a backend of mode l3dsr dscp knows the VIP.
type mark struct {
	backend wire.Addr
	dscp    uint8
}

// simEvent is something that happens at an instant: what was put in first comes first.
type simEvent struct {
	at     wire.Time
	serial uint64
	kind   simKind
	flow   *simFlow // nil: of no flow that is known
	frame  []byte   // atBackend, atClient
	server bool     // retransmit: the backend's end
	timer  uint64   // retransmit: the end's timer then
	data   bool     // serve: the request had data
}

// simKind says what happens.
type simKind uint8

// What happens.
const (
	atBackend  simKind = iota // a frame arrives at a backend
	atClient                  // a frame arrives on the clients' side
	retransmit                // the timer of an end runs out
	serve                     // a backend answers a request
	serveUDP                  // a backend answers a datagram
	simKinds
)

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].serial < e[j].serial
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	old := *e
	x := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*e = old[:len(old)-1]
	return x
}

func newSimulation(r *Replay, opt Simulation) *simulation {
	s := &simulation{r: r, opt: opt, flows: map[wire.Flow]*simFlow{}, random: r.opt.Seed}
	s.configure()
	return s
}

// configure learns where backends are and how they know the VIP.
func (s *simulation) configure() {
	s.macs, s.marks, s.guePort = map[wire.MAC]bool{}, map[mark]wire.Addr{}, map[uint16]bool{}
	gates := map[wire.MAC]bool{}
	for i := range s.r.compiled.Legs {
		gates[compile.RouterMAC(i)] = true
	}
	for _, n := range s.r.compiled.Neighbors {
		if !gates[n.MAC] {
			s.macs[n.MAC] = true
		}
	}
	for i := range s.r.compiled.Services {
		svc := &s.r.compiled.Services[i]
		for _, b := range svc.Backends {
			s.marks[mark{wire.AddrFrom(b.Addr), svc.L3DSR.DSCP}] = wire.AddrFrom(svc.VIP)
		}
		if svc.Mode == forwarder.L3DSR && svc.L3DSR.Encap == forwarder.EncapGUE {
			s.guePort[svc.L3DSR.Port] = true
		}
	}
}

// next is when something happens here.
func (s *simulation) next() (at wire.Time, ok bool) {
	if s == nil || len(s.events) == 0 {
		return 0, false
	}
	return s.events[0].at, true
}

// run does what is due.
func (s *simulation) run(at wire.Time) {
	for s != nil && len(s.events) > 0 && s.events[0].at <= at {
		e := heap.Pop(&s.events).(simEvent)
		s.r.stampNow()
		s.happen(&e)
	}
}

func (s *simulation) happen(e *simEvent) {
	switch e.kind {
	case atBackend:
		s.atBackend(e.flow, e.frame)
	case atClient:
		s.atClient(e.flow, e.frame)
	case retransmit:
		s.timeUp(e.flow, e.flow.end(e.server), e.timer)
	case serve:
		s.served(e.flow, e.data)
	case serveUDP:
		s.fromServer(e.flow, &segment{payload: make([]byte, min(s.opt.Reply, MostDatagram))})
	}
}

// after puts something off.
func (s *simulation) after(d time.Duration, e simEvent) {
	s.serial++
	e.at, e.serial = s.r.now.Add(d), s.serial
	heap.Push(&s.events, e)
}

// drain lets the ends come to an end.
func (s *simulation) drain() {
	if s == nil {
		return
	}
	last := s.r.now.Add(simLast)
	for at, ok := s.next(); ok && at <= last && s.r.err == nil; at, ok = s.next() {
		s.r.advance(at)
	}
}

// roll draws a number from 0 to 1 (SplitMix64).
func (s *simulation) roll() float64 {
	s.random += 0x9e3779b97f4a7c15
	x := s.random
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// lost reports whether a frame is lost on the way.
func (s *simulation) lost() bool {
	if s.opt.Loss > 0 && s.roll() < s.opt.Loss {
		s.loop.Lost++
		return true
	}
	return false
}

// inject lets a frame arrive at naru, of a flow.
func (s *simulation) inject(fl *simFlow, leg uint8, frame []byte) {
	if s.lost() {
		return
	}
	r := s.r
	f := &r.batch[0]
	*f = wire.Packet{Frame: wire.Frame{Buf: r.buf, Off: wire.Headroom, Len: len(frame), Leg: leg}}
	copy(r.buf[wire.Headroom:], frame)
	r.adopt(f)
	s.current = fl
	r.process(f, nil)
	s.current = nil
}

// sent takes a frame that naru has sent to where it goes.
func (s *simulation) sent(_ wire.Time, f *wire.Frame) {
	if s == nil || f.Len < wire.EthernetLen || s.lost() {
		return
	}
	frame := append([]byte(nil), f.Bytes()...)
	kind := atClient
	if s.macs[wire.MAC(frame[:6])] {
		kind = atBackend
	}
	s.after(simHop, simEvent{kind: kind, flow: s.current, frame: frame})
}

// atBackend is the arrival of a frame at a backend.
func (s *simulation) atBackend(from *simFlow, frame []byte) {
	mac := wire.MAC(frame[:6])
	seg, ok := s.unwrap(frame)
	fl := from
	if fl == nil && ok {
		fl = s.flows[seg.flow] // a frame that waited, in a mode that keeps the client's tuple
	}
	if !ok || fl == nil {
		s.ignore(frame)
		return
	}
	if fl.server.known && fl.mac != mac {
		if seg.flags&wire.SYN == 0 && fl.flow.Proto == wire.ProtoTCP && !fl.over() {
			fl.stray = true
			return
		}
		fl.server = simEnd{}
	}
	fl.mac, fl.server.known = mac, true
	fl.answer = seg.flow.Reverse()
	fl.direct = s.r.legs.vips[seg.flow.Dst]
	if fl.flow.Proto == wire.ProtoUDP {
		s.serverUDP(fl)
		return
	}
	s.serverTCP(fl, &seg)
}

// atClient is the arrival of a frame on the clients' side.
func (s *simulation) atClient(from *simFlow, frame []byte) {
	seg, ok := parseSegment(frame)
	if !ok {
		s.ignore(frame)
		return
	}
	fl := s.flows[seg.flow.Reverse()]
	switch {
	case fl == nil:
		s.loop.Ignored++
	case from != nil && from != fl:
		from.stray = true
	case fl.flow.Proto == wire.ProtoUDP:
		fl.answers++
	default:
		s.clientTCP(fl, &seg)
	}
}

// ignore counts a frame that nobody here understands, but for questions and announcements, which need nobody.
func (s *simulation) ignore(frame []byte) {
	if frame[0]&1 == 0 {
		s.loop.Ignored++
	}
}

// ended notes the outcome of a flow whose connection naru has ended.
func (s *simulation) ended(c *forwarder.Connection) (outcome string) {
	if s == nil {
		return ""
	}
	key := wire.Flow{Src: c.Client, Dst: c.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: c.Proto}
	if fl := s.flows[key]; fl != nil {
		return fl.outcome(s)
	}
	return ""
}

// tally counts the outcome of a flow that is done with.
func (s *simulation) tally(fl *simFlow) {
	switch fl.outcome(s) {
	case "completed":
		s.loop.Completed++
	case "reset":
		s.loop.Reset++
	case "open":
		s.loop.Open++
	case "stalled":
		s.loop.Stalled++
	default:
		s.loop.MisDelivered++
	}
}

// report counts the flows that are still there; no order shows.
func (s *simulation) report() *Loop {
	for _, fl := range s.flows {
		s.tally(fl)
	}
	return &s.loop
}
