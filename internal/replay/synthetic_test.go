package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// Services of the captures that are built here.
const (
	web4 = "192.0.2.80:80"
	web6 = "[2001:db8::80]:80"
	dns4 = "192.0.2.80:53"
)

// builder puts frames on a tape, a millisecond apart.
type builder struct {
	t  *testing.T
	tp tape
}

func (b *builder) frame(d []byte) {
	at := int64(1e18) + int64(len(b.tp.frames))*1e6
	b.tp.frames = append(b.tp.frames, taped{at, d, len(d)})
}

func (b *builder) send(f wiretest.Frame) { b.frame(b.built(f)) }

func (b *builder) built(f wiretest.Frame) []byte {
	f.SrcMAC, f.DstMAC = wire.MAC{2, 1}, wire.MAC{2, 2}
	return f.Bytes(b.t)
}

// from names a client of the family of a service.
func from(service string, n int) string {
	if service[0] == '[' {
		return fmt.Sprintf("[2001:db8:c::%x]:%d", 1+n/1000, 2000+n%1000)
	}
	return fmt.Sprintf("20.%d.%d.1:%d", n/256000, n/1000%256, 2000+n%1000)
}

// halfClosed is a whole connection in which the client stops sending first, and the server goes on for a while.
func (b *builder) halfClosed(service string, n int) {
	c := from(service, n)
	seq, ack := uint32(1000*n), uint32(0xffffff00) // the server's wraps
	say := func(client bool, flags string, length int) {
		f := wiretest.Frame{Src: c, Dst: service, TCP: flags, Seq: seq, Ack: ack, Payload: bytes.Repeat([]byte("naru"), length/4)}
		next := &seq
		if !client {
			f.Src, f.Dst, f.Seq, f.Ack, next = service, c, ack, seq, &ack
		}
		if flags == "S" {
			f.Ack, f.MSS = 0, 1460
		}
		b.send(f)
		*next += uint32(length) + uint32(bytes.Count([]byte(flags), []byte("S"))+bytes.Count([]byte(flags), []byte("F")))
	}
	say(true, "S", 0)
	say(false, "SA", 0)
	say(true, "A", 0)
	say(true, "PA", 100)
	say(true, "FA", 0)
	for range 5 {
		say(false, "PA", 1200)
		say(true, "A", 0)
	}
	say(false, "FA", 0)
	say(true, "A", 0)
}

// pieces sends a datagram in fragments, in the order of index; a place that is overlap bytes too low makes them overlap.
func (b *builder) pieces(service string, n, overlap int, order ...int) {
	f := wiretest.Frame{Src: from(service, n), Dst: service, UDP: true, Payload: bytes.Repeat([]byte("frag"), 200)}
	p, _ := parsed(b.built(f))
	parts := cut(&p, 256, uint32(n))
	for _, i := range order {
		q, _ := parsed(parts[i])
		if overlap > 0 && i > 0 && q.Version == 4 {
			at := binary.BigEndian.Uint16(q.Bytes()[q.L3+6:]) - uint16(overlap/8)
			binary.BigEndian.PutUint16(q.Bytes()[q.L3+6:], at)
			reseal(&q, q.Bytes())
		}
		b.frame(parts[i])
	}
}

