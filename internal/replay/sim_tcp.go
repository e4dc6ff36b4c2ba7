package replay

import (
	"bytes"

	"naru/internal/link/pcapfile"
	"naru/internal/wire"
)

// simFlow is a client's flow with both ends.
type simFlow struct {
	flow           wire.Flow // as the client sends it
	client, server simEnd
	mac            wire.MAC  // of the backend
	answer         wire.Flow // as the backend sends it
	direct         bool      // the backend answers the client itself
	leg            uint8     // where the client is
	queue          [][]byte  // captured segments that wait for the end of the handshake

	reset, stray, gaveUp bool
	asked, answers       uint64 // datagrams of UDP
	heard                uint32 // the VIP's sequence number in the capture, up to which the backend sends
	hears                bool
}

// simEnd is one end of a TCP connection.
type simEnd struct {
	known    bool   // it has been reached
	una, nxt uint32 // sent and not acknowledged
	rcv      uint32 // expected
	got      bool   // rcv and, of the backend, una are set
	fin      bool   // its own FIN was sent
	heardFIN bool
	segments []kept // sent and not acknowledged
	tries    int
	timer    uint64 // of the timer that counts
	early    []segment
}

// kept is what may have to be sent again.
type kept struct {
	end   uint32 // the sequence number behind it
	frame []byte
}

// over reports whether a flow has come to its end.
func (fl *simFlow) over() bool {
	return fl.reset || fl.client.fin && fl.server.fin && len(fl.client.segments) == 0 && len(fl.server.segments) == 0
}

func (fl *simFlow) outcome(s *simulation) string {
	udp := fl.flow.Proto == wire.ProtoUDP
	switch {
	case fl.stray:
		return "mis-delivered"
	case fl.reset:
		return "reset"
	case udp && (fl.answers >= fl.asked || s.opt.Reply < 0 && fl.server.known):
		return "completed"
	case !udp && fl.over():
		return "completed"
	case udp || fl.gaveUp || !fl.client.got || len(fl.queue)+len(fl.client.segments)+len(fl.server.segments) > 0:
		return "stalled"
	}
	return "open"
}

// heard is a packet of the VIP in the capture: what the backend shall send, if it sends what was recorded.
func (s *simulation) heard(p *wire.Packet) {
	fl := s.flows[p.Flow.Reverse()]
	g, ok := segmentOf(p)
	if s.opt.Reply >= 0 || fl == nil || !ok {
		return
	}
	if fl.flow.Proto == wire.ProtoUDP {
		if fl.server.known {
			s.fromServer(fl, &segment{flow: fl.answer, payload: bytes.Clone(g.payload)})
		}
		return
	}
	if g.flags&wire.SYN != 0 {
		fl.heard, fl.hears = g.seq+1, true
		return
	}
	if !fl.hears {
		fl.heard, fl.hears = g.seq, true
	}
	if old := int64(int32(fl.heard - g.seq)); old >= 0 && old < int64(g.length()) {
		fl.heard = g.seq + g.length()
		g.payload = bytes.Clone(g.payload[min(int(old), len(g.payload)):])
		s.write(fl, g)
	} else if g.flags&wire.RST != 0 {
		s.write(fl, g)
	}
}

// client is a captured packet to a VIP. It reports whether the simulated client takes it over.
func (s *simulation) client(p *wire.Packet) bool {
	q := *p
	if q.ParseLink() != wire.ReasonNone || !s.toVIP(&q) {
		return false
	}
	g, ok := segmentOf(&q)
	if !ok {
		return false
	}
	frame := bytes.Clone(q.Bytes())
	fl := s.flows[g.flow]
	if fl != nil && g.flags&(wire.SYN|wire.ACK) == wire.SYN &&
		(fl.over() || g.seq+1 != fl.client.nxt && g.seq != fl.client.una) {
		s.tally(fl) // a new connection with the old one's ports
		fl = nil
	}
	if fl == nil {
		if len(s.flows) >= simFlows && s.flows[g.flow] == nil {
			return false
		}
		fl = &simFlow{flow: g.flow, leg: p.Leg}
		s.flows[g.flow] = fl
		fl.client.una, fl.client.nxt = g.seq, g.seq
		if g.flags&wire.SYN == 0 { // picked up in the middle
			fl.client.rcv, fl.client.got = g.ack, true
		}
	}
	switch {
	case g.flow.Proto == wire.ProtoUDP:
		fl.asked++
		s.inject(fl, fl.leg, frame)
	case g.flags&wire.ACK != 0 && !fl.client.got:
		if len(fl.queue) < simQueue {
			fl.queue = append(fl.queue, frame)
		}
	default:
		s.fromClient(fl, frame, &g)
	}
	return true
}

