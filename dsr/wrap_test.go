package dsr_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

var tunnels = []struct {
	kind    dsr.Kind
	variant uint8
	source  string
}{
	{dsr.IPIP, 0, "10.0.0.1/32"}, {dsr.IPIP, 0, "2001:db8::1/128"},
	{dsr.GUE, 0, "10.0.0.1/32"}, {dsr.GUE, 0, "2001:db8::1/128"},
	{dsr.GUE, 1, "10.0.0.1/32"}, {dsr.GUE, 1, "2001:db8::1/128"},
}

// outer is what foreign code reads in the headers around a packet.
type outer struct {
	src, dst   netip.Addr
	proto      layers.IPProtocol
	tos, ttl   uint8
	df         bool
	id         uint16
	label      uint32
	port       uint16 // source port of GUE; 0: none
	dstPort    uint16
	sum        uint16 // of UDP
	version0   []byte // the GUE header
	link, body []byte // before the outer header and in the tunnel
}

// unwrap takes the outer headers of a frame off with gopacket.
func unwrap(t testing.TB, frame []byte) (o outer) {
	t.Helper()
	pkt := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if err := wiretest.Wrong(frame); err != nil {
		t.Error(err)
	}
	for _, l := range pkt.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet, *layers.Dot1Q:
			o.link = append(o.link, l.LayerContents()...)
			continue
		case *layers.IPv4:
			if len(l.Options) != 0 || l.Length != uint16(len(frame)-len(o.link)) || l.Version != 4 {
				t.Errorf("outer header %+v around %d bytes", l, len(frame)-len(o.link))
			}
			o.src, o.dst = addr(l.SrcIP), addr(l.DstIP)
			o.proto, o.tos, o.ttl, o.id, o.df, o.body = l.Protocol, l.TOS, l.TTL, l.Id, l.Flags == layers.IPv4DontFragment, l.Payload
		case *layers.IPv6:
			if int(l.Length) != len(frame)-len(o.link)-40 || l.Version != 6 {
				t.Errorf("outer header %+v around %d bytes", l, len(frame)-len(o.link))
			}
			o.src, o.dst = addr(l.SrcIP), addr(l.DstIP)
			o.proto, o.tos, o.ttl, o.label, o.body = l.NextHeader, l.TrafficClass, l.HopLimit, l.FlowLabel, l.Payload
		default:
			t.Fatalf("layer %v", l.LayerType())
		}
		break
	}
	if o.proto != layers.IPProtocolUDP {
		return o
	}
	udp := o.body
	be := binary.BigEndian
	o.port, o.dstPort, o.sum, o.body = be.Uint16(udp), be.Uint16(udp[2:]), be.Uint16(udp[6:]), udp[8:]
	if int(be.Uint16(udp[4:])) != len(udp) {
		t.Errorf("UDP says %d bytes of %d", be.Uint16(udp[4:]), len(udp))
	}
	if o.body[0]>>6 == 0 {
		o.version0, o.body = o.body[:4], o.body[4:]
	}
	return o
}

func addr(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}

func TestWrapEveryFamilyInEveryFamily(t *testing.T) {
	for _, tt := range tunnels {
		for _, f := range []wiretest.Frame{tcp4("A", 100), tcp6("A", 100), udp4(0), udp6(1399)} {
			f.VLANs = []uint16{5, 6}
			f.TOS = 0xb9
			t.Run(fmt.Sprintf("kind %d variant %d from %s around %s", tt.kind, tt.variant, tt.source, f.Src), func(t *testing.T) {
				tun := tunnel(t, tt.kind, tt.source, tt.variant)
				p := parse(t, append(f.Bytes(t), 0, 0, 0)) // padding
				link, packet := bytes.Clone(p.Bytes()[:p.L3]), bytes.Clone(p.IP())
				if !tun.Wrap(&p.Frame, p.L3, 0x123456789abcdef0, 77) {
					t.Fatal("it is not wrapped")
				}
				o := unwrap(t, p.Bytes())
				v4, inner4 := o.src.Is4(), p.Version == 4
				proto, etherType := layers.IPProtocolIPv6, uint16(wire.TypeIPv6)
				if inner4 {
					proto = layers.IPProtocolIPv4
				}
				if v4 {
					etherType = wire.TypeIPv4
				}
				want := outer{src: netip.MustParsePrefix(tt.source).Addr(), dst: backend(6).Netip(), tos: 0xb9, ttl: 64,
					proto: proto, link: binary.BigEndian.AppendUint16(link[:len(link)-2:len(link)-2], etherType), body: packet}
				if v4 {
					want.dst, want.df = backend(4).Netip(), !inner4
					if inner4 {
						want.id = 77
					}
				} else {
					want.label = (0x12345678 ^ 0x9abcdef0) & 0xfffff
				}
				if tt.kind == dsr.GUE {
					want.proto, want.dstPort, want.port = layers.IPProtocolUDP, 6080, 49152+(0x12345678^0x9abcdef0)%16384
					if tt.variant == 0 {
						want.version0 = []byte{0, byte(proto), 0, 0}
					}
					if want.sum = o.sum; v4 != (o.sum == 0) {
						t.Errorf("the checksum of UDP is %04x", o.sum)
					}
				}
				if got, want := fmt.Sprintf("%+v", o), fmt.Sprintf("%+v", want); got != want {
					t.Errorf("got\n%s, want\n%s", got, want)
				}
			})
		}
	}
}

