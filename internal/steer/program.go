package steer

import (
	"fmt"
	"slices"

	"naru/internal/wire"
)

// Instruction is one instruction of classic BPF, struct sock_filter of linux/filter.h.
type Instruction struct {
	Op     uint16
	Jt, Jf uint8
	K      uint32
}

// maxProgram is the most instructions that the kernel takes (BPF_MAXINSNS of linux/bpf_common.h).
const maxProgram = 4096

// Opcodes (linux/bpf_common.h).
const (
	ldWord      = 0x20 // A = what stands at K
	ldWordAtX   = 0x40 // A = what stands at X+K
	ldHalfAtX   = 0x48
	ldByteAtX   = 0x50
	ldScratch   = 0x60 // A = M[K]
	ldxScratch  = 0x61
	ldxConst    = 0x01
	storeA      = 0x02 // M[K] = A
	addX        = 0x0c
	mulConst    = 0x24
	andConst    = 0x54
	leftConst   = 0x64
	rightConst  = 0x74
	moduloConst = 0x94
	xorConst    = 0xa4
	xorX        = 0xac
	jump        = 0x05
	jumpEqual   = 0x15
	jumpSet     = 0x45 // A & K != 0
	returnConst = 0x06
	returnA     = 0x16
	copyAToX    = 0x07
)

// protocolOf is where a load finds the EtherType that the kernel read (SKF_AD_OFF + SKF_AD_PROTOCOL of linux/filter.h).
const protocolOf = 0xfffff000

// Places in scratch memory. An IPv4 address is in the last of its four words, as in wire.Addr.
const (
	atSrc     = 0
	atDst     = 4
	atSrcPort = 8
	atDstPort = 9
)

// Header fields, counted from the start of their header (RFC 791, RFC 8200, RFC 792).
const (
	protocol4, src4, dst4, fragment4 = 9, 12, 16, 6
	next6, src6, dst6                = 6, 8, 24

	extHopByHop, extRouting, extFragment, extDest = 0, 43, 44, 60
)

// label is a place in the program that is jumped to before it is there.
type label int

const (
	start4 label = iota
	start6
	tag
	secondTag
	ports4
	decide4
	pair4
	ports6
	error6
	decide6
	pair6
	toFirst // worker 0
	numLabels
)

// assembler puts a program together. Every conditional jump is two instructions, of which the second reaches any place.
type assembler struct {
	plan   *Plan
	code   []Instruction
	places []int         // of labels
	open   map[int]label // jumps whose distance is not known yet
}

// Program returns the program: its result is the worker, below the number of workers. Offsets count from the network
// header, which is where the kernel runs it. The error says that there are more addresses than the kernel has room for.
func (p *Plan) Program() ([]Instruction, error) {
	if p.workers == 1 {
		return []Instruction{{Op: returnConst}}, nil
	}
	a := &assembler{plan: p, places: make([]int, numLabels), open: map[int]label{}}
	a.link()
	a.ipv4()
	a.ipv6()
	a.here(toFirst)
	a.emit(returnConst, 0)
	if len(a.code) > maxProgram {
		return nil, fmt.Errorf("steer: %d workers: %d local addresses, %d VIPs and %d backends of mode nat are too many to "+
			"share out (%d instructions, the kernel takes %d)", p.workers, len(p.locals), len(p.vips), len(p.routed),
			len(a.code), maxProgram)
	}
	for at, to := range a.open {
		a.code[at].K = uint32(a.places[to] - at - 1)
	}
	return a.code, nil
}

func (a *assembler) emit(op uint16, k uint32) { a.code = append(a.code, Instruction{Op: op, K: k}) }

// here sets a label.
func (a *assembler) here(l label) { a.places[l] = len(a.code) }

func (a *assembler) goTo(l label) {
	a.open[len(a.code)] = l
	a.emit(jump, 0)
}

// goIf jumps when a condition on A and k holds.
func (a *assembler) goIf(op uint16, k uint32, l label) {
	a.code = append(a.code, Instruction{Op: op, Jf: 1, K: k})
	a.goTo(l)
}

// goUnless jumps when A is none of the values.
func (a *assembler) goUnless(l label, values ...uint32) {
	for i, k := range values {
		a.code = append(a.code, Instruction{Op: jumpEqual, Jt: uint8(len(values) - i), K: k})
	}
	a.goTo(l)
}

// keep loads something at X and stores it in scratch memory.
func (a *assembler) keep(load uint16, at uint32, to uint32) {
	a.emit(load, at)
	a.emit(storeA, to)
}

