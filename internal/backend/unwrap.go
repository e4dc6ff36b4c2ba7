package backend

import (
	"encoding/binary"
	"net/netip"

	"naru/internal/wire"
)

// drop is why the decapsulator refused a packet; unwrapped is none.
type drop uint8

const (
	unwrapped  drop = iota
	dropSource      // the outer source is not one of --from
	dropHeader      // the GUE header is short, a control message, has options, or says something else than IP
	dropShort       // the inner packet is cut off, or its lengths contradict each other
	dropFamily      // the inner packet is not what the outer header says
	dropNested      // a tunnel in the tunnel
	dropVIP         // the inner destination is not a VIP
	dropInner       // the inner source cannot be, or is a VIP
	dropECN         // congestion was marked on a packet whose ends do not know ECN (RFC 6040 4.2)
	dropWrite       // the kernel did not take the inner packet
	drops
)

// dropNames are the names of the counters.
var dropNames = [drops]string{"delivered", "outer_source", "gue_header", "inner_short", "inner_family", "nested",
	"not_a_vip", "martian_source", "ecn", "write_failed"}

// filter says which packets a decapsulator takes. It is replaced as a whole when addresses on lo change.
type filter struct {
	vips []netip.Addr
	from []netip.Prefix
}

func (f *filter) source(outer netip.Addr) bool {
	if len(f.from) == 0 {
		return true
	}
	for _, p := range f.from {
		if p.Contains(outer) {
			return true
		}
	}
	return false
}

func (f *filter) isVIP(a netip.Addr) bool {
	for _, v := range f.vips {
		if v == a {
			return true
		}
	}
	return false
}

// openGUE returns the IP packet behind a GUE header and the protocol number that the header gives it; variant 1 has no
// header, the packet's version says what it is. What this end does not understand is refused, as the draft wants.
func openGUE(b []byte) (inner []byte, proto uint8, why drop) {
	if len(b) < gueLen {
		return nil, 0, dropHeader
	}
	switch b[0] >> 4 {
	case 4:
		return b, protoIPv4, unwrapped
	case 6:
		return b, protoIPv6, unwrapped
	}
	// Variant 0 in two bits, control bit, five bits of header length: all zero but for what we refuse.
	if b[0] != 0 || b[2]|b[3] != 0 {
		return nil, 0, dropHeader
	}
	if b[1] != protoIPv4 && b[1] != protoIPv6 {
		return nil, 0, dropHeader
	}
	return b[gueLen:], b[1], unwrapped
}

// openInner checks the packet that was inside, which the outer header calls proto, and returns it without what follows
// it. outerTOS is the outer header's; where congestion was marked on the way the mark is put into the packet (RFC 6040).
func (f *filter) openInner(b []byte, proto, outerTOS uint8) ([]byte, drop) {
	var ok bool
	var src, dst netip.Addr
	var inner uint8
	switch proto {
	case protoIPv4:
		b, src, dst, inner, ok = openIPv4(b)
	case protoIPv6:
		b, src, dst, inner, ok = openIPv6(b)
	}
	switch {
	case !ok && len(b) > 0 && (b[0]>>4 == 4) != (proto == protoIPv4):
		return nil, dropFamily
	case !ok:
		return nil, dropShort
	case inner == protoIPv4 || inner == protoIPv6:
		return nil, dropNested
	case !f.isVIP(dst):
		return nil, dropVIP
	case wire.AddrFrom(src).Martian(b[0]>>4) || f.isVIP(src):
		return nil, dropInner
	}
	if outerTOS&ecnMask == ecnCE && !markCongestion(b) {
		return nil, dropECN
	}
	return b, unwrapped
}

// The two bits of ECN (RFC 3168 5).
const (
	ecnMask = 3
	ecnCE   = 3
)

func openIPv4(b []byte) (packet []byte, src, dst netip.Addr, proto uint8, ok bool) {
	if len(b) < wire.IPv4Len || b[0]>>4 != 4 {
		return b, src, dst, 0, false
	}
	head, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < wire.IPv4Len || total < head || total > len(b) {
		return b, src, dst, 0, false
	}
	return b[:total], netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[9], true
}

func openIPv6(b []byte) (packet []byte, src, dst netip.Addr, proto uint8, ok bool) {
	if len(b) < wire.IPv6Len || b[0]>>4 != 6 {
		return b, src, dst, 0, false
	}
	total := wire.IPv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return b, src, dst, 0, false
	}
	return b[:total], netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[6], true
}

// markCongestion puts the mark "congestion experienced" into a packet; false if its ends do not know ECN.
func markCongestion(ip []byte) bool {
	if ip[0]>>4 == 6 {
		if ip[1]>>4&ecnMask == 0 {
			return false
		}
		ip[1] |= ecnCE << 4
		return true
	}
	if ip[1]&ecnMask == 0 {
		return false
	}
	old := binary.BigEndian.Uint16(ip)
	ip[1] |= ecnCE
	sum := wire.Delta(0).Add16(old, binary.BigEndian.Uint16(ip)).Apply(binary.BigEndian.Uint16(ip[10:]))
	binary.BigEndian.PutUint16(ip[10:], sum)
	return true
}

// unfinished returns where the transport header of an inner packet starts and the offset of its checksum in it, if the
// checksum still holds the sum of the pseudo header only. A receiving kernel that glues segments together (GRO) leaves
// it so, and a raw socket hands out the bytes without saying it.
func unfinished(ip []byte) (start, offset int, yes bool) {
	start, proto := wire.IPv6Len, ip[6]
	if ip[0]>>4 == 4 {
		start, proto = int(ip[0]&0xf)*4, ip[9]
		if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 { // a fragment
			return 0, 0, false
		}
	}
	switch proto {
	case wire.ProtoTCP:
		offset = 16
	case wire.ProtoUDP:
		offset = 6
	default:
		return 0, 0, false
	}
	if len(ip) < start+offset+2 {
		return 0, 0, false
	}
	sum := binary.BigEndian.Uint16(ip[start+offset:])
	return start, offset, sum != 0 && sum == wire.Fold(wire.PseudoSum(ip, proto, len(ip)-start))
}