// toVIP reports whether a frame goes to a VIP; it need not be whole.
func (s *simulation) toVIP(p *wire.Packet) bool {
	p.ParseNetwork()
	return p.Version != 0 && s.r.legs.vips[p.Flow.Dst]
}

// fromClient sends a segment of the client's, captured or made.
func (s *simulation) fromClient(fl *simFlow, frame []byte, g *segment) {
	acknowledge(frame, fl.client.rcv)
	fl.client.fin = fl.client.fin || g.flags&wire.FIN != 0
	if g.flags&wire.RST != 0 {
		fl.reset = true
	}
	s.keep(fl, &fl.client, g, frame)
	s.inject(fl, fl.leg, frame)
}

// keep remembers a segment until it is acknowledged.
func (s *simulation) keep(fl *simFlow, e *simEnd, g *segment, frame []byte) {
	end := g.seq + g.length()
	if int32(end-e.nxt) > 0 {
		e.nxt = end
	}
	if g.length() == 0 || int32(end-e.una) <= 0 || len(e.segments) >= simQueue {
		return
	}
	for _, k := range e.segments {
		if k.end == end { // sent again in the capture
			return
		}
	}
	e.segments = append(e.segments, kept{end, frame})
	if len(e.segments) == 1 {
		s.arm(fl, e)
	}
}

// arm starts the timer of an end anew.
func (s *simulation) arm(fl *simFlow, e *simEnd) {
	e.timer++
	s.after(simRTO<<e.tries, simEvent{kind: retransmit, flow: fl, server: e == &fl.server, timer: e.timer})
}

// timeUp is the end of a timer of an end, if it is still the one that counts.
func (s *simulation) timeUp(fl *simFlow, e *simEnd, timer uint64) {
	if timer != e.timer || len(e.segments) == 0 || fl.reset {
		return
	}
	if e.tries++; e.tries > simTries {
		fl.gaveUp, e.segments = true, nil
		return
	}
	s.again(fl, e)
	s.arm(fl, e)
}

// end returns one end of a flow.
func (fl *simFlow) end(server bool) *simEnd {
	if server {
		return &fl.server
	}
	return &fl.client
}

// again sends what was not acknowledged for the longest time.
func (s *simulation) again(fl *simFlow, e *simEnd) {
	frame := bytes.Clone(e.segments[0].frame)
	if e == &fl.client {
		acknowledge(frame, e.rcv)
		s.inject(fl, fl.leg, frame)
		return
	}
	s.toNaru(fl, frame)
}

// acked takes an acknowledgement.
func (s *simulation) acked(fl *simFlow, e *simEnd, ack uint32) {
	if int32(ack-e.una) <= 0 || int32(ack-e.nxt) > 0 {
		return
	}
	e.una, e.tries = ack, 0
	n := 0
	for _, k := range e.segments {
		if int32(k.end-ack) > 0 {
			e.segments[n] = k
			n++
		}
	}
	e.segments = e.segments[:n]
	if n > 0 {
		s.arm(fl, e)
	}
}

// receive takes the data and FIN of a segment in order and reports whether there was something new.
func (e *simEnd) receive(g *segment) (news bool) {
	if g.length() == 0 || int32(g.seq-e.rcv) > 0 || int32(g.seq+g.length()-e.rcv) <= 0 {
		return false
	}
	e.rcv = g.seq + g.length()
	e.heardFIN = e.heardFIN || g.flags&wire.FIN != 0
	return true
}

// clientTCP is a segment that arrives at a client.
func (s *simulation) clientTCP(fl *simFlow, g *segment) {
	c := &fl.client
	if g.flags&wire.RST != 0 {
		fl.reset = true
		return
	}
	if g.flags&wire.ACK != 0 {
		s.acked(fl, c, g.ack)
	}
	if g.flags&wire.SYN != 0 && !c.got {
		c.rcv, c.got = g.seq+1, true
	} else {
		c.receive(g)
	}
	if g.length() > 0 {
		ack := segment{flow: fl.flow, seq: c.nxt, ack: c.rcv, flags: wire.ACK}
		s.inject(fl, fl.leg, build(&ack, pcapfile.MadeSource))
	}
	waiting := fl.queue
	fl.queue = nil
	for _, frame := range waiting {
		if q, ok := parseSegment(frame); ok {
			s.fromClient(fl, frame, &q)
		}
	}
}

