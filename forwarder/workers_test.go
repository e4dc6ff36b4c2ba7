package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// crew is several engines over one exchange, each with a rig of its own.
type crew struct {
	t     testing.TB
	rigs  []*rig
	snap  *forwarder.Snapshot
	rng   *rand.Rand
	steer func(p wire.Packet) int // the worker that a packet comes to
}

func newCrew(t testing.TB, cfg forwarder.Config, workers int) *crew {
	t.Helper()
	return newCrewSized(t, cfg, workers, 4096)
}

func newCrewSized(t testing.TB, cfg forwarder.Config, workers, connections int) *crew {
	t.Helper()
	c := &crew{t: t, rng: rand.New(rand.NewPCG(uint64(workers), 7))}
	c.compile(cfg, workers, nil)
	x := forwarder.NewExchange(workers)
	for i := range workers {
		eng, err := forwarder.New(forwarder.Options{Seed: forwarder.Seed{1}, Worker: i, Workers: workers, Connections: connections,
			Neighbors: 256, Exchange: x}, c.snap)
		if err != nil {
			t.Fatal(err)
		}
		c.rigs = append(c.rigs, &rig{t: t, cfg: cfg, now: 1e9, out: forwarder.NewOutput(len(cfg.Legs)), eng: eng})
	}
	c.steer = c.byRule
	return c
}

func (c *crew) compile(cfg forwarder.Config, workers int, prev *forwarder.Snapshot) {
	c.t.Helper()
	snap, err := forwarder.Compile(cfg, workers, forwarder.Seed{1}, prev)
	if err != nil {
		c.t.Fatal(err)
	}
	c.snap = snap
}

// byRule is what the kernel does with the plan's program.
func (c *crew) byRule(p wire.Packet) int {
	plan := c.snap.Steering()
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Version == 0 {
		return 0
	}
	switch {
	case p.Frag != wire.Whole:
		return plan.Pair(p.Flow.Src, p.Flow.Dst)
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		return plan.Owner(&p.Flow)
	case p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6:
		var q wire.Quote
		if p.ICMPError() && p.ParseQuote(&q) {
			f := q.Flow.Reverse()
			return plan.Owner(&f)
		}
	}
	return 0
}

func (c *crew) anywhere(wire.Packet) int { return c.rng.IntN(len(c.rigs)) }

// anyPair spreads fragments by their addresses alone, but otherwise than the rule, and all else anywhere.
func (c *crew) anyPair(p wire.Packet) int {
	if q := p; q.ParseLink() == wire.ReasonNone && q.ParseNetwork() == wire.ReasonNone && q.Frag != wire.Whole {
		return (c.byRule(p) + 1) % len(c.rigs)
	}
	return c.anywhere(p)
}

// put gives a packet to the worker that it comes to, and lets the workers exchange what they have to.
func (c *crew) put(leg int, p wire.Packet) []sent {
	c.t.Helper()
	at := c.steer(p)
	_, _, out := c.rigs[at].put(leg, p)
	return append(out, c.exchange()...)
}

func (c *crew) exchange() (out []sent) {
	for again := true; again; {
		again = false
		for _, r := range c.rigs {
			n := r.eng.TakeOver(r.now, r.out, r.trc)
			again = again || n > 0
			out = append(out, r.collect()...)
			if counters := r.eng.Counters(); !counters.Balanced() {
				c.t.Fatalf("counters do not balance: %+v", counters)
			}
		}
	}
	return out
}

func (c *crew) counters() (sum forwarder.Counters) {
	for _, r := range c.rigs {
		n := r.eng.Counters()
		sum.Add(&n)
	}
	return sum
}

// one wants a packet to be forwarded as one.
func (c *crew) one(leg int, p wire.Packet) wire.Packet {
	c.t.Helper()
	text := fmt.Sprintf("%x", p.Bytes())
	out := c.put(leg, p)
	if len(out) != 1 {
		n := c.counters()
		var why []string
		for r, k := range n.ByReason {
			if k > 0 {
				why = append(why, fmt.Sprint(wire.Reason(r), " ", k))
			}
		}
		c.t.Fatalf("%d frames sent for %s: %v", len(out), text, why)
	}
	if err := wiretest.Wrong(out[0].bytes); err != nil {
		c.t.Fatal(err)
	}
	return parsed(c.t, out[0].bytes)
}

