package wire

import "encoding/binary"

// Ethernet and what it carries: lengths in bytes, EtherTypes (IEEE 802).
const (
	EthernetLen = 14
	VLANTagLen  = 4
	ARPLen      = 28 // RFC 826, for IPv4 over Ethernet

	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeIPv6 = 0x86dd
	TypeVLAN = 0x8100 // 802.1Q
	TypeQinQ = 0x88a8 // 802.1ad
)

// IP and what it carries: header lengths in bytes, protocol numbers (IANA).
const (
	IPv4Len = 20
	IPv6Len = 40
	TCPLen  = 20
	UDPLen  = 8
	ICMPLen = 8

	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58

	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extDest     = 60
	extNone     = 59

	optHomeAddress = 0xc9 // RFC 6275 6.3

	fragmentLen = 8 // of the fragment header
)

// maxExt bounds the IPv6 extension headers that are walked (our own choice; RFC 8504 5.3 asks for a limit).
const maxExt = 8

// Flags of the TCP header (RFC 9293 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Frag says what part of an IP datagram a packet is.
type Frag uint8

// The parts.
const (
	Whole         Frag = iota
	FirstFragment      // has the transport header
	LaterFragment      // has no transport header
)

// Packet is a frame and where its headers are. Offsets count from the start of the frame's bytes. They are valid after
// ParseLink (L3) and ParseNetwork (the rest) returned ReasonNone, until the frame is moved.
type Packet struct {
	Frame

	EtherType uint16 // of the payload, behind all tags
	Version   uint8  // 4, 6 or 0
	Proto     uint8  // of the transport header
	Frag      Frag
	TCPFlags  uint8 // valid for TCP; the six flags of RFC 793
	L3        int   // the network header
	L4        int   // the transport header; the payload of a later fragment
	End       int   // the end of the IP packet; what follows is padding

	// Flow is the 5-tuple. The ports of ICMP and of later fragments are 0.
	Flow Flow
	// Hash is the table's keyed hash of Flow; whoever owns the table sets it.
	Hash uint64
	// Ref is what the table's owner has found for Flow.
	Ref uint32

	Verdict Verdict
	Reason  Reason
}

// ParseLink finds the payload behind the Ethernet header and at most two VLAN tags in the bytes.
func (p *Packet) ParseLink() Reason {
	p.Version, p.Proto, p.Frag, p.TCPFlags = 0, 0, Whole, 0
	d := p.Bytes()
	if len(d) < EthernetLen {
		return FrameTruncated
	}
	p.EtherType, p.L3 = binary.BigEndian.Uint16(d[12:]), EthernetLen
	for tags := 0; p.EtherType == TypeVLAN || p.EtherType == TypeQinQ; tags++ {
		if tags == 2 || len(d) < p.L3+VLANTagLen {
			return FrameTruncated
		}
		p.EtherType = binary.BigEndian.Uint16(d[p.L3+2:])
		p.L3 += VLANTagLen
	}
	return ReasonNone
}

// ParseNetwork checks the IP and transport headers behind ParseLink and fills the rest of the packet. For any other
// EtherType it leaves Version at 0. Flow.Src, Flow.Dst and Version are valid even when the transport header is not;
// when the IP header is not, Version is 0.
func (p *Packet) ParseNetwork() Reason {
	switch p.EtherType {
	case TypeIPv4:
		return p.parseIPv4()
	case TypeIPv6:
		return p.parseIPv6()
	}
	return ReasonNone
}

