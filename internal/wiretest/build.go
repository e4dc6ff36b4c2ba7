package wiretest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"naru/internal/wire"
)

// Frame describes a frame to build. gopacket writes it, so that the code under test is checked by foreign code.
type Frame struct {
	SrcMAC, DstMAC wire.MAC
	VLANs          []uint16 // VLAN ids of tags in the bytes, the outer first
	Src, Dst       string   // "192.0.2.1:1000" or "[2001:db8::1]:1000"; without a port for ICMP
	TTL            uint8    // 64 when 0
	TOS            uint8
	ID             uint16
	DF             bool
	Options        []layers.IPv4Option

	TCP     string // flags: any of "SAFRPU"; a TCP segment unless UDP or ICMP is set
	Seq     uint32
	Ack     uint32
	MSS     uint16 // option of a SYN
	UDP     bool
	NoSum   bool   // UDP over IPv4 without a checksum
	ICMP    []byte // type, code, two bytes of zero, then the rest of the message
	Payload []byte
}

// Bytes returns the frame with every checksum right.
func (f Frame) Bytes(t testing.TB) []byte {
	t.Helper()
	src, dst := endpoint(t, f.Src), endpoint(t, f.Dst)
	ls := f.ethernet(src.Addr().Is4())
	proto := layers.IPProtocolTCP
	switch {
	case f.UDP:
		proto = layers.IPProtocolUDP
	case f.ICMP != nil && src.Addr().Is4():
		proto = layers.IPProtocolICMPv4
	case f.ICMP != nil:
		proto = layers.IPProtocolICMPv6
	}
	var network gopacket.NetworkLayer
	ip4 := &layers.IPv4{Version: 4, TTL: f.ttl(), TOS: f.TOS, Id: f.ID, Protocol: proto, Options: f.Options,
		SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
	if f.DF {
		ip4.Flags = layers.IPv4DontFragment
	}
	if src.Addr().Is4() {
		network, ls = ip4, append(ls, ip4)
	} else {
		ip6 := &layers.IPv6{Version: 6, HopLimit: f.ttl(), TrafficClass: f.TOS, NextHeader: proto,
			SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		network, ls = ip6, append(ls, ip6)
	}
	ls = append(ls, f.transport(t, network, src, dst)...)
	buf := gopacket.NewSerializeBuffer()
	opt := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opt, ls...); err != nil {
		t.Fatalf("building %+v: %v", f, err)
	}
	return f.finish(buf.Bytes(), src.Addr().Is4())
}

func (f Frame) ttl() uint8 {
	if f.TTL == 0 {
		return 64
	}
	return f.TTL
}

func (f Frame) ethernet(v4 bool) []gopacket.SerializableLayer {
	types := make([]layers.EthernetType, len(f.VLANs)+1)
	for i := range f.VLANs {
		types[i] = layers.EthernetTypeDot1Q
	}
	types[len(f.VLANs)] = layers.EthernetTypeIPv6
	if v4 {
		types[len(f.VLANs)] = layers.EthernetTypeIPv4
	}
	ls := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: net.HardwareAddr(f.SrcMAC[:]),
		DstMAC: net.HardwareAddr(f.DstMAC[:]), EthernetType: types[0]}}
	for i, id := range f.VLANs {
		ls = append(ls, &layers.Dot1Q{VLANIdentifier: id, Type: types[i+1]})
	}
	return ls
}

func (f Frame) transport(t testing.TB, n gopacket.NetworkLayer, src, dst netip.AddrPort) []gopacket.SerializableLayer {
	payload := gopacket.Payload(f.Payload)
	switch {
	case f.UDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}
		check(t, udp.SetNetworkLayerForChecksum(n))
		return []gopacket.SerializableLayer{udp, payload}
	case f.ICMP != nil:
		return []gopacket.SerializableLayer{gopacket.Payload(f.ICMP), payload}
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: f.Seq, Ack: f.Ack,
		Window: 8192}
	for _, c := range f.TCP {
		switch c {
		case 'S':
			tcp.SYN = true
		case 'A':
			tcp.ACK = true
		case 'F':
			tcp.FIN = true
		case 'R':
			tcp.RST = true
		case 'P':
			tcp.PSH = true
		case 'U':
			tcp.URG = true
		}
	}
	if f.MSS != 0 {
		tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4,
			OptionData: binary.BigEndian.AppendUint16(nil, f.MSS)}}
	}
	check(t, tcp.SetNetworkLayerForChecksum(n))
	return []gopacket.SerializableLayer{tcp, payload}
}

