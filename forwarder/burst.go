package forwarder

import (
	"naru/dsr"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// Our own choices: room for 64 super-frames cut into segments of 1500 bytes, in one call.
const (
	burstBytes  = 64 * (wire.MaxFrame + 46*(wire.Headroom+wire.IPv6Len+wire.TCPLen+40))
	burstFrames = 64 * 46
)

// burst is the memory of the frames that single packets become: segments and fragments. It is taken anew in each call.
type burst struct {
	mem    []byte
	used   int
	frames []wire.Frame

	cut  dsr.Segmenter
	frag dsr.Fragmenter
}

func (b *burst) reset() { b.used, b.frames = 0, b.frames[:0] }

// open allocates the memory; called when a configuration needs it first.
func (b *burst) open() {
	if b.mem == nil {
		b.mem, b.frames = make([]byte, burstBytes), make([]wire.Frame, 0, burstFrames)
	}
}

// room returns the next frame's memory, behind headroom, for at most size bytes; nil when there is no room.
func (b *burst) room(size int) []byte {
	if b.used+wire.Headroom+size > len(b.mem) || len(b.frames) == cap(b.frames) {
		return nil
	}
	return b.mem[b.used+wire.Headroom:][:size]
}

// take makes a frame of the first n bytes of the room.
func (b *burst) take(n int) *wire.Frame {
	b.frames = append(b.frames, wire.Frame{Buf: b.mem[b.used : b.used+wire.Headroom+n], Off: wire.Headroom, Len: n})
	b.used += wire.Headroom + n
	return &b.frames[len(b.frames)-1]
}

// segments cuts a super-frame, wraps each segment and fragments those longer than limit then. One that says it is
// thousands of segments costs no work.
func (b *burst) segments(e *Engine, p *wire.Packet, pi *path, limit int) bool {
	mtu := limit + pi.tunnel.Overhead()
	return b.cut.Start(p) && (p.End-p.L4)/int(p.Offload.GSOSize) < cap(b.frames)-len(b.frames) &&
		b.collect(p.L3+p.SegmentLen(), b.cut.Next,
			func(f *wire.Frame) bool {
				return e.wrapOne(f, p.L3, pi, p.Hash) && (f.Len-p.L3 <= mtu || b.replace(e, p.L3, mtu))
			})
}

// replace puts fragments in place of the last frame, whose bytes stay where they are.
func (b *burst) replace(e *Engine, l3, mtu int) bool {
	last := len(b.frames) - 1
	d := b.frames[last].Bytes()
	b.frames = b.frames[:last]
	return b.frag.Start(d, l3, mtu, e.fragmentID()) && b.collect(l3+mtu, b.frag.Next, nil)
}

// innerFragments cuts an IPv4 packet to fit a tunnel and wraps each fragment (RFC 2003 3.1).
func (b *burst) innerFragments(e *Engine, p *wire.Packet, pi *path, mtu int) bool {
	return b.frag.Start(p.Bytes()[:p.End], p.L3, mtu, e.fragmentID()) &&
		b.collect(p.L3+mtu, b.frag.Next, func(f *wire.Frame) bool { return e.wrapOne(f, p.L3, pi, p.Hash) })
}

// fragments cuts a packet to fit an MTU.
func (b *burst) fragments(e *Engine, p *wire.Packet, mtu int) bool {
	return b.frag.Start(p.Bytes()[:p.End], p.L3, mtu, e.fragmentID()) && b.collect(p.L3+mtu, b.frag.Next, nil)
}

// collect makes frames of at most size bytes as long as next writes them.
func (b *burst) collect(size int, next func([]byte) (int, bool), then func(*wire.Frame) bool) bool {
	for {
		dst := b.room(size)
		if dst == nil {
			return false
		}
		n, ok := next(dst)
		if !ok {
			return true
		}
		if f := b.take(n); then != nil && !then(f) {
			return false
		}
	}
}

// sendPieces sends what a packet has become, if its next hop is known: pieces do not wait. cut has put so many bytes in
// front of each as overhead tells.
func (e *Engine) sendPieces(p *wire.Packet, hop neigh.ID, overhead int, cut func(*burst) bool) {
	mac, _ := e.neigh.MAC(e.now, hop)
	if mac == nil {
		e.done(p, wire.NeighUnresolved)
		return
	}
	b := &e.burst
	first, used := len(b.frames), b.used
	if !cut(b) {
		b.frames, b.used = b.frames[:first], used
		e.done(p, wire.CannotSegment)
		return
	}
	p.Leg = e.neigh.Leg(hop)
	for i := first; i < len(b.frames); i++ {
		f := &b.frames[i]
		f.Leg, f.TPID, f.TCI = p.Leg, p.TPID, p.TCI
		dsr.Redirect(f, &e.snap.legs[p.Leg].MAC, mac)
		e.emit(f)
	}
	p.Verdict = wire.Transmit
	e.counters.Transmitted++
	if e.trace != nil {
		if overhead > 0 {
			q := *p
			q.Frame, q.End = b.frames[first], b.frames[first].Len
			e.rec.wrapped(&q, overhead)
		}
		e.rec.pieces = len(b.frames) - first
		e.rec.finish(e, p, hop)
	}
}
