package dsr_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket/layers"

	"naru/dsr"
	"naru/internal/wiretest"
)

// fragments returns the fragments of a frame that can be cut, each as long as the MTU allows.
func fragments(t testing.TB, frame []byte, l3, mtu int, id uint32) (all [][]byte) {
	t.Helper()
	var fr dsr.Fragmenter
	if !fr.Start(frame, l3, mtu, id) {
		t.Fatalf("%d bytes are not cut for an MTU of %d", len(frame), mtu)
	}
	dst := make([]byte, l3+mtu)
	for n, ok := fr.Next(dst); ok; n, ok = fr.Next(dst) {
		all = append(all, bytes.Clone(dst[:n]))
	}
	return all
}

// piece is what foreign eyes see of a fragment.
type piece struct {
	id     uint32
	offset int
	more   bool
	head   []byte // the IP header, without its options
	option []byte
	data   []byte
}

func (p piece) String() string {
	return fmt.Sprintf("id %d offset %d more %v options %x: %d bytes", p.id, p.offset, p.more, p.option, len(p.data))
}

// look reads a fragment by the formats of RFC 791 3.1 and RFC 8200 4.5.
func look(t testing.TB, ip []byte) (p piece) {
	t.Helper()
	be := binary.BigEndian
	if ip[0]>>4 == 6 {
		if int(be.Uint16(ip[4:])) != len(ip)-40 || ip[6] != 44 {
			t.Fatalf("header %x around %d bytes", ip[:40], len(ip)-40)
		}
		at := be.Uint16(ip[42:])
		return piece{be.Uint32(ip[44:]), int(at &^ 7), at&1 != 0, ip[:40], nil, ip[48:]}
	}
	head := int(ip[0]&0xf) * 4
	if int(be.Uint16(ip[2:])) != len(ip) || wiretest.SlowChecksum(ip[:head], 0) != 0xffff {
		t.Fatalf("header %x around %d bytes", ip[:head], len(ip)-head)
	}
	at := be.Uint16(ip[6:])
	if at&0xc000 != 0 {
		t.Fatalf("a fragment with flags %04x", at)
	}
	return piece{uint32(be.Uint16(ip[4:])), int(at&0x1fff) * 8, at&0x2000 != 0, ip[:20], ip[20:head], ip[head:]}
}

// together puts fragments in order together again and checks that each fits and all but the last one are full.
func together(t testing.TB, all [][]byte, l3, mtu int) (pieces []piece, data []byte) {
	t.Helper()
	for i, f := range all {
		p := look(t, f[l3:])
		pieces = append(pieces, p)
		if len(f) > l3+mtu {
			t.Fatalf("%d bytes for an MTU of %d", len(f)-l3, mtu)
		}
		if i > 0 && p.offset != pieces[0].offset+len(data) {
			t.Fatalf("fragment %d is at %d, want %d", i, p.offset, pieces[0].offset+len(data))
		}
		if i < len(all)-1 && (len(p.data)%8 != 0 || len(p.data) == 0 || !p.more || len(f)+8 <= l3+mtu) {
			t.Fatalf("fragment %d of %d for an MTU of %d: %v", i, len(all), mtu, p)
		}
		if p.id != pieces[0].id {
			t.Fatalf("fragment %d has another identification, %d", i, p.id)
		}
		data = append(data, p.data...)
	}
	return pieces, data
}

