package dsr_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// backend returns the address of a backend.
func backend(version uint8) wire.Addr {
	if version == 4 {
		return wire.AddrFrom(netip.MustParseAddr("10.10.10.2"))
	}
	return wire.AddrFrom(netip.MustParseAddr("2001:db8:10::2"))
}

// marked returns what Mark must make of a right packet, computed anew word by word.
func marked(t testing.TB, frame []byte, dscp uint8) []byte {
	p := parse(t, frame)
	want := bytes.Clone(frame)
	ip, to, at := want[p.L3:], backend(p.Version), 0
	var pseudo []byte
	if p.Version == 4 {
		ip[1] = dscp<<2 | ip[1]&3
		ip[8]--
		copy(ip[16:20], to[12:])
		resum(ip)
		pseudo = ip[12:20]
	} else {
		tc := dscp<<2 | ip[1]>>4&3
		ip[0], ip[1] = 0x60|tc>>4, tc<<4|ip[1]&0xf
		ip[7]--
		copy(ip[24:40], to[:])
		pseudo = ip[8:40]
	}
	switch {
	case p.Frag == wire.LaterFragment:
		return want
	case p.Proto == wire.ProtoTCP:
		at = 16
	case p.Proto == wire.ProtoUDP && (want[p.L4+6] != 0 || want[p.L4+7] != 0):
		at = 6
	case p.Proto == wire.ProtoICMPv6:
		at = 2
	default:
		return want
	}
	// A first fragment has the sum of the whole datagram: of what is not in it the difference knows.
	l4 := want[p.L4:p.End]
	old := binary.BigEndian.Uint16(l4[at:])
	was := frame[p.L3+12 : p.L3+20]
	if p.Version == 6 {
		was = frame[p.L3+8 : p.L3+40]
	}
	sum := ^wiretest.SlowChecksum(pseudo, uint32(^old)+uint32(^wiretest.SlowChecksum(was, 0)))
	if sum == 0 && p.Proto == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[at:], sum)
	return want
}

// asFragment makes an IPv4 packet without options a fragment.
func asFragment(d []byte, frag uint16) []byte {
	binary.BigEndian.PutUint16(d[20:], frag)
	resum(d[14:])
	return d
}