// link finds the network header behind the VLAN tags that the kernel left in the bytes: X is where it begins.
func (a *assembler) link() {
	a.emit(ldxConst, 0)
	a.emit(ldWord, protocolOf)
	a.family(tag)
	a.goTo(toFirst)
	a.here(tag)
	a.emit(ldHalfAtX, 2)
	a.emit(ldxConst, wire.VLANTagLen)
	a.family(secondTag)
	a.goTo(toFirst)
	a.here(secondTag)
	a.emit(ldHalfAtX, 2)
	a.emit(ldxConst, 2*wire.VLANTagLen)
	a.goIf(jumpEqual, wire.TypeIPv4, start4)
	a.goIf(jumpEqual, wire.TypeIPv6, start6)
	a.goTo(toFirst)
}

// family goes on by an EtherType.
func (a *assembler) family(tagged label) {
	a.goIf(jumpEqual, wire.TypeIPv4, start4)
	a.goIf(jumpEqual, wire.TypeIPv6, start6)
	a.goIf(jumpEqual, wire.TypeVLAN, tagged)
	a.goIf(jumpEqual, wire.TypeQinQ, tagged)
}

func (a *assembler) ipv4() {
	a.here(start4)
	a.keep(ldWordAtX, src4, atSrc+3)
	a.keep(ldWordAtX, dst4, atDst+3)
	a.emit(ldHalfAtX, fragment4)
	a.goIf(jumpSet, 0x3fff, pair4)
	a.emit(ldByteAtX, protocol4)
	a.goIf(jumpEqual, wire.ProtoTCP, ports4)
	a.goIf(jumpEqual, wire.ProtoUDP, ports4)
	a.goUnless(toFirst, wire.ProtoICMP)

	a.skipHeader4(0)
	a.emit(ldByteAtX, 0)
	a.goUnless(toFirst, wire.ICMPUnreachable, wire.ICMPTimeExceeded, wire.ICMPParameter)
	const quote = wire.ICMPLen
	a.emit(ldByteAtX, quote)
	a.emit(rightConst, 4)
	a.goUnless(toFirst, 4)
	a.emit(ldHalfAtX, quote+fragment4)
	a.goIf(jumpSet, 0x1fff, toFirst)
	a.emit(ldByteAtX, quote+protocol4)
	a.goUnless(toFirst, wire.ProtoTCP, wire.ProtoUDP)
	// The quoted packet went the other way.
	a.keep(ldWordAtX, quote+src4, atDst+3)
	a.keep(ldWordAtX, quote+dst4, atSrc+3)
	a.skipHeader4(quote)
	a.keep(ldHalfAtX, quote, atDstPort)
	a.keep(ldHalfAtX, quote+2, atSrcPort)
	a.goTo(decide4)

	a.here(ports4)
	a.skipHeader4(0)
	a.keep(ldHalfAtX, 0, atSrcPort)
	a.keep(ldHalfAtX, 2, atDstPort)
	a.here(decide4)
	a.decide(3)
	a.here(pair4)
	a.pair(3)
}

// skipHeader4 adds to X the length of the IPv4 header at X+at.
func (a *assembler) skipHeader4(at uint32) {
	a.emit(ldByteAtX, at)
	a.emit(andConst, 0x0f)
	a.emit(leftConst, 2)
	a.emit(addX, 0)
	a.emit(copyAToX, 0)
}

func (a *assembler) ipv6() {
	a.here(start6)
	a.address6(src6, atSrc)
	a.address6(dst6, atDst)
	a.emit(ldByteAtX, next6)
	a.goIf(jumpEqual, wire.ProtoTCP, ports6)
	a.goIf(jumpEqual, wire.ProtoUDP, ports6)
	a.goIf(jumpEqual, wire.ProtoICMPv6, error6)
	for _, header := range []uint32{extHopByHop, extRouting, extFragment, extDest} {
		a.goIf(jumpEqual, header, pair6)
	}
	a.goTo(toFirst)

	a.here(error6)
	const quote = wire.IPv6Len + wire.ICMPLen
	a.emit(ldByteAtX, wire.IPv6Len)
	a.goIf(jumpSet, 0x80, toFirst) // no error (RFC 4443 2.1)
	a.emit(ldByteAtX, quote)
	a.emit(rightConst, 4)
	a.goUnless(toFirst, 6)
	a.emit(ldByteAtX, quote+next6)
	a.goUnless(toFirst, wire.ProtoTCP, wire.ProtoUDP)
	a.address6(quote+src6, atDst)
	a.address6(quote+dst6, atSrc)
	a.keep(ldHalfAtX, quote+wire.IPv6Len, atDstPort)
	a.keep(ldHalfAtX, quote+wire.IPv6Len+2, atSrcPort)
	a.goTo(decide6)

	a.here(ports6)
	a.keep(ldHalfAtX, wire.IPv6Len, atSrcPort)
	a.keep(ldHalfAtX, wire.IPv6Len+2, atDstPort)
	a.here(decide6)
	a.decide(0)
	a.here(pair6)
	a.pair(0)
}