func TestFragmentsOfIPv4(t *testing.T) {
	option := func(kind byte, data ...byte) layers.IPv4Option {
		return layers.IPv4Option{OptionType: kind, OptionLength: uint8(2 + len(data)), OptionData: data}
	}
	router, route := option(148, 0, 0), option(7, 4, 0, 0, 0, 0, 0, 0, 0, 0)
	options := func(o ...layers.IPv4Option) wiretest.Frame {
		return with(udp4(100), func(f *wiretest.Frame) { f.Options = o })
	}
	for _, tc := range []struct {
		name    string
		frame   []byte
		mtu     int
		sizes   []int
		first   string // options of the first fragment and of the later ones
		later   string
		offset  int
		lastHas bool // more fragments
	}{
		{"69 bytes for an MTU of 45", udp4(69).Bytes(t), 45, []int{24, 24, 24, 5}, "", "", 0, false},
		{"a multiple of 8", udp4(64).Bytes(t), 44, []int{24, 24, 24}, "", "", 0, false},
		{"the least MTU", udp4(16).Bytes(t), 28, []int{8, 8, 8}, "", "", 0, false},
		{"padding is left behind", append(udp4(16).Bytes(t), 1, 2), 36, []int{16, 8}, "", "", 0, false},
		{"a first fragment", asFragment(udp4(24).Bytes(t), 0x2000), 44, []int{24, 8}, "", "", 0, true},
		{"a fragment in the middle", asFragment(udp4(24).Bytes(t), 0x2005), 44, []int{24, 8}, "", "", 40, true},
		{"a last fragment", asFragment(udp4(23).Bytes(t), 5), 44, []int{24, 7}, "", "", 40, false},
		{"an option that is copied", options(router).Bytes(t), 68, []int{40, 40, 28}, "94040000", "94040000", 0, false},
		{"an option that is not", options(route).Bytes(t), 68, []int{32, 48, 28}, "070b04000000000000000000", "", 0,
			false},
		{"one that is not before one that is", options(route, router).Bytes(t), 68, []int{32, 40, 36},
			"070b0400000000000000009404000000", "94040000", 0, false},
		{"options in order", options(router, option(0x83, 3), router).Bytes(t), 72, []int{40, 40, 28},
			"940400008303039404000000", "940400008303039404000000", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pieces, data := together(t, fragments(t, tc.frame, 14, tc.mtu, 0xffff1234), 14, tc.mtu)
			whole := parse(t, tc.frame)
			if !bytes.Equal(data, whole.Transport()) {
				t.Errorf("together they are\n%x, want\n%x", data, whole.Transport())
			}
			var sizes []int
			for i, p := range pieces {
				sizes = append(sizes, len(p.data))
				want := tc.later
				if i == 0 {
					want = tc.first
				}
				if got := fmt.Sprintf("%x", p.option); got != want {
					t.Errorf("fragment %d has options %s, want %s", i, got, want)
				}
				if !bytes.Equal(p.head[8:10], whole.IP()[8:10]) || !bytes.Equal(p.head[12:20], whole.IP()[12:20]) ||
					p.head[1] != whole.IP()[1] {
					t.Errorf("fragment %d has the header %x", i, p.head)
				}
			}
			if fmt.Sprint(sizes) != fmt.Sprint(tc.sizes) {
				t.Errorf("sizes %v, want %v", sizes, tc.sizes)
			}
			if first, last := pieces[0], pieces[len(pieces)-1]; first.id != 7 || first.offset != tc.offset || last.more != tc.lastHas {
				t.Errorf("from %v to %v", first, last)
			}
		})
	}
}

func TestWhatFitsIsNotCut(t *testing.T) {
	outer6 := wrapped(t, udp6(1200), "2001:db8::1/128")
	df := with(udp4(100), func(f *wiretest.Frame) { f.DF = true }).Bytes(t)
	for _, frame := range [][]byte{udp4(100).Bytes(t), df, asFragment(udp4(100).Bytes(t), 0x2001), outer6} {
		for _, mtu := range []int{len(frame) - 14, len(frame) - 13, 65535} {
			all := fragments(t, frame, 14, mtu, 9)
			if len(all) != 1 || !bytes.Equal(all[0], frame) {
				t.Errorf("%d pieces\n%x, want\n%x", len(all), all, frame)
			}
		}
	}
}

