package forwarder

import (
	"sync/atomic"

	"naru/internal/steer"
	"naru/internal/wire"
)

// takeBatch is how many packets one call of TakeOver takes: our own choice.
const takeBatch = 64

// Steering returns how packets are shared out among the workers that the snapshot was compiled for. It stays right for
// connections from before: addresses that once were a VIP or a local address stay what they were.
func (s *Snapshot) Steering() *steer.Plan { return s.plan }

// steering makes the plan of a snapshot.
func (c *compiler) steering() *steer.Plan {
	o := steer.Options{Workers: c.workers, Key: c.seed.words(forSteering)[0]}
	for _, svc := range c.s.services {
		o.ByPort = o.ByPort || svc.KeepClientPort
	}
	lists := map[bool]*[]wire.Addr{true: &o.VIPs, false: &o.Locals}
	known := map[wire.Addr]bool{}
	for _, a := range c.s.order {
		known[a.addr] = true
		*lists[a.vip] = append(*lists[a.vip], a.addr)
	}
	for a := range c.s.fenced { // the program sorts them
		o.Routed = append(o.Routed, a)
	}
	if c.prev.plan == nil {
		return steer.New(o)
	}
	before := c.prev.plan.Options()
	o.ByPort = o.ByPort || before.ByPort
	for vip, addrs := range map[bool][]wire.Addr{true: before.VIPs, false: before.Locals} {
		for _, a := range addrs {
			if !known[a] {
				*lists[vip] = append(*lists[vip], a)
			}
		}
	}
	return steer.New(o)
}

// stray hands a packet of TCP or UDP over that is of no connection here because another worker has it, and reports whether
// it did. What naru has nothing to do with stays.
func (e *Engine) stray(p *wire.Packet, o *owned) bool {
	if o == nil && !e.snap.plainSource(&p.Flow) && !e.fenced(p) {
		return false
	}
	return e.strayFlow(p, &p.Flow)
}

// strayFlow is stray for a packet that belongs where a flow does.
func (e *Engine) strayFlow(p *wire.Packet, f *wire.Flow) bool {
	if e.opt.Exchange == nil || e.taken {
		return false // a packet is handed over once
	}
	to := e.snap.plan.Owner(f)
	if to == e.opt.Worker {
		return false
	}
	var id uint32
	if p.Frag != wire.Whole {
		if e.datagramID == 0 {
			e.datagramID = e.newDatagramID()
		}
		id = e.datagramID
	}
	if !e.opt.Exchange.ring(e.opt.Worker, to).put(p, id) {
		e.done(p, wire.HandoverFull)
		return true
	}
	p.Verdict = wire.Held // it gets its verdict there
	e.counters.HandedOver++
	e.ring(to)
	return true
}

// ring rings the bell of another worker.
func (e *Engine) ring(to int) {
	e.opt.Exchange.bells[to].rung.Store(true)
	e.rang |= 1 << to
}

// Rang returns the workers, as bits, for which this engine has left something since the last call: they may be asleep.
func (e *Engine) Rang() uint64 {
	r := e.rang
	e.rang = 0
	return r
}

// TakeOver deals with what other workers have left for this one, some packets of each, and returns how many packets there
// were. As with Process, out must be sent before the next call of TakeOver. It costs one load when there is nothing.
func (e *Engine) TakeOver(now wire.Time, out *Output, trace Trace) int {
	x := e.opt.Exchange
	if x == nil || !e.lent && !x.bells[e.opt.Worker].rung.Load() {
		return 0
	}
	e.begin(now, out, trace)
	e.freeTaken()
	if !x.bells[e.opt.Worker].rung.Swap(false) {
		return 0
	}
	n := 0
	for i := 1; i < x.workers; i++ { // whoever was last begins: nobody is kept out
		from := (e.turn + i) % x.workers
		if r := x.rings[from*x.workers+e.opt.Worker]; r != nil {
			e.hearNotes(r)
			n += e.takeFrom(r)
		}
	}
	if r := x.rings[e.turn*x.workers+e.opt.Worker]; r != nil {
		e.hearNotes(r)
		n += e.takeFrom(r)
	}
	e.turn = (e.turn + 1) % x.workers
	e.lent = n > 0
	e.ask()
	return n
}

// freeTaken gives the places back of what the last call took, which has been sent.
func (e *Engine) freeTaken() {
	if !e.lent {
		return
	}
	e.lent = false
	for from := range e.opt.Exchange.workers {
		if from != e.opt.Worker {
			e.opt.Exchange.ring(from, e.opt.Worker).free()
		}
	}
}

// takeFrom takes some packets of one worker.
func (e *Engine) takeFrom(r *ring) (n int) {
	for share := takeBatch / e.opt.Exchange.workers; n <= share; n++ {
		h := r.take()
		if h == nil {
			return n
		}
		e.counters.TakenOver++
		e.taken, e.datagramID = true, h.datagramID
		e.takenOver(&h.packet)
		e.taken, e.datagramID = false, 0
	}
	e.opt.Exchange.bells[e.opt.Worker].rung.Store(true) // there may be more
	return n
}

// takenOver deals with a packet that was parsed elsewhere and found to be this worker's.
func (e *Engine) takenOver(p *wire.Packet) {
	if e.trace != nil {
		e.rec.start(e, p)
	}
	switch {
	case p.Frag == wire.LaterFragment:
		e.follow(p)
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		p.Hash = e.table.Hash(&p.Flow) | 1
		p.Ref = uint32(e.table.Find(&p.Flow, p.Hash))
		e.flow(p)
	default:
		e.icmp(p)
	}
}

// tellOthers passes on what was heard about a neighbour or a tunnel: an answer to what any worker has sent comes to one.
func (e *Engine) tellOthers(n note) {
	if e.opt.Exchange == nil {
		return
	}
	for to := range e.opt.Exchange.workers {
		if to != e.opt.Worker {
			e.opt.Exchange.ring(e.opt.Worker, to).tell(n)
			e.ring(to)
		}
	}
}

func (e *Engine) hearNotes(r *ring) {
	for n, ok := r.hear(); ok; n, ok = r.hear() {
		if n.mtu > 0 {
			e.noteMTU(n)
			continue
		}
		e.note(n)
	}
}

// shareUses makes the list of what this worker tells about addresses that the configuration gave up.
func (e *Engine) shareUses() {
	if e.opt.Exchange == nil {
		return
	}
	u := &uses{used: make([]atomic.Bool, len(e.leaving))}
	for a := range e.leaving { // no order shows
		u.addrs = append(u.addrs, a)
	}
	e.opt.Exchange.uses[e.opt.Worker].Store(u)
	e.tellUses()
}

// tellUses brings the list up to date.
func (e *Engine) tellUses() {
	if e.opt.Exchange == nil {
		return
	}
	u := e.opt.Exchange.uses[e.opt.Worker].Load()
	for i, a := range u.addrs {
		u.used[i].Store(e.usedHere(a))
	}
}

// usedElsewhere reports whether another worker uses an address that the configuration gave up.
func (e *Engine) usedElsewhere(addr wire.Addr) bool {
	if e.opt.Exchange == nil {
		return false
	}
	for w := range e.opt.Exchange.uses {
		u := e.opt.Exchange.uses[w].Load()
		if u == nil || w == e.opt.Worker {
			continue
		}
		for i, a := range u.addrs {
			if a == addr && u.used[i].Load() {
				return true
			}
		}
	}
	return false
}
