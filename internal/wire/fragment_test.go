package wire_test

import (
	"encoding/binary"
	"testing"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// fragment4 makes an IPv4 fragment: data with the flags and offset of the header's word.
func fragment4(t testing.TB, proto byte, id, word uint16, data []byte) wire.Packet {
	p := wiretest.Frame{Src: "192.0.2.1:1", Dst: "198.51.100.1:2", UDP: true, ID: id, Payload: data}.Packet(t)
	d := p.Bytes()
	copy(d[34:], data)
	d[23] = proto
	p.Len = 34 + len(data)
	binary.BigEndian.PutUint16(d[16:], uint16(20+len(data)))
	binary.BigEndian.PutUint16(d[20:], word)
	d[24], d[25] = 0, 0
	binary.BigEndian.PutUint16(d[24:], ^wiretest.SlowChecksum(d[14:34], 0))
	return p
}

// fragment6 makes an IPv6 packet: extension headers and what follows them.
func fragment6(next byte, data ...[]byte) wire.Packet {
	b := make([]byte, 14+40)
	b[12], b[13], b[14], b[20] = 0x86, 0xdd, 0x60, next
	for _, d := range data {
		b = append(b, d...)
	}
	binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
	return wiretest.Packet(b)
}

func parse(p *wire.Packet) wire.Reason {
	if why := p.ParseLink(); why != wire.ReasonNone {
		return why
	}
	return p.ParseNetwork()
}

var (
	tcpHeader  = []byte{12: 0x50, 19: 0}
	tcpOptions = []byte{12: 0x60, 19: 0} // says 24 bytes
	firstOfTCP = []byte{wire.ProtoTCP, 0, 0, 1, 1, 2, 3, 4}
	firstOfUDP = []byte{wire.ProtoUDP, 0, 0, 1, 1, 2, 3, 4}
	firstOfExt = []byte{60, 0, 0, 1, 1, 2, 3, 4}
	laterOfTCP = []byte{wire.ProtoTCP, 0, 0x01, 0x09, 1, 2, 3, 4}
	lastOfTCP  = []byte{wire.ProtoTCP, 0, 0xff, 0xf8, 1, 2, 3, 4}
	optionsTCP = []byte{wire.ProtoTCP, 0, 1, 4, 0, 0, 0, 0}
	hopByHop   = []byte{44, 0, 1, 4, 0, 0, 0, 0}
	atomic     = []byte{44, 0, 0, 0, 1, 2, 3, 4}
)

func TestAFirstFragmentHasAllHeaders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		packet wire.Packet
		want   wire.Reason
	}{
		{"tcp of 8 bytes", fragment4(t, wire.ProtoTCP, 1, 0x2000, tcpHeader[:8]), wire.FragmentTiny},
		{"tcp of 16 bytes, with flags", fragment4(t, wire.ProtoTCP, 1, 0x2000, tcpHeader[:16]), wire.FragmentTiny},
		{"tcp of 20 bytes, options to come", fragment4(t, wire.ProtoTCP, 1, 0x2000, tcpOptions), wire.ReasonNone},
		{"tcp with a wrong offset", fragment4(t, wire.ProtoTCP, 1, 0x2000, make([]byte, 24)), wire.TCPMalformed},
		{"no udp", fragment4(t, wire.ProtoUDP, 1, 0x2000, nil), wire.FragmentTiny},
		{"udp of 8 bytes", fragment4(t, wire.ProtoUDP, 1, 0x2000, make([]byte, 8)), wire.ReasonNone},
		{"no icmp", fragment4(t, wire.ProtoICMP, 1, 0x2000, nil), wire.FragmentTiny},
		{"any other protocol", fragment4(t, 50, 1, 0x2000, make([]byte, 8)), wire.ReasonNone},
		{"whole tcp of 8 bytes", fragment4(t, wire.ProtoTCP, 1, 0, tcpHeader[:8]), wire.TCPMalformed},
		{"later tcp of 8 bytes", fragment4(t, wire.ProtoTCP, 1, 0x2003, tcpHeader[:8]), wire.ReasonNone},

		{"ipv6: tcp of 16 bytes", fragment6(44, firstOfTCP, tcpHeader[:16]), wire.FragmentTiny},
		{"ipv6: tcp of 20 bytes", fragment6(44, firstOfTCP, tcpHeader), wire.ReasonNone},
		{"ipv6: tcp options to come", fragment6(44, firstOfTCP, tcpOptions), wire.FragmentTiny},
		{"ipv6: no udp", fragment6(44, firstOfUDP), wire.FragmentTiny},
		{"ipv6: no options behind the fragment header", fragment6(44, firstOfExt), wire.FragmentTiny},
		{"ipv6: options cut", fragment6(44, firstOfExt, []byte{6, 1, 1, 4, 0, 0, 0, 0}), wire.FragmentTiny},
		{"ipv6: options, no tcp", fragment6(44, firstOfExt, optionsTCP), wire.FragmentTiny},
		{"ipv6: options and tcp", fragment6(44, firstOfExt, optionsTCP, tcpHeader), wire.ReasonNone},
		{"ipv6: options cut before the fragment header", fragment6(60, []byte{44, 1, 1, 4, 0, 0, 0, 0}),
			wire.IPMalformed},
		{"ipv6: a fragment of a fragment", fragment6(44, []byte{44, 0, 0, 1, 1, 2, 3, 4}, laterOfTCP, tcpHeader),
			wire.ExtUnsupported},
		{"ipv6: an atomic fragment of a fragment", fragment6(44, atomic, firstOfTCP, tcpHeader), wire.ExtUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if why := parse(&tt.packet); why != tt.want {
				t.Errorf("%v, want %v", why, tt.want)
			}
		})
	}
}

