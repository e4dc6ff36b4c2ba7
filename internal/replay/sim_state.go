package replay

import (
	"cmp"
	"slices"

	"naru/internal/link/pcapfile"
	"naru/internal/state"
	"naru/internal/wire"
)

// The most bytes of a frame of simulated ends, and the most of anything: what is read is counted in bytes too.
const (
	mostFrame = wire.MaxFrame + pcapfile.MaxPacket
	mostOf    = 1 << 30
)

// carry carries the simulated ends: flows, in the order of what they are called, those that only something put off is still
// about, and what is put off.
func (s *simulation) carry(c *state.Coder) {
	if s == nil {
		return
	}
	c.Section("simulated ends")
	state.All(c, &s.serial, &s.random)
	l := &s.loop
	state.All(c, &l.Completed, &l.Reset, &l.Open, &l.Stalled, &l.MisDelivered, &l.Lost, &l.Ignored)
	flows := s.carryFlows(c)
	place := map[*simFlow]int{nil: -1}
	for i, fl := range flows {
		place[fl] = i
	}
	events := slices.SortedFunc(slices.Values(s.events), func(a, b simEvent) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.serial, b.serial))
	})
	for i, n := 0, c.Count(len(events), mostOf); i < n; i++ {
		if c.Reading() {
			events = append(events, simEvent{})
		}
		e := &events[i]
		at := place[e.flow]
		state.Num(c, &at)
		c.Check(at >= -1 && at < len(flows), "the flow of an event")
		if !c.OK() {
			return
		}
		if e.flow = nil; at >= 0 {
			e.flow = flows[at]
		}
		e.carry(c)
	}
	if c.Reading() {
		s.events = events // in order, it is a heap
	}
}

// carryFlows carries the flows and returns them in that order.
func (s *simulation) carryFlows(c *state.Coder) []*simFlow {
	flows, named := s.numbered()
	named = c.Count(named, simFlows)
	n := c.Count(len(flows), mostOf)
	c.Check(named <= n, "the number of flows")
	for i := 0; i < n && c.OK(); i++ {
		if c.Reading() {
			flows = append(flows, &simFlow{})
		}
		fl := flows[i]
		fl.carry(c)
		c.Check(int(fl.leg) < len(s.r.compiled.Legs), "the leg of a flow")
		if c.Reading() && i < named {
			c.Check(s.flows[fl.flow] == nil, "a flow is there twice")
			s.flows[fl.flow] = fl
		}
	}
	return flows
}

// numbered lists the flows: first those that packets find, then the others.
func (s *simulation) numbered() (flows []*simFlow, named int) {
	for _, fl := range s.flows {
		flows = append(flows, fl)
	}
	slices.SortFunc(flows, func(a, b *simFlow) int { return compareFlows(&a.flow, &b.flow) })
	named = len(flows)
	seen := map[*simFlow]bool{nil: true}
	for _, fl := range flows {
		seen[fl] = true
	}
	events := slices.Clone(s.events)
	slices.SortFunc(events, func(a, b simEvent) int { return cmp.Compare(a.serial, b.serial) })
	for i := range events {
		if fl := events[i].flow; !seen[fl] {
			flows, seen[fl] = append(flows, fl), true
		}
	}
	return flows, named
}

func compareFlows(a, b *wire.Flow) int {
	return cmp.Or(slices.Compare(a.Src[:], b.Src[:]), slices.Compare(a.Dst[:], b.Dst[:]), cmp.Compare(a.SrcPort, b.SrcPort),
		cmp.Compare(a.DstPort, b.DstPort), cmp.Compare(a.Proto, b.Proto))
}

func (e *simEvent) carry(c *state.Coder) {
	state.Num(c, &e.at)
	state.All(c, &e.serial, &e.timer)
	state.Num(c, &e.kind)
	c.Bool(&e.server)
	c.Bool(&e.data)
	c.Blob(&e.frame, mostFrame)
	frame := e.kind == atBackend || e.kind == atClient
	c.Check(e.kind < simKinds && (e.flow != nil || frame) && (len(e.frame) >= wire.EthernetLen || !frame), "an event")
}

func (fl *simFlow) carry(c *state.Coder) {
	carryFlow(c, &fl.flow)
	carryFlow(c, &fl.answer)
	fl.client.carry(c)
	fl.server.carry(c)
	c.Fixed(fl.mac[:])
	c.Bool(&fl.direct)
	state.Num(c, &fl.leg)
	carryFrames(c, &fl.queue)
	c.Bool(&fl.reset)
	c.Bool(&fl.stray)
	c.Bool(&fl.gaveUp)
	state.All(c, &fl.asked, &fl.answers)
	state.Num(c, &fl.heard)
	c.Bool(&fl.hears)
}

func carryFlow(c *state.Coder, f *wire.Flow) {
	c.Fixed(f.Src[:])
	c.Fixed(f.Dst[:])
	state.All(c, &f.SrcPort, &f.DstPort)
	state.Num(c, &f.Proto)
}

// carryFrames carries frames; of none the list is nil.
func carryFrames(c *state.Coder, list *[][]byte) {
	n := c.Count(len(*list), simQueue)
	if c.Reading() && n > 0 {
		*list = make([][]byte, n)
	}
	for i := range *list {
		c.Blob(&(*list)[i], mostFrame)
	}
}

func (e *simEnd) carry(c *state.Coder) {
	c.Bool(&e.known)
	state.All(c, &e.una, &e.nxt, &e.rcv)
	c.Bool(&e.got)
	c.Bool(&e.fin)
	c.Bool(&e.heardFIN)
	state.Num(c, &e.tries)
	c.Check(e.tries >= 0 && e.tries <= simTries+1, "the retransmissions of an end")
	state.Num(c, &e.timer)
	n := c.Count(len(e.segments), simQueue)
	e.segments = append(e.segments, make([]kept, n-len(e.segments))...)
	for i := range e.segments {
		state.Num(c, &e.segments[i].end)
		c.Blob(&e.segments[i].frame, mostFrame)
	}
	n = c.Count(len(e.early), simQueue)
	e.early = append(e.early, make([]segment, n-len(e.early))...)
	for i := range e.early {
		g := &e.early[i]
		carryFlow(c, &g.flow)
		state.All(c, &g.seq, &g.ack)
		state.Num(c, &g.flags)
		c.Blob(&g.payload, mostFrame)
	}
}
