package nat

import (
	"encoding/binary"

	"naru/internal/wire"
)

// TranslateError rewrites an ICMP error and the packet that it quotes (RFC 5508 4.2): the outer addresses to src and dst,
// the quoted flow to quoted. The quoted checksums change by what changed where they are in the quote; the outer ones are
// made anew, so the caller has checked before that the ICMP checksum was right. The outer TTL or hop limit is lowered, the
// quoted one is left as it was.
func TranslateError(p *wire.Packet, q *wire.Quote, src, dst *wire.Addr, quoted *Tuple) {
	d := p.Bytes()
	delta := wire.Delta(0).AddAddr(&q.Flow.Src, quoted.Src, q.Version).AddAddr(&q.Flow.Dst, quoted.Dst, q.Version)
	be := binary.BigEndian
	ip, t := d[q.L3:], d[q.L4:q.End]
	if q.Version == 4 {
		copy(ip[12:16], quoted.Src[12:])
		copy(ip[16:20], quoted.Dst[12:])
		be.PutUint16(ip[10:], delta.Apply(be.Uint16(ip[10:])))
	} else {
		copy(ip[8:24], quoted.Src[:])
		copy(ip[24:40], quoted.Dst[:])
	}
	delta = delta.Add16(q.Flow.SrcPort, quoted.SrcPort).Add16(q.Flow.DstPort, quoted.DstPort)
	be.PutUint16(t, quoted.SrcPort)
	be.PutUint16(t[2:], quoted.DstPort)
	switch {
	case q.Flow.Proto == wire.ProtoUDP:
		be.PutUint16(t[6:], delta.ApplyUDP(be.Uint16(t[6:])))
	case len(t) >= 18:
		be.PutUint16(t[16:], delta.Apply(be.Uint16(t[16:])))
	}
	outer := d[p.L3:]
	if p.Version == 4 {
		rewriteIPv4(outer, &Tuple{Src: src, Dst: dst})
	} else {
		copy(outer[8:24], src[:])
		copy(outer[24:40], dst[:])
		outer[7]--
	}
	p.SealICMP()
}
