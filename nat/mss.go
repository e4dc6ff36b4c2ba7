package nat

import (
	"encoding/binary"

	"naru/internal/wire"
)

const (
	tcpEnd = 0 // options of RFC 9293 3.1
	tcpNop = 1
	tcpMSS = 2
)

// ClampMSS lowers the MSS option of a TCP segment to at most mss bytes; a segment without the option, or with a lower
// value, stays as it is. The checksum changes by what changed; an unfinished one is not touched, since it covers the
// options only once it is finished.
func ClampMSS(p *wire.Packet, mss uint16) {
	be := binary.BigEndian
	t := p.Transport()
	for at, end := wire.TCPLen, int(t[12]>>4)*4; at < end; {
		switch t[at] {
		case tcpEnd:
			return
		case tcpNop:
			at++
			continue
		}
		if at+1 >= end || t[at+1] < 2 || at+int(t[at+1]) > end {
			return
		}
		if t[at] != tcpMSS || t[at+1] != 4 {
			at += int(t[at+1])
			continue
		}
		old := be.Uint16(t[at+2:])
		if old <= mss {
			return
		}
		be.PutUint16(t[at+2:], mss)
		if !p.Unfinished() {
			delta := wire.Delta(0).Add16(old, mss)
			if at%2 == 1 { // the value lies across two words of the sum
				delta = wire.Delta(0).Add16(old>>8|old<<8, mss>>8|mss<<8)
			}
			be.PutUint16(t[16:], delta.Apply(be.Uint16(t[16:])))
		}
		return
	}
}
