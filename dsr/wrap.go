package dsr

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Wrap puts the tunnel's headers in front of the IP packet at l3, into the frame's headroom. The Ethernet header and the
// VLAN tags between it and l3 move in front of them and get the outer EtherType; what follows the packet is cut off. The
// packet itself stays as it is: its TTL or hop limit is lowered before (wire.Packet.LowerTTL), if at all. flow spreads the
// outer packets of different flows; id is the identification of an outer IPv4 header without DF.
//
// It is false, and the frame as it was, when the packet is not finished, is no IP packet, would become too long (64 KiB),
// or finds too little headroom.
func (t *Tunnel) Wrap(f *wire.Frame, l3 int, flow uint64, id uint16) bool {
	if t.size == 0 || f.Super() || f.Offload.Flags&wire.NeedsCsum != 0 || f.Off < t.size || l3 < wire.EthernetLen {
		return false
	}
	in, ok := look(f.Bytes(), l3)
	if !ok || t.size+in.length > maxLength {
		return false
	}
	from := f.Off
	f.Off -= t.size
	f.Len = l3 + t.size + in.length
	d := f.Bytes()
	if l3 == wire.EthernetLen { // a move of a fixed size, the usual one, is cheaper
		*(*[wire.EthernetLen]byte)(d) = [wire.EthernetLen]byte(f.Buf[from:])
	} else {
		copy(d, f.Buf[from:from+l3])
	}
	outer, h := d[l3:], uint32(flow>>32)^uint32(flow)
	if t.version == 4 {
		binary.BigEndian.PutUint16(d[l3-2:], wire.TypeIPv4)
		t.outer4((*[wire.IPv4Len]byte)(outer), &in, h, id)
		if t.udp > 0 {
			t.gue4(outer[wire.IPv4Len:t.size], &in, h)
		}
	} else {
		binary.BigEndian.PutUint16(d[l3-2:], wire.TypeIPv6)
		copy(outer, t.head[:t.size])
		t.outer6(outer, &in, h)
		if t.udp > 0 {
			t.gue6(outer, &in, h)
		}
	}
	f.Offload = wire.Offload{}
	return true
}

// inner is what the outer headers must know of the packet.
type inner struct {
	length int
	proto  uint8 // as an IP header names it
	tos    uint8 // DSCP and ECN
	df     bool
}

// look reads the header of the IP packet at l3.
func look(d []byte, l3 int) (in inner, ok bool) {
	if len(d) < l3+wire.IPv4Len {
		return in, false
	}
	ip := d[l3:]
	be := binary.BigEndian
	switch ip[0] >> 4 {
	case 4:
		in = inner{int(be.Uint16(ip[2:])), protoIPv4, ip[1], ip[6]&0x40 != 0}
		return in, wire.IPv4Len <= in.length && in.length <= len(ip)
	case 6:
		in = inner{wire.IPv6Len + int(be.Uint16(ip[4:])), protoIPv6, uint8(be.Uint16(ip) >> 4), true}
		return in, in.length <= len(ip)
	}
	return in, false
}

// outer4 writes an IPv4 header in three words, whose sum it takes on the way.
func (t *Tunnel) outer4(ip *[wire.IPv4Len]byte, in *inner, h uint32, id uint16) {
	be := binary.BigEndian
	frag := uint64(id) << 16
	if in.df {
		frag = dontFragment
	}
	proto := in.proto
	if t.udp > 0 {
		proto = wire.ProtoUDP
	}
	first := 0x45<<56 | uint64(in.tos)<<48 | uint64(t.size+in.length)<<32 | frag
	source := uint64(t.src4 | t.source(h))
	life := uint64(outerTTL<<8|uint16(proto)) << 16 // and the checksum
	sum := first>>32 + first&0xffffffff + life + source + uint64(t.dst4)
	be.PutUint64(ip[:], first)
	be.PutUint64(ip[8:], (life|uint64(^wire.Fold(sum)))<<32|source)
	be.PutUint32(ip[16:], t.dst4)
}

func (t *Tunnel) outer6(ip []byte, in *inner, h uint32) {
	be := binary.BigEndian
	label := h & 0xfffff
	if label == 0 {
		label = 1 // 0 says that nobody has labelled the flow (RFC 6437 2)
	}
	be.PutUint32(ip, 6<<28|uint32(in.tos)<<20|label)
	be.PutUint16(ip[4:], uint16(t.size-wire.IPv6Len+in.length))
	if t.udp == 0 {
		ip[6] = in.proto
	}
	be.PutUint32(ip[20:], be.Uint32(ip[20:])|t.source(h))
}

// gue4 writes the headers of GUE over IPv4, in one or two words. The checksum stays 0.
func (t *Tunnel) gue4(udp []byte, in *inner, h uint32) {
	be := binary.BigEndian
	length := uint64(len(udp) + in.length)
	be.PutUint64(udp, uint64(guePort(h))<<48|uint64(t.port)<<32|length<<16)
	if t.gue > 0 {
		be.PutUint32(udp[wire.UDPLen:], uint32(in.proto)<<16) // version 0, no extensions, a data message
	}
}

// gue6 completes the headers of GUE behind a finished outer IPv6 header.
func (t *Tunnel) gue6(ip []byte, in *inner, h uint32) {
	be := binary.BigEndian
	udp := ip[t.udp:]
	be.PutUint16(udp, guePort(h))
	be.PutUint16(udp[4:], uint16(len(udp)))
	if t.gue > 0 {
		ip[t.gue+1] = in.proto
	}
	sum := ^wire.Fold(wire.Sum(udp, wire.PseudoSum(ip, wire.ProtoUDP, len(udp))))
	if sum == 0 {
		sum = 0xffff
	}
	be.PutUint16(udp[6:], sum)
}

// guePort is the source port of a flow.
func guePort(h uint32) uint16 { return uint16(guePortMin + h%guePorts) }
