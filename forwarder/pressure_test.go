package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// flood sends packets of forged sources, each from another one.
type flood struct {
	r     *rig
	frame []byte
	bufs  [][]byte
	batch []wire.Packet
	sent  uint32
}

func newFlood(r *rig, f wiretest.Frame) *flood {
	f.Src = "16.0.0.0:7"
	fl := &flood{r: r, frame: fromClient(f).Bytes(r.t), batch: make([]wire.Packet, 250)}
	for range fl.batch {
		fl.bufs = append(fl.bufs, make([]byte, wire.Headroom+wire.MinBuffer))
	}
	return fl
}

// wave is one batch of it. What came of it was counted; the frames sent are forgotten.
func (fl *flood) wave() {
	be := binary.BigEndian
	for i := range fl.batch {
		d := fl.bufs[i][wire.Headroom:]
		copy(d, fl.frame)
		be.PutUint32(d[26:], be.Uint32(d[26:])+fl.sent)
		d[24], d[25] = 0, 0
		be.PutUint16(d[24:], ^wire.Fold(wire.Sum(d[14:34], 0)))
		fl.batch[i] = wire.Packet{Frame: wire.Frame{Buf: fl.bufs[i], Off: wire.Headroom, Len: len(fl.frame)}}
		fl.sent++
	}
	fl.r.now = fl.r.now.Add(2500 * time.Microsecond) // 100,000 a second
	fl.r.eng.Process(fl.r.now, fl.batch, fl.r.out, nil)
	fl.r.out.Reset()
	fl.r.eng.Tick(fl.r.now, fl.r.out, nil)
	fl.r.out.Reset()
}

// established opens n TCP connections and as many UDP conversations, and returns what sends a packet of number i of each,
// from the client and, where replies pass, from its backend.
func established(r *rig, n int, replies bool) (talk func(i int)) {
	tcp, udp := make([]*tcp, n), make([]wire.Flow, n)
	dns := func(i int) wiretest.Frame {
		return wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1+i), Dst: vip + ":53", UDP: true}
	}
	answer := func(i int) {
		f := udp[i]
		r.server(int(f.Dst[15]), wiretest.Frame{Src: fmt.Sprintf("%s:%d", f.Dst, f.DstPort),
			Dst: fmt.Sprintf("%s:%d", f.Src, f.SrcPort), UDP: true})
	}
	for i := range n {
		tcp[i] = newTCP(r, fmt.Sprintf("%s:%d", client, 1+i))
		if replies {
			tcp[i].handshake()
			udp[i] = r.client(dns(i)).Flow
			answer(i)
			r.client(dns(i))
			continue
		}
		tcp[i].syn(100)
		tcp[i].clientSeq, tcp[i].serverSeq = 101, 501
		for range 4 {
			tcp[i].fromClient("A", 101, 501)
			r.client(dns(i))
		}
	}
	return func(i int) {
		tcp[i].fromClient("PA", tcp[i].clientSeq, tcp[i].serverSeq)
		if r.client(dns(i)); !replies {
			return
		}
		tcp[i].fromServer("PA", tcp[i].serverSeq, tcp[i].clientSeq)
		answer(i)
	}
}

var floodModes = []struct {
	name    string
	mode    forwarder.Mode
	opt     forwarder.L3DSROptions
	replies bool
}{
	{"fullnat", forwarder.FullNAT, forwarder.L3DSROptions{}, true}, {"nat", forwarder.NAT, forwarder.L3DSROptions{}, true},
	{"l2dsr", forwarder.L2DSR, forwarder.L3DSROptions{}, false}, {"ipip", forwarder.L3DSR, byIPIP, false},
}