// serverTCP is a segment that arrives at a backend.
func (s *simulation) serverTCP(fl *simFlow, g *segment) {
	e := &fl.server
	if g.flags&wire.RST != 0 {
		fl.reset = true
		return
	}
	first := !e.got
	switch {
	case first && g.flags&wire.SYN != 0:
		e.rcv, e.got = g.seq+1, true
		e.una = uint32(s.roll() * (1 << 32))
		e.nxt = e.una
		s.fromServer(fl, &segment{seq: e.nxt, flags: wire.SYN})
		return
	case first:
		e.rcv, e.una, e.nxt, e.got = g.seq, g.ack, g.ack, true
	case g.flags&wire.SYN != 0: // sent again; so is the answer, by its timer
		return
	}
	if g.flags&wire.ACK != 0 {
		s.acked(fl, e, g.ack)
	}
	news := e.receive(g)
	for _, w := range e.early {
		s.write(fl, w)
	}
	e.early = nil
	if g.length() == 0 {
		return
	}
	s.fromServer(fl, &segment{seq: e.nxt})
	if news {
		s.serve(fl, g)
	}
}

// serve answers a request, if the backend does not send what was recorded.
func (s *simulation) serve(fl *simFlow, g *segment) {
	e := &fl.server
	if len(g.payload) > 0 && s.opt.Reset > 0 && s.roll() < s.opt.Reset {
		s.fromServer(fl, &segment{seq: e.nxt, flags: wire.RST})
		return
	}
	if s.opt.Reply < 0 {
		if e.heardFIN && !e.fin && !fl.hears { // the capture has the clients only
			s.write(fl, segment{flags: wire.FIN})
		}
		return
	}
	s.after(s.opt.Delay, simEvent{kind: serve, flow: fl, data: len(g.payload) > 0})
}

// served is the answer to a request; data says whether there was anything to answer.
func (s *simulation) served(fl *simFlow, data bool) {
	if fl.reset {
		return
	}
	if data && s.opt.Reply > 0 {
		s.write(fl, segment{payload: make([]byte, s.opt.Reply)})
	}
	if e := &fl.server; e.heardFIN && !e.fin {
		s.write(fl, segment{flags: wire.FIN})
	}
}

// write lets a backend send data, a FIN or a RST; before the handshake is over it waits.
func (s *simulation) write(fl *simFlow, g segment) {
	e := &fl.server
	if !e.got {
		if len(e.early) < simQueue {
			e.early = append(e.early, g)
		}
		return
	}
	if g.flags&wire.RST != 0 {
		s.fromServer(fl, &segment{seq: e.nxt, flags: wire.RST})
		return
	}
	for data := g.payload; len(data) > 0; {
		n := min(len(data), simMSS)
		s.fromServer(fl, &segment{seq: e.nxt, flags: wire.PSH, payload: data[:n]})
		data = data[n:]
	}
	if g.flags&wire.FIN != 0 && !e.fin {
		s.fromServer(fl, &segment{seq: e.nxt, flags: wire.FIN})
	}
}

// fromServer sends a segment or datagram of the backend's.
func (s *simulation) fromServer(fl *simFlow, g *segment) {
	e := &fl.server
	g.flow = fl.answer
	if g.flow.Proto == wire.ProtoTCP {
		g.ack = e.rcv
		g.flags |= wire.ACK
		e.fin = e.fin || g.flags&wire.FIN != 0
	}
	frame := build(g, fl.mac)
	if g.flow.Proto == wire.ProtoTCP {
		fl.reset = fl.reset || g.flags&wire.RST != 0
		s.keep(fl, e, g, frame)
	}
	s.toNaru(fl, frame)
}

// toNaru sends a backend's frame to naru or, in direct server return, past it to the client.
func (s *simulation) toNaru(fl *simFlow, frame []byte) {
	if !fl.direct {
		s.inject(fl, s.r.legs.ofMAC[fl.mac], frame)
		return
	}
	if !s.lost() {
		s.after(simHop, simEvent{kind: atClient, flow: fl, frame: frame})
	}
}

// serverUDP answers a datagram.
func (s *simulation) serverUDP(fl *simFlow) {
	if s.opt.Reply >= 0 {
		s.after(s.opt.Delay, simEvent{kind: serveUDP, flow: fl})
	}
}
