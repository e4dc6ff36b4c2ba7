package pcapfile

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/bits"
)

// Blocks and options of pcapng.
const (
	blockSection   = 0x0a0d0d0a // the same in both byte orders
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6

	byteOrderMagic = uint32(0x1a2b3c4d)
	sectionLen     = 28 // of the least section header block
	interfaceLen   = 20
	enhancedLen    = 32
	simpleLen      = 16
	blockLen       = 12 // of the least block

	optEnd        = 0
	optComment    = 1
	optName       = 2
	optResolution = 9
	optFCS        = 13
	optOffset     = 14

	maxOptions = 64 << 10 // bytes of an interface's options that are read
	maxName    = 256      // bytes of an interface's name that are kept
	million    = 1_000_000
	billion    = 1_000_000_000
	maxPower   = 19 // of ten, in 64 bits
)

// firstSection reads the block that every file begins with.
func (r *Reader) firstSection() error {
	err := r.startSection()
	if err == io.EOF {
		err = ErrTruncated
	}
	return err
}

// startSection reads a section header block, which tells the byte order of what follows.
func (r *Reader) startSection() error {
	h, err := r.rest(sectionLen)
	if err != nil {
		return err
	}
	switch byteOrderMagic {
	case binary.LittleEndian.Uint32(h[8:]):
		r.order = binary.LittleEndian
	case binary.BigEndian.Uint32(h[8:]):
		r.order = binary.BigEndian
	default:
		return r.fault("a section without a byte order")
	}
	if major := r.order.Uint16(h[12:]); major != 1 {
		return r.fault("version %d of pcapng is not known", major)
	}
	r.section = len(r.interfaces)
	total, err := r.blockLength(h, sectionLen)
	if err != nil {
		return err
	}
	return r.leave(total, 0)
}

// blockLength returns the length of the block that begins at h.
func (r *Reader) blockLength(h []byte, least int) (int64, error) {
	total := r.order.Uint32(h[4:])
	if int64(total) < int64(least) || total%4 != 0 {
		return 0, r.fault("a block of %d bytes", total)
	}
	return int64(total), nil
}

// leave moves behind a block of which done bytes were moved over, and compares its two lengths.
func (r *Reader) leave(total, done int64) error {
	if err := r.discard(total - done - 4); err != nil {
		return err
	}
	b, err := r.rest(4)
	if err != nil {
		return err
	}
	if again := r.order.Uint32(b); int64(again) != total {
		return r.fault("a block has %d bytes at its begin and %d at its end", total, again)
	}
	r.skip(4)
	return nil
}

// nextBlock reads blocks up to the next packet.
func (r *Reader) nextBlock(p *Packet) error {
	if r.owed > 0 {
		total := r.owed
		r.owed = 0
		if err := r.leave(total, r.owedDone); err != nil {
			return err
		}
	}
	for {
		h, err := r.need(blockLen)
		if err != nil {
			return err
		}
		kind := r.order.Uint32(h)
		if kind == blockSection {
			if err := r.startSection(); err != nil {
				return err
			}
			continue
		}
		total, err := r.blockLength(h, blockLen)
		if err != nil {
			return err
		}
		switch kind {
		case blockInterface:
			err = r.readInterface(total)
		case blockEnhanced, blockPacket:
			return r.readPacket(p, total, kind)
		case blockSimple:
			return r.readSimple(p, total)
		default:
			err = r.leave(total, 0)
		}
		if err != nil {
			return err
		}
	}
}

func (r *Reader) readInterface(total int64) error {
	if total < interfaceLen {
		return r.fault("an interface block of %d bytes", total)
	}
	if len(r.interfaces) >= MaxInterfaces {
		return r.fault("more than %d interfaces", MaxInterfaces)
	}
	b, err := r.rest(int(min(total-4, interfaceLen-4+maxOptions)))
	if err != nil {
		return err
	}
	i := Interface{Link: LinkType(r.order.Uint16(b[8:])), SnapLen: r.order.Uint32(b[12:]), base: million}
	r.options(b[16:], func(code uint16, v []byte) {
		switch {
		case code == optName:
			i.Name = string(v[:min(len(v), maxName)])
		case code == optResolution && len(v) >= 1:
			err = errors.Join(err, i.resolution(v[0], r))
		case code == optFCS && len(v) >= 1:
			i.fcs = int(v[0])
		case code == optOffset && len(v) >= 8:
			i.offset = int64(r.order.Uint64(v))
		}
	})
	if err != nil {
		return err
	}
	r.interfaces = append(r.interfaces, i)
	return r.leave(total, 0)
}

