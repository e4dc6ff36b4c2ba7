package wire

import "encoding/binary"

// Types of ICMP and ICMPv6 messages (IANA; RFC 792, RFC 4443, RFC 4861).
const (
	ICMPEchoReply    = 0
	ICMPUnreachable  = 3
	ICMPEcho         = 8
	ICMPTimeExceeded = 11
	ICMPParameter    = 12

	ICMPv6Unreachable  = 1
	ICMPv6TooBig       = 2
	ICMPv6TimeExceeded = 3
	ICMPv6Parameter    = 4
	ICMPv6Echo         = 128
	ICMPv6EchoReply    = 129
	ICMPv6Solicit      = 135 // neighbour solicitation
	ICMPv6Advertise    = 136 // neighbour advertisement
)

// ICMPError reports whether an ICMP packet is an error, which quotes the packet that caused it.
func (p *Packet) ICMPError() bool {
	switch t := p.Bytes()[p.L4]; p.Proto {
	case ProtoICMP:
		return t == ICMPUnreachable || t == ICMPTimeExceeded || t == ICMPParameter
	default:
		return t < 128 // RFC 4443 2.1
	}
}

// ICMPRight reports whether the checksum of an ICMP or ICMPv6 packet is right, or still unfinished. Metadata about some
// other place in the frame excuses nothing.
func (p *Packet) ICMPRight() bool {
	if p.Unfinished() {
		return true
	}
	return Fold(Sum(p.Transport(), p.icmpPseudo())) == 0xffff
}

// SealICMP computes the checksum of an ICMP or ICMPv6 packet anew.
func (p *Packet) SealICMP() {
	t := p.Transport()
	t[2], t[3] = 0, 0
	binary.BigEndian.PutUint16(t[2:], ^Fold(Sum(t, p.icmpPseudo())))
	p.Offload = Offload{}
}

func (p *Packet) icmpPseudo() uint64 {
	if p.Proto == ProtoICMP {
		return 0 // ICMP has no pseudo header
	}
	return PseudoSum(p.IP(), ProtoICMPv6, p.End-p.L4)
}

// Quote is the packet that an ICMP error quotes: where it is in the frame, and its flow.
type Quote struct {
	Flow    Flow
	L3, L4  int // offsets from the start of the frame's bytes
	End     int // where the quote ends; it may be cut anywhere behind 8 bytes of L4
	Version uint8
}

// ParseQuote reads the packet that an ICMP error quotes. Eight bytes of its transport header are enough (RFC 792); it must
// be whole or a first fragment, and TCP or UDP.
func (p *Packet) ParseQuote(q *Quote) bool {
	d := p.Bytes()
	*q = Quote{L3: p.L4 + ICMPLen, End: p.End, Version: p.Version}
	ip := d[q.L3:q.End]
	var proto uint8
	if p.Version == 4 {
		if len(ip) < IPv4Len || ip[0]>>4 != 4 || binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
			return false
		}
		head := int(ip[0]&0x0f) * 4
		if head < IPv4Len {
			return false
		}
		proto, q.L4 = ip[9], q.L3+head
		q.Flow.Src, q.Flow.Dst = Addr4(ip[12:]), Addr4(ip[16:])
	} else {
		if len(ip) < IPv6Len || ip[0]>>4 != 6 {
			return false
		}
		next, off, frag, reason := walkExtensions(ip)
		if reason != ReasonNone || frag == LaterFragment {
			return false
		}
		proto, q.L4 = next, q.L3+off
		q.Flow.Src, q.Flow.Dst = Addr6(ip[8:]), Addr6(ip[24:])
	}
	if q.L4+8 > q.End || proto != ProtoTCP && proto != ProtoUDP {
		return false
	}
	q.Flow.Proto = proto
	q.Flow.SrcPort = binary.BigEndian.Uint16(d[q.L4:])
	q.Flow.DstPort = binary.BigEndian.Uint16(d[q.L4+2:])
	return true
}
