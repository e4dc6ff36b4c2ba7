package replay

import (
	"fmt"

	"naru/internal/wire"
)

// field is a part of a frame that has a name, as tshark calls it.
type field struct {
	name    string
	at, len int
}

// of returns the bytes of the field in a frame, as far as it has them.
func (f field) of(frame []byte) []byte {
	return frame[min(f.at, len(frame)):min(f.at+f.len, len(frame))]
}

// layout is the fields of a header with their lengths.
type layout []struct {
	name string
	len  int
}

var (
	ethernetFields = layout{{"eth.dst", 6}, {"eth.src", 6}, {"eth.type", 2}}
	vlanFields     = layout{{"vlan.tci", 2}, {"vlan.etype", 2}}
	ipv4Fields     = layout{{"ip.hdr_len", 1}, {"ip.dsfield", 1}, {"ip.len", 2}, {"ip.id", 2}, {"ip.flags", 2}, {"ip.ttl", 1},
		{"ip.proto", 1}, {"ip.checksum", 2}, {"ip.src", 4}, {"ip.dst", 4}}
	ipv6Fields = layout{{"ipv6.flow", 4}, {"ipv6.plen", 2}, {"ipv6.nxt", 1}, {"ipv6.hlim", 1}, {"ipv6.src", 16},
		{"ipv6.dst", 16}}
	tcpFields = layout{{"tcp.srcport", 2}, {"tcp.dstport", 2}, {"tcp.seq_raw", 4}, {"tcp.ack_raw", 4}, {"tcp.hdr_len", 1},
		{"tcp.flags", 1}, {"tcp.window_size_value", 2}, {"tcp.checksum", 2}, {"tcp.urgent_pointer", 2}}
	udpFields  = layout{{"udp.srcport", 2}, {"udp.dstport", 2}, {"udp.length", 2}, {"udp.checksum", 2}}
	icmpFields = layout{{"icmp.type", 1}, {"icmp.code", 1}, {"icmp.checksum", 2}, {"icmp.rest", 4}}
	arpFields  = layout{{"arp.hw.type", 2}, {"arp.proto.type", 2}, {"arp.hw.size", 1}, {"arp.proto.size", 1}, {"arp.opcode", 2},
		{"arp.src.hw_mac", 6}, {"arp.src.proto_ipv4", 4}, {"arp.dst.hw_mac", 6}, {"arp.dst.proto_ipv4", 4}}
)

// find returns the field at an offset of a header that begins at base.
func (l layout) find(base, at int) (field, bool) {
	for _, f := range l {
		if at >= base && at < base+f.len {
			return field{f.name, base, f.len}, true
		}
		base += f.len
	}
	return field{}, false
}

// fieldAt names the field at an offset of a frame. Behind the headers it is the byte of the payload.
func fieldAt(frame []byte, at int) field {
	if f, ok := ethernetFields.find(0, at); ok {
		return f
	}
	p := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if p.ParseLink() != wire.ReasonNone {
		return field{fmt.Sprintf("frame[%d]", at), at, 1}
	}
	if at < p.L3 {
		f, _ := vlanFields.find(wire.EthernetLen+(at-wire.EthernetLen)/wire.VLANTagLen*wire.VLANTagLen, at)
		return f
	}
	network := map[uint16]layout{wire.TypeIPv4: ipv4Fields, wire.TypeIPv6: ipv6Fields, wire.TypeARP: arpFields}[p.EtherType]
	if f, ok := network.find(p.L3, at); ok {
		return f
	}
	if p.ParseNetwork() == wire.ReasonNone && p.Version != 0 && p.Frag != wire.LaterFragment && at >= p.L4 {
		transport := map[uint8]layout{wire.ProtoTCP: tcpFields, wire.ProtoUDP: udpFields, wire.ProtoICMP: icmpFields,
			wire.ProtoICMPv6: icmpFields}[p.Proto]
		if f, ok := transport.find(p.L4, at); ok {
			return f
		}
		return field{fmt.Sprintf("payload[%d]", at-p.L4), at, 1}
	}
	return field{fmt.Sprintf("frame[%d]", at), at, 1}
}
