package dsr_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestEverySegmentIsRightByItself(t *testing.T) {
	for _, tc := range superFrames {
		p := tc.packet(t)
		var data []byte
		for i, seg := range cut(t, &p) {
			if err := wiretest.Wrong(seg); err != nil {
				t.Errorf("%s: segment %d: %v", tc.name, i, err)
			}
			q := parse(t, seg)
			if q.SegmentLen() > p.SegmentLen() || q.End != len(seg) {
				t.Errorf("%s: segment %d has %d bytes, ends at %d", tc.name, i, len(seg), q.End)
			}
			data = append(data, seg[len(seg)-segmentLen(&q):]...)
		}
		if !bytes.Equal(data, tc.Payload) {
			t.Errorf("%s: together they are %d bytes, want %d", tc.name, len(data), len(tc.Payload))
		}
	}
}

// segmentLen returns the bytes behind the transport header.
func segmentLen(p *wire.Packet) int {
	if p.Proto == wire.ProtoTCP {
		return p.PayloadLen()
	}
	return p.End - p.L4 - wire.UDPLen
}

func TestTagsAndPaddingOfASuperFrame(t *testing.T) {
	s := super{Frame: tcp4("A", 2500), size: 1000}
	s.VLANs = []uint16{5, 6}
	p := s.packet(t)
	p.Len += 3 // padding
	all := cut(t, &p)
	if len(all) != 3 || len(all[2]) != 22+40+500 {
		t.Fatalf("%d segments", len(all))
	}
	for _, seg := range all {
		if !bytes.Equal(seg[:22], p.Bytes()[:22]) {
			t.Errorf("the link header is %x", seg[:22])
		}
	}
}

func TestUDPWithoutAChecksumIsCutToUDPWithoutAChecksum(t *testing.T) {
	p := with(udp4(2500), func(f *wiretest.Frame) { f.NoSum = true }).Packet(t)
	p = parse(t, p.Bytes())
	p.Offload = wire.Offload{GSOType: wire.GSOUDPL4, GSOSize: 1000}
	for i, seg := range cut(t, &p) {
		if sum := binary.BigEndian.Uint16(seg[40:]); sum != 0 {
			t.Errorf("segment %d has the checksum %04x", i, sum)
		}
	}
}

func TestWhatIsNotCut(t *testing.T) {
	tcp, udp := super{Frame: tcp4("A", 3000), size: 1000}, super{Frame: udp4(3000), size: 1000}
	v6 := super{Frame: tcp6("A", 3000), size: 1000}
	for _, tc := range []struct {
		name string
		super
		change func(*wire.Packet)
		want   bool
	}{
		{"a super-frame is", tcp, func(*wire.Packet) {}, true},
		{"a super-frame with CWR is", tcp, func(p *wire.Packet) { p.Offload.GSOType |= wire.GSOECNBit }, true},
		{"a length of headers that lies does not count", tcp, func(p *wire.Packet) { p.Offload.HdrLen = 9999 }, true},
		{"no super-frame", tcp, func(p *wire.Packet) { p.Offload.GSOType = wire.GSONone }, false},
		{"no segment size", tcp, func(p *wire.Packet) { p.Offload.GSOSize = 0 }, false},
		{"UFO", udp, func(p *wire.Packet) { p.Offload.GSOType = wire.GSOUDP }, false},
		{"TCP that says to be UDP", tcp, func(p *wire.Packet) { p.Offload.GSOType = wire.GSOUDPL4 }, false},
		{"UDP that says to be TCP", udp, func(p *wire.Packet) { p.Offload.GSOType = wire.GSOTCPv4 }, false},
		{"IPv4 that says to be IPv6", tcp, func(p *wire.Packet) { p.Offload.GSOType = wire.GSOTCPv6 }, false},
		{"IPv6 that says to be IPv4", v6, func(p *wire.Packet) { p.Offload.GSOType = wire.GSOTCPv4 }, false},
		{"an unknown kind", tcp, func(p *wire.Packet) { p.Offload.GSOType = 0x7f }, false},
		{"a checksum further inside", tcp, func(p *wire.Packet) { p.Offload.CsumStart += 20 }, false},
		{"a checksum in another field", tcp, func(p *wire.Packet) { p.Offload.CsumOffset = 6 }, false},
		{"a fragment", tcp, func(p *wire.Packet) { p.Frag = wire.FirstFragment }, false},
		{"a later fragment", tcp, func(p *wire.Packet) { p.Frag = wire.LaterFragment }, false},
		{"UDP that ends before the packet", udp, func(p *wire.Packet) { p.Transport()[4]-- }, false},
		{"a header beyond the packet", tcp, func(p *wire.Packet) { p.End = p.L4 + 19 }, false},
		{"no IP packet", tcp, func(p *wire.Packet) { p.Version = 0 }, false},
	} {
		p := tc.packet(t)
		tc.change(&p)
		var s dsr.Segmenter
		if got := s.Start(&p); got != tc.want {
			t.Errorf("%s: cut: %v", tc.name, got)
		}
		if n, ok := s.Next(make([]byte, 2000)); ok != tc.want || !ok && n != 0 {
			t.Errorf("%s: Next: %v", tc.name, ok)
		}
	}
}

