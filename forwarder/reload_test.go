package forwarder_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/sched"
)

// books are what the decision record of a new connection tells about active counts and local ports.
type books struct {
	active    map[string]int64
	free, all int
}

// lookAtBooks makes a connection of a client of its own and reads them.
func lookAtBooks(r *rig, port int) (b books) {
	r.t.Helper()
	b.active = map[string]int64{}
	r.trc = func(rec *forwarder.Record) {
		for _, c := range rec.Candidates {
			b.active[c.Name] = c.Active
		}
		b.free, b.all = rec.PortsFree, rec.PortsAll
	}
	r.forwarded(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("10.20.99.99:%d", port), Dst: vip + ":80", TCP: "S"}))
	r.trc = nil
	return b
}

func TestABackendThatComesBackKeepsItsCount(t *testing.T) {
	cfg := config()
	cfg.Services[0].Scheduler = sched.LC
	r := newRig(t, cfg)
	var all []*tcp
	for n := range 9 {
		all = append(all, newTCP(r, fmt.Sprintf("%s:%d", client, 4000+n)))
		all[n].handshake()
	}
	with := r.cfg.Services[0].Backends
	for _, backends := range [][]forwarder.Backend{with[:2], with[:2], with} {
		r.cfg.Services[0].Backends = backends
		r.reload()
		r.tick(time.Millisecond)
	}
	if b := lookAtBooks(r, 1); b.active["server03"] != 3 {
		t.Errorf("server03 comes back with %d of its 3 connections", b.active["server03"])
	}
	for _, c := range all {
		c.close()
	}
	if b := lookAtBooks(r, 2); b.active["server01"] != 1 || b.active["server02"] != 0 || b.active["server03"] != 0 {
		t.Errorf("after the end: %v", b.active)
	}
}

func TestABackendThatIsNotUpGetsNoNewConnection(t *testing.T) {
	for _, state := range []forwarder.State{forwarder.Draining, forwarder.Down, forwarder.Disabled} {
		cfg := config()
		cfg.Services[0].Backends[1].State = state
		r := newRig(t, cfg)
		for n := range 6 {
			c := newTCP(r, fmt.Sprintf("%s:%d", client, 4000+n))
			c.handshake()
			if c.local.Dst.String() == server2 {
				t.Errorf("%v: connection %d went to it", state, n)
			}
		}
	}
}

func TestPortsOfLivingConnectionsStayTakenOverAReload(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*forwarder.Service)
		taken  int // of the 4 connections' ports, in the new pool
	}{
		{"nothing", func(*forwarder.Service) {}, 4},
		{"another time of rest", func(s *forwarder.Service) { s.PortRest = time.Second }, 4},
		{"a wider range", func(s *forwarder.Service) { s.SourcePorts = forwarder.PortRange{Lo: 1000, Hi: 1031} }, 4},
		{"a range elsewhere", func(s *forwarder.Service) { s.SourcePorts = forwarder.PortRange{Lo: 3000, Hi: 3031} }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config()
			s := &cfg.Services[0]
			s.Backends = s.Backends[:1]
			s.SourcePorts = forwarder.PortRange{Lo: 1024, Hi: 1028}
			r := newRig(t, cfg)
			var all []*tcp
			for n := range 4 {
				all = append(all, newTCP(r, fmt.Sprintf("%s:%d", client, 4000+n)))
				all[n].handshake()
			}
			tt.change(&r.cfg.Services[0])
			r.reload()
			if b := lookAtBooks(r, 1); b.all-b.free != tt.taken+1 {
				t.Errorf("%d of %d ports are taken, want %d and one", b.all-b.free, b.all, tt.taken)
			}
			for _, c := range all {
				c.close()
			}
			r.tick(time.Hour)
			if b := lookAtBooks(r, 2); b.all-b.free != 1 {
				t.Errorf("%d of %d ports are taken at the end, want one", b.all-b.free, b.all)
			}
		})
	}
}

// TestNothingIsLostOverReloads runs connections of every fate through an engine whose configuration changes under way: at
// the end no backend has a count and every port is free.
func TestNothingIsLostOverReloads(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	cfg := config()
	cfg.Services[0].Backends[0].Port = 0                      // one pool for many ports
	cfg.Services[0].Timeouts.TCPEstablished = 4 * time.Minute // a new start on an abandoned connection's port is out of its window
	r := newRigSized(t, cfg, 160)
	var live []*tcp
	for n := range 4000 {
		r.tick(time.Duration(rng.IntN(300)) * time.Millisecond)
		if n%37 == 36 {
			changeSomething(&r.cfg, cfg, rng)
			r.reload()
			r.tick(0)
		}
		liveOn(r, rng, &live, n)
	}
	if c := r.eng.Counters(); c.Connections < 1500 || c.EvictedClosed == 0 || c.ByReason[wire.PortsExhausted]+
		c.ByReason[wire.PortsExhaustedAnswered] == 0 {
		t.Errorf("the run shows too little: %+v", c)
	}
	r.cfg = cfg
	r.reload()
	for range 400 {
		r.tick(time.Minute)
	}
	if c := r.eng.Counters(); c.Active != 0 || c.Connections != c.Ended || !c.Balanced() {
		t.Errorf("at the end: %+v", c)
	}
	for n := range 6 {
		b := lookAtBooks(r, 1+n)
		sum := int64(0)
		for name, active := range b.active {
			if sum += active; active < 0 {
				t.Errorf("%s has %d connections", name, active)
			}
		}
		if used := b.all - b.free; sum != int64(n) || used < 1 || used > n+1 {
			t.Errorf("connection %d: the backends have %d connections, %d of %d ports are taken", n, sum, used, b.all)
		}
	}
}

