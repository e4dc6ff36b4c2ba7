package forwarder_test

import (
	"bytes"
	"net/netip"
	"testing"

	"naru/forwarder"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// kept is what a test needs of a record after the call.
type kept struct {
	forwarder.Record
	frame []byte
	sent  [][]byte
}

// recorded makes the rig keep its records.
func (r *rig) recorded() *[]kept {
	all := &[]kept{}
	r.eng.Keep(wire.MaxFrame)
	r.trc = func(rec *forwarder.Record) {
		k := kept{Record: *rec, frame: bytes.Clone(rec.Frame)}
		k.Stages = append([]forwarder.Stage(nil), rec.Stages...)
		for _, f := range rec.Sent {
			k.sent = append(k.sent, bytes.Clone(f.Bytes()))
		}
		*all = append(*all, k)
	}
	return all
}

func TestRecordsHaveTheFramesAndNameTheFlow(t *testing.T) {
	for _, m := range []struct {
		name   string
		config forwarder.Config
		reply  bool
	}{
		{"fullnat", config(), true},
		{"ipip", inMode(forwarder.L3DSR, byIPIP), false},
		{"l2dsr", inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), false},
	} {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, m.config)
			all := r.recorded()
			in := synFrame().Packet(t)
			before := bytes.Clone(in.Bytes())
			_, _, out := r.put(0, in)
			if m.reply {
				r.put(1, replyTo(t, out[0].bytes))
			}
			for i, k := range *all {
				if k.Flow == 0 || k.Flow != (*all)[0].Flow || k.Service != "web" || len(k.sent) != 1 {
					t.Errorf("record %d: flow %v of %q, %d frames sent", i, k.Flow, k.Service, len(k.sent))
				}
			}
			if first := (*all)[0]; !bytes.Equal(first.frame, before) || !bytes.Equal(first.sent[0], out[0].bytes) {
				t.Errorf("frames\n%x\n%x\nwant\n%x\n%x", first.frame, first.sent[0], before, out[0].bytes)
			}
		})
	}
}

// replyTo answers a frame that went to a backend.
func replyTo(t *testing.T, sent []byte) wire.Packet {
	p := parsed(t, sent)
	f := p.Flow
	return fromServer(1, wiretest.Frame{Src: netip.AddrPortFrom(f.Dst.Netip(), f.DstPort).String(),
		Dst: netip.AddrPortFrom(f.Src.Netip(), f.SrcPort).String(), TCP: "SA"}).Packet(t)
}

func TestAHeldPacketHasTwoRecords(t *testing.T) {
	for _, answered := range []bool{true, false} {
		cfg := config()
		forgetServers(&cfg)
		r := newRig(t, cfg)
		all := r.recorded()
		r.put(0, synFrame().Packet(t))
		if answered {
			r.put(1, arpFrame(serverMAC[0], serverLeg, true, server1, "10.10.10.254"))
		}
		for range 5 {
			r.tick(neigh.Retry)
		}
		first, second := (*all)[0], (*all)[1]
		want, why := wire.Transmit, wire.ReasonNone
		if !answered {
			want, why = wire.Drop, wire.NeighUnresolved
		}
		if first.Verdict != wire.Held || first.Late || !second.Late || second.Verdict != want || second.Reason != why ||
			second.Flow != first.Flow || second.Leg != "eth0" || second.Backend != "server01" {
			t.Errorf("first %v, second %v %v %+v", first.Verdict, second.Verdict, second.Reason, second)
		}
		if answered && (len(second.sent) != 1 || second.After.DstMAC != serverMAC[0]) {
			t.Errorf("sent %d frames to %x", len(second.sent), second.After.DstMAC)
		}
	}
}

func TestTheStagesAreInTheOrderOfTheWay(t *testing.T) {
	cfg := config()
	cfg.Services[0].Backends[0].Weight, cfg.Services[0].Backends[1].Weight, cfg.Services[0].Backends[2].Weight = 0, 0, 0
	for _, c := range []struct {
		config forwarder.Config
		frame  wiretest.Frame
		want   string
	}{
		{config(), synFrame(), "parse lookup service schedule source route mtu translate next hop"},
		{cfg, synFrame(), "parse lookup service schedule answer"},
		{config(), unserved("R"), "parse lookup service"},
		{config(), echoFrame(client, vip), "parse answer"},
	} {
		r := newRig(t, c.config)
		all := r.recorded()
		r.put(0, c.frame.Packet(t))
		got := ""
		for i, s := range (*all)[0].Stages {
			if i > 0 {
				got += " "
			}
			got += s.String()
		}
		if got != c.want {
			t.Errorf("%+v: stages %s, want %s", c.frame, got, c.want)
		}
	}
}

// BenchmarkRecords is what a packet of a connection costs when nobody asks, when records are made, and with the frames.
func BenchmarkRecords(b *testing.B) {
	for _, c := range []struct {
		name string
		keep int
		on   bool
	}{{"off", 0, false}, {"on", 0, true}, {"frames", 256, true}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, config())
			r.put(0, synFrame().Packet(b))
			f := synFrame()
			f.TCP = "A"
			p := f.Packet(b)
			wanted := bytes.Clone(p.Buf)
			batch := make([]wire.Packet, 1)
			var trc forwarder.Trace
			if c.on {
				trc = func(*forwarder.Record) {}
			}
			r.eng.Keep(c.keep)
			b.ReportAllocs()
			for b.Loop() {
				copy(p.Buf, wanted)
				batch[0] = p
				r.out.Reset()
				r.eng.Process(r.now, batch, r.out, trc)
			}
		})
	}
}

func TestRecordingTakesNoMemory(t *testing.T) {
	r := newRig(t, config())
	r.eng.Keep(256)
	batch := make([]wire.Packet, 1)
	syn := synFrame().Packet(t)
	seen := 0
	trace := func(*forwarder.Record) { seen++ }
	for _, trc := range []forwarder.Trace{trace, nil} {
		n := testing.AllocsPerRun(100, func() {
			batch[0] = syn
			batch[0].Buf = append(batch[0].Buf[:0:cap(batch[0].Buf)], syn.Buf...)
			r.out.Reset()
			r.eng.Process(r.now, batch, r.out, trc)
		})
		if n != 0 {
			t.Errorf("%v allocations a packet", n)
		}
	}
	if seen < 100 {
		t.Errorf("%d records", seen)
	}
}