// TestFloodsOfForgedSourcesLoseNoConnection has a thousand connections of TCP and of UDP carry data while packets of a
// million other sources come, and new clients get through.
func TestFloodsOfForgedSourcesLoseNoConnection(t *testing.T) {
	for _, m := range floodModes {
		for _, of := range []wiretest.Frame{{Dst: vip + ":80", TCP: "S"}, {Dst: vip + ":53", UDP: true}} {
			sources := 1_000_000
			if m.mode != forwarder.FullNAT {
				sources = 60_000
			}
			t.Run(fmt.Sprintf("%s/%s", m.name, map[bool]string{true: "udp", false: "syn"}[of.UDP]), func(t *testing.T) {
				cfg := config()
				if m.mode != forwarder.FullNAT {
					cfg = inMode(m.mode, m.opt)
				}
				cfg.Limits = forwarder.Limits{Handshakes: 4096, TCP: 16384, UDP: 8192}
				r := newRigSized(t, cfg, 16384)
				talk := established(r, 1000, m.replies)
				fl := newFlood(r, of)
				fl.wave()
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for n := 0; int(fl.sent) < sources; n++ {
					fl.wave()
					if n%4 == 0 {
						talk(n / 4 % 1000)
					}
					if n%50 == 0 && m.replies {
						newTCP(r, fmt.Sprintf("%s:%d", client, 5000+n)).handshake()
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
					t.Errorf("memory has grown by %d bytes", grown)
				}
				for i := range 1000 {
					talk(i)
				}
				c := r.eng.Counters()
				if !c.Balanced() || c.Stateless != 0 || c.EvictedHandshakes+c.EvictedQuestions == 0 || c.Active > 16384 {
					t.Errorf("%+v", c)
				}
			})
		}
	}
}

// TestWhatGoesFirstWhenTheTableIsFull fills a table with connections of every kind and then opens more.
func TestWhatGoesFirstWhenTheTableIsFull(t *testing.T) {
	r := newRigSized(t, config(), 40)
	for n := range 10 {
		c := newTCP(r, fmt.Sprintf("%s:%d", client, 100+n))
		c.handshake()
		if n >= 6 {
			c.close()
		}
		newTCP(r, fmt.Sprintf("%s:%d", client, 200+n)).syn(1)
	}
	dns := func(port int) {
		r.client(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, port), Dst: vip + ":53", UDP: true})
	}
	for n := range 20 {
		dns(100 + n)
	}
	type gone struct{ closed, handshakes, questions uint64 }
	for n, want := range []gone{{1, 0, 0}, {2, 0, 0}, {3, 0, 0}, {4, 0, 0}, {4, 0, 1}, {4, 0, 2}, {4, 0, 3}} {
		dns(1000 + n) // without limits there are more questions than handshakes
		c := r.eng.Counters()
		if got := (gone{c.EvictedClosed, c.EvictedHandshakes, c.EvictedQuestions}); got != want {
			t.Fatalf("after %d more: %+v, want %+v", n+1, got, want)
		}
	}
	for n := range 34 { // 6 connections are there
		newTCP(r, fmt.Sprintf("%s:%d", client, 300+n)).handshake()
	}
	c := r.eng.Counters()
	if c.EvictedHandshakes != 10 || c.EvictedQuestions != 27 || c.Active != 40 {
		t.Errorf("%d handshakes and %d questions were evicted, %d connections", c.EvictedHandshakes, c.EvictedQuestions, c.Active)
	}
	r.refused(0, synFrame().Packet(t), wire.TableFull)
	r.refused(0, fromClient(wiretest.Frame{Src: client + ":9", Dst: vip + ":53", UDP: true}).Packet(t), wire.TableFull)
}

// TestLimitsOfOneKind fills up one kind and finds the others untouched.
func TestLimitsOfOneKind(t *testing.T) {
	cfg := config()
	cfg.Limits = forwarder.Limits{Handshakes: 5, TCP: 10, UDP: 8}
	r := newRigSized(t, cfg, 100)
	syn := func(n int) wiretest.Frame {
		return fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, n), Dst: vip + ":80", TCP: "S"})
	}
	first := newTCP(r, client+":99")
	first.local = first.syn(100).Flow
	for n := range 5 {
		r.client(syn(100 + n))
	}
	if c := r.eng.Counters(); c.EvictedHandshakes != 1 || c.Active != 5 {
		t.Errorf("%d handshakes were evicted, %d connections", c.EvictedHandshakes, c.Active)
	}
	r.refused(1, fromServer(int(first.local.Dst[15]), wiretest.Frame{Src: first.local.Dst.String() + ":8080",
		Dst: fmt.Sprintf("%s:%d", local, first.local.SrcPort), TCP: "SA", Seq: 500, Ack: 101}).Packet(t), wire.NoConnection)
	for n := range 10 {
		newTCP(r, fmt.Sprintf("%s:%d", client, 200+n)).handshake()
	}
	r.refused(0, syn(300).Packet(t), wire.TableFull)
	talk := func(n int) wiretest.Frame {
		return fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, n), Dst: vip + ":53", UDP: true})
	}
	for n := range 8 {
		for range 4 { // a stream
			r.client(talk(n + 1))
		}
	}
	r.refused(0, talk(9).Packet(t), wire.TableFull)
	r.client(talk(1))
	r.tick(timeouts.UDPUnreplied + time.Second)
	r.client(talk(9))
}