func (p *Packet) parseIPv4() Reason {
	be := binary.BigEndian
	d := p.Bytes()
	if len(d) < p.L3+IPv4Len {
		return IPMalformed
	}
	ip := d[p.L3:]
	head, total := int(ip[0]&0x0f)*4, int(be.Uint16(ip[2:]))
	if total == 0 && p.Super() {
		total = len(ip) // a super-frame beyond 64 KiB cannot say its length
	}
	if ip[0]>>4 != 4 || head < IPv4Len || total < head || total > len(ip) {
		return IPMalformed
	}
	src, dst := be.Uint32(ip[12:]), be.Uint32(ip[16:])
	sum := uint64(be.Uint32(ip)) + uint64(be.Uint32(ip[4:])) + uint64(be.Uint32(ip[8:])) + uint64(src) + uint64(dst)
	if head > IPv4Len {
		sum = Sum(ip[IPv4Len:head], sum)
	}
	if Fold(sum) != 0xffff {
		return IPChecksum
	}
	p.Version, p.Proto = 4, ip[9]
	p.L4, p.End = p.L3+head, p.L3+total
	f := &p.Flow
	f.SrcPort, f.DstPort, f.Proto = 0, 0, ip[9]
	f.Src.put4(src)
	f.Dst.put4(dst)
	if frag := be.Uint16(ip[6:]); frag&0x3fff != 0 {
		if frag&0x1fff != 0 {
			p.Frag = LaterFragment
			return ReasonNone
		}
		p.Frag = FirstFragment
	}
	return p.parseTransport(d)
}

func (p *Packet) parseIPv6() Reason {
	d := p.Bytes()
	if len(d) < p.L3+IPv6Len {
		return IPMalformed
	}
	ip := d[p.L3:]
	total := IPv6Len + int(binary.BigEndian.Uint16(ip[4:]))
	if total == IPv6Len && p.Super() {
		total = len(ip)
	}
	if ip[0]>>4 != 6 || total > len(ip) {
		return IPMalformed
	}
	p.Version, p.End = 6, p.L3+total
	p.Flow = Flow{Src: Addr(ip[8:24]), Dst: Addr(ip[24:40])}
	proto, off, frag, reason := walkExtensions(ip[:total])
	p.Proto, p.Flow.Proto, p.L4, p.Frag = proto, proto, p.L3+off, frag
	if reason != ReasonNone || frag == LaterFragment {
		return reason
	}
	return p.parseTransport(d)
}

// walkExtensions finds the transport header of an IPv6 packet (RFC 8200 4). What changes the pseudo header (a routing
// header that is not used up, a home address) is refused, since an incremental checksum would be wrong; so is a fragment
// of a fragment. A first fragment must have all headers (RFC 7112).
func walkExtensions(ip []byte) (proto uint8, off int, frag Frag, reason Reason) {
	proto, off = ip[6], IPv6Len
	cut, fragments := IPMalformed, 0
	for n := 0; ; n++ {
		switch proto {
		case extHopByHop, extDest, extRouting, extFragment:
		default:
			return proto, off, frag, ReasonNone
		}
		if n == maxExt {
			return proto, off, frag, ExtUnsupported
		}
		if len(ip) < off+8 {
			return proto, off, frag, cut
		}
		h, size := ip[off:], 8
		if proto == extFragment {
			if fragments++; fragments > 1 {
				return proto, off, frag, ExtUnsupported
			}
			switch at := binary.BigEndian.Uint16(h[2:]); {
			case at&0xfff8 != 0:
				return h[0], off + size, LaterFragment, ReasonNone
			case at&1 != 0:
				frag, cut = FirstFragment, FragmentTiny
			} // else an atomic fragment, which is whole (RFC 6946)
		} else if size += int(h[1]) * 8; len(h) < size {
			return proto, off, frag, cut
		}
		if proto == extRouting && h[3] != 0 || proto == extDest && h[2] == optHomeAddress {
			return proto, off, frag, ExtUnsupported
		}
		proto, off = h[0], off+size
	}
}

func (p *Packet) parseTransport(d []byte) Reason {
	t := d[p.L4:p.End]
	if p.Frag == FirstFragment && len(t) < p.leastTransport() {
		return FragmentTiny
	}
	switch p.Proto {
	case ProtoTCP:
		if len(t) < TCPLen {
			return TCPMalformed
		}
		head := int(t[12]>>4) * 4
		if head < TCPLen || p.Frag == Whole && head > len(t) {
			return TCPMalformed
		}
		if p.Version == 6 && head > len(t) {
			return FragmentTiny // RFC 7112; in IPv4 the options may follow, every link carries 1280 bytes here
		}
		p.TCPFlags = t[13] & 0x3f
	case ProtoUDP:
		if len(t) < UDPLen {
			return UDPMalformed
		}
		n := int(binary.BigEndian.Uint16(t[4:]))
		if p.Frag == Whole && (n > len(t) || n < UDPLen) && !(n == 0 && p.Super()) {
			return UDPMalformed
		}
	case ProtoICMP, ProtoICMPv6:
		if len(t) < ICMPLen {
			return ICMPMalformed
		}
		return ReasonNone
	default:
		return ReasonNone
	}
	p.Flow.SrcPort, p.Flow.DstPort = binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	return ReasonNone
}

