package wire

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address as a plain value: IPv6 as it is, IPv4 in mapped form (::ffff:a.b.c.d, RFC 4291 2.5.5.2).
type Addr [16]byte

// AddrFrom converts an address of the configuration.
func AddrFrom(a netip.Addr) Addr { return a.As16() }

// Addr4 makes an address of four bytes.
func Addr4(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

func (a *Addr) put4(v uint32) {
	binary.BigEndian.PutUint64(a[:], 0)
	binary.BigEndian.PutUint64(a[8:], 0xffff<<32|uint64(v))
}

// Addr6 makes an address of sixteen bytes.
func Addr6(b []byte) Addr { return Addr(b[:16]) }

// Is4 reports whether the address is an IPv4 address.
func (a Addr) Is4() bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}

// Netip converts the address for display.
func (a Addr) Netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// String returns the usual text form.
func (a Addr) String() string { return a.Netip().String() }

// Multicast reports whether the address is a multicast address.
func (a Addr) Multicast() bool {
	if a.Is4() {
		return a[12]&0xf0 == 0xe0
	}
	return a[0] == 0xff
}

// LinkLocal reports whether the address is an IPv6 link-local one.
func (a Addr) LinkLocal() bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// Unspecified reports whether the address is 0.0.0.0 or ::.
func (a Addr) Unspecified() bool { return a == Addr{} || a == Addr{10: 0xff, 11: 0xff} }

// Martian reports whether the address cannot be the source of a packet that crosses a network: 0/8, 127/8, multicast,
// 240/4 (RFC 1122 3.2.1.3, RFC 6890), ::, ::1, multicast, v4-mapped in an IPv6 packet (RFC 4291 2.5.5.2).
func (a Addr) Martian(version uint8) bool {
	if version == 4 {
		return a[12] == 0 || a[12] == 127 || a[12] >= 224
	}
	if a[0] == 0xff {
		return true
	}
	if binary.BigEndian.Uint64(a[:]) != 0 {
		return false
	}
	low := binary.BigEndian.Uint64(a[8:])
	return low <= 1 || low>>32 == 0xffff
}

// MAC is an Ethernet address.
type MAC = [6]byte

// Broadcast is the Ethernet address of everybody.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Flow is the 5-tuple of one direction. It is comparable and holds no pointer.
type Flow struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Reverse returns the flow of the other direction.
func (f *Flow) Reverse() Flow {
	return Flow{Src: f.Dst, Dst: f.Src, SrcPort: f.DstPort, DstPort: f.SrcPort, Proto: f.Proto}
}
