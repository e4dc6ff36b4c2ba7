package backend

import (
	"net/netip"
	"testing"

	"naru/internal/wire"
)

var (
	client4 = netip.MustParseAddr("198.51.100.7")
	client6 = netip.MustParseAddr("2001:db8:7::7")
)

// inner is a TCP segment from a client to a VIP, its header changed by edit.
func inner(src, dst netip.Addr, edit func(b []byte)) []byte {
	b := buildIP(head{src: src, dst: dst, tos: 2, proto: wire.ProtoTCP}, tcpSegment(40000, 80, 1, wire.SYN, 1460))
	if edit != nil {
		edit(b)
	}
	return b
}

func TestInnerPacketsThatArePutThrough(t *testing.T) {
	f := &filter{vips: []netip.Addr{vip4, vip6}}
	tests := []struct {
		name  string
		b     []byte
		proto uint8
		tos   uint8
		want  drop
	}{
		{"IPv4", inner(client4, vip4, nil), protoIPv4, 0, unwrapped},
		{"IPv6", inner(client6, vip6, nil), protoIPv6, 0, unwrapped},
		{"with padding behind it", append(inner(client4, vip4, nil), 0, 0, 0), protoIPv4, 0, unwrapped},
		{"congestion on the way", inner(client4, vip4, nil), protoIPv4, 3, unwrapped},
		{"congestion on the way, IPv6", inner(client6, vip6, nil), protoIPv6, 3, unwrapped},
		{"congestion, but no ECN", inner(client4, vip4, func(b []byte) { b[1] = 0 }), protoIPv4, 3, dropECN},
		{"congestion, but no ECN, IPv6", inner(client6, vip6, func(b []byte) { b[1] &^= 0x30 }), protoIPv6, 3, dropECN},
		{"IPv6 called IPv4", inner(client6, vip6, nil), protoIPv4, 0, dropFamily},
		{"IPv4 called IPv6", inner(client4, vip4, nil), protoIPv6, 0, dropFamily},
		{"nothing", nil, protoIPv4, 0, dropShort},
		{"half a header", inner(client4, vip4, nil)[:12], protoIPv4, 0, dropShort},
		{"half a header, IPv6", inner(client6, vip6, nil)[:20], protoIPv6, 0, dropShort},
		{"cut off", inner(client4, vip4, nil)[:40], protoIPv4, 0, dropShort},
		{"cut off, IPv6", inner(client6, vip6, nil)[:60], protoIPv6, 0, dropShort},
		{"header longer than the packet", inner(client4, vip4, func(b []byte) { b[2], b[3] = 0, 10 }), protoIPv4, 0, dropShort},
		{"header too short", inner(client4, vip4, func(b []byte) { b[0] = 0x44 }), protoIPv4, 0, dropShort},
		{"a tunnel in the tunnel", inner(client4, vip4, func(b []byte) { b[9] = protoIPv4 }), protoIPv4, 0, dropNested},
		{"6in4 in the tunnel", inner(client4, vip4, func(b []byte) { b[9] = protoIPv6 }), protoIPv4, 0, dropNested},
		{"not to a VIP", inner(client4, backend4, nil), protoIPv4, 0, dropVIP},
		{"to everybody", inner(client4, netip.MustParseAddr("255.255.255.255"), nil), protoIPv4, 0, dropVIP},
		{"from the VIP", inner(vip4, vip4, nil), protoIPv4, 0, dropInner},
		{"from loopback", inner(netip.MustParseAddr("127.0.0.1"), vip4, nil), protoIPv4, 0, dropInner},
		{"from loopback, IPv6", inner(netip.MustParseAddr("::1"), vip6, nil), protoIPv6, 0, dropInner},
		{"from a group", inner(netip.MustParseAddr("224.0.0.1"), vip4, nil), protoIPv4, 0, dropInner},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, why := f.openInner(test.b, test.proto, test.tos)
			if why != test.want {
				t.Fatalf("got %s, want %s", dropNames[why], dropNames[test.want])
			}
			if why != unwrapped {
				return
			}
			if a := parseIP(b, false); a == nil || a.length != len(b) || test.tos == 3 && a.tos&ecnMask != ecnCE {
				t.Errorf("put through as %+v", a)
			}
			if b[0]>>4 == 4 && wire.Fold(wire.Sum(b[:20], 0)) != 0xffff {
				t.Error("header checksum wrong")
			}
		})
	}
}