// fragments wants the pieces of a packet to be forwarded, whatever their order, and returns what left.
func (c *crew) fragments(leg int, ps []wire.Packet) (out []wire.Packet) {
	c.t.Helper()
	c.rng.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
	for _, p := range ps {
		for _, s := range c.put(leg, p) {
			out = append(out, parsed(c.t, s.bytes))
		}
	}
	if len(out) != len(ps) {
		c.t.Fatalf("%d of %d fragments left", len(out), len(ps))
	}
	return out
}

// sameDatagram wants fragments between the same ends with one identification.
func sameDatagram(t *testing.T, ps []wire.Packet) {
	t.Helper()
	want, _, _ := ps[0].Fragment()
	for i := range ps {
		if id, _, _ := ps[i].Fragment(); id != want || ps[i].Flow.Dst != ps[0].Flow.Dst || ps[i].Flow.Src != ps[0].Flow.Src {
			t.Fatalf("fragment %d: id %d %s, the first %d %s", i, id, flowText(ps[i]), want, flowText(ps[0]))
		}
	}
}

var crewModes = map[string]forwarder.Config{
	"fullnat": config(), "nat": inMode(forwarder.NAT, forwarder.L3DSROptions{}),
	"l2dsr": inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), "l3dsr dscp": inMode(forwarder.L3DSR, byDSCP),
	"l3dsr ipip": inMode(forwarder.L3DSR, byIPIP), "l3dsr gue": inMode(forwarder.L3DSR, byGUE),
}

// TestAPacketFaresAlikeAtWhicheverWorkerItComesIn drives connections through several workers in every mode: whole packets,
// fragments and errors of both directions. Where packets come by the rule, only fragments cross; where they come anywhere,
// everything still arrives.
func TestAPacketFaresAlikeAtWhicheverWorkerItComesIn(t *testing.T) {
	for name, cfg := range crewModes {
		for _, workers := range []int{2, 5} {
			for _, by := range []string{"rule", "chance"} {
				t.Run(fmt.Sprintf("%s/%d/%s", name, workers, by), func(t *testing.T) {
					c := newCrew(t, cfg, workers)
					if by == "chance" {
						c.steer = c.anyPair
					}
					pieces := 0
					for i := range 60 {
						pieces += c.conversation(t, cfg.Services[0].Mode, i)
					}
					n := c.counters()
					if n.Dropped != 0 || n.HandedOver != n.TakenOver || n.Connections != 240 {
						t.Errorf("%+v", n)
					}
					switch {
					case by == "rule" && (n.HandedOver == 0 || n.HandedOver > uint64(pieces)):
						t.Errorf("%d packets handed over, of %d fragments", n.HandedOver, pieces)
					case by == "chance" && n.HandedOver < uint64(pieces)/2:
						t.Errorf("only %d packets handed over", n.HandedOver)
					}
					for w, r := range c.rigs {
						if r.eng.Counters().Connections == 0 {
							t.Errorf("worker %d made no connection", w)
						}
					}
				})
			}
		}
	}
}

// conversation opens a connection in each family and protocol and returns how many fragments it has sent.
func (c *crew) conversation(t *testing.T, mode forwarder.Mode, i int) (pieces int) {
	t.Helper()
	for _, e := range ends {
		from := strings.Replace(e.client, ":51000", fmt.Sprint(":", 20000+i), 1)
		f := fromClient(wiretest.Frame{Src: from, Dst: e.vip, TCP: "S", UDP: e.udp, Payload: []byte("0123456789")})
		first := c.one(0, f.Packet(t))
		f.TCP = "A"
		if again := c.one(0, f.Packet(t)); again.Flow != first.Flow {
			t.Fatalf("%s, then %s", flowText(first), flowText(again))
		}
		if e.udp {
			f.Payload, f.ID = bytes.Repeat([]byte("fragment"), 200), uint16(i)
			cut := cutFrame(f.Bytes(t), 512)
			pieces += len(cut)
			out := c.fragments(0, cut)
			if mode == forwarder.FullNAT || mode == forwarder.NAT {
				sameDatagram(t, out)
			}
		}
		if mode == forwarder.FullNAT || mode == forwarder.NAT {
			pieces += c.replies(t, e.udp, first, i)
		}
	}
	return pieces
}

