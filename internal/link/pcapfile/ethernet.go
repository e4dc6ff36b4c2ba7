package pcapfile

import (
	"encoding/binary"
	"fmt"

	"naru/internal/wire"
)

// LinkType says what a packet of a file begins with. Values: https://www.tcpdump.org/linktypes.html.
type LinkType uint16

// The link types that AppendEthernet knows.
const (
	LinkNull     LinkType = 0   // BSD loopback: an address family in the byte order of the capturing host
	LinkEthernet LinkType = 1   //
	LinkRawBSD   LinkType = 12  // an IP packet, as most systems wrote it
	LinkRawOpen  LinkType = 14  // an IP packet, as OpenBSD wrote it
	LinkRaw      LinkType = 101 // an IP packet
	LinkLoop     LinkType = 108 // OpenBSD loopback: an address family in network byte order
	LinkSLL      LinkType = 113 // Linux "cooked", version 1
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkSLL2     LinkType = 276 // Linux "cooked", version 2
)

var linkNames = map[LinkType]string{LinkNull: "NULL", LinkEthernet: "EN10MB", LinkRawBSD: "RAW", LinkRawOpen: "RAW",
	LinkRaw: "RAW", LinkLoop: "LOOP", LinkSLL: "LINUX_SLL", LinkIPv4: "IPV4", LinkIPv6: "IPV6", LinkSLL2: "LINUX_SLL2"}

// String returns the name of the link type, or its number.
func (l LinkType) String() string {
	if s, ok := linkNames[l]; ok {
		return s
	}
	return fmt.Sprint(uint16(l))
}

// MAC addresses of a frame that AppendEthernet makes where the capture has none: locally administered.
var (
	MadeSource      = [6]byte{0x02, 0x00, 0x5e, 0x00, 0x00, 0x0a}
	MadeDestination = [6]byte{0x02, 0x00, 0x5e, 0x00, 0x00, 0x0b}
)

// Cooked headers.
const (
	sllLen       = 16
	sll2Len      = 20
	sllBroadcast = 1 // packet types
	sllMulticast = 2
)

// AppendEthernet appends a packet of a link type to dst as an Ethernet frame and reports whether it can be one. Ethernet
// stays as it is. A cooked header tells the EtherType, and the source when that is a MAC address; a packet to all goes to
// all. Whatever else an Ethernet header needs is MadeSource and MadeDestination.
func AppendEthernet(dst []byte, link LinkType, data []byte) (frame []byte, ok bool) {
	switch link {
	case LinkEthernet:
		return append(dst, data...), true
	case LinkNull, LinkLoop:
		return appendIP(dst, data, 4)
	case LinkRaw, LinkRawBSD, LinkRawOpen, LinkIPv4, LinkIPv6:
		return appendIP(dst, data, 0)
	case LinkSLL:
		if len(data) < sllLen {
			return dst, false
		}
		return appendCooked(dst, data[1], data[5], data[6:12], data[14:16], data[sllLen:])
	case LinkSLL2:
		if len(data) < sll2Len {
			return dst, false
		}
		return appendCooked(dst, data[10], data[11], data[12:18], data[0:2], data[sll2Len:])
	}
	return dst, false
}

// appendIP tells the family by the packet: the numbers of address families differ between systems.
func appendIP(dst, data []byte, skip int) ([]byte, bool) {
	if len(data) <= skip {
		return dst, false
	}
	etherType := uint16(wire.TypeIPv4)
	switch data[skip] >> 4 {
	case 4:
	case 6:
		etherType = wire.TypeIPv6
	default:
		return dst, false
	}
	dst = append(append(dst, MadeDestination[:]...), MadeSource[:]...)
	return append(binary.BigEndian.AppendUint16(dst, etherType), data[skip:]...), true
}

func appendCooked(dst []byte, kind, macLen byte, mac, etherType, payload []byte) ([]byte, bool) {
	if binary.BigEndian.Uint16(etherType) < 0x600 { // of 802.2 and others that are no EtherType
		return dst, false
	}
	to, from := MadeDestination, MadeSource
	switch kind {
	case sllBroadcast:
		to = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	case sllMulticast:
		to[0] |= 1
	}
	if macLen == 6 && mac[0]&1 == 0 {
		from = [6]byte(mac)
	}
	dst = append(append(dst, to[:]...), from[:]...)
	return append(append(dst, etherType...), payload...), true
}
