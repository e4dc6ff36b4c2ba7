package nat

import (
	"time"

	"naru/internal/wire"
)

// Pool is the local ports of one local address towards one backend address and port: the same port may serve another
// backend at the same time. Free ports queue in the order in which they were freed, the longest-free first; at the start
// their order is random. So a port rests as long as possible, and an outsider cannot tell the next one (RFC 6056 3.3).
//
// One worker owns a pool; it has only the ports whose remainder by the number of workers is the worker's number, so that
// a reply's destination port names the worker.
type Pool struct {
	first, step uint32
	rest        uint32
	free        int
	next, prev  []uint16 // a ring of the free ports; the last element is its head
	freed       []uint32 // stamp of the freeing; never or inUse
}

const (
	never = 0
	inUse = ^uint32(0)
)

// stampShift makes stamps of about 16.8 ms of nanoseconds.
const stampShift = 24

// restStamp never returns the two values with a meaning of their own.
func restStamp(now wire.Time) uint32 {
	s := uint32(uint64(now) >> stampShift)
	if s == never || s == inUse {
		return 1
	}
	return s
}

// NewPool makes a pool of the ports lo to hi that belong to a worker. seed decides their first order. rest is how long a
// freed port is left alone while there are others.
func NewPool(lo, hi uint16, worker, workers int, rest time.Duration, seed uint64) *Pool {
	step := uint32(workers)
	first := uint32(lo) + (uint32(worker)+step-uint32(lo)%step)%step
	n := 0
	if first <= uint32(hi) {
		n = int((uint32(hi)-first)/step) + 1
	}
	p := &Pool{first: first, step: step, rest: uint32(rest >> stampShift), free: n,
		next: make([]uint16, n+1), prev: make([]uint16, n+1), freed: make([]uint32, n)}
	order := make([]uint16, n)
	for i := range order {
		order[i] = uint16(i)
	}
	for i := n - 1; i > 0; i-- {
		seed = splitmix(seed)
		j := int(seed % uint64(i+1))
		order[i], order[j] = order[j], order[i]
	}
	head := uint16(n)
	p.next[head], p.prev[head] = head, head
	for _, i := range order {
		p.push(i)
	}
	return p
}

// splitmix is one step of SplitMix64 (Steele, Lea, Flood 2014), a good mixer of small seeds.
func splitmix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (p *Pool) push(i uint16) {
	head := uint16(len(p.freed))
	last := p.prev[head]
	p.next[i], p.prev[i] = head, last
	p.next[last], p.prev[head] = i, i
}

func (p *Pool) take(i uint16) {
	p.next[p.prev[i]], p.prev[p.next[i]] = p.next[i], p.prev[i]
	p.freed[i] = inUse
	p.free--
}

// rested reports whether a free port may be used without hurry.
func (p *Pool) rested(i uint16, now wire.Time) bool {
	return p.freed[i] == never || restStamp(now)-p.freed[i] >= p.rest
}

// Get takes the port that has been free for longest. early says that it has not rested; ok is false when none is free.
func (p *Pool) Get(now wire.Time) (port uint16, early, ok bool) {
	head := uint16(len(p.freed))
	i := p.next[head]
	if i == head {
		return 0, false, false
	}
	early = !p.rested(i, now)
	p.take(i)
	return uint16(p.first + uint32(i)*p.step), early, true
}

// GetPort takes a certain port, if it is the pool's, free and rested.
func (p *Pool) GetPort(port uint16, now wire.Time) bool {
	i, ok := p.index(port)
	if !ok || p.freed[i] == inUse || !p.rested(i, now) {
		return false
	}
	p.take(i)
	return true
}

// Claim takes a port that a connection already has, rested or not. A port that is not the pool's or not free is left alone.
func (p *Pool) Claim(port uint16) {
	if i, ok := p.index(port); ok && p.freed[i] != inUse {
		p.take(i)
	}
}

// Put gives a port back. A port that is not in use is left alone.
func (p *Pool) Put(port uint16, now wire.Time) {
	i, ok := p.index(port)
	if !ok || p.freed[i] != inUse {
		return
	}
	p.freed[i] = restStamp(now)
	p.free++
	p.push(i)
}

// Free returns how many ports are free, Size how many there are.
func (p *Pool) Free() int { return p.free }

// Size returns how many ports the pool has.
func (p *Pool) Size() int { return len(p.freed) }

func (p *Pool) index(port uint16) (uint16, bool) {
	off := uint32(port) - p.first
	if uint32(port) < p.first || off%p.step != 0 || off/p.step >= uint32(len(p.freed)) {
		return 0, false
	}
	return uint16(off / p.step), true
}