// replies answers a connection whose first packet reached the backend, whole and in fragments, and sends an error about
// either direction.
func (c *crew) replies(t *testing.T, udp bool, first wire.Packet, i int) (pieces int) {
	t.Helper()
	end := func(a wire.Addr, port uint16) string {
		if a.Is4() {
			return fmt.Sprintf("%s:%d", a, port)
		}
		return fmt.Sprintf("[%s]:%d", a, port)
	}
	server := slices.Index([]byte("123"), first.Flow.Dst.String()[len(first.Flow.Dst.String())-1]) + 1
	reply := fromServer(server, wiretest.Frame{Src: end(first.Flow.Dst, first.Flow.DstPort), TCP: "SA", UDP: udp,
		Dst: end(first.Flow.Src, first.Flow.SrcPort), Payload: []byte("answer")})
	back := c.one(1, reply.Packet(t))
	if udp {
		reply.Payload, reply.ID = bytes.Repeat([]byte("fragment"), 200), uint16(i)
		cut := cutFrame(reply.Bytes(t), 512)
		pieces = len(cut)
		sameDatagram(t, c.fragments(1, cut))
	}
	fam := families[0]
	if !first.Flow.Dst.Is4() {
		fam = families[1]
	}
	inner := first.IP()
	e := c.one(1, fromServer(server, wiretest.Frame{Src: fam.router, Dst: first.Flow.Src.String(),
		ICMP: append(slices.Clone(fam.unreachable), inner...)}).Packet(t))
	if e.Flow.Dst != back.Flow.Dst {
		t.Fatalf("an error from behind goes to %v", e.Flow.Dst)
	}
	e = c.one(0, fromClient(wiretest.Frame{Src: back.Flow.Dst.String(), Dst: back.Flow.Src.String(),
		ICMP: append(slices.Clone(fam.unreachable), back.IP()...)}).Packet(t))
	if e.Flow.Dst != first.Flow.Dst {
		t.Fatalf("an error of the client goes to %v, not %v", e.Flow.Dst, first.Flow.Dst)
	}
	return pieces
}

func TestRoundRobinIsExactOverWorkers(t *testing.T) {
	for workers := 2; workers <= 4; workers++ {
		c := newCrew(t, config(), workers)
		got := map[string]int{}
		const rounds = 200
		for i := range 3 * rounds {
			p := c.one(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1024+i), Dst: vip + ":80", TCP: "S"}).Packet(t))
			got[p.Flow.Dst.String()]++
			if i%3 == 2 && (len(got) != 3 || got[server1] != i/3+1) {
				t.Fatalf("%d workers, after %d connections: %v", workers, i+1, got)
			}
		}
		for w, r := range c.rigs {
			if n := r.eng.Counters().Connections; n < rounds/2 {
				t.Errorf("%d workers: %d has %d of %d connections", workers, w, n, 3*rounds)
			}
		}
		if n := c.counters(); n.HandedOver != 0 {
			t.Errorf("%d handed over", n.HandedOver)
		}
	}
}

