package conntrack

import "naru/internal/wire"

// What a side may have sent is bounded by the window that the other one offers. An entry has no room for windows, but for
// the shift by which they are scaled (RFC 7323 2): so a segment counts when it is no further from what the other side has
// acknowledged than the widest window of that shift, before or after. What lies outside moves nothing (RFC 5961 5): a
// forger who does not see the connection finds a place that counts once in 2^15 tries without scaling, once in 2^8 with
// the usual shift of 7.

const (
	maxShift = 14 // RFC 7323 2.3
	noShift  = 15 // the SYN offers no scaling

	optEnd, optNop, optScale = 0, 1, 3 // kinds of options, RFC 9293 3.1, RFC 7323 2.2
)

// inWindow reports whether a segment that ends at end may be of the connection. Of a client whose replies pass us by, only
// its own packets tell where it is.
func (c *Conn) inWindow(d Dir, end uint32) bool {
	at := c.ack[d^1]
	if c.Flags&oneSided != 0 {
		at = c.end[d]
	}
	width := uint32(0x10000) << min(c.shift[d^1], maxShift)
	return end-at+width <= 2*width
}

// shiftOf returns the window scale that a SYN offers.
func shiftOf(p *wire.Packet) uint8 {
	t := p.Transport()
	end := min(int(t[12]>>4)*4, len(t))
	for at := wire.TCPLen; at < end && t[at] != optEnd; {
		if t[at] == optNop {
			at++
			continue
		}
		if at+2 >= end || t[at+1] < 2 {
			break
		}
		if t[at] == optScale {
			return min(t[at+2], maxShift)
		}
		at += int(t[at+1])
	}
	return noShift
}

// agree settles the scaling with the answer to the SYN: without both offers there is none (RFC 7323 2.2).
func (c *Conn) agree(p *wire.Packet) {
	c.shift[Reply] = shiftOf(p)
	if c.shift[Original] == noShift || c.shift[Reply] == noShift {
		c.shift = [2]uint8{}
	}
}
