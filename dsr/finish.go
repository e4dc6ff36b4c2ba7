package dsr

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Finish computes the checksum that the packet's offload metadata says is unfinished, and empties the metadata. Metadata
// that points outside of the packet is forgotten: whoever receives the packet finds its checksum wrong. A super-frame is
// left alone: cutting it finishes its segments.
func Finish(p *wire.Packet) {
	if p.Super() || p.Version == 0 {
		return
	}
	o := p.Offload
	p.Offload = wire.Offload{}
	if o.Flags&wire.NeedsCsum == 0 {
		return
	}
	d, start := p.Bytes()[:p.End], int(o.CsumStart)
	at := start + int(o.CsumOffset)
	if start < p.L3 || at+2 > len(d) {
		return
	}
	if p.Proto == wire.ProtoUDP && start == p.L4 && p.Frag == wire.Whole {
		d = d[:start+int(binary.BigEndian.Uint16(d[start+4:]))] // the datagram may end before the packet
		if at+2 > len(d) {
			return
		}
	}
	// The field has the sum of the pseudo header already.
	sum := ^wire.Fold(wire.Sum(d[start:], 0))
	if sum == 0 {
		sum = 0xffff // no other value means the same to every protocol
	}
	binary.BigEndian.PutUint16(d[at:], sum)
}