// An answer to the question of one worker comes to another.
func TestANeighborIsLearnedByEveryWorker(t *testing.T) {
	cfg := config()
	cfg.Neighbors = slices.DeleteFunc(cfg.Neighbors, func(n forwarder.Neighbor) bool { return n.Leg == 1 })
	c := newCrew(t, cfg, 3)
	asked := 0
	for i := range 30 {
		for _, s := range c.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 3000+i), Dst: vip + ":80",
			TCP: "S"}).Packet(t)) {
			asked++
			if s.bytes[12] != 8 || s.bytes[13] != 6 {
				t.Fatalf("sent %x before any MAC address is known", s.bytes)
			}
		}
	}
	if n := c.counters(); asked != 9 || n.Held != 30 { // each worker about each of three servers
		t.Fatalf("%d questions, %+v", asked, n)
	}
	var out []sent
	for i, mac := range serverMAC {
		answer := arpFrame(mac, serverLeg, true, "10.10.10."+string(rune('1'+i)), "10.10.10.254")
		if at := c.steer(answer); at != 0 {
			t.Fatalf("ARP comes to worker %d", at)
		}
		out = append(out, c.put(1, answer)...)
	}
	if n := c.counters(); len(out) != 30 || n.Held != 0 {
		t.Errorf("%d frames left, %d held", len(out), n.Held)
	}
	for w, r := range c.rigs { // a worker that hears a MAC address from others need not ask
		if made := r.eng.Counters().Made; made > 3+8 {
			t.Errorf("worker %d has asked %d times", w, made)
		}
	}
}

// A local address that the configuration gives up is answered for while any worker has connections with it.
func TestALeavingAddressIsAnsweredForByTheFirstWorker(t *testing.T) {
	cfg := config()
	c := newCrew(t, cfg, 2)
	for i := 0; c.rigs[1].eng.Counters().Connections == 0 || c.rigs[0].eng.Counters().Connections > 0; i++ {
		// A connection that only the second worker has.
		f := fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 4000+i), Dst: vip + ":80", TCP: "S"})
		if c.byRule(f.Packet(t)) == 1 {
			c.one(0, f.Packet(t))
			break
		}
	}
	question := func() int {
		q := arpFrame(serverMAC[0], wire.Broadcast, false, server1, local)
		return len(c.put(1, q))
	}
	if question() != 1 {
		t.Fatal("not answered for while it is configured")
	}
	for i := range cfg.Services {
		cfg.Services[i].Locals = nil
		cfg.Services[i].Locals = []forwarder.Local{{Addr: addr(map[bool]string{true: "10.10.10.201",
			false: "2001:db8:10::c9"}[cfg.Services[i].VIP.Is4()])}}
	}
	c.compile(cfg, 2, c.snap)
	for _, r := range c.rigs {
		r.eng.Swap(c.snap)
	}
	tick := func(d time.Duration) {
		for i := len(c.rigs) - 1; i >= 0; i-- {
			c.rigs[i].tick(d)
		}
	}
	tick(time.Millisecond)
	if question() != 1 {
		t.Error("not answered for though the second worker has a connection")
	}
	for range 40 {
		tick(time.Second)
	}
	if question() != 0 {
		t.Error("answered for though no connection is left")
	}
}

// The steering must not change under connections from before a reload.
func TestAReloadKeepsTheOwnersOfConnections(t *testing.T) {
	cfg := config()
	snap, err := forwarder.Compile(cfg, 4, forwarder.Seed{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reply := wire.Flow{Src: wire.AddrFrom(addr(server1)), Dst: wire.AddrFrom(addr(local)), SrcPort: 8080, Proto: wire.ProtoTCP}
	want := make([]int, 64)
	for port := range want {
		reply.DstPort = uint16(port)
		want[port] = snap.Steering().Owner(&reply)
		if want[port] != port%4 {
			t.Fatalf("port %d belongs to worker %d", port, want[port])
		}
	}
	cfg.Services = cfg.Services[1:2]
	cfg.Services[0].KeepClientPort = true
	snap, err = forwarder.Compile(cfg, 4, forwarder.Seed{1}, snap)
	if err != nil {
		t.Fatal(err)
	}
	for port := range want {
		reply.DstPort = uint16(port)
		if got := snap.Steering().Owner(&reply); got != want[port] {
			t.Fatalf("port %d: worker %d, before %d", port, got, want[port])
		}
	}
	if !snap.Steering().Options().ByPort {
		t.Error("clients that keep their port are not shared out by it")
	}
}

// With keep_client_port the worker that a client comes to has the client's port.
func TestTheClientsPortIsKeptWithSeveralWorkers(t *testing.T) {
	cfg := config()
	for i := range cfg.Services {
		cfg.Services[i].KeepClientPort = true
	}
	c := newCrew(t, cfg, 3)
	for i := range uint16(60) {
		p := c.one(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 5000+i), Dst: vip + ":80", TCP: "S"}).Packet(t))
		if p.Flow.SrcPort != 5000+i {
			t.Fatalf("port %d became %d", 5000+i, p.Flow.SrcPort)
		}
	}
	if n := c.counters(); n.HandedOver != 0 {
		t.Errorf("%d handed over", n.HandedOver)
	}
}