func TestHeadersOfFragments(t *testing.T) {
	type header struct {
		id     uint32
		offset int
		more   bool
		data   int
	}
	for _, tt := range []struct {
		name   string
		packet wire.Packet
		want   header
	}{
		{"first", fragment4(t, wire.ProtoTCP, 0xfffe, 0x2000, tcpHeader), header{0xfffe, 0, true, 34}},
		{"with DF", fragment4(t, wire.ProtoTCP, 7, 0x6000, tcpHeader), header{7, 0, true, 34}},
		{"middle", fragment4(t, wire.ProtoUDP, 7, 0x2000|185, make([]byte, 8)), header{7, 1480, true, 34}},
		{"last", fragment4(t, wire.ProtoUDP, 7, 0x1fff, make([]byte, 8)), header{7, 65528, false, 34}},
		{"ipv6: first", fragment6(44, firstOfTCP, tcpHeader), header{0x01020304, 0, true, 62}},
		{"ipv6: middle", fragment6(44, laterOfTCP, tcpHeader), header{0x01020304, 264, true, 62}},
		{"ipv6: last", fragment6(44, lastOfTCP, tcpHeader), header{0x01020304, 65528, false, 62}},
		{"ipv6: behind options", fragment6(0, hopByHop, laterOfTCP, tcpHeader), header{0x01020304, 264, true, 70}},
		{"ipv6: before options", fragment6(44, firstOfExt, optionsTCP, tcpHeader), header{0x01020304, 0, true, 62}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &tt.packet
			if why := parse(p); why != wire.ReasonNone || p.Frag == wire.Whole {
				t.Fatalf("%v, fragment %d", why, p.Frag)
			}
			var got header
			got.id, got.offset, got.more = p.Fragment()
			if got.data = p.FragmentData(); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// FuzzFragmentHeader: whatever the bytes, the headers of a fragment are read inside the packet.
func FuzzFragmentHeader(f *testing.F) {
	four, six := fragment4(f, wire.ProtoUDP, 7, 0x2000, make([]byte, 8)), fragment6(0, hopByHop, laterOfTCP, tcpHeader)
	for _, p := range []wire.Packet{four, six} {
		f.Add(p.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := wiretest.Packet(b)
		if parse(&p) != wire.ReasonNone || p.Frag == wire.Whole {
			return
		}
		_, offset, more := p.Fragment()
		if first := offset == 0; first != (p.Frag == wire.FirstFragment) || first && !more {
			t.Errorf("offset %d, more %v in part %d", offset, more, p.Frag)
		}
		if at := p.FragmentData(); at < p.L3 || at > p.L4 || p.L4 > p.End {
			t.Errorf("data at %d, transport at %d, end %d", at, p.L4, p.End)
		}
	})
}
