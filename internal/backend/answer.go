package backend

import (
	"encoding/binary"
	"net/netip"

	"naru/internal/wire"
)

// answer is what the doctor reads of a frame. Frames come from hosts that may be broken: nothing is believed but what is
// inside the bytes. Checksums are not looked at, since on a virtual link they are often unfinished.
type answer struct {
	mac wire.MAC // of the sender

	// A neighbour's word, or a question for one.
	neighbour, asks bool
	subject         netip.Addr // the address that it is about
	subjectMAC      wire.MAC

	src, dst         netip.Addr
	tos, ttl, proto  uint8
	length           int // bytes of the IP packet
	sport, dport     uint16
	flags            uint8
	seq, ack         uint32
	mss              uint16
	kind, code       uint8 // of an ICMP message
	id, number       uint16
	mtu              int     // of "fragmentation needed" and "too big"
	quoted           *answer // the packet that an ICMP error is about
	transportMissing bool    // cut off in front of it
}

// parseAnswer reads a frame; nil if it is nothing that the doctor knows.
func parseAnswer(frame []byte) *answer {
	if len(frame) < wire.EthernetLen {
		return nil
	}
	b := frame[wire.EthernetLen:]
	var a *answer
	switch binary.BigEndian.Uint16(frame[12:]) {
	case wire.TypeARP:
		a = parseARP(b)
	case wire.TypeIPv4, wire.TypeIPv6:
		a = parseIP(b, false)
	}
	if a != nil {
		a.mac = wire.MAC(frame[6:12])
	}
	return a
}

func parseARP(b []byte) *answer {
	if len(b) < wire.ARPLen || b[0] != 0 || b[1] != 1 || b[2] != 8 || b[3] != 0 || b[4] != 6 || b[5] != 4 {
		return nil
	}
	switch b[7] {
	case 1:
		return &answer{asks: true, subject: netip.AddrFrom4([4]byte(b[24:28]))}
	case 2:
		return &answer{neighbour: true, subject: netip.AddrFrom4([4]byte(b[14:18])), subjectMAC: wire.MAC(b[8:14])}
	}
	return nil
}

// parseIP reads a packet, or the beginning of one that an ICMP error quotes.
func parseIP(b []byte, quoted bool) *answer {
	if len(b) < 1 {
		return nil
	}
	a := &answer{}
	n := wire.IPv6Len
	switch {
	case b[0]>>4 == 4 && len(b) >= wire.IPv4Len:
		n = int(b[0]&0xf) * 4
		a.tos, a.ttl, a.proto, a.length = b[1], b[8], b[9], int(binary.BigEndian.Uint16(b[2:]))
		a.src, a.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 { // a later fragment
			return nil
		}
	case b[0]>>4 == 6 && len(b) >= wire.IPv6Len:
		a.tos, a.ttl, a.proto = uint8(binary.BigEndian.Uint16(b)>>4), b[7], b[6]
		a.length = wire.IPv6Len + int(binary.BigEndian.Uint16(b[4:]))
		a.src, a.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		if a.proto == ipv6Fragment && len(b) >= n+8 {
			if binary.BigEndian.Uint16(b[n+2:])&^7 != 0 {
				return nil
			}
			a.proto, n = b[n], n+8
		}
	default:
		return nil
	}
	if n > len(b) || n < wire.IPv4Len {
		return nil
	}
	a.transport(b[n:min(len(b), max(a.length, n))], quoted)
	return a
}

// ipv6Fragment is the protocol number of the fragment header (RFC 8200 4.5).
const ipv6Fragment = 44

func (a *answer) transport(b []byte, quoted bool) {
	if a.transportMissing = len(b) < 8; a.transportMissing {
		return
	}
	switch a.proto {
	case wire.ProtoTCP, wire.ProtoUDP:
		a.sport, a.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if a.proto == wire.ProtoTCP && len(b) >= wire.TCPLen {
			a.seq, a.ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
			a.flags = b[13]
			a.mss = mssOption(b[wire.TCPLen:max(wire.TCPLen, min(len(b), int(b[12]>>4)*4))])
		}
	case wire.ProtoICMP:
		a.icmp(b, quoted, b[0] == wire.ICMPUnreachable || b[0] == wire.ICMPTimeExceeded || b[0] == wire.ICMPParameter ||
			b[0] == icmpRedirect)
		a.mtu = int(binary.BigEndian.Uint16(b[6:]))
	case wire.ProtoICMPv6:
		a.icmp(b, quoted, b[0] < 128)
		a.mtu = int(binary.BigEndian.Uint32(b[4:]))
		if b[0] == wire.ICMPv6Advertise && len(b) >= 24 && a.ttl == 255 {
			a.neighbour, a.subject, a.subjectMAC = true, netip.AddrFrom16([16]byte(b[8:24])), linkLayerOption(b[24:])
		}
	}
}

const icmpRedirect = 5 // RFC 792

func (a *answer) icmp(b []byte, quoted, isError bool) {
	a.kind, a.code = b[0], b[1]
	a.id, a.number = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	if isError && !quoted {
		a.quoted = parseIP(b[8:], true)
	}
}

// mssOption finds the maximum segment size in TCP options (RFC 9293 3.2); 0 if there is none.
func mssOption(b []byte) uint16 {
	for len(b) > 0 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return 0
		}
		if b[0] == 2 && b[1] == 4 {
			return binary.BigEndian.Uint16(b[2:])
		}
		b = b[b[1]:]
	}
	return 0
}

// linkLayerOption finds the target's MAC address in options of neighbour discovery; all zero if there is none.
func linkLayerOption(b []byte) (mac wire.MAC) {
	for len(b) >= 8 && b[1] > 0 && int(b[1])*8 <= len(b) {
		if b[0] == 2 {
			return wire.MAC(b[2:8])
		}
		b = b[int(b[1])*8:]
	}
	return mac
}
