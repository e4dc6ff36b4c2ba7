package flowlog

import (
	"sync/atomic"

	"naru/forwarder"
)

// entry is a connection that has begun or ended.
type entry struct {
	forwarder.Connection
	end bool
}

// ring holds the entries of one worker, its only writer, until the Log, its only reader, takes them.
type ring struct {
	slots []entry
	tail  atomic.Uint64 // entries that were taken
	_     [56]byte      // the writer's word is on a cache line of its own
	head  atomic.Uint64 // entries that were put
	lost  atomic.Uint64
}

func (r *ring) put(c *forwarder.Connection, end bool) {
	head := r.head.Load()
	if head-r.tail.Load() == uint64(len(r.slots)) {
		r.lost.Add(1)
		return
	}
	e := &r.slots[head%uint64(len(r.slots))]
	e.Connection, e.end = *c, end
	r.head.Store(head + 1)
}

// take hands what is there to each, in order; the entry is valid during the call only.
func (r *ring) take(each func(*entry)) {
	for at, head := r.tail.Load(), r.head.Load(); at != head; at++ {
		each(&r.slots[at%uint64(len(r.slots))])
		r.tail.Store(at + 1)
	}
}