// wrapped returns a frame in a tunnel.
func wrapped(t testing.TB, f wiretest.Frame, source string) []byte {
	t.Helper()
	tun, p := tunnel(t, dsr.IPIP, source, 0), f.Packet(t)
	if !tun.Wrap(&p.Frame, 14+4*len(f.VLANs), 1, 5) {
		t.Fatal("it is not wrapped")
	}
	return p.Bytes()
}

func TestTunnelPacketWithAnIPv6PacketOf1280BytesIsCut(t *testing.T) { // RFC 2473 7.1, RFC 4213 3.2
	for _, tc := range []struct {
		source string
		mtu    int
		sizes  []int
		id     uint32
	}{
		{"2001:db8::1/128", 1280, []int{1232, 48}, 0xdeadbeef},
		{"2001:db8::1/128", 1319, []int{1264, 16}, 0xdeadbeef},
		{"10.0.0.1/32", 1280, []int{1256, 24}, 0xbeef},
		{"10.0.0.1/32", 576, []int{552, 552, 176}, 0xbeef},
	} {
		inner := with(udp6(1280-48), func(f *wiretest.Frame) { f.VLANs = []uint16{5} })
		frame := wrapped(t, inner, tc.source)
		all := fragments(t, frame, 18, tc.mtu, 0xdeadbeef)
		pieces, data := together(t, all, 18, tc.mtu)
		var sizes []int
		for i, p := range pieces {
			sizes = append(sizes, len(p.data))
			if p.id != tc.id || !bytes.Equal(all[i][:18], frame[:18]) {
				t.Errorf("from %s: fragment %d: %v", tc.source, i, p)
			}
		}
		if want := inner.Bytes(t)[18:]; fmt.Sprint(sizes) != fmt.Sprint(tc.sizes) || !bytes.Equal(data, want) {
			t.Errorf("from %s, MTU %d: sizes %v, want %v", tc.source, tc.mtu, sizes, tc.sizes)
		}
	}
}

func TestWhatIsNotFragmented(t *testing.T) {
	edit := func(d []byte, at int, b ...byte) []byte {
		copy(d[at:], b)
		return d
	}
	for _, tc := range []struct {
		name  string
		frame []byte
		l3    int
		mtu   int
	}{
		{"an MTU without room", udp4(100).Bytes(t), 14, 27},
		{"no MTU", udp4(100).Bytes(t), 14, 0},
		{"a negative MTU", udp4(100).Bytes(t), 14, -1 << 40},
		{"an IPv6 MTU without room", wrapped(t, udp6(1200), "2001:db8::1/128"), 14, 55},
		{"nothing", nil, 0, 1500},
		{"a header outside", udp4(100).Bytes(t), 130, 576},
		{"a negative offset", udp4(100).Bytes(t), -1, 576},
		{"another version", edit(udp4(100).Bytes(t), 14, 0x55), 14, 60},
		{"a header of 16 bytes", edit(udp4(100).Bytes(t), 14, 0x44), 14, 60},
		{"a header longer than the packet", edit(udp4(0).Bytes(t), 14, 0x4f), 14, 28},
		{"a length beyond the frame", edit(udp4(100).Bytes(t), 16, 1), 14, 60},
		{"a fragment beyond 64 KiB", asFragment(udp4(100).Bytes(t), 0x1fff), 14, 60},
		{"half an IPv6 header", edit(udp6(100).Bytes(t), 14, 0x60)[:53], 14, 60},
		{"an IPv6 length beyond the frame", edit(udp6(100).Bytes(t), 18, 1), 14, 60},
		{"IPv6 with an extension header", edit(udp6(100).Bytes(t), 20, 0), 14, 60},
		{"an IPv6 fragment", edit(udp6(100).Bytes(t), 20, 44), 14, 60},
		{"an IPv6 packet that is in no tunnel", tcp6("A", 100).Bytes(t), 14, 60},
	} {
		var fr dsr.Fragmenter
		if fr.Start(tc.frame, tc.l3, tc.mtu, 1) {
			t.Errorf("%s: it is cut", tc.name)
		}
		if _, ok := fr.Next(make([]byte, 2000)); ok {
			t.Errorf("%s: there is a fragment", tc.name)
		}
	}
}

