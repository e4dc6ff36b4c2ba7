package conntrack

import (
	"encoding/binary"
	"math/bits"

	"naru/internal/wire"
)

// The index is open addressing with linear probing. A word holds 32 bits of the hash, whose low ones are the home slot,
// and the entry's id with the direction of the key, plus one; zero is empty. So a removal can move words back without
// looking at entries, and a lookup rarely looks at a wrong one.

// maxProbe bounds an insert, and so a lookup: no word is further from its home, and removals bring words only nearer. At the
// load of 3/4 a run this long does not happen by chance.
const maxProbe = 512

// Hash returns the keyed hash of a flow: products of 64 by 64 bits folded, over the table's secret.
func (t *Table) Hash(f *wire.Flow) uint64 {
	le := binary.LittleEndian
	ports := uint64(f.SrcPort)<<48 | uint64(f.DstPort)<<32 | uint64(f.Proto)
	a := mix(le.Uint64(f.Src[8:])^t.key[0], le.Uint64(f.Dst[8:])^t.key[1])
	b := mix(le.Uint64(f.Src[:])^t.key[2]^ports, le.Uint64(f.Dst[:])^t.key[3])
	return mix(a^t.key[1]^ports, b^t.key[0])
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Touch loads the index word of a hash and the entry that it probably names, so that a batch waits for memory once
// instead of once a packet. The result means nothing; using it keeps the loads.
func (t *Table) Touch(hash uint64) uint32 {
	tag := uint32(hash >> 32)
	s := t.index[tag&t.mask]
	if s == 0 || uint32(s>>32) != tag { // a free word has tag 0, and so has the hash of a packet without a flow
		return 0
	}
	c := &t.conns[(uint32(s)-1)>>1]
	return uint32(c.Bytes[Original]) + c.deadline + c.NextHopGen // an entry lies in two or three cache lines
}

// TouchIndex loads the index word of a hash.
func (t *Table) TouchIndex(hash uint64) uint64 { return t.index[uint32(hash>>32)&t.mask] }

// Ref is what a lookup finds: an entry and the direction in which a flow is its key.
type Ref uint32

// NoRef is no entry.
const NoRef = ^Ref(0)

// Split returns the entry and the direction; None of NoRef.
func (r Ref) Split() (ID, Dir) {
	if r == NoRef {
		return None, Original
	}
	return ID(r >> 1), Dir(r & 1)
}

// Changes counts what was put into the index and taken out of it: what Find returned holds while it is the same.
func (t *Table) Changes() uint32 { return t.changes }

// Lookup finds the connection of a flow and the direction in which the flow is its key. An entry whose idle time is over
// is still found; Expired tells.
func (t *Table) Lookup(f *wire.Flow, hash uint64) (ID, Dir) { return t.Find(f, hash).Split() }

// Find is Lookup for those who keep what it finds for a moment.
func (t *Table) Find(f *wire.Flow, hash uint64) Ref {
	tag := uint32(hash >> 32)
	for n := range uint32(maxProbe) {
		s := t.index[(tag+n)&t.mask]
		if s == 0 {
			break
		}
		if uint32(s>>32) != tag {
			continue
		}
		ref := Ref(uint32(s) - 1)
		c := &t.conns[ref>>1]
		p := &t.paths.all[c.Path]
		if ref&1 != 0 {
			if c.isReply(p, f) {
				return ref
			}
		} else if c.isOriginal(p, f) {
			return ref
		}
	}
	return NoRef
}

// FindAll is Find for each packet of a batch that has a Hash; it sets their Ref. Most words are the first that is looked at.
func (t *Table) FindAll(batch []wire.Packet) {
	for i := range batch {
		p := &batch[i]
		if p.Hash == 0 {
			continue
		}
		tag := uint32(p.Hash >> 32)
		if s := t.index[tag&t.mask]; s != 0 && uint32(s>>32) == tag {
			p.Ref = uint32(s) - 1 // a word holds the reference plus one
			c := &t.conns[p.Ref>>1]
			path := &t.paths.all[c.Path]
			if p.Ref&1 == 0 && c.isOriginal(path, &p.Flow) || p.Ref&1 != 0 && c.isReply(path, &p.Flow) {
				continue
			}
		}
		p.Ref = uint32(t.Find(&p.Flow, p.Hash))
	}
}

func (t *Table) put(hash uint64, ref uint32) bool {
	tag := uint32(hash >> 32)
	i := tag & t.mask
	for range maxProbe {
		if t.index[i] == 0 {
			t.changes++
			t.index[i] = uint64(tag)<<32 | uint64(ref+1)
			return true
		}
		i = (i + 1) & t.mask
	}
	return false
}

// cut takes a key out and closes the gap, so that no probe ends too early.
func (t *Table) cut(hash uint64, ref uint32) {
	tag := uint32(hash >> 32)
	word := uint64(tag)<<32 | uint64(ref+1)
	i := tag & t.mask
	for t.index[i] != word {
		if t.index[i] == 0 {
			return
		}
		i = (i + 1) & t.mask
	}
	t.changes++
	for j := (i + 1) & t.mask; ; j = (j + 1) & t.mask {
		s := t.index[j]
		if s == 0 {
			break
		}
		// A word may move back to the gap unless its home lies behind it.
		if home := uint32(s>>32) & t.mask; (j-home)&t.mask >= (j-i)&t.mask {
			t.index[i] = s
			i = j
		}
	}
	t.index[i] = 0
}