func TestOuterHeaderFollowsTheInner(t *testing.T) {
	tun := tunnel(t, dsr.IPIP, "10.0.0.1/32", 0)
	for ecn := uint8(0); ecn < 4; ecn++ { // RFC 6040 4.1, normal mode
		p := with(tcp4("A", 1), func(f *wiretest.Frame) { f.TOS = 0x68 | ecn }).Packet(t)
		tun.Wrap(&p.Frame, 14, 1, 1)
		if o := unwrap(t, p.Bytes()); o.tos != 0x68|ecn {
			t.Errorf("around ECN %d the outer TOS is %02x", ecn, o.tos)
		}
	}
	for _, df := range []bool{false, true} { // RFC 2003 3.1, RFC 6864 4.1
		p := with(tcp4("A", 1), func(f *wiretest.Frame) { f.DF = df }).Packet(t)
		tun.Wrap(&p.Frame, 14, 1, 99)
		if o := unwrap(t, p.Bytes()); o.df != df || (o.id == 0) != df {
			t.Errorf("around DF %v the outer one is %v with identification %d", df, o.df, o.id)
		}
	}
}

func TestSourceIsSpreadOverThePrefix(t *testing.T) {
	for _, tc := range []struct {
		source string
		least  int      // different addresses of 2000 flows
		never  []string // that are seen
	}{
		{"10.9.8.7/32", 1, nil},
		{"10.9.8.6/31", 2, nil},
		{"10.9.8.4/30", 2, []string{"10.9.8.4", "10.9.8.7"}},
		{"10.9.8.77/24", 240, []string{"10.9.8.0", "10.9.8.255"}},
		{"10.0.0.0/8", 1900, []string{"10.0.0.0", "10.255.255.255"}},
		{"2001:db8::7/128", 1, nil},
		{"2001:db8::6/127", 2, nil},
		{"2001:db8::/64", 1990, []string{"2001:db8::"}},
		{"2001:db8::/120", 240, []string{"2001:db8::"}},
	} {
		tun := tunnel(t, dsr.IPIP, tc.source, 0)
		prefix, seen := netip.MustParsePrefix(tc.source), map[netip.Addr]bool{}
		flows := []uint64{0, 1, ^uint64(0), 0xffffffff, 0xffffffff00000000, 0xffffffff00000001}
		for range 2000 {
			flows = append(flows, rand.Uint64())
		}
		for _, flow := range flows {
			p := udp4(1).Packet(t)
			tun.Wrap(&p.Frame, 14, flow, 1)
			o := unwrap(t, p.Bytes())
			if !prefix.Contains(o.src) || slices.Contains(tc.never, o.src.String()) {
				t.Fatalf("from %v comes %v", prefix, o.src)
			}
			if !o.src.Is4() && o.label == 0 {
				t.Fatalf("flow %x has no label", flow)
			}
			seen[o.src] = true
			q := udp6(1).Packet(t)
			tun.Wrap(&q.Frame, 14, flow, 2)
			if again := unwrap(t, q.Bytes()); again.src != o.src || again.label != o.label {
				t.Fatalf("flow %x comes from %v and %v", flow, o.src, again.src)
			}
		}
		if len(seen) < tc.least {
			t.Errorf("%s: %d addresses of %d flows", tc.source, len(seen), len(flows))
		}
	}
}

func TestPortsOfGUEAreSpreadOverTheDynamicOnes(t *testing.T) {
	tun, seen := tunnel(t, dsr.GUE, "2001:db8::1/128", 0), map[uint16]bool{}
	for range 3000 {
		p := udp6(1).Packet(t)
		tun.Wrap(&p.Frame, 14, rand.Uint64(), 1)
		o := unwrap(t, p.Bytes())
		if o.port < 49152 {
			t.Fatalf("source port %d", o.port)
		}
		seen[o.port] = true
	}
	if len(seen) < 2500 {
		t.Errorf("%d ports of 3000 flows", len(seen))
	}
}

