package frag

import "math/bits"

// maxUnits is the number of units of the longest datagram.
const maxUnits = (maxPacket + unit) / unit

// cover is which units of a datagram came, and where fragments began: so a fragment that came twice is told apart from
// one that overlaps.
type cover struct{ came, starts bitmap }

func (c *cover) add(from, to int) {
	c.came.set(from, to)
	c.starts.set(from, from+1)
}

// same reports whether the range is that of one fragment that came.
func (c *cover) same(from, to int) bool {
	return c.came.count(from, to) == to-from && c.starts.count(from, from+1) == 1 && c.starts.count(from+1, to) == 0 &&
		(to == maxUnits || c.came.count(to, to+1) == c.starts.count(to, to+1))
}

// clear empties a cover that has nothing from unit top on.
func (c *cover) clear(top int) {
	words := (top + 63) / 64
	clear(c.came[:words])
	clear(c.starts[:words])
}

// bitmap has a bit for each unit.
type bitmap [maxUnits / 64]uint64

// word returns the bits of one word that lie in a range which reaches into it.
func word(w, from, to int) uint64 {
	mask := ^uint64(0)
	if from > w*64 {
		mask <<= from - w*64
	}
	if to < w*64+64 {
		mask &= 1<<(to-w*64) - 1
	}
	return mask
}

func (b *bitmap) set(from, to int) {
	for w := from / 64; w*64 < to; w++ {
		b[w] |= word(w, from, to)
	}
}

func (b *bitmap) count(from, to int) (n int) {
	for w := from / 64; w*64 < to; w++ {
		n += bits.OnesCount64(b[w] & word(w, from, to))
	}
	return n
}