// finish mends what gopacket does not do: no padding here, ICMP checksums, and the two rules of the UDP checksum.
func (f Frame) finish(b []byte, v4 bool) []byte {
	at := wire.EthernetLen + wire.VLANTagLen*len(f.VLANs)
	ip := b[at:]
	head, total := wire.IPv6Len, wire.IPv6Len
	if v4 {
		head, total = int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	} else {
		total += int(binary.BigEndian.Uint16(ip[4:]))
	}
	b = b[:at+total]
	l4 := b[at+head:]
	switch {
	case f.ICMP != nil:
		var pseudo uint32
		if !v4 {
			pseudo = slowSum(ip[8:40], uint32(len(l4)+wire.ProtoICMPv6))
		}
		binary.BigEndian.PutUint16(l4[2:], ^slowFold(slowSum(l4, pseudo)))
	case f.UDP && f.NoSum:
		l4[6], l4[7] = 0, 0
	case f.UDP && l4[6] == 0 && l4[7] == 0:
		l4[6], l4[7] = 0xff, 0xff
	}
	return b
}

// Packet returns the frame in a buffer as a device hands it out.
func (f Frame) Packet(t testing.TB) wire.Packet { return Packet(f.Bytes(t)) }

// Packet puts the bytes of a frame into a buffer as a device hands it out.
func Packet(frame []byte) wire.Packet {
	buf := make([]byte, wire.Headroom+max(len(frame), wire.MinBuffer)+64)
	copy(buf[wire.Headroom:], frame)
	return wire.Packet{Frame: wire.Frame{Buf: buf, Off: wire.Headroom, Len: len(frame)}}
}

// Unfinish makes the transport checksum of a TCP or UDP packet unfinished, as a sender with checksum offload leaves it.
func Unfinish(p *wire.Packet) {
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone {
		panic("wiretest: cannot parse")
	}
	at := 16
	if p.Proto == wire.ProtoUDP {
		at = 6
	}
	ip, l4 := p.IP(), p.Transport()
	addrs := ip[8:40]
	if p.Version == 4 {
		addrs = ip[12:20]
	}
	binary.BigEndian.PutUint16(l4[at:], slowFold(slowSum(addrs, uint32(len(l4))+uint32(p.Proto))))
	p.Offload.Flags, p.Offload.CsumStart, p.Offload.CsumOffset = wire.NeedsCsum, uint16(p.L4), uint16(at)
}

// Finish computes the checksum that an unfinished frame stands for, as the last device would.
func Finish(f *wire.Frame) {
	if f.Offload.Flags&wire.NeedsCsum == 0 {
		return
	}
	d := f.Bytes()
	l4 := d[f.Offload.CsumStart:]
	sum := ^slowFold(slowSum(l4, 0))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(l4[f.Offload.CsumOffset:], sum)
	f.Offload.Flags &^= wire.NeedsCsum
}

// slowSum is RFC 1071 word by word: the reference.
func slowSum(b []byte, sum uint32) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
		sum = sum>>16 + sum&0xffff
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	return sum
}

func slowFold(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// SlowChecksum returns the ones' complement sum of b and of a start value, folded, by the plain algorithm of RFC 1071.
func SlowChecksum(b []byte, start uint32) uint16 { return slowFold(slowSum(b, start)) }

// Wrong returns what is wrong about the checksums and lengths of a finished frame, as gopacket and plain sums see it; nil
// for nothing. UDP over IPv4 without a checksum is right.
func Wrong(frame []byte) error {
	pkt := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	net := pkt.NetworkLayer()
	if net == nil {
		return nil
	}
	ip := append(net.LayerContents(), net.LayerPayload()...)
	if ip[0]>>4 == 4 && slowFold(slowSum(ip[:int(ip[0]&0xf)*4], 0)) != 0xffff {
		return fmt.Errorf("IPv4 header checksum wrong in %x", ip[:20])
	}
	return wrongTransport(ip)
}

func wrongTransport(ip []byte) error {
	proto, l4, addrs := ip[6], ip[min(len(ip), wire.IPv6Len):], ip[8:min(len(ip), 40)]
	if ip[0]>>4 == 4 {
		proto, l4, addrs = ip[9], ip[int(ip[0]&0xf)*4:], ip[12:20]
	}
	start := slowSum(addrs, uint32(len(l4))+uint32(proto))
	switch {
	case proto == wire.ProtoICMP:
		start = 0
	case proto == wire.ProtoUDP && ip[0]>>4 == 4 && l4[6] == 0 && l4[7] == 0:
		return nil
	case proto != wire.ProtoTCP && proto != wire.ProtoUDP && proto != wire.ProtoICMPv6:
		return nil
	}
	if got := slowFold(slowSum(l4, start)); got != 0xffff {
		return fmt.Errorf("checksum of protocol %d wrong: sum %#04x", proto, got)
	}
	return nil
}

func endpoint(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatalf("wiretest: %q is no address", s)
	}
	return netip.AddrPortFrom(a, 0)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
