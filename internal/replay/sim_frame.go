package replay

import (
	"encoding/binary"

	"naru/internal/link/pcapfile"
	"naru/internal/wire"
)

// segment is a TCP segment or a UDP datagram at an end.
type segment struct {
	flow     wire.Flow
	seq, ack uint32
	flags    uint8
	payload  []byte
}

// length is how much of the sequence space a segment takes.
func (g *segment) length() uint32 {
	n := uint32(len(g.payload))
	if g.flags&wire.SYN != 0 {
		n++
	}
	if g.flags&wire.FIN != 0 {
		n++
	}
	return n
}

// parseSegment reads an unfragmented TCP or UDP packet.
func parseSegment(frame []byte) (g segment, ok bool) {
	p := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if p.ParseLink() != wire.ReasonNone {
		return g, false
	}
	return segmentOf(&p)
}

func segmentOf(p *wire.Packet) (g segment, ok bool) {
	if p.ParseNetwork() != wire.ReasonNone || p.Version == 0 || p.Frag != wire.Whole ||
		p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return g, false
	}
	t := p.Transport()
	g.flow = p.Flow
	if p.Proto == wire.ProtoUDP {
		g.payload = t[wire.UDPLen:]
		return g, true
	}
	g.seq, g.ack = p.Seq()
	g.flags, g.payload = p.TCPFlags, t[int(t[12]>>4)*4:]
	return g, true
}

// Protocol numbers of what travels in an IP packet (IANA).
const (
	protoIPv4 = 4
	protoIPv6 = 41
)

// unwrap reads what a backend gets: out of a tunnel, with the VIP that a DSCP stands for.
func (s *simulation) unwrap(frame []byte) (g segment, ok bool) {
	p := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Version == 0 || p.Frag != wire.Whole {
		return g, false
	}
	inner := p.Transport()
	switch {
	case p.Proto == protoIPv4 || p.Proto == protoIPv6:
	case p.Proto == wire.ProtoUDP && s.guePort[p.Flow.DstPort] && !s.r.legs.vips[p.Flow.Dst]:
		inner = inner[wire.UDPLen:]
		if len(inner) >= 4 && inner[0]>>6 == 0 { // variant 0: a header in front
			inner = inner[min(len(inner), 4+int(inner[0]&0x1f)*4):]
		}
	default:
		ip := p.IP()
		dscp := ip[1] >> 2
		if p.Version == 6 {
			dscp = uint8(binary.BigEndian.Uint16(ip) >> 6 & 0x3f)
		}
		if g, ok = segmentOf(&p); ok && dscp != 0 {
			if vip, marked := s.marks[mark{g.flow.Dst, dscp}]; marked {
				g.flow.Dst = vip
			}
		}
		return g, ok
	}
	whole, ok := pcapfile.AppendEthernet(nil, pcapfile.LinkRaw, inner)
	if !ok {
		return g, false
	}
	return parseSegment(whole)
}

// build makes the Ethernet frame of a segment; naru's side fills in the destination.
func build(g *segment, from wire.MAC) []byte {
	be := binary.BigEndian
	b := make([]byte, 6, 128+len(g.payload))
	b = append(b, from[:]...)
	transport := wire.TCPLen
	if g.flow.Proto == wire.ProtoUDP {
		transport = wire.UDPLen
	}
	n := transport + len(g.payload)
	if g.flow.Src.Is4() {
		b = be.AppendUint16(b, wire.TypeIPv4)
		b = append(b, 0x45, 0)
		b = be.AppendUint16(b, uint16(wire.IPv4Len+n))
		b = append(b, 0, 0, 0x40, 0, 64, g.flow.Proto, 0, 0) // DF
		b = append(append(b, g.flow.Src[12:]...), g.flow.Dst[12:]...)
		ip := b[wire.EthernetLen:]
		be.PutUint16(ip[10:], ^wire.Fold(wire.Sum(ip, 0)))
	} else {
		b = be.AppendUint16(b, wire.TypeIPv6)
		b = append(b, 0x60, 0, 0, 0)
		b = be.AppendUint16(b, uint16(n))
		b = append(append(append(b, g.flow.Proto, 64), g.flow.Src[:]...), g.flow.Dst[:]...)
	}
	at := len(b)
	b = be.AppendUint16(be.AppendUint16(b, g.flow.SrcPort), g.flow.DstPort)
	sum := at + 6
	if g.flow.Proto == wire.ProtoUDP {
		b = be.AppendUint16(b, uint16(n))
		b = append(b, 0, 0)
	} else {
		b = be.AppendUint32(be.AppendUint32(b, g.seq), g.ack)
		b = append(b, 5<<4, g.flags, 0xff, 0xff, 0, 0, 0, 0)
		sum = at + 16
	}
	b = append(b, g.payload...)
	value := ^wire.Fold(wire.Sum(b[at:], wire.PseudoSum(b[wire.EthernetLen:], g.flow.Proto, n)))
	if value == 0 && g.flow.Proto == wire.ProtoUDP {
		value = 0xffff
	}
	be.PutUint16(b[sum:], value)
	return b
}

// acknowledge writes an acknowledgement number into a captured segment and keeps its checksum as right as it was.
func acknowledge(frame []byte, ack uint32) {
	p := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.TCPFlags&wire.ACK == 0 {
		return
	}
	be, t := binary.BigEndian, p.Transport()
	sum := wire.Delta(0).Add32(be.Uint32(t[8:]), ack).Apply(be.Uint16(t[16:]))
	be.PutUint32(t[8:], ack)
	be.PutUint16(t[16:], sum)
}