func TestSegmentIsNotWrittenWhereThereIsNoRoom(t *testing.T) {
	p := super{Frame: tcp4("A", 3000), size: 1000}.packet(t)
	var s dsr.Segmenter
	s.Start(&p)
	dst := make([]byte, 1053)
	if n, ok := s.Next(dst); ok || n != 0 || !bytes.Equal(dst, make([]byte, len(dst))) {
		t.Error("a segment of 1054 bytes is written to 1053")
	}
	if n, ok := s.Next(make([]byte, 1054)); !ok || n != 1054 {
		t.Error("it is lost for that")
	}
}

// FuzzSegmenter: whatever the bytes and the metadata, the segments have the payload and right checksums, nothing is
// written outside of dst or to the super-frame, and it ends.
func FuzzSegmenter(f *testing.F) {
	for _, tc := range superFrames {
		tc.Payload, tc.size = tc.Payload[:50], 20 // a fuzzer likes small ones
		p := tc.packet(f)
		o := p.Offload
		f.Add(p.Bytes(), o.Flags, o.GSOType, o.GSOSize, o.CsumStart, o.CsumOffset)
	}
	f.Fuzz(func(t *testing.T, frame []byte, flags, kind uint8, size, start, offset uint16) {
		p := wiretest.Packet(frame)
		p.Offload = wire.Offload{Flags: flags, GSOType: kind, GSOSize: size, CsumStart: start, CsumOffset: offset}
		if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone {
			return
		}
		before := bytes.Clone(p.Buf)
		var s dsr.Segmenter
		if !s.Start(&p) {
			return
		}
		dst := make([]byte, p.L3+p.SegmentLen()+8)
		var data []byte
		made := 0
		for n, ok := s.Next(dst); ok; n, ok = s.Next(dst) {
			if made++; made > 100 {
				return // it takes long to look at each; data grows, so it ends
			}
			q := parse(t, dst[:n])
			// The judge knows neither extension headers nor UDP over IPv6 without a checksum.
			if q.Version == 4 || q.L4-q.L3 == wire.IPv6Len && p.Unfinished() {
				if err := wiretest.Wrong(dst[:n]); err != nil {
					t.Fatal(err)
				}
			}
			data = append(data, dst[n-segmentLen(&q):n]...)
		}
		if !bytes.Equal(dst[len(dst)-8:], make([]byte, 8)) || !bytes.Equal(p.Buf, before) {
			t.Fatal("something was written outside of dst")
		}
		if want := p.Bytes()[p.End-segmentLen(&p) : p.End]; !bytes.Equal(data, want) {
			t.Fatalf("together they are %d bytes, want %d", len(data), len(want))
		}
	})
}