var smallRanges = []forwarder.PortRange{{Lo: 1024, Hi: 1055}, {Lo: 1040, Hi: 1090}, {Lo: 2000, Hi: 2020}}

// changeSomething makes another configuration of the first one.
func changeSomething(cfg *forwarder.Config, first forwarder.Config, rng *rand.Rand) {
	cfg.Services = append([]forwarder.Service(nil), first.Services...)
	s := &cfg.Services[0]
	s.SourcePorts = smallRanges[rng.IntN(len(smallRanges))]
	s.PortRest = time.Duration(rng.IntN(2)*50+10) * time.Second
	s.Scheduler = []sched.Kind{sched.RR, sched.LC}[rng.IntN(2)]
	s.KeepClientPort = rng.IntN(3) == 0
	if rng.IntN(2) == 0 {
		s.Ports = append([]forwarder.PortRange{{Lo: 81, Hi: 81}}, s.Ports...)
	}
	at := rng.IntN(len(s.Backends))
	s.Backends = append(append([]forwarder.Backend(nil), s.Backends[:at]...), s.Backends[at+1:]...)
	if rng.IntN(6) == 0 {
		cfg.Services = cfg.Services[1:]
	}
}

// liveOn lets something happen to a connection.
func liveOn(r *rig, rng *rand.Rand, live *[]*tcp, n int) {
	step := func(leg int, f wiretest.Frame) bool {
		v, _, _ := r.put(leg, f.Packet(r.t))
		return v == wire.Transmit
	}
	if rng.IntN(5) < 3 || len(*live) == 0 {
		c := newTCP(r, fmt.Sprintf("%s:%d", client, 1024+rng.IntN(600)))
		v, _, out := r.put(0, c.frame("S", uint32(n)<<17, 0).Packet(r.t))
		if v == wire.Transmit && rng.IntN(4) > 0 {
			q := parsed(r.t, out[0].bytes)
			c.local, c.clientSeq, c.serverSeq = q.Flow, uint32(n)<<17+1, 501
			*live = append(*live, c)
		}
		return
	}
	i := rng.IntN(len(*live))
	c := (*live)[i]
	*live = append((*live)[:i], (*live)[i+1:]...)
	server := func(flags string, seq, ack uint32) wiretest.Frame {
		return fromServer(int(c.local.Dst[15]), wiretest.Frame{Src: fmt.Sprintf("%s:%d", c.local.Dst, c.local.DstPort),
			Dst: fmt.Sprintf("%s:%d", c.local.Src, c.local.SrcPort), TCP: flags, Seq: seq, Ack: ack})
	}
	switch rng.IntN(4) {
	case 0: // refused
		step(1, server("RA", 0, c.clientSeq))
	case 1: // left alone half-open, or established and abandoned
		step(1, server("SA", 500, c.clientSeq))
		step(0, c.frame("A", c.clientSeq, c.serverSeq))
	default: // in order
		step(1, server("SA", 500, c.clientSeq))
		step(0, c.frame("A", c.clientSeq, c.serverSeq))
		step(0, c.frame("FA", c.clientSeq, c.serverSeq))
		step(1, server("FA", c.serverSeq, c.clientSeq+1))
		step(0, c.frame("A", c.clientSeq+1, c.serverSeq+1))
	}
}

func TestALocalAddressIsAnsweredForUntilItsConnectionsEnd(t *testing.T) {
	r := newRig(t, config())
	r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true})
	for i := range r.cfg.Services {
		if r.cfg.Services[i].Locals[0].Addr == addr(local) {
			r.cfg.Services[i].Locals[0].Addr = addr("10.10.10.201")
		}
	}
	r.reload()
	ask := func() wire.Packet { return arpFrame(serverMAC[0], wire.Broadcast, false, server1, local) }
	r.refused(1, ask(), wire.ARPAnswered)
	r.tick(timeouts.UDPUnreplied + 2e9)
	r.refused(1, ask(), wire.NotOurQuestion)
}
