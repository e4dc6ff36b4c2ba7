package record

import (
	"sync/atomic"

	"naru/forwarder"
	"naru/internal/wire"
)

// Our own choices.
const (
	copyFrames = 64      // frames that one packet has become and that a copy keeps
	copyReuse  = 4 << 10 // bytes of memory that a place of a ring keeps for the next record
	ringBytes  = 16 << 20
)

// copied is a record with memory of its own.
type copied struct {
	rec        forwarder.Record
	stages     []forwarder.Stage
	candidates []forwarder.Candidate
	bytes      []byte
	frames     []wire.Frame
	sent       []*wire.Frame
}

// from makes it a copy of a record, with at most so many bytes of each frame.
func (c *copied) from(r *forwarder.Record, most int) {
	c.rec = *r
	c.stages = append(c.stages[:0], r.Stages...)
	c.candidates = append(c.candidates[:0], r.Candidates...)
	kept := min(len(r.Frame), most) // somebody else may want more
	c.bytes = append(c.bytes[:0], r.Frame[:kept]...)
	c.frames, c.sent = c.frames[:0], c.sent[:0]
	for _, f := range r.Sent[:min(len(r.Sent), copyFrames)] {
		d := f.Bytes()
		g := *f
		g.Off, g.Len = len(c.bytes), min(len(d), most)
		c.bytes = append(c.bytes, d[:g.Len]...)
		c.frames = append(c.frames, g)
	}
	for i := range c.frames { // bytes has its last place only now
		c.frames[i].Buf = c.bytes
		c.sent = append(c.sent, &c.frames[i])
	}
	c.rec.Stages, c.rec.Candidates, c.rec.Sent = c.stages, c.candidates, c.sent
	c.rec.Frame = c.bytes[:kept]
}

// Ring takes records from one goroutine to another without making the first one wait. Its memory is bounded: what does
// not find room is missed, and counted.
type Ring struct {
	most   int // bytes of a frame
	slots  []copied
	head   atomic.Uint64 // the next place to write
	tail   atomic.Uint64 // the next place to read
	held   atomic.Int64  // bytes in places that wait to be read
	missed atomic.Uint64
}

// NewRing makes a ring for so many records, of whose frames most bytes are kept.
func NewRing(records, most int) *Ring { return &Ring{most: most, slots: make([]copied, records)} }

// Put copies a record into the ring. One goroutine may call it.
func (g *Ring) Put(r *forwarder.Record) {
	head := g.head.Load()
	if head-g.tail.Load() == uint64(len(g.slots)) || g.held.Load() > ringBytes {
		g.missed.Add(1)
		return
	}
	c := &g.slots[head%uint64(len(g.slots))]
	c.from(r, g.most)
	g.held.Add(int64(len(c.bytes)))
	g.head.Store(head + 1)
}

// Take hands the records that are there to f, in order, and returns how many those were. f must not keep them. One
// goroutine may call it, another one than Put's.
func (g *Ring) Take(f func(*forwarder.Record)) (n int) {
	for tail := g.tail.Load(); tail != g.head.Load(); tail++ {
		c := &g.slots[tail%uint64(len(g.slots))]
		f(&c.rec)
		g.held.Add(-int64(len(c.bytes)))
		if cap(c.bytes) > copyReuse {
			c.bytes = nil
		}
		g.tail.Store(tail + 1)
		n++
	}
	return n
}

// Missed returns how many records found no room so far.
func (g *Ring) Missed() uint64 { return g.missed.Load() }
