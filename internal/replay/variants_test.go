package replay_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// variant makes another capture of a tape, or an empty one where it does not apply. The frames of the tape stay as they are.
type variant struct {
	name string
	make func(r *rand.Rand, tp tape) tape
}

// seeded is a source of random numbers for a tape and a purpose.
func seeded(words ...string) *rand.Rand {
	var seed [32]byte
	for i, c := range []byte(strings.Join(words, " ")) {
		seed[i%32] = seed[i%32]*31 + c
	}
	return rand.New(rand.NewChaCha8(seed))
}

// each makes a variant of which every frame is changed by itself; f may return nil for a frame that stays as it is.
func each(f func(r *rand.Rand, frame []byte) []byte) func(*rand.Rand, tape) tape {
	return func(r *rand.Rand, tp tape) (out tape) {
		changed := false
		for _, x := range tp.frames {
			if data := f(r, bytes.Clone(x.data)); data != nil {
				x.data, x.length, changed = data, max(x.length+len(data)-len(x.data), len(data)), true
			}
			out.frames = append(out.frames, x)
		}
		if !changed {
			return tape{}
		}
		return out
	}
}

// eachIP is each for frames whose headers can be found.
func eachIP(f func(r *rand.Rand, p *wire.Packet) []byte) func(*rand.Rand, tape) tape {
	return each(func(r *rand.Rand, frame []byte) []byte {
		if p, ok := parsed(frame); ok {
			return f(r, &p)
		}
		return nil
	})
}

// reordered makes a variant of the frames in another order, some of them perhaps never or twice; the times stay where they
// are.
func reordered(f func(r *rand.Rand, tp tape) []int) func(*rand.Rand, tape) tape {
	return func(r *rand.Rand, tp tape) (out tape) {
		for i, k := range f(r, tp) {
			x := tp.frames[k]
			x.at = tp.frames[min(i, len(tp.frames)-1)].at
			out.frames = append(out.frames, x)
		}
		return out
	}
}

// scaled makes a variant in which time passes faster or more slowly.
func scaled(num, den int64) func(*rand.Rand, tape) tape {
	return func(_ *rand.Rand, tp tape) (out tape) {
		for _, x := range tp.frames {
			since := x.at - tp.frames[0].at
			if since > 1<<62/num || since < -(1<<62)/num {
				return tape{}
			}
			x.at = tp.frames[0].at + since*num/den
			out.frames = append(out.frames, x)
		}
		return out
	}
}

var variants = []variant{
	{"headers mutated", each(mutate)},
	{"headers mutated again", each(mutate)},
	{"addresses of others", eachIP(mutateAddress)},
	{"cut to 96 bytes", each(func(_ *rand.Rand, d []byte) []byte { return d[:min(len(d), 96)] })},
	{"cut to 54 bytes", each(func(_ *rand.Rand, d []byte) []byte { return d[:min(len(d), 54)] })},
	{"cut anywhere", each(func(r *rand.Rand, d []byte) []byte { return d[:r.IntN(len(d)+1)] })},
	{"with a tag", each(func(_ *rand.Rand, d []byte) []byte { return tagged(d, 0x8100, 0x2007) })},
	{"with two tags", each(func(_ *rand.Rand, d []byte) []byte { return tagged(tagged(d, 0x8100, 7), 0x88a8, 0xe008) })},
	{"a thousand times as fast", scaled(1, 1000)},
	{"a thousand times as slow", scaled(1000, 1)},
	{"flows permuted", reordered(permute)},
	{"backwards", reordered(func(_ *rand.Rand, tp tape) []int { n := upTo(len(tp.frames)); slices.Reverse(n); return n })},
	{"shuffled a little", reordered(jostle)},
	{"a third lost", reordered(func(r *rand.Rand, tp tape) []int {
		return slices.DeleteFunc(upTo(len(tp.frames)), func(int) bool { return r.IntN(3) == 0 })
	})},
	{"everything twice", reordered(func(_ *rand.Rand, tp tape) (n []int) {
		for i := range tp.frames {
			n = append(n, i, i)
		}
		return n
	})},
	{"checksums wrong", eachIP(spoil)},
	{"UDP without checksum", eachIP(unsummed)},
	{"ECN and DSCP", eachIP(classed)},
	{"hop limits used up", eachIP(aged)},
	{"in fragments", fragmented(false)},
	{"in fragments, the last first", fragmented(true)},
	{"with options", eachIP(optioned)},
	{"padded", each(func(r *rand.Rand, d []byte) []byte { return append(d, bytes.Repeat([]byte{0xa5}, r.IntN(40))...) })},
	{"of the other family", otherFamily},
}

func upTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// mutate changes up to three bytes of the headers of every third frame.
func mutate(r *rand.Rand, d []byte) []byte {
	if len(d) < 15 || r.IntN(3) > 0 {
		return nil
	}
	for range 1 + r.IntN(3) {
		d[12+r.IntN(min(len(d), 90)-12)] ^= byte(1 << r.IntN(8))
	}
	if p, ok := parsed(d); !ok && r.IntN(2) == 0 && len(d) > 34 && d[14] == 0x45 {
		p.Version, p.L3, p.L4 = 4, 14, 34 // else nearly all would fail the header checksum
		reseal(&p, d)
	}
	return d
}