// TestAPortIsTakenFromAHandshakeThatIsNotFinished: forged SYNs hold every local port towards a backend, and the next
// client gets one of them.
func TestAPortIsTakenFromAHandshakeThatIsNotFinished(t *testing.T) {
	cfg := config()
	s := &cfg.Services[0]
	s.SourcePorts, s.Backends = forwarder.PortRange{Lo: 5000, Hi: 5009}, s.Backends[:1]
	cfg.Services[1].Backends = cfg.Services[1].Backends[:1]
	r := newRig(t, cfg)
	newTCP(r, client+":1").handshake()
	other := newTCP(r, client+":2") // of a pool of its own
	for n := range 9 {
		r.client(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 100+n), Dst: vip + ":80", TCP: "S"})
	}
	for n := range 9 {
		c := newTCP(r, fmt.Sprintf("%s:%d", client, 200+n))
		c.handshake()
		if c.local.SrcPort < 5000 || c.local.SrcPort > 5009 {
			t.Fatalf("port %d", c.local.SrcPort)
		}
	}
	if c := r.eng.Counters(); c.EvictedHandshakes != 9 || c.Active != 10 {
		t.Errorf("%d were evicted, %d connections", c.EvictedHandshakes, c.Active)
	}
	out := r.refused(0, other.frame("S", 1, 0).Packet(t), wire.PortsExhaustedAnswered)
	if p := parsed(t, out[0].bytes); p.TCPFlags != wire.RST|wire.ACK {
		t.Errorf("the client gets flags %#x", p.TCPFlags)
	}
	r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true}) // no other service is hurt
}

// TestAFullTableInDirectServerReturn opens connections while the table is full, and has them go on when there is room.
func TestAFullTableInDirectServerReturn(t *testing.T) {
	for _, m := range floodModes[2:] {
		r := newRigSized(t, inMode(m.mode, m.opt), 4)
		backend := func(f wiretest.Frame) (string, forwarder.Record) {
			var rec forwarder.Record
			r.trc = func(x *forwarder.Record) { rec = *x }
			v, why, out := r.put(0, fromClient(f).Packet(t))
			if v != wire.Transmit || len(out) != 1 {
				t.Fatalf("%s: %+v: %v %v", m.name, f, v, why)
			}
			return fmt.Sprintf("%x", out[0].bytes[:6]), rec
		}
		for n := range 4 {
			for range 4 {
				backend(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1+n), Dst: vip + ":53", UDP: true})
			}
		}
		seg := func(n int, flags string, seq uint32) wiretest.Frame {
			return wiretest.Frame{Src: fmt.Sprintf("10.9.0.%d:77", n), Dst: vip + ":80", TCP: flags, Seq: seq, Ack: 501}
		}
		chosen := map[string]int{}
		var of [30]string
		for n := range of {
			to, rec := backend(seg(n, "S", 100))
			if rec.NewConn || r.eng.Counters().Active != 4 {
				t.Errorf("%s: an entry was made", m.name)
			}
			for _, f := range []string{"A", "PA", "A"} {
				if again, _ := backend(seg(n, f, 101)); again != to {
					t.Fatalf("%s: connection %d moved from %s to %s", m.name, n, to, again)
				}
			}
			of[n] = to
			chosen[to]++
		}
		if len(chosen) != 3 {
			t.Errorf("%s: only %v were chosen", m.name, chosen)
		}
		if c := r.eng.Counters(); c.Stateless != 120 || !c.Balanced() {
			t.Errorf("%s: %d packets without an entry", m.name, c.Stateless)
		}
		for range 40 { // now there is room
			r.tick(time.Second)
		}
		for n := range of {
			for range 3 {
				if again, rec := backend(seg(n, "A", 101)); again != of[n] || n < 4 && r.eng.Counters().Active != uint64(n+1) {
					t.Fatalf("%s: connection %d moved from %s to %s: %+v", m.name, n, of[n], again, rec)
				}
			}
		}
		r.put(0, fromClient(seg(29, "R", 101)).Packet(t))
		if c := r.eng.Counters(); c.Stateless != 120+26*3+1 || c.Active != 4 {
			t.Errorf("%s: %d packets without an entry, %d connections", m.name, c.Stateless, c.Active)
		}
		r.tick(timeouts.TCPEstablished + time.Second) // nothing of that time can be left
		r.refused(0, fromClient(seg(9, "A", 101)).Packet(t), wire.RejectedRST)
	}
}

// TestFragmentsOfAFullTable sends a datagram in pieces through a full table.
func TestFragmentsOfAFullTable(t *testing.T) {
	r := newRigSized(t, inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), 1)
	for range 4 {
		r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true})
	}
	to := ""
	for _, p := range pieces(t, bigDatagram(client+":2"), 512) {
		v, why, out := r.put(0, p)
		if v != wire.Transmit || to != "" && to != string(out[0].bytes[:6]) {
			t.Fatalf("%v %v", v, why)
		}
		to = string(out[0].bytes[:6])
	}
	if c := r.eng.Counters(); c.Active != 1 || c.Stateless < 2 {
		t.Errorf("%+v", c)
	}
}
