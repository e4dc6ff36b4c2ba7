package frag

import (
	"encoding/binary"
	"math/bits"

	"naru/internal/wire"
)

// Lengths are counted in bytes and in units of 8 bytes, which is what offsets in headers count (RFC 791 3.1).
const (
	unit       = 8
	maxPacket  = 65535 // bytes of an IPv4 packet, and of the payload of an IPv6 packet
	headerLen6 = 8     // of the fragment header
)

// key names a datagram.
type key struct {
	src, dst wire.Addr
	id       uint32
	version  uint8
	proto    uint8 // 0 in IPv6
}

// piece is what a fragment says: the datagram, and which bytes of it the fragment has.
type piece struct {
	key
	from, to int
	more     bool
}

// read reads the headers of a fragment; false when no sender could have meant it so.
func read(p *wire.Packet) (pc piece, ok bool) {
	pc.key = key{src: p.Flow.Src, dst: p.Flow.Dst, version: p.Version}
	pc.id, pc.from, pc.more = p.Fragment()
	data := p.FragmentData()
	headers := data - p.L3
	if p.Version == 4 {
		pc.proto = p.Proto
	} else {
		headers -= wire.IPv6Len + headerLen6 // the length of an IPv6 packet does not count its header
	}
	n := p.End - data
	pc.to = pc.from + n
	return pc, n > 0 && !(pc.more && n%unit != 0) && headers+pc.to <= maxPacket
}

// units returns the range of units that the piece has.
func (pc *piece) units() (from, to int) { return pc.from / unit, (pc.to + unit - 1) / unit }

// The index is chained: the first datagram of a bucket, and the next of each. The hash is keyed, so that nobody outside
// can fill one bucket.

func (t *Table) bucket(k *key) uint32 {
	le := binary.LittleEndian
	rest := uint64(k.id)<<16 | uint64(k.version)<<8 | uint64(k.proto)
	a := mix(le.Uint64(k.src[8:])^t.secret[0], le.Uint64(k.dst[8:])^t.secret[1])
	b := mix(le.Uint64(k.src[:])^t.secret[2]^rest, le.Uint64(k.dst[:])^t.secret[3])
	return uint32(mix(a^t.secret[3]^rest, b^t.secret[2])) & t.mask
}

// crowd returns the number of the sources among which a datagram's source is counted: those whose address, or /64 of
// IPv6, has the same hash.
func (t *Table) crowd(k *key) uint32 {
	prefix := binary.BigEndian.Uint64(k.src[:])
	if k.version == 4 {
		prefix = binary.BigEndian.Uint64(k.src[8:])
	}
	return uint32(mix(prefix^t.secret[1], uint64(k.version)^t.secret[0])) & t.mask
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

func (t *Table) find(k *key) ID {
	for id := t.buckets[t.bucket(k)]; id != None; id = t.datagrams[id].chain {
		if t.datagrams[id].key == *k {
			return id
		}
	}
	return None
}
