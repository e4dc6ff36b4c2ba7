package wire_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestSumOfRFC1071(t *testing.T) {
	// RFC 1071 section 3.
	if got := wire.Fold(wire.Sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0)); got != 0xddf2 {
		t.Errorf("sum %04x, want ddf2", got)
	}
}

func TestSumAgainstThePlainAlgorithm(t *testing.T) {
	b := make([]byte, 9001)
	for i := range b {
		b[i] = byte(rand.N(256))
	}
	for n := range b {
		if got, want := wire.Fold(wire.Sum(b[:n], 0)), wiretest.SlowChecksum(b[:n], 0); got != want {
			t.Fatalf("%d bytes: %04x, want %04x", n, got, want)
		}
	}
	all := make([]byte, 4096)
	for i := range all {
		all[i] = 0xff
	}
	if got := wire.Fold(wire.Sum(all, ^uint64(0))); got != 0xffff {
		t.Errorf("all ones: %04x", got)
	}
}

func TestDelta(t *testing.T) {
	// RFC 1624 section 4: equation 3 gives 0000 where the older one gave ffff.
	if got := wire.Delta(0).Add16(0x5555, 0x3285).Apply(0xdd2f); got != 0 {
		t.Errorf("RFC 1624 example: %04x", got)
	}
	for range 10000 {
		b := make([]byte, 40)
		for i := range b {
			b[i] = byte(rand.N(256))
		}
		before := ^wire.Fold(wire.Sum(b, 0))
		at := 2 * rand.N(18)
		old, now := binary.BigEndian.Uint32(b[at:]), rand.Uint32()
		binary.BigEndian.PutUint32(b[at:], now)
		if got, want := wire.Delta(0).Add32(old, now).Apply(before), ^wire.Fold(wire.Sum(b, 0)); got != want {
			t.Fatalf("%08x -> %08x: %04x, want %04x", old, now, got, want)
		}
	}
}

func TestDeltaOfUDP(t *testing.T) {
	if got := wire.Delta(0).Add16(1, 2).ApplyUDP(0); got != 0 {
		t.Errorf("no checksum became %04x", got)
	}
	if got := wire.Delta(0).Add16(0x5555, 0x3285).ApplyUDP(0xdd2f); got != 0xffff {
		t.Errorf("a computed zero is sent as %04x", got)
	}
}

func TestParse(t *testing.T) {
	tcp := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "SP", Payload: []byte("hello")}
	edit := func(f wiretest.Frame, at int, b ...byte) []byte {
		d := f.Bytes(t)
		copy(d[at:], b)
		return d
	}
	resum := func(d []byte) []byte {
		d[24], d[25] = 0, 0
		binary.BigEndian.PutUint16(d[24:], ^wiretest.SlowChecksum(d[14:34], 0))
		return d
	}
	tagged := tcp
	tagged.VLANs = []uint16{5, 6}
	udp := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:53", UDP: true, Payload: []byte("hello")}
	for _, tt := range []struct {
		name  string
		frame []byte
		want  wire.Reason
		l4    int
		frag  wire.Frag
	}{
		{"tcp", tcp.Bytes(t), wire.ReasonNone, 34, wire.Whole},
		{"two tags", tagged.Bytes(t), wire.ReasonNone, 42, wire.Whole},
		{"padding is not payload", append(tcp.Bytes(t), 0, 0, 0), wire.ReasonNone, 34, wire.Whole},
		{"version 5", resum(edit(tcp, 14, 0x55)), wire.IPMalformed, 0, 0},
		{"header of 16 bytes", resum(edit(tcp, 14, 0x44)), wire.IPMalformed, 0, 0},
		{"longer than the frame", resum(edit(tcp, 16, 1, 0)), wire.IPMalformed, 0, 0},
		{"shorter than its header", resum(edit(tcp, 16, 0, 19)), wire.IPMalformed, 0, 0},
		{"wrong checksum", edit(tcp, 24, 1, 2), wire.IPChecksum, 0, 0},
		{"first fragment", resum(edit(tcp, 20, 0x20, 0)), wire.ReasonNone, 34, wire.FirstFragment},
		{"later fragment", resum(edit(tcp, 20, 0, 3)), wire.ReasonNone, 34, wire.LaterFragment},
		{"tcp offset 4", edit(tcp, 46, 0x40), wire.TCPMalformed, 0, 0},
		{"tcp offset beyond the end", edit(tcp, 46, 0xf0), wire.TCPMalformed, 0, 0},
		{"udp length 7", edit(udp, 38, 0, 7), wire.UDPMalformed, 0, 0},
		{"udp longer than the packet", edit(udp, 38, 0, 200), wire.UDPMalformed, 0, 0},
		{"udp shorter than the packet", edit(udp, 38, 0, 9), wire.ReasonNone, 34, wire.Whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := wiretest.Packet(tt.frame)
			if why := p.ParseLink(); why != wire.ReasonNone {
				t.Fatal(why)
			}
			why := p.ParseNetwork()
			if why != tt.want {
				t.Fatalf("%v, want %v", why, tt.want)
			}
			if why == wire.ReasonNone && (p.L4 != tt.l4 || p.Frag != tt.frag) {
				t.Errorf("transport at %d, fragment %d; want %d, %d", p.L4, p.Frag, tt.l4, tt.frag)
			}
		})
	}
	for n := range 14 {
		if p := wiretest.Packet(make([]byte, n)); p.ParseLink() != wire.FrameTruncated {
			t.Errorf("a frame of %d bytes is parsed", n)
		}
	}
}

