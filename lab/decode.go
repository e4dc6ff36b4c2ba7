package lab

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"naru/lab/server"
)

// Numbers of linux/if_ether.h, linux/in.h and of the drafts and RFCs that docs/rfc.md lists.
const (
	ethernetLen = 14
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	protoIPv4   = 4
	protoTCP    = 6
	protoUDP    = 17
	protoIPv6   = 41
	guePort     = 6080
)

// sighting is one TCP packet of the web service as it was seen on one cable.
type sighting struct {
	at             time.Time
	srcMAC, dstMAC [6]byte
	outer          *outerHeader // of a tunnel; nil for a packet that travels by itself
	src, dst       netip.AddrPort
	ttl, dscp      uint8
	kind           string // what the packet is for: a TCP flag, or data
	seq, ack       uint32
	payload        []byte
	frame          []byte // all of it
	inner          int    // where the IP header is in it that is not a tunnel's
}

// outerHeader is the header that a tunnel has put in front of a packet.
type outerHeader struct {
	kind     string // IPIP or GUE
	src, dst netip.Addr
	srcPort  uint16 // of GUE
	dstPort  uint16
	ttl      uint8
	dscp     uint8
}

// ipHeader is what is read from an IP header of either version, extension headers apart.
type ipHeader struct {
	version   int
	src, dst  netip.Addr
	ttl, dscp uint8
	ecn       uint8
	proto     uint8
	length    int // of the header
	total     int // of the packet, as it says itself
	fragment  bool
}

// readIP reads an IP header. The packet may be cut behind its headers.
func readIP(b []byte) (h ipHeader, ok bool) {
	be := binary.BigEndian
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		h = ipHeader{version: 4, ttl: b[8], dscp: b[1] >> 2, ecn: b[1] & 3, proto: b[9], length: int(b[0]&15) * 4,
			total: int(be.Uint16(b[2:])), fragment: be.Uint16(b[6:])&0x3fff != 0,
			src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:]))}
	case len(b) >= 40 && b[0]>>4 == 6:
		class := uint8(be.Uint16(b) >> 4)
		h = ipHeader{version: 6, ttl: b[7], dscp: class >> 2, ecn: class & 3, proto: b[6], length: 40,
			total: 40 + int(be.Uint16(b[4:])), fragment: b[6] == 44,
			src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:]))}
	default:
		return h, false
	}
	return h, h.length >= 20 && len(b) >= h.length
}

// unwrap looks for a tunnel's headers in front of an IP packet. inner is where the packet begins that is not a
// tunnel's.
func unwrap(b []byte, at int) (outer *outerHeader, inner int) {
	h, ok := readIP(b[at:])
	if !ok || h.fragment {
		return nil, at
	}
	outer = &outerHeader{kind: "IPIP", src: h.src, dst: h.dst, ttl: h.ttl, dscp: h.dscp}
	inner = at + h.length
	switch {
	case h.proto == protoIPv4 || h.proto == protoIPv6:
		return outer, inner
	case h.proto != protoUDP || len(b) < inner+12 || binary.BigEndian.Uint16(b[inner+2:]) != guePort:
		return nil, at
	}
	outer.kind, outer.srcPort, outer.dstPort = "GUE", binary.BigEndian.Uint16(b[inner:]), guePort
	inner += 8
	if b[inner]>>6 == 0 { // variant 0 has a header of its own, variant 1 begins with that of the IP packet
		inner += 4 + int(b[inner]&31)*4
	}
	return outer, inner
}

// network returns where the IP header of an Ethernet frame is, behind a VLAN tag if it has one.
func network(frame []byte) (at int, ok bool) {
	if len(frame) < ethernetLen {
		return 0, false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4, etherIPv6:
		return ethernetLen, true
	}
	return 0, false
}

// parseSighting reads a TCP packet to or from the port of the web service, also inside a tunnel.
func parseSighting(now time.Time, frame []byte) (sighting, bool) {
	at, ok := network(frame)
	if !ok {
		return sighting{}, false
	}
	s := sighting{at: now, dstMAC: [6]byte(frame), srcMAC: [6]byte(frame[6:])}
	s.outer, s.inner = unwrap(frame, at)
	if s.inner > len(frame) {
		return sighting{}, false
	}
	h, ok := readIP(frame[s.inner:])
	tcp := s.inner + h.length
	if !ok || h.proto != protoTCP || len(frame) < tcp+20 {
		return sighting{}, false
	}
	t, be := frame[tcp:], binary.BigEndian
	s.src, s.dst = netip.AddrPortFrom(h.src, be.Uint16(t)), netip.AddrPortFrom(h.dst, be.Uint16(t[2:]))
	if s.src.Port() != server.HTTPPort && s.dst.Port() != server.HTTPPort {
		return sighting{}, false
	}
	s.ttl, s.dscp, s.seq, s.ack = h.ttl, h.dscp, be.Uint32(t[4:]), be.Uint32(t[8:])
	end, data := min(len(frame), s.inner+h.total), tcp+int(t[12]>>4)*4
	s.frame = slices.Clone(frame)
	s.payload = s.frame[min(data, end):end]
	s.kind = kindOf(t[13], len(s.payload))
	return s, true
}

// TCP flags, RFC 9293.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	_
	flagACK
)

// kindOf says what a segment is for.
func kindOf(flags byte, payload int) string {
	switch {
	case flags&flagRST != 0:
		return "RST"
	case flags&flagSYN != 0 && flags&flagACK != 0:
		return "SYN-ACK"
	case flags&flagSYN != 0:
		return "SYN"
	case payload > 0:
		return "data"
	case flags&flagFIN != 0:
		return "FIN"
	}
	return "ACK"
}

// request reports whether the packet travels towards a service.
func (s *sighting) request() bool { return s.dst.Port() == server.HTTPPort }