// An error about a tunnelled packet tells its connection only inside.
func TestATunnelErrorFindsItsWorker(t *testing.T) {
	for name, opt := range map[string]forwarder.L3DSROptions{"ipip": byIPIP, "gue": byGUE} {
		c := newCrew(t, inMode(forwarder.L3DSR, opt), 3)
		for i := range 20 {
			out := c.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 6000+i), Dst: vip + ":80",
				TCP: "S"}).Packet(t))
			e := fromServer(1, wiretest.Frame{Src: "10.10.10.99", Dst: "10.10.10.254",
				ICMP: append([]byte{wire.ICMPUnreachable, 4, 0, 0, 0, 0, 5, 0}, out[0].bytes[14:]...)})
			c.put(1, e.Packet(t))
		}
		if n := c.counters(); n.ByReason[wire.PathMTULearned] != 20 || n.HandedOver == 0 {
			t.Errorf("%s: %d learned, %d handed over", name, n.ByReason[wire.PathMTULearned], n.HandedOver)
		}
	}
}

// A router tells one worker about a tunnel, and all of them know.
func TestTheMTUOfATunnelIsKnownToEveryWorker(t *testing.T) {
	cfg := inMode(forwarder.L3DSR, byIPIP)
	for i := range cfg.Services {
		cfg.Services[i].Backends = cfg.Services[i].Backends[:1]
	}
	c := newCrew(t, cfg, 3)
	packet := func(i int) wire.Packet {
		return fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 6000+i), Dst: vip + ":53", UDP: true, DF: true,
			Payload: make([]byte, 1300)}).Packet(t)
	}
	var quoted []byte
	for i := range 30 {
		quoted = c.put(0, packet(i))[0].bytes[14:]
	}
	c.put(1, fromServer(1, wiretest.Frame{Src: "10.10.10.99", Dst: "10.10.10.254",
		ICMP: append([]byte{wire.ICMPUnreachable, 4, 0, 0, 0, 0, 5, 0}, quoted...)}).Packet(t)) // 1280
	for i := range 30 {
		c.put(0, packet(i))
	}
	n := c.counters()
	if n.ByReason[wire.PathMTULearned] != 1 || n.ByReason[wire.TooBigAnswered]+n.ByReason[wire.TooBig] != 30 {
		t.Errorf("%d learned; %d told that it is too big, %d not", n.ByReason[wire.PathMTULearned],
			n.ByReason[wire.TooBigAnswered], n.ByReason[wire.TooBig])
	}
	for w, r := range c.rigs {
		if own := r.eng.Counters(); own.ByReason[wire.TooBigAnswered]+own.ByReason[wire.TooBig] == 0 {
			t.Errorf("worker %d had none: the test says nothing about it", w)
		}
	}
}

// A flood of what must be handed over is dropped by name, and what was handed over before arrives whole and in order.
func TestARingThatIsFullDropsByName(t *testing.T) {
	c := newCrew(t, config(), 2)
	frame := func(i int) wiretest.Frame {
		return fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1000+i), Dst: vip + ":53", UDP: true,
			Payload: binary.BigEndian.AppendUint32(nil, uint32(i))})
	}
	put, full := 0, 0
	for i := range 1000 {
		p := frame(i).Packet(t)
		if c.byRule(p) != 1 {
			continue
		}
		switch v, why, _ := c.rigs[0].put(0, p); {
		case v == wire.Held && full == 0:
			put++
		case why == wire.HandoverFull:
			full++
		default:
			t.Fatalf("%v %v", v, why)
		}
	}
	if put < 100 || full < 100 || c.rigs[0].eng.Rang() != 2 || c.rigs[0].eng.Rang() != 0 {
		t.Fatalf("%d handed over, %d dropped", put, full)
	}
	var payloads []uint32
	for _, s := range c.exchange() {
		p := parsed(t, s.bytes)
		payloads = append(payloads, binary.BigEndian.Uint32(p.Transport()[8:]))
	}
	if len(payloads) != put || !slices.IsSorted(payloads) {
		t.Errorf("%d of %d arrived: %v", len(payloads), put, payloads)
	}
	if _, why, _ := c.rigs[0].put(0, func() wire.Packet {
		for i := 2000; ; i++ {
			if p := frame(i).Packet(t); c.byRule(p) == 1 {
				return p
			}
		}
	}()); why == wire.HandoverFull {
		t.Error("no room after everything was taken")
	}
}

