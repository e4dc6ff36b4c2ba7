package pcapfile

import (
	"encoding/binary"
	"slices"

	"naru/internal/wire"
)

// Part says how much of a packet a file has.
type Part uint8

// How much.
const (
	Whole       Part = iota // as much as AppendWhole needs
	UnknownLink             // it is of a link type that AppendEthernet does not know, or contradicts it
	CutShort                // it was captured in part, and its headers are not all there
)

// Bytes of a header without which nobody can say what becomes of a packet: our own choice for TCP, up to the flags.
const (
	leastTCP = 14
	leastExt = 8 // of an IPv6 extension header
)

// mostPadding is how many bytes behind a packet are completed: our own choice, more than Ethernet needs.
const mostPadding = 64

// AppendWhole is AppendEthernet for a packet that may have been captured in part (Length is more than len(Data)): what
// is missing of an IP packet and of its padding follows as zeros, missing bytes at the end of the frame, less than 64 KiB;
// where the checksum of TCP, UDP or ICMP reaches over them, the last two are chosen so that it is right: nobody can tell
// whether it was, so it was. A packet that says it is longer than it was on the wire stays as it is, and so does all that
// is not IP.
func AppendWhole(dst []byte, p *Packet) (frame []byte, missing int, part Part) {
	frame, ok := AppendEthernet(dst, p.Link, p.Data)
	if ok && p.Length <= len(p.Data) {
		return frame, 0, Whole
	}
	if !ok {
		if _, known := linkNames[p.Link]; known && p.Length > len(p.Data) {
			return frame, 0, CutShort
		}
		return frame, 0, UnknownLink
	}
	have := len(frame) - len(dst)
	w := wire.Packet{Frame: wire.Frame{Buf: frame, Off: len(dst), Len: have}}
	end, there := ends(&w)
	if !there {
		return frame, 0, CutShort
	}
	onWire := have + p.Length - len(p.Data)
	if end == 0 || end > onWire {
		return frame, 0, Whole
	}
	missing = min(onWire, max(end, have)+mostPadding) - have
	frame = slices.Grow(frame, missing)[:len(frame)+missing]
	clear(frame[len(frame)-missing:])
	w.Buf, w.Len = frame, have+missing
	if why := w.ParseNetwork(); w.Version != 0 && have < needed(&w, why) {
		return frame[:len(frame)-missing], 0, CutShort
	} else if why == wire.ReasonNone {
		balance(&w, have)
	}
	return frame, missing, Whole
}

// ends returns where the packet in a frame ends by what its own header says; 0 where nothing says it. It reports whether
// the headers up to there were captured.
func ends(w *wire.Packet) (end int, there bool) {
	d := w.Bytes()
	if w.ParseLink() != wire.ReasonNone {
		return 0, len(d) >= max(w.L3, wire.EthernetLen)+wire.VLANTagLen // then it has more tags than any
	}
	d = d[w.L3:]
	switch w.EtherType {
	case wire.TypeARP:
		return 0, len(d) >= wire.ARPLen
	case wire.TypeIPv4:
		if len(d) < wire.IPv4Len {
			return 0, false
		}
		head, total := int(d[0]&15)*4, int(binary.BigEndian.Uint16(d[2:]))
		if d[0]>>4 != 4 || head < wire.IPv4Len || total < head {
			return 0, true
		}
		return w.L3 + total, len(d) >= head
	case wire.TypeIPv6:
		if len(d) < wire.IPv6Len {
			return 0, false
		}
		return w.L3 + wire.IPv6Len + int(binary.BigEndian.Uint16(d[4:])), true
	}
	return 0, true
}

// needed returns how many bytes of a frame must have been captured. why is what ParseNetwork found.
func needed(w *wire.Packet, why wire.Reason) int {
	n := w.L4
	switch icmp := w.Proto == wire.ProtoICMP || w.Proto == wire.ProtoICMPv6; {
	case w.Frag == wire.LaterFragment:
	case w.Proto == wire.ProtoTCP:
		n += leastTCP
	case w.Proto == wire.ProtoUDP:
		n += wire.UDPLen
	case icmp && w.End-w.L4 >= wire.ICMPLen && w.ICMPError():
		n = quoted(w)
	case w.Version == 6 && w.Proto == wire.ProtoICMPv6 && w.Frag == wire.Whole && w.End > w.L4 && discovers(w):
		n = w.End
	case icmp:
		n += wire.ICMPLen
	case why != wire.ReasonNone:
		n += leastExt
	}
	return min(n, w.End)
}

// quoted returns where the ports end that an ICMP error quotes.
func quoted(w *wire.Packet) int {
	var q wire.Quote
	if w.ParseQuote(&q) {
		return q.L4 + 8
	}
	head := wire.IPv4Len
	if w.Version == 6 {
		head = wire.IPv6Len
	}
	return w.L4 + wire.ICMPLen + head + 8
}

// discovers reports whether an ICMPv6 message is of neighbour discovery, which is of options (RFC 4861 4).
func discovers(w *wire.Packet) bool {
	t := w.Bytes()[w.L4]
	return t >= wire.ICMPv6Solicit-2 && t <= wire.ICMPv6Advertise+1
}

// balance makes the transport checksum of a whole packet right, of whose frame the first have bytes were captured: by the
// checksum itself, if that is missing, else by the last two bytes that it covers.
func balance(w *wire.Packet, have int) {
	if w.Frag != wire.Whole {
		return
	}
	be, t := binary.BigEndian, w.Transport()
	var at int
	switch w.Proto {
	case wire.ProtoTCP:
		at = 16
	case wire.ProtoUDP:
		t, at = t[:be.Uint16(t[4:])], 6
	case wire.ProtoICMP, wire.ProtoICMPv6:
		at = 2
	default:
		return
	}
	have -= w.L4
	if have >= len(t) || w.Proto == wire.ProtoUDP && be.Uint16(t[at:]) == 0 {
		return
	}
	var sum uint64
	if w.Proto != wire.ProtoICMP {
		sum = wire.PseudoSum(w.IP(), w.Proto, len(t))
	}
	if have <= at {
		be.PutUint16(t[at:], ^wire.Fold(wire.Sum(t, sum)))
		return
	}
	need := ^wire.Fold(wire.Sum(t, sum))
	high, low := len(t)-2, len(t)-1 // in which half of a word they are
	if len(t)%2 != 0 {
		high, low = low, high
	}
	if high >= have { // one byte alone may not be enough: then the checksum was wrong
		t[high] = byte(need >> 8)
	}
	if low >= have {
		t[low] = byte(need)
	}
}