func (a *assembler) address6(at, to uint32) {
	for i := range uint32(4) {
		a.keep(ldWordAtX, at+4*i, to+i)
	}
}

// decide is Owner, for addresses of which the words from first on count.
func (a *assembler) decide(first uint32) {
	p := a.plan
	a.ifAny(a.ofFamily(p.opt.Locals, first), atDst, first, func() {
		a.emit(ldScratch, atDstPort)
		a.emit(moduloConst, p.workers)
		a.emit(returnA, 0)
	})
	if routed := a.ofFamily(p.opt.Routed, first); len(routed) > 0 {
		a.ifAny(a.ofFamily(p.opt.VIPs, first), atDst, first, func() { a.client(atSrc, atSrcPort, first) })
		a.ifAny(routed, atSrc, first, func() { a.client(atDst, atDstPort, first) })
	}
	a.client(atSrc, atSrcPort, first)
}

// ofFamily returns the addresses of one family, in order, each once.
func (a *assembler) ofFamily(addrs []wire.Addr, first uint32) []wire.Addr {
	var out []wire.Addr
	for _, addr := range addrs {
		if addr.Is4() == (first == 3) {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, func(a, b wire.Addr) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out)
}

// matches compares the address in scratch memory with all of a list; the jumps that it returns are taken when one is equal.
func (a *assembler) matches(addrs []wire.Addr, at, first uint32) (hits []int) {
	if len(addrs) > 0 {
		a.emit(ldScratch, at+3)
	}
	for i, addr := range addrs {
		var misses []int
		for w := uint32(3); w > first; w-- {
			a.code = append(a.code, Instruction{Op: jumpEqual, Jt: 1, K: word(&addr, int(w))})
			misses = append(misses, len(a.code))
			a.emit(jump, 0)
			a.emit(ldScratch, at+w-1)
		}
		a.code = append(a.code, Instruction{Op: jumpEqual, Jf: 1, K: word(&addr, int(first))})
		hits = append(hits, len(a.code))
		a.emit(jump, 0)
		a.land(misses)
		if first < 3 && i+1 < len(addrs) {
			a.emit(ldScratch, at+3)
		}
	}
	return hits
}

// ifAny does something when one of the addresses is in scratch memory; what it does must return.
func (a *assembler) ifAny(addrs []wire.Addr, at, first uint32, then func()) {
	if len(addrs) == 0 {
		return
	}
	hits := a.matches(addrs, at, first)
	miss := len(a.code)
	a.emit(jump, 0)
	a.land(hits)
	then()
	a.land([]int{miss})
}

// land makes jumps end here.
func (a *assembler) land(jumps []int) {
	for _, at := range jumps {
		a.code[at].K = uint32(len(a.code) - at - 1)
	}
}

// client returns the worker of a client.
func (a *assembler) client(addr, port, first uint32) {
	if a.plan.opt.ByPort {
		a.emit(ldScratch, port)
	} else {
		for i := first; i < 4; i++ {
			if i == first {
				a.emit(ldScratch, addr+i)
				a.emit(xorConst, a.plan.key)
			} else {
				a.emit(ldxScratch, addr+i)
				a.emit(xorX, 0)
			}
			a.mix()
		}
		a.emit(ldxScratch, port)
		a.emit(xorX, 0)
		a.mix()
		a.end()
	}
	a.emit(moduloConst, a.plan.workers)
	a.emit(returnA, 0)
}

// pair is Pair.
func (a *assembler) pair(first uint32) {
	for i := first; i < 4; i++ {
		// What the hash is so far waits where the word of the source was.
		a.emit(ldScratch, atSrc+i)
		a.emit(ldxScratch, atDst+i)
		a.emit(xorX, 0)
		if i == first {
			a.emit(xorConst, a.plan.key)
		} else {
			a.emit(ldxScratch, atSrc+i-1)
			a.emit(xorX, 0)
		}
		a.mix()
		a.emit(storeA, atSrc+i)
	}
	a.end()
	a.emit(moduloConst, a.plan.workers)
	a.emit(returnA, 0)
}

// mix multiplies A and folds it: Plan.mix, whose first half xors a word in before.
func (a *assembler) mix() {
	a.emit(mulConst, a.plan.factor)
	a.fold(15)
}

// end is the first half of Plan.end.
func (a *assembler) end() {
	a.emit(mulConst, lastFactor)
	a.fold(13)
}

func (a *assembler) fold(shift uint32) {
	a.emit(copyAToX, 0)
	a.emit(rightConst, shift)
	a.emit(xorX, 0)
}