func TestWorkersNeedTheirExchange(t *testing.T) {
	snap, err := forwarder.Compile(config(), 2, forwarder.Seed{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*forwarder.Exchange{nil, forwarder.NewExchange(3)} {
		if _, err := forwarder.New(forwarder.Options{Worker: 1, Workers: 2, Connections: 100, Exchange: x}, snap); err == nil {
			t.Errorf("made with %v", x)
		}
	}
}

func TestHandingOverAllocatesNothing(t *testing.T) {
	c := newCrew(t, config(), 2)
	var strays []wire.Packet
	for i := 0; len(strays) < 32; i++ {
		p := fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 7000+i), Dst: vip + ":53", UDP: true}).Packet(t)
		if c.byRule(p) == 1 {
			strays = append(strays, p)
		}
	}
	a, b := c.rigs[0], c.rigs[1]
	batch := make([]wire.Packet, len(strays))
	round := func() {
		copy(batch, strays) // what is handed over stays as it is here
		a.eng.Process(a.now, batch, a.out, nil)
		a.out.Reset()
		if n := b.eng.TakeOver(b.now, b.out, nil); n != len(strays) {
			t.Fatalf("%d of %d taken over", n, len(strays))
		}
		b.out.Reset()
	}
	round()
	if n := testing.AllocsPerRun(50, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestWorkersInParallel lets engines work at the same time, each on its own goroutine; the race detector looks on.
func TestWorkersInParallel(t *testing.T) {
	const workers, flows, rounds = 3, 300, 40
	c := newCrew(t, config(), workers)
	inputs := make([][]wiretest.Frame, workers)
	for i := range flows {
		f := fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 8000+i), Dst: vip + ":53", UDP: true})
		at := c.byRule(f.Packet(t))
		if i%10 == 0 {
			at = (at + 1) % workers
		}
		inputs[at] = append(inputs[at], f)
	}
	var sentBy [workers]int
	done := make(chan int)
	for w, r := range c.rigs {
		frames := make([][]byte, len(inputs[w]))
		for i, f := range inputs[w] {
			frames[i] = f.Bytes(t)
		}
		go func() {
			for n := range rounds * 2 { // the second half only takes over
				for i := 0; i < len(frames) && n < rounds; i += 16 {
					var batch []wire.Packet
					for _, b := range frames[i:min(i+16, len(frames))] {
						batch = append(batch, wiretest.Packet(bytes.Clone(b)))
					}
					r.out.Reset()
					r.eng.Process(r.now, batch, r.out, nil)
					sentBy[w] += len(r.out.Legs[1])
				}
				r.out.Reset()
				r.eng.TakeOver(r.now, r.out, nil)
				sentBy[w] += len(r.out.Legs[1])
			}
			done <- w
		}()
	}
	for range workers {
		<-done
	}
	for range c.exchange() {
		sentBy[0]++
	}
	n := c.counters()
	lost := n.ByReason[wire.HandoverFull]
	if total := sentBy[0] + sentBy[1] + sentBy[2]; uint64(total)+lost != flows*rounds || n.Connections > flows || n.HandedOver == 0 ||
		n.HandedOver != n.TakenOver {
		t.Errorf("%d sent, %d lost of %d: %+v", total, lost, flows*rounds, n)
	}
}
