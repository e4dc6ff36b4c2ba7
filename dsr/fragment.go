package dsr

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Lengths in bytes, protocol numbers (IANA) and bits of fragments.
const (
	fragmentLen   = 8 // of the IPv6 fragment header
	protoFragment = 44
	moreFragments = 0x2000
	dontFragment  = 0x4000
	offsetBits    = 0x1fff
	maxIPv4Head   = 60
)

// Fragmenter cuts an IP packet into fragments that fit an MTU. It is a plain value to be used again; between Start and the
// last Next the packet must stay as it is.
type Fragmenter struct {
	link    []byte            // the Ethernet header with its tags; nil: nothing is left
	head    [maxIPv4Head]byte // the IP header of the next fragment
	headLen int
	data    []byte // that is left
	mtu     int
	offset  int // of data in the datagram, in units of 8 bytes
	more    bool
	version uint8
	whole   bool // the packet fits as it is
}

// Start takes the frame of an IP packet at l3, whose headers and checksums are finished, and the MTU in bytes. The caller
// has decided that the packet may be cut: an IPv4 packet without DF, or the outer packet of a tunnel, which is the only
// IPv6 packet that may come here. A packet that is itself a fragment is cut into fragments of the same datagram.
//
// id is the identification of the fragments of a packet that has none, IPv6 or with DF; the fragments do not have DF.
// Start is false for an MTU that leaves no room for 8 bytes, for headers that lie, and for IPv6 with extension headers.
func (fr *Fragmenter) Start(frame []byte, l3, mtu int, id uint32) bool {
	*fr = Fragmenter{mtu: mtu}
	if l3 < 0 || len(frame) < l3+wire.IPv4Len {
		return false
	}
	ip := frame[l3:]
	ok := false
	switch ip[0] >> 4 {
	case 4:
		ok = fr.startIPv4(ip, id)
	case 6:
		ok = fr.startIPv6(ip, id)
	}
	if ok && (fr.whole || (mtu-fr.headLen)&^7 > 0) {
		fr.link = frame[:l3:l3]
	}
	return fr.link != nil
}

func (fr *Fragmenter) startIPv4(ip []byte, id uint32) bool {
	be := binary.BigEndian
	head, total, frag := int(ip[0]&0x0f)*4, int(be.Uint16(ip[2:])), be.Uint16(ip[6:])
	if head < wire.IPv4Len || total < head || total > len(ip) || int(frag&offsetBits)*8+total-head > maxLength {
		return false
	}
	fr.version, fr.headLen, fr.whole = 4, head, total <= fr.mtu
	copy(fr.head[:], ip[:head])
	if frag&dontFragment != 0 && !fr.whole {
		be.PutUint16(fr.head[4:], uint16(id))
	}
	fr.offset, fr.more = int(frag&offsetBits), frag&moreFragments != 0
	fr.data = ip[head:total]
	return true
}

func (fr *Fragmenter) startIPv6(ip []byte, id uint32) bool {
	if len(ip) < wire.IPv6Len {
		return false
	}
	be := binary.BigEndian
	total := wire.IPv6Len + int(be.Uint16(ip[4:]))
	if total > len(ip) {
		return false
	}
	switch ip[6] {
	case protoIPv4, protoIPv6, wire.ProtoUDP:
	default:
		return false
	}
	fr.version, fr.headLen, fr.whole = 6, wire.IPv6Len, total <= fr.mtu
	copy(fr.head[:], ip[:wire.IPv6Len])
	fr.data = ip[wire.IPv6Len:total]
	if !fr.whole {
		fr.head[6] = protoFragment
		fr.head[wire.IPv6Len] = ip[6]
		be.PutUint32(fr.head[wire.IPv6Len+4:], id)
		fr.headLen += fragmentLen
	}
	return true
}

// Next writes the next fragment to dst, from its Ethernet header on, and returns its length; ok is false when there is none
// left, or when dst is too short for it. The Ethernet header and the MTU are room enough.
func (fr *Fragmenter) Next(dst []byte) (n int, ok bool) {
	size := len(fr.data)
	if fr.headLen+size > fr.mtu {
		size = (fr.mtu - fr.headLen) &^ 7
	}
	n = len(fr.link) + fr.headLen + size
	if fr.link == nil || len(dst) < n {
		return 0, false
	}
	copy(dst, fr.link)
	ip := dst[len(fr.link):n]
	copy(ip, fr.head[:fr.headLen])
	copy(ip[fr.headLen:], fr.data[:size])
	fr.data = fr.data[size:]
	if !fr.whole {
		fr.mark(ip, fr.more || len(fr.data) > 0)
	}
	fr.offset += size / 8
	if len(fr.data) == 0 {
		fr.link = nil
	}
	return n, true
}

// mark writes what makes a header the header of a fragment.
func (fr *Fragmenter) mark(ip []byte, more bool) {
	be := binary.BigEndian
	if fr.version == 6 {
		be.PutUint16(ip[4:], uint16(len(ip)-wire.IPv6Len))
		frag := uint16(fr.offset) << 3
		if more {
			frag |= 1
		}
		be.PutUint16(ip[wire.IPv6Len+2:], frag)
		return
	}
	frag := uint16(fr.offset)
	if more {
		frag |= moreFragments
	}
	be.PutUint16(ip[2:], uint16(len(ip)))
	be.PutUint16(ip[6:], frag)
	sealIPv4(ip[:fr.headLen])
	fr.copiedOptions()
}

// copiedOptions makes the header that of a later fragment: of the options only those stay that must be copied (RFC 791
// 3.1), padded to a multiple of 4 bytes. What follows a broken option is left out.
func (fr *Fragmenter) copiedOptions() {
	const end, nop, copied = 0, 1, 0x80
	kept := wire.IPv4Len
	for at := wire.IPv4Len; at < fr.headLen && fr.head[at] != end; {
		if fr.head[at] == nop {
			at++
			continue
		}
		if at+1 == fr.headLen {
			break
		}
		size := int(fr.head[at+1])
		if size < 2 || at+size > fr.headLen {
			break
		}
		if fr.head[at]&copied != 0 {
			kept += copy(fr.head[kept:], fr.head[at:at+size])
		}
		at += size
	}
	for ; kept%4 != 0; kept++ {
		fr.head[kept] = end
	}
	fr.headLen = kept
	fr.head[0] = 0x40 | uint8(kept/4)
}
