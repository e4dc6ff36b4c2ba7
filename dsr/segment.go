package dsr

import (
	"encoding/binary"

	"naru/internal/wire"
)

// cwr is the flag "congestion window reduced" (RFC 3168 6.1.2).
const cwr = 0x80

// maxLength is the longest IPv4 packet, and the longest payload of an IPv6 packet.
const maxLength = 65535

// Segmenter cuts a super-frame into the packets that it stands for, each finished. It is a plain value to be used again;
// between Start and the last Next the super-frame must stay as it is.
type Segmenter struct {
	head    []byte // from the Ethernet header to the end of the transport header; nil: nothing is left
	payload []byte // that is left
	l3, l4  int
	size    int // payload bytes of a segment
	made    int // segments
	version uint8
	proto   uint8
	noSum   bool // UDP without a checksum
}

// Start takes a super-frame that was parsed, with its addresses, TTL and DSCP as the segments shall have them. It is false
// for what cannot be cut: what is no super-frame of TCP or UDP datagrams (UFO is not), a kind that is not the packet's,
// lengths that lie. GSOSize may be as small as 1, so the caller bounds how often it asks for the next segment.
func (s *Segmenter) Start(p *wire.Packet) bool {
	*s = Segmenter{}
	if p.Version == 0 || p.Frag != wire.Whole || p.Offload.GSOSize == 0 {
		return false
	}
	unfinished := p.Unfinished()
	if p.Offload.Flags&wire.NeedsCsum != 0 && !unfinished {
		return false // a packet within the packet is meant
	}
	head := p.L4 + superHeader(p)
	if head == p.L4 || head > p.End {
		return false
	}
	d := p.Bytes()
	size := int(p.Offload.GSOSize)
	if head-p.L3+min(size, p.End-head) > maxLength {
		return false
	}
	s.head, s.payload, s.size = d[:head], d[head:p.End], size
	s.l3, s.l4, s.version, s.proto = p.L3, p.L4, p.Version, p.Proto
	s.noSum = p.Proto == wire.ProtoUDP && !unfinished && d[p.L4+6] == 0 && d[p.L4+7] == 0
	return true
}

// superHeader returns the length of the transport header of a super-frame, 0 if its kind is not the packet's.
func superHeader(p *wire.Packet) int {
	t := p.Transport()
	kind := p.Offload.GSOType &^ wire.GSOECNBit
	switch p.Proto {
	case wire.ProtoTCP:
		if kind == wire.GSOTCPv4 && p.Version == 4 || kind == wire.GSOTCPv6 && p.Version == 6 {
			return int(t[12]>>4) * 4
		}
	case wire.ProtoUDP:
		n := int(binary.BigEndian.Uint16(t[4:]))
		if kind == wire.GSOUDPL4 && (n == len(t) || n == 0) {
			return wire.UDPLen
		}
	}
	return 0
}

// Next writes the next segment to dst, from its Ethernet header on, and returns its length; ok is false when there is none
// left, or when dst is too short for it. The frame's length of headers and GSOSize are room enough.
func (s *Segmenter) Next(dst []byte) (n int, ok bool) {
	size := min(s.size, len(s.payload))
	n = len(s.head) + size
	if s.head == nil || len(dst) < n {
		return 0, false
	}
	dst = dst[:n]
	copy(dst, s.head)
	copy(dst[len(s.head):], s.payload[:size])
	s.payload = s.payload[size:]
	last := len(s.payload) == 0
	s.network(dst[s.l3:])
	t := dst[s.l4:]
	if s.proto == wire.ProtoTCP {
		s.tcp(t, last)
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	if !s.noSum {
		s.checksum(dst[s.l3:], t)
	}
	s.made++
	if last {
		s.head = nil
	}
	return n, true
}

func (s *Segmenter) network(ip []byte) {
	be := binary.BigEndian
	if s.version == 6 {
		be.PutUint16(ip[4:], uint16(len(ip)-wire.IPv6Len))
		return
	}
	be.PutUint16(ip[2:], uint16(len(ip)))
	be.PutUint16(ip[4:], be.Uint16(ip[4:])+uint16(s.made))
	sealIPv4(ip[:s.l4-s.l3])
}

func (s *Segmenter) tcp(t []byte, last bool) {
	be := binary.BigEndian
	be.PutUint32(t[4:], be.Uint32(t[4:])+uint32(s.made*s.size))
	if !last {
		t[13] &^= wire.FIN | wire.PSH
	}
	if s.made > 0 {
		t[13] &^= cwr
	}
}

func (s *Segmenter) checksum(ip, t []byte) {
	at := 16
	if s.proto == wire.ProtoUDP {
		at = 6
	}
	t[at], t[at+1] = 0, 0
	sum := ^wire.Fold(wire.Sum(t, wire.PseudoSum(ip, s.proto, len(t))))
	if sum == 0 && s.proto == wire.ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], sum)
}

// sealIPv4 computes the checksum of an IPv4 header with its options.
func sealIPv4(head []byte) {
	head[10], head[11] = 0, 0
	binary.BigEndian.PutUint16(head[10:], ^wire.Fold(wire.Sum(head, 0)))
}
