package backend

import (
	"encoding/binary"
	"net/netip"

	"naru/internal/wire"
)

// head is what a probe's IP header says.
type head struct {
	src, dst netip.Addr
	tos, ttl uint8
	proto    uint8
}

// buildIP puts an IP header in front of a transport header and its payload and fills the transport checksum. Probes carry
// DF: what does not fit must be told, not cut.
func buildIP(h head, l4 []byte) []byte {
	if h.ttl == 0 {
		h.ttl = 64
	}
	n := headerLen(h.dst)
	b := make([]byte, n+len(l4))
	if h.dst.Is4() {
		b[0], b[1], b[8], b[9] = 0x45, h.tos, h.ttl, h.proto
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(b[6:], 0x4000)
		copy(b[12:], h.src.AsSlice())
		copy(b[16:], h.dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^wire.Fold(wire.Sum(b[:n], 0)))
	} else {
		binary.BigEndian.PutUint32(b, 6<<28|uint32(h.tos)<<20)
		binary.BigEndian.PutUint16(b[4:], uint16(len(l4)))
		b[6], b[7] = h.proto, h.ttl
		copy(b[8:], h.src.AsSlice())
		copy(b[24:], h.dst.AsSlice())
	}
	copy(b[n:], l4)
	if at := checksumAt(h.proto); at > 0 {
		pseudo := wire.PseudoSum(b, h.proto, len(l4))
		if h.proto == wire.ProtoICMP {
			pseudo = 0
		}
		sum := ^wire.Fold(wire.Sum(b[n:], pseudo))
		if sum == 0 && h.proto == wire.ProtoUDP {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(b[n+at:], sum)
	}
	return b
}

func checksumAt(proto uint8) int {
	switch proto {
	case wire.ProtoTCP:
		return 16
	case wire.ProtoUDP:
		return 6
	case wire.ProtoICMP, wire.ProtoICMPv6:
		return 2
	}
	return 0
}

// tcpSegment returns a TCP header without payload; a SYN offers an MSS.
func tcpSegment(sport, dport uint16, seq uint32, flags uint8, mss uint16) []byte {
	b := make([]byte, wire.TCPLen, wire.TCPLen+4)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint32(b[4:], seq)
	b[13] = flags
	binary.BigEndian.PutUint16(b[14:], 8192)
	if mss != 0 {
		b = append(b, 2, 4, byte(mss>>8), byte(mss))
	}
	b[12] = byte(len(b) / 4 << 4)
	return b
}

func udpDatagram(sport, dport uint16, payload []byte) []byte {
	b := make([]byte, wire.UDPLen, wire.UDPLen+len(payload))
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	binary.BigEndian.PutUint16(b[4:], uint16(wire.UDPLen+len(payload)))
	return append(b, payload...)
}

// echoRequest returns an ICMP echo request of so many bytes in the address's family, and its protocol.
func echoRequest(family netip.Addr, id, seq uint16, size int) (uint8, []byte) {
	b := make([]byte, max(size, wire.ICMPLen))
	proto := uint8(wire.ProtoICMP)
	b[0] = wire.ICMPEcho
	if family.Is6() {
		proto, b[0] = wire.ProtoICMPv6, wire.ICMPv6Echo
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	return proto, b
}

// wrap puts a packet to the VIP into the outer packet of the target's tunnel.
func (t *Target) wrap(src netip.Addr, flow uint16, packet []byte) []byte {
	h := head{src: src, dst: t.Address, proto: t.outerProto()}
	if t.Way == IPIP {
		return buildIP(h, packet)
	}
	var payload []byte
	if t.Variant == 0 {
		payload = []byte{0, innerProto(t.VIP), 0, 0}
	}
	return buildIP(h, udpDatagram(0xc000|flow, t.GUEPort, append(payload, packet...)))
}

// arpRequest asks who has the target (RFC 826).
func arpRequest(mac wire.MAC, from, target netip.Addr) []byte {
	b := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, mac[:]...)
	b = append(b, from.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, target.AsSlice()...)
}

// neighbourSolicit asks who has the target (RFC 4861 4.3): the packet and the MAC address of the group that it goes to.
func neighbourSolicit(mac wire.MAC, from, target netip.Addr) ([]byte, wire.MAC) {
	a := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
	b := make([]byte, 8, 32)
	b[0] = wire.ICMPv6Solicit
	b = append(append(b, a[:]...), 1, 1)
	b = append(b, mac[:]...)
	return buildIP(head{src: from, dst: group, ttl: 255, proto: wire.ProtoICMPv6}, b),
		wire.MAC{0x33, 0x33, 0xff, a[13], a[14], a[15]}
}