// jumbogram is an IPv6 packet with a jumbo payload option (RFC 2675), and one that only says so.
func (b *builder) jumbogram(n int) {
	for _, size := range []int{70000, 100} {
		d := b.built(wiretest.Frame{Src: from(web6, n), Dst: web6, TCP: "A", Seq: 1, Ack: 1})
		hop := []byte{6, 0, 0xc2, 4, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(hop[4:], uint32(size+28))
		d = slices.Insert(d, 54, hop...)
		d[20], d[18], d[19] = 0, 0, 0
		b.frame(append(d, make([]byte, size)...))
	}
}

var synthetic = []struct {
	name string
	make func(b *builder)
}{
	{"a flood of SYNs", func(b *builder) {
		for n := range 1500 {
			b.send(wiretest.Frame{Src: from(web4, n*7919), Dst: web4, TCP: "S", Seq: uint32(n), MSS: 1460})
		}
	}},
	{"a flood of SYNs, IPv6", func(b *builder) {
		for n := range 1500 {
			b.send(wiretest.Frame{Src: from(web6, n*7919), Dst: web6, TCP: "S", Seq: uint32(n), MSS: 1440})
		}
	}},
	{"half-closed connections", func(b *builder) {
		for n := range 20 {
			b.halfClosed(web4, n)
		}
	}},
	{"half-closed connections, IPv6", func(b *builder) {
		for n := range 20 {
			b.halfClosed(web6, n)
		}
	}},
	{"fragments in every order, some overlap", func(b *builder) {
		b.send(wiretest.Frame{Src: from(dns4, 0), Dst: dns4, UDP: true, Payload: []byte("first")})
		for n, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 0, 3, 2}, {0, 0, 1, 1, 2, 3}, {1, 2, 3}, {0, 3}} {
			b.pieces(dns4, n+1, 0, order...)
			b.pieces(dns4, n+11, 8, order...)
			b.pieces(dns4, n+21, 256, order...)
		}
	}},
	{"UDP without a checksum, and one whose sum is zero", func(b *builder) {
		for n := range 30 {
			b.send(wiretest.Frame{Src: from(dns4, n), Dst: dns4, UDP: true, NoSum: n%2 == 0, Payload: make([]byte, n)})
		}
	}},
	{"jumbograms", func(b *builder) {
		b.halfClosed(web6, 1)
		b.jumbogram(1)
		b.halfClosed(web6, 2)
	}},
	{"every combination of TCP flags", func(b *builder) {
		flags := "FSRPAU"
		for n := range 64 {
			set := ""
			for k, c := range flags {
				if n>>k&1 != 0 {
					set += string(c)
				}
			}
			b.send(wiretest.Frame{Src: from(web4, n), Dst: web4, TCP: set, Seq: 1})
			b.send(wiretest.Frame{Src: from(web6, n), Dst: web6, TCP: set, Seq: 1})
		}
	}},
	{"packets around the MTU", func(b *builder) {
		for n := range 60 {
			size := 1380 + 4*n
			b.send(wiretest.Frame{Src: from(dns4, n), Dst: dns4, UDP: true, DF: n%2 == 0, Payload: bytes.Repeat([]byte{7}, size)})
			b.send(wiretest.Frame{Src: from(dns4, n), Dst: dns4, UDP: true, DF: n%2 == 1, Payload: bytes.Repeat([]byte{7}, size)})
		}
	}},
}

// TestWhatMustHoldForSyntheticCaptures plays what no capture has, and every variant of it: a thirteenth of them, with NARU_FULL all.
func TestWhatMustHoldForSyntheticCaptures(t *testing.T) {
	runs(t)
	tapes, packets, judged, n := 0, 0, 0, 0
	for _, x := range synthetic {
		b := builder{t: t}
		x.make(&b)
		b.tp.name = x.name
		all := []tape{b.tp}
		for _, v := range variants {
			if other := v.make(seeded(x.name, v.name), b.tp); len(other.frames) > 0 {
				other.name = x.name + ", " + v.name
				all = append(all, other)
			}
		}
		for i, tp := range all {
			tapes, packets = tapes+1, packets+len(tp.frames)
			for _, mode := range replay.AutoModes() {
				if n++; full() || i == 0 || n%13 == 0 {
					judged += twice(t, tp, tp.name+" "+mode, tp.auto(t, mode)).judged
				}
			}
		}
	}
	t.Logf("%d captures, %d packets; packets compared: %d", tapes, packets, judged)
	if judged < 10000 {
		t.Errorf("only %d packets were compared", judged)
	}
}
