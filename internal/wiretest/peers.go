package wiretest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"naru/internal/wire"
)

// KatranWithOurChoices is the packet, from the outer IP header on, that Katran sends with the choices that naru made in its
// own frame: the outer source, of one of the prefixes (IPv4, IPv6), the outer identification, the flow label, and the inner
// TTL, which Katran leaves.
func KatranWithOurChoices(t testing.TB, katran, naru []byte, sources [2]netip.Prefix) []byte {
	t.Helper()
	w, n := bytes.Clone(katran[wire.EthernetLen:]), naru[wire.EthernetLen:]
	inner, prefix := wire.IPv4Len, sources[0]
	source := n[12:16]
	if w[0]>>4 == 6 {
		inner, prefix, source = wire.IPv6Len, sources[1], n[8:24]
		copy(w[1:4], []byte{w[1]&0xf0 | n[1]&0x0f, n[2], n[3]})
		copy(w[8:24], source)
	} else {
		copy(w[4:6], n[4:6])
		copy(w[12:16], source)
		sealIPv4(w)
	}
	if a, _ := netip.AddrFromSlice(source); !prefix.Contains(a) {
		t.Errorf("the outer source %v is not of %v", a, prefix)
	}
	LowerTTL(w[inner:])
	return w
}

// LowerTTL lowers the TTL or hop limit of an IP packet and makes the header's checksum anew.
func LowerTTL(ip []byte) {
	if ip[0]>>4 == 6 {
		ip[7]--
		return
	}
	ip[8]--
	sealIPv4(ip)
}

// Renamed returns a right frame over IPv4 with one address in the place of another, in the header and in what an ICMP error
// quotes whole of a TCP segment, and with all its checksums made anew.
func Renamed(t testing.TB, frame []byte, from, to netip.Addr) []byte {
	t.Helper()
	frame = bytes.ReplaceAll(frame, from.AsSlice(), to.AsSlice())
	ip := frame[wire.EthernetLen:]
	if ip[9] == wire.ProtoICMP {
		sealTCP(ip[wire.IPv4Len+wire.ICMPLen:])
		message := ip[wire.IPv4Len:]
		message[2], message[3] = 0, 0
		binary.BigEndian.PutUint16(message[2:], ^SlowChecksum(message, 0))
		sealIPv4(ip)
	} else {
		sealTCP(ip)
	}
	if err := Wrong(frame); err != nil {
		t.Fatal(err)
	}
	return frame
}

// sealIPv4 makes the checksum of a header without options anew.
func sealIPv4(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^SlowChecksum(ip[:wire.IPv4Len], 0))
}

// sealTCP makes both checksums of a TCP segment over IPv4 anew.
func sealTCP(ip []byte) {
	sealIPv4(ip)
	segment := ip[wire.IPv4Len:]
	segment[16], segment[17] = 0, 0
	start := uint32(SlowChecksum(ip[12:20], uint32(len(segment)+wire.ProtoTCP)))
	binary.BigEndian.PutUint16(segment[16:], ^SlowChecksum(segment, start))
}
