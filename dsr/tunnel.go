package dsr

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"naru/internal/wire"
)

// Kind is what a tunnel puts around a packet.
type Kind uint8

// The kinds.
const (
	IPIP Kind = iota // an IP header (RFC 2003, RFC 2473, RFC 4213)
	GUE              // an IP and a UDP header, in variant 0 a GUE header too (draft-ietf-intarea-gue)
)

// What tunnels are made of: protocol numbers (IANA), lengths in bytes.
const (
	protoIPv4 = 4
	protoIPv6 = 41
	gueLen    = 4

	maxOverhead = wire.IPv6Len + wire.UDPLen + gueLen
)

// Our own choices.
const (
	outerTTL   = 64
	guePortMin = 49152 // source ports of GUE: the dynamic ones (RFC 6335 6)
	guePorts   = 65536 - guePortMin
)

// TunnelConfig says how packets to one backend are wrapped.
type TunnelConfig struct {
	Kind Kind
	// Source is where outer packets come from: one address (/32, /128), or a prefix over which flows are spread. Of a
	// prefix the first and, for IPv4, the last address are left out where it has more than two.
	Source netip.Prefix
	// Dst is the backend's address; its family is that of the outer header.
	Dst netip.Addr
	// Port is the destination port of GUE, and Variant its variant: 0 with a GUE header, 1 with the IP packet directly
	// behind UDP.
	Port    uint16
	Variant uint8
}

// Tunnel wraps packets to one backend. It is a plain value, made by NewTunnel; the zero value wraps nothing.
type Tunnel struct {
	head    [maxOverhead]byte // the outer headers, with zeros where the packet decides
	size    int               // of head
	src4    uint32            // of an IPv4 header: the source, with zeros where the flow decides,
	dst4    uint32            // and the destination
	spread  uint32            // the bits of the source that the flow decides
	version uint8             // of the outer header
	udp     int               // where the UDP header is in head; 0: none
	gue     int               // where the GUE header is in head; 0: none
	port    uint16            // destination of GUE
	last    bool              // the last address of the source prefix is not to be used
}

// NewTunnel makes a tunnel, or says which part of its configuration cannot be.
func NewTunnel(c TunnelConfig) (Tunnel, error) {
	dst := c.Dst.Unmap()
	switch {
	case !dst.IsValid() || dst.IsUnspecified() || dst.IsMulticast():
		return Tunnel{}, fmt.Errorf("dsr: tunnel: destination %v is no address of one machine", c.Dst)
	case !c.Source.IsValid() || c.Source.Addr().Is4() != dst.Is4():
		return Tunnel{}, fmt.Errorf("dsr: tunnel to %v: source %v is not of the same family", dst, c.Source)
	case c.Source.Addr().IsUnspecified() || c.Source.Addr().IsMulticast():
		return Tunnel{}, fmt.Errorf("dsr: tunnel to %v: nothing comes from source %v", dst, c.Source)
	case c.Kind > GUE:
		return Tunnel{}, fmt.Errorf("dsr: tunnel to %v: kind %d is unknown", dst, c.Kind)
	case c.Kind == GUE && (c.Port == 0 || c.Variant > 1):
		return Tunnel{}, fmt.Errorf("dsr: tunnel to %v: GUE has no port %d or no variant %d", dst, c.Port, c.Variant)
	}
	src := c.Source.Masked().Addr()
	t := Tunnel{version: 6, size: wire.IPv6Len}
	hostBits := src.BitLen() - c.Source.Bits()
	t.spread = uint32(1)<<min(hostBits, 32) - 1 // 1<<32 is 0 here, and 0-1 all ones
	if dst.Is4() {
		t.version, t.size = 4, wire.IPv4Len
		t.last = hostBits > 1
		t.head[0], t.head[8] = 0x45, outerTTL
		copy(t.head[12:], src.AsSlice())
		copy(t.head[16:], dst.AsSlice())
		t.src4, t.dst4 = binary.BigEndian.Uint32(t.head[12:]), binary.BigEndian.Uint32(t.head[16:])
	} else {
		t.head[0], t.head[7] = 0x60, outerTTL
		copy(t.head[8:], src.AsSlice())
		copy(t.head[24:], dst.AsSlice())
	}
	if c.Kind == GUE {
		t.addUDP(c.Port, c.Variant)
	}
	return t, nil
}

func (t *Tunnel) addUDP(port uint16, variant uint8) {
	if t.version == 4 {
		t.head[9] = wire.ProtoUDP
	} else {
		t.head[6] = wire.ProtoUDP
	}
	t.udp, t.port = t.size, port
	binary.BigEndian.PutUint16(t.head[t.udp+2:], port)
	t.size += wire.UDPLen
	if variant == 0 {
		t.gue = t.size
		t.size += gueLen
	}
}

// Overhead returns how many bytes the outer headers add to a packet: 20 or 40, and for GUE 8 or 12 more.
func (t *Tunnel) Overhead() int { return t.size }

// source returns the bits of the source address that the flow decides. The first address of a prefix is the network's
// (RFC 1812 5.3.5.3) or an anycast one (RFC 4291 2.6.1), the last one of IPv4 a broadcast; a prefix of two has neither
// (RFC 3021, RFC 6164).
func (t *Tunnel) source(h uint32) uint32 {
	h &= t.spread
	if t.spread > 1 && (h == 0 || h == t.spread && t.last) {
		h ^= 1
	}
	return h
}