func TestIPv6ExtensionHeaders(t *testing.T) {
	options := []byte{wire.ProtoTCP, 0, 1, 4, 0, 0, 0, 0}
	chain := func(n int) (b []byte) {
		for range n - 1 {
			b = append(b, 60, 0, 1, 4, 0, 0, 0, 0)
		}
		return append(b, options...)
	}
	for _, tt := range []struct {
		name string
		next byte
		ext  []byte
		want wire.Reason
		frag wire.Frag
	}{
		{"hop-by-hop", 0, options, wire.ReasonNone, wire.Whole},
		{"eight headers", 60, chain(8), wire.ReasonNone, wire.Whole},
		{"nine headers", 60, chain(9), wire.ExtUnsupported, wire.Whole},
		{"175 headers", 60, chain(175), wire.ExtUnsupported, wire.Whole},
		{"routing, used up", 43, []byte{wire.ProtoTCP, 0, 0, 0, 0, 0, 0, 0}, wire.ReasonNone, wire.Whole},
		{"routing, to go on", 43, []byte{wire.ProtoTCP, 0, 0, 1, 0, 0, 0, 0}, wire.ExtUnsupported, wire.Whole},
		{"home address", 60, []byte{wire.ProtoTCP, 0, 0xc9, 4, 0, 0, 0, 0}, wire.ExtUnsupported, wire.Whole},
		{"longer than the packet", 60, []byte{wire.ProtoTCP, 200, 1, 4, 0, 0, 0, 0}, wire.IPMalformed, wire.Whole},
		{"first fragment", 44, []byte{wire.ProtoTCP, 0, 0, 1, 0, 0, 0, 9}, wire.ReasonNone, wire.FirstFragment},
		{"atomic fragment", 44, []byte{wire.ProtoTCP, 0, 0, 0, 0, 0, 0, 9}, wire.ReasonNone, wire.Whole},
		{"later fragment", 44, []byte{wire.ProtoTCP, 0, 0, 8, 0, 0, 0, 9}, wire.ReasonNone, wire.LaterFragment},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := make([]byte, 14+40, 14+40+len(tt.ext)+20)
			b[12], b[13], b[14], b[20] = 0x86, 0xdd, 0x60, tt.next
			binary.BigEndian.PutUint16(b[18:], uint16(len(tt.ext)+20))
			tcp := make([]byte, 20)
			tcp[12] = 0x50
			p := wiretest.Packet(append(append(b, tt.ext...), tcp...))
			p.ParseLink()
			if why := p.ParseNetwork(); why != tt.want || p.Frag != tt.frag {
				t.Errorf("%v fragment %d, want %v %d", why, p.Frag, tt.want, tt.frag)
			}
		})
	}
}

func TestMartian(t *testing.T) {
	for s, want := range map[string]bool{
		"0.0.0.0": true, "0.1.2.3": true, "127.0.0.1": true, "224.0.0.1": true, "240.0.0.1": true, "255.255.255.255": true,
		"10.0.0.1": false, "1.0.0.0": false, "223.255.255.255": false,
		"::": true, "::1": true, "ff02::1": true, "::ffff:10.0.0.1": true, "2001:db8::1": false, "fe80::1": false, "::2": false,
	} {
		version := uint8(6)
		a := endpoint(s)
		if a.Is4() && s[0] != ':' {
			version = 4
		}
		if got := a.Martian(version); got != want {
			t.Errorf("%s: %v", s, got)
		}
	}
}

func TestSegmentLen(t *testing.T) {
	p := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "A", Payload: make([]byte, 5000)}.Packet(t)
	p.ParseLink()
	p.ParseNetwork()
	if got := p.SegmentLen(); got != 5040 {
		t.Errorf("a long packet: %d", got)
	}
	p.Offload.GSOType, p.Offload.GSOSize = wire.GSOTCPv4, 1448
	if got := p.SegmentLen(); got != 1488 {
		t.Errorf("a super-frame: %d", got)
	}
}

// FuzzParse: whatever the bytes, parsing neither panics nor writes, and every offset lies inside the frame.
func FuzzParse(f *testing.F) {
	f.Add(wiretest.Frame{Src: "192.0.2.1:1", Dst: "198.51.100.1:80", TCP: "S"}.Bytes(f), uint8(0))
	f.Add(wiretest.Frame{Src: "[2001:db8::1]:1", Dst: "[2001:db8::2]:80", UDP: true}.Bytes(f), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, gso uint8) {
		p := wiretest.Packet(b)
		p.Offload.GSOType = gso
		if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Version == 0 {
			return
		}
		if string(p.Bytes()) != string(b) {
			t.Fatal("parsing wrote to the frame")
		}
		if p.L3 > p.L4 || p.L4 > p.End || p.End > len(b) {
			t.Fatalf("offsets %d %d %d of %d", p.L3, p.L4, p.End, len(b))
		}
		var q wire.Quote
		if p.Frag == wire.Whole && (p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6) && p.ParseQuote(&q) &&
			(q.L4+8 > q.End || q.End > len(b)) {
			t.Fatalf("quote %+v of %d", q, len(b))
		}
	})
}

func endpoint(s string) wire.Addr { return wire.AddrFrom(netip.MustParseAddr(s)) }

func BenchmarkSum(b *testing.B) {
	data := make([]byte, 1400)
	b.SetBytes(1400)
	for b.Loop() {
		data[0] += byte(wire.Fold(wire.Sum(data, 0)))
	}
}