func (i *Interface) resolution(v byte, r *Reader) error {
	power := uint(v & 0x7f)
	if v&0x80 != 0 {
		if power > 63 {
			return r.fault("a resolution of 2^-%d seconds", power)
		}
		i.base, i.shift = 0, power
		return nil
	}
	if power > maxPower {
		return r.fault("a resolution of 10^-%d seconds", power)
	}
	for i.base = 1; power > 0; power-- {
		i.base *= 10
	}
	return nil
}

// time converts ticks to nanoseconds since 1970; what does not fit is the last instant.
func (i *Interface) time(ticks uint64) int64 {
	hi, lo := bits.Mul64(ticks, billion)
	switch {
	case i.base == 0:
		if hi>>i.shift != 0 {
			return math.MaxInt64
		}
		if i.shift > 0 {
			lo = lo>>i.shift | hi<<(64-i.shift)
		}
	case hi >= i.base:
		return math.MaxInt64
	default:
		lo, _ = bits.Div64(hi, lo, i.base)
	}
	at := int64(min(lo, math.MaxInt64))
	over, off := bits.Mul64(uint64(max(i.offset, -i.offset)), billion)
	if over != 0 || off > math.MaxInt64 {
		return at
	}
	if i.offset < 0 {
		return at - int64(off)
	}
	if at > math.MaxInt64-int64(off) {
		return math.MaxInt64
	}
	return at + int64(off)
}

// readPacket reads an enhanced packet block or the obsolete packet block; both have 28 bytes before the data.
func (r *Reader) readPacket(p *Packet, total int64, kind uint32) error {
	const ahead = enhancedLen - 4
	h, err := r.rest(ahead)
	if err != nil {
		return err
	}
	number := int64(r.order.Uint32(h[8:]))
	if kind == blockPacket {
		number = int64(r.order.Uint16(h[8:]))
	}
	ticks := uint64(r.order.Uint32(h[12:]))<<32 | uint64(r.order.Uint32(h[16:]))
	captured, length := r.order.Uint32(h[20:]), r.order.Uint32(h[24:])
	padded := (int64(captured) + 3) &^ 3
	switch {
	case number >= int64(len(r.interfaces)-r.section):
		return r.fault("a packet of interface %d, which the section does not have", number)
	case captured > MaxPacket || ahead+padded > total-4:
		return r.fault("a packet of %d captured bytes in a block of %d", captured, total)
	}
	there := min(total, ahead+padded+maxOptions) // usually all of it
	b, err := r.rest(int(there))
	if err != nil {
		return err
	}
	i := &r.interfaces[r.section+int(number)]
	r.last = i.time(ticks)
	*p = Packet{Time: r.last, Timed: true, Interface: r.section + int(number), Link: i.Link,
		Data: b[ahead : ahead+int(captured)], Length: int(max(length, captured))}
	if options := b[ahead+padded : min(there, total-4)]; len(options) > 0 {
		r.options(options, func(code uint16, v []byte) {
			if code == optComment && p.Comment == nil {
				p.Comment = v
			}
		})
	}
	i.cut(p)
	return r.lend(total, there)
}

// readSimple reads a simple packet block: of the section's first interface, without a time.
func (r *Reader) readSimple(p *Packet, total int64) error {
	const ahead = simpleLen - 4
	h, err := r.rest(ahead)
	if err != nil {
		return err
	}
	if len(r.interfaces) == r.section {
		return r.fault("a packet of interface 0, which the section does not have")
	}
	i := &r.interfaces[r.section]
	length := r.order.Uint32(h[8:])
	captured := min(int64(length), total-simpleLen)
	if i.SnapLen != 0 {
		captured = min(captured, int64(i.SnapLen))
	}
	if captured > MaxPacket {
		return r.fault("a packet of %d captured bytes", captured)
	}
	there := min(total, ahead+captured+maxOptions)
	b, err := r.rest(int(there))
	if err != nil {
		return err
	}
	*p = Packet{Time: r.last, Interface: r.section, Link: i.Link, Data: b[ahead : ahead+captured],
		Length: int(max(int64(length), captured))}
	i.cut(p)
	return r.lend(total, there)
}

// lend moves behind a block whose first bytes are in the buffer and lent to a packet. What is not in the buffer yet is
// left to the next call, since reading may move the buffer.
func (r *Reader) lend(total, there int64) error {
	if there < total {
		r.skip(int(there))
		r.owed, r.owedDone = total, there
		return nil
	}
	if again := r.order.Uint32(r.buf[r.lo+int(total)-4:]); int64(again) != total {
		return r.fault("a block has %d bytes at its begin and %d at its end", total, again)
	}
	r.skip(int(total))
	return nil
}

// options calls f for each option that is whole.
func (r *Reader) options(b []byte, f func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, n := r.order.Uint16(b), int(r.order.Uint16(b[2:]))
		if code == optEnd || 4+n > len(b) {
			return
		}
		f(code, b[4:4+n])
		b = b[min(len(b), 4+(n+3)&^3):]
	}
}