func TestFragmentsOfFragmentsArePutTogetherToTheSame(t *testing.T) {
	for range 300 {
		frame := udp4(rand.N(3000)).Bytes(t)
		l4 := parse(t, frame)
		mtu := 28 + rand.N(1500)
		var all [][]byte
		for _, f := range fragments(t, frame, 14, mtu, 1) {
			all = append(all, fragments(t, f, 14, 28+rand.N(mtu), 1)...)
		}
		var data []byte
		for i, f := range all {
			at := binary.BigEndian.Uint16(f[20:])
			if int(at&0x1fff)*8 != len(data) || (at&0x2000 != 0) != (i < len(all)-1) {
				t.Fatalf("fragment %d of %d has %04x behind %d bytes", i, len(all), at, len(data))
			}
			data = append(data, f[34:]...)
		}
		if !bytes.Equal(data, l4.Transport()) {
			t.Fatal("together they are another datagram")
		}
	}
}

// FuzzFragmenter: whatever the bytes, what is cut can be put together again, nothing is written outside of dst or to the
// packet, and it ends.
func FuzzFragmenter(f *testing.F) {
	f.Add(udp4(100).Bytes(f), uint8(14), uint16(60), uint32(1))
	f.Add(asFragment(udp4(100).Bytes(f), 0x2005), uint8(14), uint16(44), uint32(1))
	f.Add(wrapped(f, udp6(1200), "2001:db8::1/128"), uint8(14), uint16(1200), uint32(3))
	f.Add(with(udp4(99), func(fr *wiretest.Frame) {
		fr.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}, {OptionType: 1}}
	}).Bytes(f), uint8(14), uint16(68), uint32(1))
	f.Fuzz(func(t *testing.T, frame []byte, l3 uint8, mtu uint16, id uint32) {
		before := bytes.Clone(frame)
		var fr dsr.Fragmenter
		if !fr.Start(frame, int(l3), int(mtu), id) {
			return
		}
		dst := make([]byte, int(l3)+int(mtu)+8)
		var all [][]byte
		for n, ok := fr.Next(dst); ok; n, ok = fr.Next(dst) {
			if len(all) > len(frame) {
				t.Fatal("it does not end")
			}
			all = append(all, bytes.Clone(dst[:n]))
		}
		if !bytes.Equal(dst[len(dst)-8:], make([]byte, 8)) || !bytes.Equal(frame, before) {
			t.Fatal("something was written outside of dst")
		}
		if len(all) == 1 {
			if !bytes.Equal(all[0], frame[:len(all[0])]) {
				t.Fatal("a packet that fits changed")
			}
			return
		}
		_, data := together(t, all, int(l3), int(mtu))
		at, end := int(l3)+40, int(l3)+40+int(binary.BigEndian.Uint16(frame[l3+4:]))
		if frame[l3]>>4 == 4 {
			at, end = int(l3)+int(frame[l3]&0xf)*4, int(l3)+int(binary.BigEndian.Uint16(frame[l3+2:]))
		}
		if !bytes.Equal(data, frame[at:end]) {
			t.Fatal("together they are another datagram")
		}
	})
}

func TestFragmentIsNotWrittenWhereThereIsNoRoom(t *testing.T) {
	var fr dsr.Fragmenter
	frame := udp4(100).Bytes(t)
	fr.Start(frame, 14, 60, 1)
	dst := make([]byte, 14+59)
	if n, ok := fr.Next(dst[:14+59]); ok || n != 0 || !bytes.Equal(dst, make([]byte, len(dst))) {
		t.Error("a fragment of 60 bytes is written to 59")
	}
	if n, ok := fr.Next(make([]byte, 14+60)); !ok || n != 14+60 {
		t.Error("it is lost for that")
	}
}