func TestHeadersOfGUE(t *testing.T) {
	p4, p6 := inner(client4, vip4, nil), inner(client6, vip6, nil)
	head := func(b []byte, h ...byte) []byte { return append(h, b...) }
	tests := []struct {
		name  string
		b     []byte
		proto uint8
		why   drop
	}{
		{"variant 0, IPv4", head(p4, 0, protoIPv4, 0, 0), protoIPv4, unwrapped},
		{"variant 0, IPv6", head(p6, 0, protoIPv6, 0, 0), protoIPv6, unwrapped},
		{"variant 1, IPv4", p4, protoIPv4, unwrapped},
		{"variant 1, IPv6", p6, protoIPv6, unwrapped},
		{"empty", nil, 0, dropHeader},
		{"short", []byte{0, 4, 0}, 0, dropHeader},
		{"control message", head(p4, 0x20, 4, 0, 0), 0, dropHeader},
		{"options", head(p4, 1, 4, 0, 0, 0, 0, 0, 0), 0, dropHeader},
		{"flags", head(p4, 0, 4, 0x80, 0), 0, dropHeader},
		{"something else than IP", head(p4, 0, 47, 0, 0), 0, dropHeader},
		{"variant 2", head(p4, 0x80, 4, 0, 0), 0, dropHeader},
		{"variant 3", head(p4, 0xc0, 4, 0, 0), 0, dropHeader},
		{"variant 1, version 5", head(p4, 0x50, 4, 0, 0), 0, dropHeader},
	}
	for _, test := range tests {
		if b, proto, why := openGUE(test.b); proto != test.proto || why != test.why || why == unwrapped && len(b) < 40 {
			t.Errorf("%s: protocol %d, %s, %d bytes", test.name, proto, dropNames[why], len(b))
		}
	}
}

func TestUnfinishedChecksumsAreFound(t *testing.T) {
	b := inner(client4, vip4, nil)
	if _, _, yes := unfinished(b); yes {
		t.Error("a finished checksum is taken for an unfinished one")
	}
	sum := wire.Fold(wire.PseudoSum(b, wire.ProtoTCP, len(b)-20))
	b[36], b[37] = byte(sum>>8), byte(sum)
	if start, offset, yes := unfinished(b); !yes || start != 20 || offset != 16 {
		t.Errorf("start %d, offset %d, %t", start, offset, yes)
	}
}

func FuzzNoPacketBreaksTheDecapsulatorOrTheDoctor(f *testing.F) {
	f.Add(inner(client4, vip4, nil), uint8(4), uint8(3))
	f.Add(inner(client6, vip6, nil), uint8(41), uint8(3))
	f.Add(append([]byte{0, 4, 0, 0}, inner(client4, vip4, nil)...), uint8(17), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, proto, tos uint8) {
		flt := &filter{vips: []netip.Addr{vip4, vip6}}
		frame := append([]byte{12: 8, 13: 0}, b...)
		for _, kind := range [][2]byte{{8, 0}, {8, 6}, {0x86, 0xdd}} {
			frame[12], frame[13] = kind[0], kind[1]
			parseAnswer(frame)
		}
		if rest, inside, why := openGUE(b); why == unwrapped {
			b, proto = rest, inside
		}
		out, why := flt.openInner(b, proto, tos)
		if why != unwrapped {
			return
		}
		unfinished(out)
		if a := parseIP(out, false); a != nil && a.dst != vip4 && a.dst != vip6 {
			t.Errorf("put through to %s", a.dst)
		}
	})
}
