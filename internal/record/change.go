package record

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"naru/forwarder"
	"naru/internal/wire"
)

// Change is a header field that is not what it was. Before is empty for a field that was put in, After for one that is gone.
type Change struct {
	Field  string `json:"field"` // as tshark names it; of a tunnel's inner packet with "inner." in front
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// pair is a packet as it came and a frame that it has become, with what is needed to compare them.
type pair struct {
	before, after []byte
	offload       wire.Offload // of before
	from, to      []Field
	l3, overhead  int // where the network header is in before; bytes that a tunnel has put there
	captured      int // bytes of before; the others are made up
	madeUp        int // bytes at the end of after that were not captured
	made          bool
}

// newPair looks at the first frame that left; false if the record has no frames.
func newPair(r *forwarder.Record) (p pair, ok bool) {
	if len(r.Frame) < wire.EthernetLen || len(r.Sent) == 0 {
		return p, false
	}
	p = pair{before: r.Frame, after: r.Sent[0].Bytes(), offload: r.Offload, made: r.Verdict == wire.Consume}
	var gue uint16
	if r.Outer.Version != 0 && r.Encap == forwarder.EncapGUE {
		gue = r.Outer.DstPort
	}
	p.from, p.to = Fields(p.before, 0), Fields(p.after, gue)
	MadeUp(r, func(i, n int) {
		if i == 0 {
			p.madeUp = n
		}
	})
	p.captured = len(p.before) - r.Offload.MadeUp()
	p.from, p.to = within(p.from, p.captured), within(p.to, len(p.after)-p.madeUp)
	w := wire.Packet{Frame: wire.Frame{Buf: p.before, Len: len(p.before)}}
	if w.ParseLink() != wire.ReasonNone {
		return p, false
	}
	p.l3 = w.L3
	if r.Outer.Version != 0 {
		for _, f := range p.to {
			if name, inner := strings.CutPrefix(f.Name, "inner."); inner && (name == "ip.dsfield" || name == "ipv6.tclass") {
				p.overhead = f.At - p.l3
				if name == "ip.dsfield" {
					p.overhead--
				}
				break
			}
		}
	}
	return p, true
}

// within leaves out the fields that are not in the first n bytes of a frame.
func within(list []Field, n int) []Field {
	return slices.DeleteFunc(list, func(f Field) bool { return f.At+f.Len > n })
}

// changes compares the fields; those of a packet in a tunnel with the packet's own.
func (p *pair) changes() (list []Change) {
	was := map[string]string{}
	for _, f := range p.from {
		was[f.Name] = f.Value
	}
	for _, f := range p.to {
		name := f.Name
		if p.overhead > 0 && !strings.HasPrefix(name, "eth.") {
			inner := strings.HasPrefix(name, "inner.")
			if name = strings.TrimPrefix(name, "inner."); !inner {
				list = append(list, Change{Field: f.Name, After: f.Value})
				continue
			}
		}
		before, there := was[name]
		if !there || before != f.Value {
			list = append(list, Change{Field: f.Name, Before: before, After: f.Value})
		}
	}
	return list
}

// Checksum says where a checksum that is not what it was comes from.
type Checksum struct {
	Field  string `json:"field"`
	Before string `json:"before,omitempty"` // 0x1234; empty where naru made the header
	After  string `json:"after"`
	// How is "incremental" (RFC 1624: only what changed is added), "unfinished" (the sum of the pseudo header, which a
	// device finishes) or "made" (naru wrote the header, all of it is summed).
	How   string   `json:"how"`
	Words []string `json:"words"` // what is summed, a line each
	// Agrees says that the sum of the words gives After.
	Agrees bool `json:"agrees"`
}

// checksums derives the checksums that changed.
func (p *pair) checksums() (list []Checksum) {
	w := wire.Packet{Frame: wire.Frame{Buf: p.before, Len: len(p.before), Offload: p.offload}}
	if w.ParseLink() != wire.ReasonNone || w.ParseNetwork() != wire.ReasonNone || w.Version == 0 {
		return nil
	}
	if p.made || p.overhead > 0 && w.Super() {
		return p.madeSums()
	}
	if p.overhead > 0 {
		list = p.madeSums()
	}
	if w.End+p.overhead > len(p.after) || w.Frag == wire.LaterFragment && w.Version == 6 {
		return list // the beginning only was kept
	}
	if w.Version == 4 {
		words := p.changed(w.L3, w.L4, w.L3+10)
		list = p.derive(list, w.L3+10, words, false, false)
	}
	at := map[uint8]int{wire.ProtoTCP: 16, wire.ProtoUDP: 6}[w.Proto]
	if at == 0 || w.Frag != wire.Whole || w.L4+at+2 > min(w.End, p.captured) {
		if p.overhead == 0 && w.Frag == wire.Whole && (w.Proto == wire.ProtoICMP || w.Proto == wire.ProtoICMPv6) {
			return append(list, p.madeICMP(w.L4)...)
		}
		return list
	}
	words := p.changed(w.L3+12, w.L3+20, 0)
	if w.Version == 6 {
		words = p.changed(w.L3+8, w.L3+40, 0)
	}
	if !w.Unfinished() {
		words = append(words, p.changed(w.L4, w.End, w.L4+at)...)
	}
	return p.derive(list, w.L4+at, words, w.Unfinished(), w.Proto == wire.ProtoUDP)
}

// word is one that changed; at is its place in before.
type word struct {
	at       int
	old, new uint16
}

// changed returns the words from a place to another that are not what they were, but for the one at skip.
func (p *pair) changed(from, to, skip int) (list []word) {
	for at := from; at < to; at += 2 {
		w := word{at, word16(p.before, at, to), word16(p.after, at+p.overhead, to+p.overhead)}
		if w.old != w.new && at != skip {
			list = append(list, w)
		}
	}
	return list
}

// word16 reads a word; the last byte of an odd number of them is followed by a zero.
func word16(b []byte, at, end int) uint16 {
	if at+1 < end {
		return binary.BigEndian.Uint16(b[at:])
	}
	return uint16(b[at]) << 8
}

// derive adds the checksum at a place, if it or what it covers has changed.
func (p *pair) derive(list []Checksum, at int, words []word, unfinished, udp bool) []Checksum {
	be := binary.BigEndian
	old, now := be.Uint16(p.before[at:]), be.Uint16(p.after[at+p.overhead:])
	if old == now && len(words) == 0 {
		return list
	}
	var d wire.Delta
	for _, w := range words {
		d = d.Add16(w.old, w.new)
	}
	c := Checksum{Field: fieldAt(p.to, at+p.overhead, 2), Before: hex16(old), After: hex16(now), How: "incremental"}
	start, sum := fmt.Sprintf("~%04x", old), uint64(d)+uint64(^old)
	want := d.Apply(old)
	switch {
	case unfinished:
		c.How, start, sum, want = "unfinished", fmt.Sprintf("%04x", old), uint64(d)+uint64(old), d.ApplyUnfinished(old)
	case udp:
		want = d.ApplyUDP(old)
	}
	c.Words = append(c.Words, start+"  as it was")
	for _, w := range words {
		c.Words = append(c.Words, fmt.Sprintf("~%04x + %04x  %s", w.old, w.new, fieldAt(p.from, w.at, 2)))
	}
	switch folded := wire.Fold(sum); {
	case udp && old == 0 && !unfinished:
		c.Words = []string{"0000  no checksum was sent (RFC 768), so there is none"}
	case unfinished:
		c.Words = append(c.Words, fmt.Sprintf("sum %x, folded %04x; the device adds the rest", sum, folded))
	default:
		c.Words = append(c.Words, fmt.Sprintf("sum %x, folded %04x, complement %04x", sum, folded, ^folded))
	}
	c.Agrees = want == now
	return append(list, c)
}

// madeSums derives the checksums of the headers that naru wrote itself: those of the outermost packet.
func (p *pair) madeSums() (list []Checksum) {
	w := wire.Packet{Frame: wire.Frame{Buf: p.after, Len: len(p.after)}}
	if w.ParseLink() != wire.ReasonNone || w.ParseNetwork() != wire.ReasonNone || w.Version == 0 {
		return nil
	}
	if w.Version == 4 {
		list = append(list, p.made16(w.L3+10, p.words(w.L3, w.L4, w.L3+10), nil))
	}
	at := map[uint8]int{wire.ProtoTCP: 16, wire.ProtoUDP: 6, wire.ProtoICMP: 2, wire.ProtoICMPv6: 2}[w.Proto]
	if at == 0 || w.Frag != wire.Whole {
		return list
	}
	head := min(w.End, w.L4+map[uint8]int{wire.ProtoTCP: wire.TCPLen, wire.ProtoUDP: wire.UDPLen}[w.Proto])
	if head == w.L4 {
		head = min(w.End, w.L4+wire.ICMPLen)
	}
	var extra []sum
	if w.Proto != wire.ProtoICMP {
		pseudo := wire.Fold(wire.PseudoSum(w.IP(), w.Proto, w.End-w.L4))
		extra = append(extra, sum{pseudo, "the pseudo header: addresses, protocol, length"})
	}
	if w.End > head {
		extra = append(extra, sum{wire.Fold(wire.Sum(p.after[head:w.End], 0)), fmt.Sprintf("the %d bytes behind it", w.End-head)})
	}
	c := p.made16(w.L4+at, p.words(w.L4, head, w.L4+at), extra)
	if w.Proto == wire.ProtoUDP && c.After == "0x0000" {
		c.Words, c.Agrees = []string{"0000  no checksum (RFC 768, RFC 6935)"}, true
	}
	return append(list, c)
}

// madeICMP derives the checksum of an ICMP error, which is made anew when what it quotes is translated.
func (p *pair) madeICMP(l4 int) []Checksum {
	if p.before[l4+2] == p.after[l4+2] && p.before[l4+3] == p.after[l4+3] {
		return nil
	}
	list := p.madeSums()
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	c.Before = hex16(binary.BigEndian.Uint16(p.before[l4+2:]))
	return []Checksum{c}
}

// sum is a number of a sum and what it is of.
type sum struct {
	value uint16
	of    string
}

// words returns the words of what was written, but for the one at skip.
func (p *pair) words(from, to, skip int) (list []sum) {
	for at := from; at < to; at += 2 {
		if at != skip {
			list = append(list, sum{word16(p.after, at, to), fieldAt(p.to, at, 2)})
		}
	}
	return list
}

func (p *pair) made16(at int, words, more []sum) Checksum {
	now := binary.BigEndian.Uint16(p.after[at:])
	c := Checksum{Field: fieldAt(p.to, at, 2), After: hex16(now), How: "made"}
	total := uint64(0)
	for _, w := range append(words, more...) {
		total += uint64(w.value)
		c.Words = append(c.Words, fmt.Sprintf("%04x  %s", w.value, w.of))
	}
	folded := wire.Fold(total)
	c.Words = append(c.Words, fmt.Sprintf("sum %x, folded %04x, complement %04x", total, folded, ^folded))
	c.Agrees = ^folded == now || folded == 0xffff && now == 0xffff
	return c
}

func hex16(v uint16) string { return fmt.Sprintf("0x%04x", v) }

// fieldAt names the fields that have bytes in a range.
func fieldAt(fields []Field, at, n int) string {
	var names []string
	for _, f := range fields {
		if f.At < at+n && at < f.At+f.Len {
			names = append(names, f.Name)
		}
	}
	if names == nil {
		return fmt.Sprintf("bytes %d-%d", at, at+n-1)
	}
	return strings.Join(names, " ")
}
