package wire

import "encoding/binary"

// What the header of a fragment says (RFC 791 3.1, RFC 8200 4.5). These are valid after ParseNetwork returned ReasonNone
// with a Frag other than Whole.

// Fragment returns the datagram's identification, of 16 or 32 bits, the place of the fragment's data in the datagram in
// bytes, and whether more fragments follow it.
func (p *Packet) Fragment() (id uint32, offset int, more bool) {
	be := binary.BigEndian
	if d := p.Bytes(); p.Version == 4 {
		at := be.Uint16(d[p.L3+6:])
		return uint32(be.Uint16(d[p.L3+4:])), int(at&0x1fff) * 8, at&0x2000 != 0
	}
	h := p.Bytes()[p.fragmentHeader():]
	at := be.Uint16(h[2:])
	return be.Uint32(h[4:]), int(at &^ 7), at&1 != 0
}

// FragmentData returns where the fragment's part of the datagram begins, counted from the start of the frame's bytes; it
// reaches to End. In a first fragment of IPv6 more headers may stand between it and L4.
func (p *Packet) FragmentData() int {
	if p.Version == 4 {
		return p.L4
	}
	return p.fragmentHeader() + fragmentLen
}

// fragmentHeader returns the offset of the fragment header of an IPv6 packet.
func (p *Packet) fragmentHeader() int {
	d := p.Bytes()
	next, at := d[p.L3+6], p.L3+IPv6Len
	for next != extFragment {
		next, at = d[at], at+8+int(d[at+1])*8
	}
	return at
}
