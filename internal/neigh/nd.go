package neigh

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Lengths in bytes of what PutSolicit and PutAdvertise write: an IPv6 header, the message and one link-layer option.
const (
	NDLen = wire.IPv6Len + 24 + 8

	optSource = 1 // source link-layer address (RFC 4861 4.6.1)
	optTarget = 2 // target link-layer address

	flagSolicited = 1 << 30
	flagOverride  = 1 << 29
)

// AllNodes is ff02::1, and AllNodesMAC the Ethernet address that it maps to.
var (
	AllNodes    = wire.Addr{0xff, 0x02, 15: 1}
	AllNodesMAC = wire.MAC{0x33, 0x33, 0, 0, 0, 1}
)

// ND is a neighbour solicitation or advertisement.
type ND struct {
	Advertise bool
	Target    wire.Addr
	MAC       wire.MAC // of the link-layer option
	HasMAC    bool
}

// ParseND reads the ICMPv6 message of a packet that was parsed; ok is false for what RFC 4861 7.1 does not allow, but for
// the checksum, which the caller verifies.
func ParseND(p *wire.Packet) (n ND, ok bool) {
	t := p.Transport()
	if p.TTL() != 255 || len(t) < 24 || t[1] != 0 {
		return n, false
	}
	n = ND{Advertise: t[0] == wire.ICMPv6Advertise, Target: wire.Addr6(t[8:])}
	if n.Target.Multicast() {
		return n, false
	}
	want := byte(optSource)
	if n.Advertise {
		want = optTarget
	}
	for o := t[24:]; len(o) > 0; {
		if len(o) < 8 || o[1] == 0 || len(o) < int(o[1])*8 {
			return n, false
		}
		if o[0] == want && o[1] == 1 {
			n.MAC, n.HasMAC = wire.MAC(o[2:8]), o[2]&1 == 0
		}
		o = o[int(o[1])*8:]
	}
	// A probe of duplicate address detection has no source address, and so no option that tells its MAC address.
	return n, !(p.Flow.Src.Unspecified() && (n.HasMAC || n.Advertise))
}

// SolicitedNode returns the multicast group that an address listens to (RFC 4291 2.7.1), and its Ethernet address.
func SolicitedNode(a wire.Addr) (wire.Addr, wire.MAC) {
	return wire.Addr{0xff, 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]},
		wire.MAC{0x33, 0x33, 0xff, a[13], a[14], a[15]}
}

// PutSolicit writes a neighbour solicitation for target from src at mac to dst into b (NDLen bytes from the IPv6 header).
func PutSolicit(b []byte, src wire.Addr, mac wire.MAC, dst, target wire.Addr) {
	putND(b, src, dst, wire.ICMPv6Solicit, 0, target, optSource, mac)
}

// PutAdvertise writes a neighbour advertisement: target is at mac, and what was known before is wrong. solicited says that
// it answers a question.
func PutAdvertise(b []byte, target wire.Addr, mac wire.MAC, dst wire.Addr, solicited bool) {
	flags := uint32(flagOverride)
	if solicited {
		flags |= flagSolicited
	}
	putND(b, target, dst, wire.ICMPv6Advertise, flags, target, optTarget, mac)
}

func putND(b []byte, src, dst wire.Addr, kind byte, flags uint32, target wire.Addr, option byte, mac wire.MAC) {
	be := binary.BigEndian
	be.PutUint32(b, 6<<28)
	be.PutUint16(b[4:], NDLen-wire.IPv6Len)
	b[6], b[7] = wire.ProtoICMPv6, 255
	copy(b[8:24], src[:])
	copy(b[24:40], dst[:])
	t := b[wire.IPv6Len:NDLen]
	t[0], t[1], t[2], t[3] = kind, 0, 0, 0
	be.PutUint32(t[4:], flags)
	copy(t[8:24], target[:])
	t[24], t[25] = option, 1
	copy(t[26:32], mac[:])
	be.PutUint16(t[2:], ^wire.Fold(wire.Sum(t, wire.PseudoSum(b, wire.ProtoICMPv6, len(t)))))
}

// ProbeLen is the length in bytes of what PutProbe writes.
const ProbeLen = wire.IPv6Len + 24

// PutProbe writes the question of duplicate address detection for target to its solicited-node group (RFC 4862 5.4.2)
// into b, which must have room for NDLen bytes; the first ProbeLen are the packet.
func PutProbe(b []byte, group, target wire.Addr) {
	putND(b, wire.Addr{}, group, wire.ICMPv6Solicit, 0, target, optSource, wire.MAC{})
	be := binary.BigEndian
	be.PutUint16(b[4:], ProbeLen-wire.IPv6Len)
	t := b[wire.IPv6Len:ProbeLen]
	t[2], t[3] = 0, 0
	be.PutUint16(t[2:], ^wire.Fold(wire.Sum(t, wire.PseudoSum(b, wire.ProtoICMPv6, len(t)))))
}

// ReportLen is the length in bytes of what PutReport writes: an IPv6 header, a router alert option and a report of one
// group. ReportMAC is where it goes: ff02::16.
const ReportLen = wire.IPv6Len + 8 + 28

// ReportMAC is the Ethernet address of all MLDv2-capable routers.
var ReportMAC = wire.MAC{0x33, 0x33, 0, 0, 0, 0x16}

const (
	mldReport       = 143 // RFC 9777 5.2
	changeToExclude = 4   // with no source: everything to the group is wanted
)

// PutReport writes an MLDv2 report that src listens to group (RFC 9777 5.2). src is link-local or ::.
func PutReport(b []byte, src, group wire.Addr) {
	be := binary.BigEndian
	be.PutUint32(b, 6<<28)
	be.PutUint16(b[4:], ReportLen-wire.IPv6Len)
	b[6], b[7] = 0, 1 // hop-by-hop options next, hop limit 1
	copy(b[8:24], src[:])
	dst := wire.Addr{0xff, 0x02, 15: 0x16}
	copy(b[24:40], dst[:])
	copy(b[40:48], []byte{wire.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}) // router alert: MLD (RFC 2711), padding
	t := b[48:ReportLen]
	clear(t)
	t[0], t[7], t[8] = mldReport, 1, changeToExclude
	copy(t[12:28], group[:])
	be.PutUint16(t[2:], ^wire.Fold(wire.Sum(t, wire.PseudoSum(b, wire.ProtoICMPv6, len(t)))))
}
