package nat

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Tuple is what a translation writes: both ends of a flow. The addresses are only read.
type Tuple struct {
	Src, Dst         *wire.Addr
	SrcPort, DstPort uint16
}

// Translate rewrites both ends of a TCP or UDP packet, or of a fragment of one as far as it has them, lowers its TTL or hop
// limit by one and keeps its checksums as right as they were. The packet's Flow still tells what came in.
func Translate(p *wire.Packet, to *Tuple) {
	d := p.Bytes()
	ip, t := d[p.L3:], d[p.L4:]
	var delta wire.Delta
	if p.Version == 4 {
		delta = rewriteIPv4(ip, to)
	} else {
		delta = wire.Delta(0).AddAddr(&p.Flow.Src, to.Src, 6).AddAddr(&p.Flow.Dst, to.Dst, 6)
		copy(ip[8:24], to.Src[:])
		copy(ip[24:40], to.Dst[:])
		ip[7]--
	}
	if p.Frag == wire.LaterFragment {
		return // its ports and checksum are in the first one
	}
	at := 16
	if p.Proto == wire.ProtoUDP {
		at = 6
	}
	sum := binary.BigEndian.Uint16(t[at:])
	if p.Unfinished() {
		sum = delta.ApplyUnfinished(sum)
	} else {
		delta = delta.Add16(p.Flow.SrcPort, to.SrcPort).Add16(p.Flow.DstPort, to.DstPort)
		if p.Proto == wire.ProtoUDP {
			sum = delta.ApplyUDP(sum)
		} else {
			sum = delta.Apply(sum)
		}
	}
	binary.BigEndian.PutUint16(t[at:], sum)
	binary.BigEndian.PutUint16(t, to.SrcPort)
	binary.BigEndian.PutUint16(t[2:], to.DstPort)
}

// rewriteIPv4 writes the addresses, lowers the TTL, and returns the change of the addresses.
func rewriteIPv4(ip []byte, to *Tuple) wire.Delta {
	be := binary.BigEndian
	src, dst := be.Uint32(to.Src[12:]), be.Uint32(to.Dst[12:])
	delta := wire.Delta(0).Add32(be.Uint32(ip[12:]), src).Add32(be.Uint32(ip[16:]), dst)
	be.PutUint32(ip[12:], src)
	be.PutUint32(ip[16:], dst)
	ttl := be.Uint16(ip[8:])
	be.PutUint16(ip[8:], ttl-0x100)
	be.PutUint16(ip[10:], delta.Add16(ttl, ttl-0x100).Apply(be.Uint16(ip[10:])))
	return delta
}
