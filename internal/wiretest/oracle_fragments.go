package wiretest

import (
	"encoding/binary"
	"slices"

	"naru/internal/wire"
)

// Fragment reports whether a frame is a fragment: neither whole nor atomic (RFC 6946).
func Fragment(frame []byte) bool {
	v, ok := viewIP(untagged(frame))
	return ok && (v.first || v.later)
}

// datagramKey is what fragments of one datagram have in common (RFC 791 2.3, RFC 8200 4.5).
type datagramKey struct {
	addrs string
	proto uint8
	id    uint32
}

// part is one fragment.
type part struct {
	head   []byte // of the IP packet, without what only fragments have
	data   []byte
	offset int
	more   bool
}

// Datagrams puts fragments together and returns the datagrams of which all are there, once and without gaps, in the order
// of their bytes: an IP header without lengths, checksum and identification, which may be another for each datagram, and
// all data. left is how many datagrams are incomplete.
func Datagrams(frames [][]byte) (whole [][]byte, left int) {
	parts := map[datagramKey][]part{}
	for _, f := range frames {
		if key, p, ok := readPart(untagged(f)); ok {
			parts[key] = append(parts[key], p)
		}
	}
	for _, list := range parts {
		if d := join(list); d != nil {
			whole = append(whole, d)
		} else {
			left++
		}
	}
	slices.SortFunc(whole, slices.Compare)
	return whole, left
}

// readPart reads a fragment; of IPv6 one whose fragment header is the first.
func readPart(ip []byte) (key datagramKey, p part, ok bool) {
	v, ok := viewIP(ip)
	if !ok || !v.first && !v.later || v.end > len(ip) {
		return key, p, false
	}
	be := binary.BigEndian
	if v.v4 {
		at := be.Uint16(ip[6:])
		p = part{slices.Clone(ip[:int(ip[0]&0xf)*4]), ip[int(ip[0]&0xf)*4 : v.end], int(at&0x1fff) * 8, at&0x2000 != 0}
		key = datagramKey{string(ip[12:20]), ip[9], uint32(be.Uint16(ip[4:]))}
		clear(p.head[2:8])
		clear(p.head[10:12])
		return key, p, true
	}
	if ip[6] != 44 || v.end < wire.IPv6Len+8 {
		return key, p, false
	}
	h := ip[wire.IPv6Len:]
	at := be.Uint16(h[2:])
	p = part{slices.Clone(ip[:wire.IPv6Len]), ip[wire.IPv6Len+8 : v.end], int(at &^ 7), at&1 != 0}
	key = datagramKey{string(ip[8:40]), h[0], be.Uint32(h[4:])}
	clear(p.head[4:6])
	p.head[6] = h[0]
	return key, p, true
}

// join returns the header of the first fragment and the data of all, nil when something is missing.
func join(list []part) []byte {
	slices.SortStableFunc(list, func(a, b part) int { return a.offset - b.offset })
	list = slices.CompactFunc(list, func(a, b part) bool {
		return a.offset == b.offset && a.more == b.more && slices.Equal(a.data, b.data)
	})
	d, end := slices.Clone(list[0].head), 0
	for i, p := range list {
		if p.offset != end || p.more != (i < len(list)-1) {
			return nil
		}
		d = append(d, p.data...)
		end += len(p.data)
	}
	return d
}
