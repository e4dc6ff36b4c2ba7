package wire

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b to a running ones' complement sum (RFC 1071). An odd last byte is padded with zero, so that only the last
// piece of a packet may be odd. Fold ends it.
func Sum(b []byte, sum uint64) uint64 {
	for len(b) >= 32 { // four words a turn, their carries in one chain
		var carry uint64
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), carry)
		sum, carry = bits.Add64(sum, carry, 0)
		sum += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		var carry uint64
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	var tail uint64
	switch {
	case len(b) >= 4:
		tail = uint64(binary.BigEndian.Uint32(b)) << 32
		if rest := b[4:]; len(rest) >= 2 {
			tail |= uint64(binary.BigEndian.Uint16(rest)) << 16
			if len(rest) == 3 {
				tail |= uint64(rest[2]) << 8
			}
		} else if len(rest) == 1 {
			tail |= uint64(rest[0]) << 24
		}
	case len(b) >= 2:
		tail = uint64(binary.BigEndian.Uint16(b)) << 48
		if len(b) == 3 {
			tail |= uint64(b[2]) << 40
		}
	case len(b) == 1:
		tail = uint64(b[0]) << 56
	}
	sum, carry := bits.Add64(sum, tail, 0)
	return sum + carry
}

// Fold brings a running sum to 16 bits, not complemented.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// PseudoSum returns the sum of the pseudo header of the packet's transport (RFC 9293 3.1, RFC 8200 8.1) for a transport
// header and payload of length bytes.
func PseudoSum(ip []byte, proto uint8, length int) uint64 {
	sum := uint64(proto) + uint64(length)
	if ip[0]>>4 == 4 {
		return Sum(ip[12:20], sum)
	}
	return Sum(ip[8:40], sum)
}

// Delta is what a rewrite adds to a checksum: the sum of ~m + m' over the words that changed (RFC 1624).
type Delta uint64

// Add16 adds the change of one 16-bit word.
func (d Delta) Add16(old, new uint16) Delta { return d + Delta(^old) + Delta(new) }

// Add32 adds the change of two words at once.
func (d Delta) Add32(old, new uint32) Delta { return d + Delta(^old) + Delta(new) }

// AddAddr adds the change of an address: of its four bytes for version 4, of all sixteen for version 6.
func (d Delta) AddAddr(old, new *Addr, version uint8) Delta {
	d = d.Add32(binary.BigEndian.Uint32(old[12:]), binary.BigEndian.Uint32(new[12:]))
	if version == 4 {
		return d
	}
	for i := 0; i < 12; i += 4 {
		d = d.Add32(binary.BigEndian.Uint32(old[i:]), binary.BigEndian.Uint32(new[i:]))
	}
	return d
}

// Apply returns the checksum hc after the change: HC' = ~(~HC + m~ + m'), equation 3 of RFC 1624.
func (d Delta) Apply(hc uint16) uint16 { return ^Fold(uint64(d) + uint64(^hc)) }

// ApplyUDP is Apply with the two rules of UDP (RFC 768): zero means that no checksum was sent and stays, a computed zero
// is sent as ones.
func (d Delta) ApplyUDP(hc uint16) uint16 {
	if hc == 0 {
		return 0
	}
	if hc = d.Apply(hc); hc == 0 {
		return 0xffff
	}
	return hc
}

// ApplyUnfinished returns the sum of the pseudo header after the change. An unfinished checksum field holds that sum,
// not complemented; d is the change of the addresses only, since ports are not in the pseudo header.
func (d Delta) ApplyUnfinished(sum uint16) uint16 { return Fold(uint64(d) + uint64(sum)) }

// LowerTTL lowers the TTL or hop limit by one, as a router does, and keeps the header checksum as right as it was. The TTL
// must not be 0.
func (p *Packet) LowerTTL() {
	ip := p.IP()
	if p.Version == 6 {
		ip[7]--
		return
	}
	ip[8]--
	// The delta of the word with the TTL is always the same: ~m + m-0x100, or -0x100; subtracting from the sum adds to its
	// complement.
	sum := uint32(binary.BigEndian.Uint16(ip[10:])) + 0x100
	if sum >= 0xffff {
		sum++
	}
	binary.BigEndian.PutUint16(ip[10:], uint16(sum))
}