// mutateAddress makes some packets those of others, with checksums as wrong as before.
func mutateAddress(r *rand.Rand, p *wire.Packet) []byte {
	d := p.Bytes()
	if r.IntN(4) > 0 {
		return nil
	}
	at := p.L3 + 12 + r.IntN(8)
	if p.Version == 6 {
		at = p.L3 + 8 + r.IntN(32)
	}
	d[at] ^= byte(1 << r.IntN(8))
	reseal(p, d)
	return d
}

func tagged(d []byte, tpid, tci uint16) []byte {
	if len(d) < 14 {
		return d
	}
	out := bytes.Clone(d[:12])
	out = binary.BigEndian.AppendUint16(out, tpid)
	out = binary.BigEndian.AppendUint16(out, tci)
	return append(out, d[12:]...)
}

// conversation names the two ends of a frame; all that they exchange, fragments and errors too, has one name.
func conversation(frame []byte) string {
	p, ok := parsed(frame)
	if !ok {
		return ""
	}
	ends := []string{p.Flow.Src.String(), p.Flow.Dst.String()}
	slices.Sort(ends)
	return strings.Join(ends, " ")
}

// permute interleaves the conversations anew; each keeps its order.
func permute(r *rand.Rand, tp tape) (out []int) {
	of := map[string][]int{}
	var names []string // one for each frame
	for i, x := range tp.frames {
		name := conversation(x.data)
		of[name] = append(of[name], i)
		names = append(names, name)
	}
	r.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	for _, name := range names {
		out, of[name] = append(out, of[name][0]), of[name][1:]
	}
	return out
}

// jostle lets frames overtake one another by up to three places.
func jostle(r *rand.Rand, tp tape) []int {
	n := upTo(len(tp.frames))
	for i := range n {
		if k := i + r.IntN(4); k < len(n) {
			n[i], n[k] = n[k], n[i]
		}
	}
	return n
}

// spoil makes the transport checksum of every second packet wrong.
func spoil(r *rand.Rand, p *wire.Packet) []byte {
	at := checksumAt(p)
	if at == 0 || r.IntN(2) == 0 {
		return nil
	}
	p.Bytes()[at] ^= byte(1 + r.IntN(255))
	return p.Bytes()
}

// unsummed takes the checksum from UDP.
func unsummed(_ *rand.Rand, p *wire.Packet) []byte {
	if p.Proto != wire.ProtoUDP || p.Frag == wire.LaterFragment {
		return nil
	}
	d := p.Bytes()
	d[p.L4+6], d[p.L4+7] = 0, 0
	return d
}

// classed gives packets a random traffic class.
func classed(r *rand.Rand, p *wire.Packet) []byte {
	d, class := p.Bytes(), byte(r.IntN(256))
	if p.Version == 4 {
		d[p.L3+1] = class
		reseal(p, d)
	} else {
		d[p.L3], d[p.L3+1] = 0x60|class>>4, class<<4|d[p.L3+1]&15
	}
	return d
}

// aged gives packets a hop limit of 0, 1, 2 or 255.
func aged(r *rand.Rand, p *wire.Packet) []byte {
	d, hops := p.Bytes(), []byte{0, 1, 2, 255}[r.IntN(4)]
	if p.Version == 4 {
		d[p.L3+8] = hops
		reseal(p, d)
	} else {
		d[p.L3+7] = hops
	}
	return d
}

// optioned puts options into IPv4 headers, and a hop-by-hop and a destination header behind IPv6 ones.
func optioned(r *rand.Rand, p *wire.Packet) []byte {
	d := p.Bytes()
	if p.Version == 4 {
		if p.L4-p.L3 > 40 || p.End-p.L3 > 65515 {
			return nil
		}
		opt := slices.Concat([]byte{7, 11, 4}, make([]byte, 8), []byte{1}) // record route, no operation
		d = slices.Insert(d, p.L3+20, opt...)
		d[p.L3] += 3
		binary.BigEndian.PutUint16(d[p.L3+2:], uint16(p.End-p.L3+12))
		q := *p
		q.L4 += 12
		reseal(&q, d)
		return d
	}
	next := d[p.L3+6]
	if next == 0 || p.End-p.L3 > 65000 {
		return nil
	}
	d = slices.Insert(d, p.L3+40, 60, 0, 1, 4, 0, 0, 0, 0, next, 0, 1, 4, 0, 0, 0, 0)
	d[p.L3+6] = 0
	binary.BigEndian.PutUint16(d[p.L3+4:], uint16(p.End-p.L3-40+16))
	return d
}

