// Package steer says which of several workers a packet belongs to, in two languages: as a function of a flow, for the
// engine, and as a classic BPF program, for the kernel, which shares the frames of an interface out by it
// (PACKET_FANOUT_CBPF, packet(7)).
//
// Contract: both directions of a connection have one owner, and so have ICMP errors about either. A flow to a local
// address belongs to the worker whose ports it is addressed to (port % workers: nat.Pool gives each worker those). Every
// other flow belongs to its client: by a keyed hash of the client's address and port alone, since in mode nat a reply shows
// nothing else of the original direction; or, with ByPort, by port % workers, so that full NAT finds the client's own port
// among the worker's. The client is the source, but for what backends of mode nat send to others than VIPs.
//
// The program is exact for whole TCP and UDP packets and for ICMP errors that quote one, without IPv6 extension headers.
// Fragments, and IPv6 packets with extension headers, have no ports that it could find: all between two addresses go to
// one worker (Pair). Everything else, ARP and neighbour discovery too, goes to worker 0. The engine hands over what comes
// to the wrong worker; the program decides about speed only.
//
// A Plan is a value that never changes. The package computes; it opens nothing and knows no device. RFC 791 and RFC 8200
// for the headers; the instructions are those of the BSD packet filter (McCanne, Jacobson 1993; linux/filter.h).
package steer

import (
	"encoding/binary"

	"naru/internal/wire"
)

// Options are what a Plan is made of.
type Options struct {
	Workers int    // at least 1
	Key     uint64 // the secret of the hash
	ByPort  bool   // clients are shared out by their port alone
	Locals  []wire.Addr
	VIPs    []wire.Addr
	Routed  []wire.Addr // backends of mode nat
}

// Plan is how the packets of one configuration are shared out.
type Plan struct {
	opt     Options
	workers uint32
	key     uint32 // where the hash begins
	factor  uint32 // odd
	locals  map[wire.Addr]bool
	vips    map[wire.Addr]bool
	routed  map[wire.Addr]bool
}

// lastFactor mixes the hash once more; it is that of MurmurHash3 (Appleby).
const lastFactor = 0x85ebca6b

// New makes a plan.
func New(o Options) *Plan {
	return &Plan{opt: o, workers: uint32(o.Workers), key: uint32(o.Key), factor: uint32(o.Key>>32) | 1,
		locals: set(o.Locals), vips: set(o.VIPs), routed: set(o.Routed)}
}

func set(addrs []wire.Addr) map[wire.Addr]bool {
	m := make(map[wire.Addr]bool, len(addrs))
	for _, a := range addrs {
		m[a] = true
	}
	return m
}

// Options returns what the plan was made of.
func (p *Plan) Options() Options { return p.opt }

// Owner returns the worker that a flow of TCP or UDP belongs to, from 0, as it arrives: to an ICMP error belongs the
// reverse of the flow that it quotes.
func (p *Plan) Owner(f *wire.Flow) int {
	addr, port := &f.Src, f.SrcPort
	switch {
	case p.workers == 1:
		return 0
	case p.locals[f.Dst]:
		return int(uint32(f.DstPort) % p.workers)
	case len(p.routed) > 0 && p.routed[f.Src] && !p.vips[f.Dst]:
		addr, port = &f.Dst, f.DstPort
	}
	if p.opt.ByPort {
		return int(uint32(port) % p.workers)
	}
	return p.end(p.mix(p.address(addr), uint32(port)))
}

// Pair returns the worker that the fragments between two addresses go to, from 0.
func (p *Plan) Pair(src, dst wire.Addr) int {
	for i := range src {
		src[i] ^= dst[i]
	}
	if !dst.Is4() {
		return p.end(p.words(&src, 0))
	}
	return p.end(p.words(&src, 3))
}

// address hashes an address: the last word of an IPv4 address, all of an IPv6 address.
func (p *Plan) address(a *wire.Addr) uint32 {
	if a.Is4() {
		return p.words(a, 3)
	}
	return p.words(a, 0)
}

func (p *Plan) words(a *wire.Addr, from int) uint32 {
	h := p.key
	for ; from < 4; from++ {
		h = p.mix(h, word(a, from))
	}
	return h
}

// mix takes a word into the hash.
func (p *Plan) mix(h, w uint32) uint32 {
	h = (h ^ w) * p.factor
	return h ^ h>>15
}

// end makes a worker of a hash.
func (p *Plan) end(h uint32) int {
	h *= lastFactor
	return int((h ^ h>>13) % p.workers)
}

// word returns the i-th of the four words of an address.
func word(a *wire.Addr, i int) uint32 { return binary.BigEndian.Uint32(a[4*i:]) }