func TestWhatIsNotWrapped(t *testing.T) {
	gue6, ipip4 := tunnel(t, dsr.GUE, "2001:db8::1/128", 0), tunnel(t, dsr.IPIP, "10.0.0.1/32", 0)
	long := tcp4("A", 65535-40)
	longest := tcp4("A", 65535-40-20)
	for _, tc := range []struct {
		name   string
		tunnel dsr.Tunnel
		frame  wiretest.Frame
		change func(*wire.Frame)
		want   bool
	}{
		{"all is well", gue6, tcp4("A", 9), func(*wire.Frame) {}, true},
		{"the zero value", dsr.Tunnel{}, tcp4("A", 9), func(*wire.Frame) {}, false},
		{"an unfinished checksum", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Offload.Flags = wire.NeedsCsum }, false},
		{"a verified checksum", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Offload.Flags = wire.DataValid }, true},
		{"a super-frame", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Offload.GSOType = wire.GSOTCPv4 }, false},
		{"51 bytes of headroom", gue6, tcp4("A", 9), func(f *wire.Frame) { f.Buf, f.Off = f.Buf[f.Off-51:], 51 }, false},
		{"52 bytes of headroom", gue6, tcp4("A", 9), func(f *wire.Frame) { f.Buf, f.Off = f.Buf[f.Off-52:], 52 }, true},
		{"64 KiB", ipip4, longest, func(*wire.Frame) {}, true},
		{"more than 64 KiB", ipip4, long, func(*wire.Frame) {}, false},
		{"another version", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Bytes()[14] = 0x55 }, false},
		{"a length beyond the frame", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Bytes()[16] = 1 }, false},
		{"a length of nothing", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Bytes()[17] = 0 }, false},
		{"an IPv6 length beyond the frame", ipip4, tcp6("A", 9), func(f *wire.Frame) { f.Bytes()[18] = 1 }, false},
		{"half a header", ipip4, tcp4("A", 9), func(f *wire.Frame) { f.Len = 14 + 19 }, false},
		{"half an IPv6 header", ipip4, tcp6("A", 9), func(f *wire.Frame) { f.Len = 14 + 39 }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := tc.frame.Packet(t)
			f := p.Frame
			tc.change(&f)
			before, was := bytes.Clone(f.Buf), f
			if got := tc.tunnel.Wrap(&f, 14, 1, 1); got != tc.want {
				t.Fatalf("wrapped: %v", got)
			}
			if tc.want {
				unwrap(t, f.Bytes())
			} else if !bytes.Equal(f.Buf, before) || f.Off != was.Off || f.Len != was.Len || f.Offload != was.Offload {
				t.Error("the frame changed")
			}
		})
	}
}

// FuzzWrap: what is wrapped comes out of the tunnel as it went in, what is not wrapped is not touched, and nothing outside
// of the frame and its headroom is.
func FuzzWrap(f *testing.F) {
	for i := range tunnels {
		f.Add(tcp4("A", 9).Bytes(f), uint8(i), uint8(14), uint64(1), uint16(2))
		f.Add(udp6(9).Bytes(f), uint8(i), uint8(14), uint64(3), uint16(4))
	}
	f.Fuzz(func(t *testing.T, frame []byte, which, l3 uint8, flow uint64, id uint16) {
		tt := tunnels[int(which)%len(tunnels)]
		tun := tunnel(t, tt.kind, tt.source, tt.variant)
		p := wiretest.Packet(frame)
		before, was := bytes.Clone(p.Buf), p.Frame
		if !tun.Wrap(&p.Frame, int(l3), flow, id) {
			if !bytes.Equal(p.Buf, before) || p.Off != was.Off || p.Len != was.Len {
				t.Fatal("a frame that is not wrapped changed")
			}
			return
		}
		head := was.Off - tun.Overhead()
		if p.Off != head || !bytes.Equal(p.Buf[:head], before[:head]) {
			t.Fatal("something before the outer header changed")
		}
		inner := was.Off + int(l3)
		if !bytes.Equal(p.Buf[inner:], before[inner:]) {
			t.Fatal("the packet or something behind it changed")
		}
		macs := int(l3) - 2
		if !bytes.Equal(p.Bytes()[:macs], frame[:macs]) {
			t.Fatal("the Ethernet header changed")
		}
		if p.Bytes()[l3]>>4 == 4 && wiretest.SlowChecksum(p.Bytes()[l3:int(l3)+20], 0) != 0xffff {
			t.Fatal("the outer header's checksum is wrong")
		}
	})
}