func TestMark(t *testing.T) {
	tagged := tcp4("AP", 100)
	tagged.VLANs = []uint16{5}
	v6 := with(tcp6("S", 0), func(f *wiretest.Frame) { f.TOS = 0xff })
	v6later := super{Frame: tcp6("A", 16)}.extend(tcp6("A", 16).Bytes(t))
	v6later[14+6] = 44
	v6later = insert(v6later, 54, []byte{wire.ProtoTCP, 0, 0, 8, 0, 0, 0, 9})
	binary.BigEndian.PutUint16(v6later[18:], uint16(len(v6later)-54))
	for _, tc := range []struct {
		name  string
		frame []byte
		dscp  uint8
	}{
		{"TCP", tcp4("SA", 11).Bytes(t), 1},
		{"TCP behind a tag", tagged.Bytes(t), 63},
		{"CE stays", with(tcp4("A", 0), func(f *wiretest.Frame) { f.TOS = 0x03 }).Bytes(t), 42},
		{"the client's own DSCP goes", with(tcp4("A", 0), func(f *wiretest.Frame) { f.TOS = 0xb9 }).Bytes(t), 1},
		{"padding stays", append(tcp4("S", 0).Bytes(t), 1, 2, 3), 7},
		{"UDP", udp4(33).Bytes(t), 7},
		{"UDP without a checksum", with(udp4(33), func(f *wiretest.Frame) { f.NoSum = true }).Bytes(t), 7},
		{"ICMP", wiretest.Frame{Src: "192.0.2.1", Dst: "198.51.100.1", ICMP: []byte{3, 4, 0, 0, 0, 0, 5, 0}}.Bytes(t), 7},
		{"ICMPv6", wiretest.Frame{Src: "2001:db8::1", Dst: "2001:db8::2", ICMP: []byte{2, 0, 0, 0, 0, 0, 5, 0}}.Bytes(t), 7},
		{"a first fragment", asFragment(tcp4("A", 64).Bytes(t), 0x2000), 21},
		{"a later fragment", asFragment(tcp4("A", 64).Bytes(t), 0x2003), 21},
		{"TCP over IPv6", v6.Bytes(t), 1},
		{"a flow label stays", super{Frame: v6, label: 0xfffff}.extend(v6.Bytes(t)), 32},
		{"UDP over IPv6", udp6(33).Bytes(t), 63},
		{"a later fragment of IPv6", v6later, 9},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := parse(t, tc.frame)
			flow, to := p.Flow, backend(p.Version)
			dsr.Mark(&p, &to, tc.dscp)
			if want := marked(t, tc.frame, tc.dscp); !bytes.Equal(p.Bytes(), want) {
				t.Errorf("got\n%x, want\n%x", p.Bytes(), want)
			}
			if p.Flow != flow {
				t.Error("the flow does not tell any more what came in")
			}
			if p.Frag == wire.Whole {
				if err := wiretest.Wrong(p.Bytes()[:p.End]); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestMarkKeepsAnUnfinishedChecksumUnfinished(t *testing.T) {
	for _, f := range []wiretest.Frame{tcp4("A", 77), udp4(77), tcp6("A", 77), udp6(77)} {
		p := f.Packet(t)
		wiretest.Unfinish(&p)
		to, offload := backend(p.Version), p.Offload
		dsr.Mark(&p, &to, 5)
		if p.Offload != offload {
			t.Errorf("%s: the metadata became %+v", f.Src, p.Offload)
		}
		wiretest.Finish(&p.Frame)
		if want := marked(t, f.Bytes(t), 5); !bytes.Equal(p.Bytes(), want) {
			t.Errorf("%s: got\n%x, want\n%x", f.Src, p.Bytes(), want)
		}
	}
}

func TestMarkOfASuperFrameIsTheMarkOfItsSegments(t *testing.T) {
	for _, tc := range superFrames {
		p := tc.packet(t)
		before := cut(t, &p)
		to := backend(p.Version)
		dsr.Mark(&p, &to, 33)
		after := cut(t, &p)
		for i := range before {
			if want := marked(t, before[i], 33); !bytes.Equal(after[i], want) {
				t.Errorf("%s: segment %d is\n%x, want\n%x", tc.name, i, after[i], want)
			}
		}
	}
}

func TestMarkLeavesAWrongChecksumWrongByTheSame(t *testing.T) {
	for range 1000 {
		d := udp4(8).Bytes(t)
		by := uint16(1 + rand.N(0xfffe))
		sum := binary.BigEndian.Uint16(d[40:])
		binary.BigEndian.PutUint16(d[40:], wiretest.SlowChecksum([]byte{byte(sum >> 8), byte(sum)}, uint32(by)))
		p := parse(t, d)
		if d[40] == 0 && d[41] == 0 {
			continue // no checksum
		}
		to := backend(4)
		dsr.Mark(&p, &to, 5)
		ip := p.IP()
		got := wiretest.SlowChecksum(ip[20:], uint32(wiretest.SlowChecksum(ip[12:20], uint32(len(ip)-20+17))))
		if want := wiretest.SlowChecksum(nil, uint32(by)); got != want {
			t.Fatalf("a sum wrong by %04x is wrong by %04x", want, got)
		}
	}
}

func TestLowerTTL(t *testing.T) {
	for _, f := range []wiretest.Frame{tcp4("A", 3), tcp6("A", 3)} {
		for ttl := 255; ttl > 0; ttl-- {
			f.TTL = uint8(ttl)
			p := parse(t, f.Bytes(t))
			p.LowerTTL()
			if err := wiretest.Wrong(p.Bytes()); err != nil || p.TTL() != uint8(ttl-1) {
				t.Fatalf("TTL %d became %d: %v", ttl, p.TTL(), err)
			}
		}
	}
}