// fragmented cuts whole packets of IPv4 and IPv6 into fragments.
func fragmented(backwards bool) func(*rand.Rand, tape) tape {
	return func(r *rand.Rand, tp tape) (out tape) {
		for i, x := range tp.frames {
			p, ok := parsed(x.data)
			parts := [][]byte{x.data}
			if ok && p.Frag == wire.Whole && p.End-p.L4 > 72 && p.End-p.L3 <= 9000 {
				parts = cut(&p, 40+8*r.IntN(100), uint32(i))
			}
			if backwards {
				slices.Reverse(parts)
			}
			for _, d := range parts {
				out.frames = append(out.frames, taped{x.at, d, len(d)})
			}
		}
		if len(out.frames) == len(tp.frames) {
			return tape{}
		}
		return out
	}
}

// cut makes fragments with at most size bytes of the packet, a multiple of 8.
func cut(p *wire.Packet, size int, id uint32) (out [][]byte) {
	d := p.Bytes()
	head, body := d[:p.L4], d[p.L4:p.End]
	if p.Version == 6 {
		head, body = d[:p.L3+40], d[p.L3+40:p.End]
	}
	for at := 0; at < len(body); at += size {
		part := body[at:min(at+size, len(body))]
		more := at+size < len(body)
		f := bytes.Clone(head)
		if p.Version == 4 {
			ip := f[p.L3:]
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(part)))
			binary.BigEndian.PutUint16(ip[4:], uint16(id))
			binary.BigEndian.PutUint16(ip[6:], uint16(at/8)|flag(more, 0x2000))
			reseal(p, f)
		} else {
			f = append(f, f[p.L3+6], 0, 0, 0, 0, 0, 0, 0)
			binary.BigEndian.PutUint16(f[len(f)-6:], uint16(at)|flag(more, 1))
			binary.BigEndian.PutUint32(f[len(f)-4:], id)
			f[p.L3+6] = 44
			binary.BigEndian.PutUint16(f[p.L3+4:], uint16(len(part)+8))
		}
		out = append(out, append(f, part...))
	}
	return out
}

func flag(on bool, bit uint16) uint16 {
	if on {
		return bit
	}
	return 0
}

// otherFamily makes IPv6 of IPv4 and IPv4 of IPv6: whole packets of TCP and UDP, one address for each. A checksum is as
// wrong as it was.
func otherFamily(_ *rand.Rand, tp tape) (out tape) {
	number := map[wire.Addr]int{}
	other := func(version uint8, a wire.Addr) wire.Addr {
		n, known := number[a]
		if !known {
			n = len(number)
			number[a] = n
		}
		if version == 4 {
			return wire.Addr{0: 0x20, 1: 1, 2: 0x0d, 3: 0xb8, 14: byte(n >> 8), 15: byte(n) + 1}
		}
		return wire.Addr4([]byte{20, byte(n >> 16), byte(n >> 8), byte(n) + 1})
	}
	for _, x := range tp.frames {
		p, ok := parsed(x.data)
		if !ok || !plainTransport(&p) {
			continue
		}
		x.data = readdressed(&p, other(p.Version, p.Flow.Src), other(p.Version, p.Flow.Dst))
		x.length = len(x.data)
		out.frames = append(out.frames, x)
	}
	return out
}

// plainTransport reports whether a packet can be translated to the other family and fits there in every mode.
func plainTransport(p *wire.Packet) bool {
	atomic := p.Version == 6 && p.L4 != p.L3+40 || p.Version == 4 && p.L4 != p.L3+20
	return checksumAt(p) > 0 && p.Frag == wire.Whole && !atomic && p.End-p.L3 <= 1400 &&
		!(p.Proto == wire.ProtoUDP && p.Bytes()[p.L4+6] == 0 && p.Bytes()[p.L4+7] == 0)
}

// readdressed translates the header of a packet to the family that two addresses have.
func readdressed(p *wire.Packet, src, dst wire.Addr) []byte {
	d, t := p.Bytes(), bytes.Clone(p.Transport())
	class := trafficClass(p.IP())
	var ip []byte
	etherType := uint16(wire.TypeIPv6)
	if src.Is4() {
		etherType = wire.TypeIPv4
		ip = []byte{0x45, class, 0, 0, 0, 0, 0x40, 0, p.TTL(), p.Proto, 0, 0}
		ip = append(append(ip, src[12:]...), dst[12:]...)
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(t)))
		binary.BigEndian.PutUint16(ip[10:], ^wiretest.SlowChecksum(ip, 0))
	} else {
		ip = []byte{0x60 | class>>4, class << 4, 0, 0, 0, 0, p.Proto, p.TTL()}
		ip = append(append(ip, src[:]...), dst[:]...)
		binary.BigEndian.PutUint16(ip[4:], uint16(len(t)))
	}
	frame := slices.Concat(d[:p.L3], ip, t)
	binary.BigEndian.PutUint16(frame[p.L3-2:], etherType)
	q, _ := parsed(frame)
	at := checksumAt(&q)
	frame[at], frame[at+1] = 0, 0
	sum := uint32(^transportSum(&q)) + uint32(^residue(p)) // as wrong as it was
	binary.BigEndian.PutUint16(frame[at:], wiretest.SlowChecksum(nil, sum))
	if q.Proto == wire.ProtoUDP && frame[at] == 0 && frame[at+1] == 0 {
		frame[at], frame[at+1] = 0xff, 0xff
	}
	return frame
}
