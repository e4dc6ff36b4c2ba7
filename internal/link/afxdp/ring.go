package afxdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A queue is one ring that the kernel and we share: one side produces entries, the other consumes them.
type queue[T any] struct {
	mem      []byte
	producer *uint32
	consumer *uint32
	flags    *uint32
	entries  []T
	mask     uint32

	// Our own side's index, and what is known of the other's.
	own, seen uint32
}

// mapQueue maps one ring of a socket. pgoff tells which, off where its parts are.
func mapQueue[T any](fd int, pgoff int64, off unix.XDPRingOffset, size int) (*queue[T], error) {
	var entry T
	length := int(off.Desc) + size*int(unsafe.Sizeof(entry))
	mem, err := unix.Mmap(fd, pgoff, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	word := func(at uint64) *uint32 { return (*uint32)(unsafe.Pointer(&mem[at])) }
	return &queue[T]{mem: mem, producer: word(off.Producer), consumer: word(off.Consumer), flags: word(off.Flags),
		entries: unsafe.Slice((*T)(unsafe.Pointer(&mem[off.Desc])), size), mask: uint32(size - 1)}, nil
}

// free returns how many entries may be put, of at most n.
func (q *queue[T]) free(n int) int {
	size := uint32(len(q.entries))
	if room := size - (q.own - q.seen); int(room) >= n {
		return n
	}
	q.seen = atomic.LoadUint32(q.consumer)
	return min(n, int(size-(q.own-q.seen)))
}

// put writes the next entry; free must have said that there is room. The kernel sees it after publish.
func (q *queue[T]) put(v T) {
	q.entries[q.own&q.mask] = v
	q.own++
}

// publish shows the kernel what was put.
func (q *queue[T]) publish() { atomic.StoreUint32(q.producer, q.own) }

// drained reports whether the kernel has taken everything that was published.
func (q *queue[T]) drained() bool {
	q.seen = atomic.LoadUint32(q.consumer)
	return q.seen == q.own
}

// ready returns how many entries the kernel has left for us, at most n.
func (q *queue[T]) ready(n int) int {
	if have := q.seen - q.own; int(have) >= n {
		return n
	}
	q.seen = atomic.LoadUint32(q.producer)
	return min(n, int(q.seen-q.own))
}

// take reads the next entry; ready must have said that there is one. The kernel gets the place back after release.
func (q *queue[T]) take() T {
	v := q.entries[q.own&q.mask]
	q.own++
	return v
}

// release gives the places of what was taken back.
func (q *queue[T]) release() { atomic.StoreUint32(q.consumer, q.own) }

// asleep reports whether the kernel must be woken to look at the ring.
func (q *queue[T]) asleep() bool { return atomic.LoadUint32(q.flags)&unix.XDP_RING_NEED_WAKEUP != 0 }

func (q *queue[T]) unmap() {
	if q != nil {
		unix.Munmap(q.mem)
	}
}
