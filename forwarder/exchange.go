package forwarder

import (
	"sync/atomic"

	"naru/internal/wire"
)

// Our own choices.
const (
	ringSlots = 256     // packets that one worker may have handed to another, and not yet seen taken
	ringBytes = 1 << 19 // of them, with their headroom
	ringNotes = 64      // likewise, of what was heard about neighbours and tunnels
	slotAlign = 64
)

// Exchange is what crosses from one worker to another: packets that came to a worker which their connection does not belong
// to (fragments and the like, whose ports the devices cannot see), what ARP and neighbour discovery tell, which only the
// first worker hears, what routers tell about tunnels, and whether an address that the configuration gave up is still in
// use. All engines of one naru have the same Exchange. Nobody waits for anybody: between each two workers there is a ring
// with one writer and one reader, and what finds it full is dropped and counted.
type Exchange struct {
	workers int
	rings   []*ring // from one to another at from*workers+to; nil to itself
	bells   []bell  // by worker: something is there for it
	uses    []atomic.Pointer[uses]
}

// bell has a cache line of its own.
type bell struct {
	rung atomic.Bool
	_    [63]byte
}

// uses says which addresses a worker's connections still use; the list never changes.
type uses struct {
	addrs []wire.Addr
	used  []atomic.Bool
}

// NewExchange makes the exchange of so many workers, at most 64.
func NewExchange(workers int) *Exchange {
	x := &Exchange{workers: workers, rings: make([]*ring, workers*workers), bells: make([]bell, workers),
		uses: make([]atomic.Pointer[uses], workers)}
	for i := range x.rings {
		if i/workers != i%workers {
			x.rings[i] = &ring{arena: make([]byte, ringBytes)}
		}
	}
	return x
}

func (x *Exchange) ring(from, to int) *ring { return x.rings[from*x.workers+to] }

// ring leads from one worker to another.
type ring struct {
	arena []byte
	slots [ringSlots]handed
	notes [ringNotes]note

	// The writer's.
	_        [64]byte
	tail     atomic.Uint64 // packets written
	noteTail atomic.Uint64
	at       uint64 // bytes of the arena used since the start

	// The reader's.
	_        [64]byte
	head     atomic.Uint64 // packets whose places are free again
	noteHead atomic.Uint64
	next     uint64 // packets read
}

// handed is a packet on its way to another worker, parsed, with what is known of its datagram.
type handed struct {
	packet     wire.Packet
	datagramID uint32
	start      uint64 // of its memory in the arena
}

// note is what was heard about a neighbour; or, with an MTU, about the path through a tunnel to addr.
type note struct {
	addr   wire.Addr
	mac    wire.MAC
	leg    uint8
	mtu    int
	tunnel L3DSROptions
}

// put copies a packet into the ring; false when there is no room.
func (r *ring) put(p *wire.Packet, datagramID uint32) bool {
	tail, head := r.tail.Load(), r.head.Load()
	need := uint64(wire.Headroom+max(p.Len, wire.MinBuffer)+slotAlign-1) / slotAlign * slotAlign
	start := r.at
	if start%ringBytes+need > ringBytes {
		start += ringBytes - start%ringBytes // the memory of a packet is in one piece
	}
	if tail-head == ringSlots || need > ringBytes {
		return false
	}
	if tail != head && start+need-r.slots[head%ringSlots].start > ringBytes {
		return false
	}
	h := &r.slots[tail%ringSlots]
	h.packet, h.datagramID, h.start = *p, datagramID, start
	at := start % ringBytes
	h.packet.Buf, h.packet.Off = r.arena[at:at+need:at+need], wire.Headroom
	copy(h.packet.Buf[wire.Headroom:], p.Bytes())
	r.at = start + need
	r.tail.Store(tail + 1)
	return true
}

// take returns the next packet, or nil. It stays where it is until free.
func (r *ring) take() *handed {
	if r.next == r.tail.Load() {
		return nil
	}
	r.next++
	return &r.slots[(r.next-1)%ringSlots]
}

// free gives back the places of all packets that were taken.
func (r *ring) free() {
	if r.head.Load() != r.next {
		r.head.Store(r.next)
	}
}

// tell writes a note; one that finds no room is lost, and the neighbour will be asked again, the router tell again.
func (r *ring) tell(n note) {
	if tail := r.noteTail.Load(); tail-r.noteHead.Load() < ringNotes {
		r.notes[tail%ringNotes] = n
		r.noteTail.Store(tail + 1)
	}
}

// hear returns the next note, if there is one.
func (r *ring) hear() (n note, ok bool) {
	head := r.noteHead.Load()
	if head == r.noteTail.Load() {
		return n, false
	}
	n = r.notes[head%ringNotes]
	r.noteHead.Store(head + 1)
	return n, true
}
