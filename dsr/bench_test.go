package dsr_test

import (
	"fmt"
	"testing"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// jobs are what is done for a packet, each on a packet of its own that it leaves as it was.
func jobs(t testing.TB) map[string]func() {
	all := map[string]func(){}
	add := func(name string, p wire.Packet, do func(p *wire.Packet)) {
		was := p
		all[name] = func() {
			do(&p)
			p.Frame = was.Frame
		}
	}
	dst := make([]byte, 2048)
	for _, size := range []int{18, 1400} {
		for _, f := range []wiretest.Frame{tcp4("A", size), udp6(size)} {
			p := parse(t, f.Bytes(t))
			to := backend(p.Version)
			add(fmt.Sprintf("Mark/IPv%d/%d", p.Version, size), p, func(p *wire.Packet) { dsr.Mark(p, &to, 5) })
			unfinished := wiretest.Packet(f.Bytes(t))
			wiretest.Unfinish(&unfinished)
			add(fmt.Sprintf("Finish/IPv%d/%d", p.Version, size), unfinished, dsr.Finish)
		}
		for _, tt := range tunnels {
			tun := tunnel(t, tt.kind, tt.source, tt.variant)
			name := fmt.Sprintf("Wrap/IPIP/%s/%d", tt.source, size)
			if tt.kind == dsr.GUE {
				name = fmt.Sprintf("Wrap/GUE%d/%s/%d", tt.variant, tt.source, size)
			}
			// The outer header lies where the Ethernet header was, which is put back for every turn.
			p := parse(t, tcp4("A", size).Bytes(t))
			link := [14]byte(p.Bytes())
			add(name, p, func(p *wire.Packet) {
				copy(p.Buf[p.Off:], link[:])
				tun.Wrap(&p.Frame, p.L3, 0x123456789, 1)
			})
		}
	}
	for _, s := range []super{{Frame: tcp4("A", 43800), size: 1460}, {Frame: udp6(43560), size: 1452}} {
		var seg dsr.Segmenter
		p := s.packet(t)
		add(fmt.Sprintf("Segment/IPv%d/30", p.Version), p, func(p *wire.Packet) {
			seg.Start(p)
			for _, ok := seg.Next(dst); ok; _, ok = seg.Next(dst) {
			}
		})
	}
	var fr dsr.Fragmenter
	add("Fragment/2", parse(t, udp4(1600).Bytes(t)), func(p *wire.Packet) {
		fr.Start(p.Bytes(), p.L3, 1400, 1)
		for _, ok := fr.Next(dst); ok; _, ok = fr.Next(dst) {
		}
	})
	return all
}

func TestNothingIsAllocatedForAPacket(t *testing.T) {
	for name, do := range jobs(t) {
		if n := testing.AllocsPerRun(100, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkPacket(b *testing.B) {
	for name, do := range jobs(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
		})
	}
}
