package dsr

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Quoted reads the packet that an ICMP error quotes as one of a tunnel: it returns the address that the outer packet was
// sent to and, in f, the flow of the packet inside. False when that is no tunnel's packet, or when not enough is quoted to
// tell the flow.
func Quoted(p *wire.Packet, f *wire.Flow) (end wire.Addr, ok bool) {
	b := p.Bytes()[p.L4+wire.ICMPLen : p.End]
	proto, at, end, ok := quotedHeader(b, p.Version)
	if !ok {
		return end, false
	}
	if b = b[at:]; proto == wire.ProtoUDP {
		if len(b) < wire.UDPLen+1 {
			return end, false
		}
		b = b[wire.UDPLen:]
		switch b[0] >> 4 {
		case 4:
			proto = protoIPv4
		case 6:
			proto = protoIPv6
		default: // a GUE header: its length says where the packet begins
			n := gueLen + int(b[0]&0x1f)*4
			if len(b) < n {
				return end, false
			}
			proto, b = b[1], b[n:]
		}
	}
	return end, innerFlow(b, proto, f)
}

// Sent reports whether the tunnel writes outer headers like those that begin at ip, which Quoted has accepted, for a flow:
// the source and, of GUE, both ports. Who does not see the packets must guess what the flow's hash decides there.
func (t *Tunnel) Sent(ip []byte, flow uint64) bool {
	if t.size == 0 {
		return false
	}
	be, h := binary.BigEndian, uint32(flow>>32)^uint32(flow)
	from, to := 8, 24
	if t.version == 4 {
		from, to = 12, 16
	}
	var source [16]byte
	low := source[copy(source[:], t.head[from:to])-4:]
	be.PutUint32(low, be.Uint32(low)|t.source(h))
	if string(source[:to-from]) != string(ip[from:to]) {
		return false
	}
	return t.udp == 0 || len(ip) >= t.udp+4 && be.Uint16(ip[t.udp:]) == guePort(h) &&
		be.Uint16(ip[t.udp+2:]) == be.Uint16(t.head[t.udp+2:])
}

// quotedHeader reads an IP header: what follows it, where, and where the packet goes. Fragments but the first tell nothing.
func quotedHeader(b []byte, version uint8) (proto uint8, at int, dst wire.Addr, ok bool) {
	if version == 4 {
		if len(b) < wire.IPv4Len || b[0]>>4 != 4 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return 0, 0, dst, false
		}
		at = int(b[0]&0x0f) * 4
		return b[9], at, wire.Addr4(b[16:]), at >= wire.IPv4Len && at <= len(b)
	}
	if len(b) < wire.IPv6Len || b[0]>>4 != 6 {
		return 0, 0, dst, false
	}
	return b[6], wire.IPv6Len, wire.Addr6(b[24:]), true
}

// innerFlow reads the flow of the packet inside.
func innerFlow(b []byte, proto uint8, f *wire.Flow) bool {
	version := uint8(4)
	if proto == protoIPv6 {
		version = 6
	} else if proto != protoIPv4 {
		return false
	}
	transport, at, dst, ok := quotedHeader(b, version)
	if !ok || len(b) < at+4 || transport != wire.ProtoTCP && transport != wire.ProtoUDP {
		return false
	}
	if version == 4 {
		f.Src = wire.Addr4(b[12:])
	} else {
		f.Src = wire.Addr6(b[8:])
	}
	f.Dst, f.Proto = dst, transport
	f.SrcPort, f.DstPort = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	return true
}
