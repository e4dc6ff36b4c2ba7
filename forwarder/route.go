package forwarder

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"naru/internal/wire"
)

// routes is a routing table for longest-prefix matches: a map of masked addresses, and the prefix lengths that occur,
// longest first. It is asked once a connection, not once a packet.
type routes struct {
	lengths []uint8 // of prefixes of 128 bits; IPv4 is mapped
	entries map[routeKey]hop
}

type routeKey struct {
	addr wire.Addr
	bits uint8
}

// hop is where a packet goes next.
type hop struct {
	leg     int // -1: nowhere
	gateway wire.Addr
	onLink  bool
}

func compileRoutes(list []Route) routes {
	r := routes{entries: make(map[routeKey]hop, len(list))}
	for _, rt := range list {
		bits := rt.Prefix.Bits()
		if rt.Prefix.Addr().Is4() {
			bits += 96
		}
		key := routeKey{mask(wire.AddrFrom(rt.Prefix.Masked().Addr()), uint8(bits)), uint8(bits)}
		if _, there := r.entries[key]; there {
			continue
		}
		h := hop{leg: rt.Leg, onLink: !rt.Gateway.IsValid()}
		if !h.onLink {
			h.gateway = wire.AddrFrom(rt.Gateway)
		}
		r.entries[key] = h
		if !slices.Contains(r.lengths, key.bits) {
			r.lengths = append(r.lengths, key.bits)
		}
	}
	slices.Sort(r.lengths)
	slices.Reverse(r.lengths)
	return r
}

// lookup returns the leg and the address of the next hop towards dst.
func (r *routes) lookup(dst wire.Addr) (leg int, next wire.Addr, ok bool) {
	v4 := dst.Is4()
	for _, bits := range r.lengths {
		if v4 && bits < 96 {
			break // ::/0 does not match IPv4
		}
		h, found := r.entries[routeKey{mask(dst, bits), bits}]
		if !found {
			continue
		}
		if h.leg < 0 {
			return 0, dst, false
		}
		if h.onLink {
			return h.leg, dst, true
		}
		return h.leg, h.gateway, true
	}
	return 0, dst, false
}

// mask keeps the first bits of an address.
func mask(a wire.Addr, bits uint8) wire.Addr {
	be := binary.BigEndian
	hi, lo := be.Uint64(a[:]), be.Uint64(a[8:])
	if bits <= 64 {
		hi, lo = hi&^(^uint64(0)>>bits), 0
	} else {
		lo &^= ^uint64(0) >> (bits - 64)
	}
	be.PutUint64(a[:], hi)
	be.PutUint64(a[8:], lo)
	return a
}

// prefixContains reports whether an address of the engine lies in a prefix of the configuration.
func prefixContains(p netip.Prefix, a wire.Addr) bool { return p.Contains(a.Netip()) }
