package dsr

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Bits of the first 16-bit word of an IP header.
const (
	dscpBits4, dscpShift4 = 0x00fc, 2
	dscpBits6, dscpShift6 = 0x0fc0, 6
)

// Mark sends a packet to a backend by its own address: the destination becomes backend, which is of the packet's version,
// the DSCP (0 to 63) becomes the value that names the VIP there, and the TTL or hop limit is lowered by one. ECN stays.
// Checksums change by what changed, an unfinished one stays unfinished, a UDP checksum of zero stays zero. Of a later
// fragment only the IP header changes. The packet's Flow still tells what came in.
func Mark(p *wire.Packet, backend *wire.Addr, dscp uint8) {
	d := p.Bytes()
	ip := d[p.L3:]
	be := binary.BigEndian
	delta := wire.Delta(0).AddAddr(&p.Flow.Dst, backend, p.Version)
	first := be.Uint16(ip)
	if p.Version == 4 {
		marked := first&^dscpBits4 | uint16(dscp)<<dscpShift4&dscpBits4
		ttl := be.Uint16(ip[8:])
		be.PutUint16(ip, marked)
		be.PutUint16(ip[8:], ttl-0x100)
		be.PutUint16(ip[10:], delta.Add16(first, marked).Add16(ttl, ttl-0x100).Apply(be.Uint16(ip[10:])))
		copy(ip[16:20], backend[12:])
	} else {
		be.PutUint16(ip, first&^dscpBits6|uint16(dscp)<<dscpShift6&dscpBits6)
		ip[7]--
		copy(ip[24:40], backend[:])
	}
	if p.Frag != wire.LaterFragment {
		addressesChanged(p, d[p.L4:p.End], delta)
	}
}

// addressesChanged keeps the checksum of a transport header that has the addresses in its sum.
func addressesChanged(p *wire.Packet, t []byte, delta wire.Delta) {
	at := 0
	switch {
	case p.Proto == wire.ProtoTCP:
		at = 16
	case p.Proto == wire.ProtoUDP:
		at = 6
	case p.Proto == wire.ProtoICMPv6 && p.Version == 6:
		at = 2
	default:
		return
	}
	sum := binary.BigEndian.Uint16(t[at:])
	switch {
	case p.Unfinished():
		sum = delta.ApplyUnfinished(sum)
	case p.Proto == wire.ProtoUDP:
		sum = delta.ApplyUDP(sum)
	default:
		sum = delta.Apply(sum)
	}
	binary.BigEndian.PutUint16(t[at:], sum)
}