// leastTransport returns the bytes of a transport header that a first fragment must have: the ports and, of TCP, the flags
// (RFC 1858 3.2.1, RFC 3128).
func (p *Packet) leastTransport() int {
	switch p.Proto {
	case ProtoTCP:
		return TCPLen
	case ProtoUDP, ProtoICMP, ProtoICMPv6:
		return UDPLen // ICMPLen is the same
	default:
		return 0
	}
}

// IP returns the IP packet, without padding.
func (p *Packet) IP() []byte { return p.Bytes()[p.L3:p.End] }

// Transport returns the transport header and its payload.
func (p *Packet) Transport() []byte { return p.Bytes()[p.L4:p.End] }

// TTL returns the TTL or hop limit.
func (p *Packet) TTL() uint8 {
	if p.Version == 4 {
		return p.Bytes()[p.L3+8]
	}
	return p.Bytes()[p.L3+7]
}

// DontFragment reports whether a router may not fragment the packet: DF, or IPv6.
func (p *Packet) DontFragment() bool { return p.Version == 6 || p.Bytes()[p.L3+6]&0x40 != 0 }

// checksumOffset is where a transport header keeps its checksum.
func checksumOffset(proto uint8) int {
	switch proto {
	case ProtoTCP:
		return 16
	case ProtoUDP:
		return 6
	default:
		return 2
	}
}

// Unfinished reports whether the checksum of the packet's own transport header is unfinished (design, offloads). A
// checksum further inside, of a tunnelled packet, does not count.
func (p *Packet) Unfinished() bool {
	o := &p.Offload
	return o.Flags&NeedsCsum != 0 && int(o.CsumStart) == p.L4 && int(o.CsumOffset) == checksumOffset(p.Proto)
}

// SegmentLen returns the length in bytes of the longest IP packet that the frame becomes on the wire: the packet's own
// length, or that of one segment of a super-frame. A fragment is no super-frame, whatever its metadata say.
func (p *Packet) SegmentLen() int {
	n := p.End - p.L3
	if !p.Super() || p.Frag != Whole {
		return n
	}
	head := p.L4 - p.L3
	switch p.Proto {
	case ProtoTCP:
		head += int(p.Bytes()[p.L4+12]>>4) * 4
	case ProtoUDP:
		head += UDPLen
	}
	return min(n, head+int(p.Offload.GSOSize))
}

// PayloadLen returns the bytes behind the TCP header; valid for a whole TCP packet.
func (p *Packet) PayloadLen() int { return p.End - p.L4 - int(p.Bytes()[p.L4+12]>>4)*4 }

// Seq returns the sequence and acknowledgement numbers; valid for TCP.
func (p *Packet) Seq() (seq, ack uint32) {
	t := p.Transport()
	return binary.BigEndian.Uint32(t[4:]), binary.BigEndian.Uint32(t[8:])
}

// validFlags has a bit for each combination of FIN, SYN, RST, ACK and URG (PSH does not count) that a TCP may send.
var validFlags = func() (ok uint64) {
	for _, f := range []int{SYN, SYN | URG, SYN | ACK, RST, RST | ACK, FIN | ACK, FIN | ACK | URG, ACK, ACK | URG} {
		ok |= 1<<f | 1<<(f|PSH)
	}
	return ok
}()

// FlagsValid reports whether a TCP may send the packet's combination of flags.
func (p *Packet) FlagsValid() bool { return validFlags>>p.TCPFlags&1 != 0 }
