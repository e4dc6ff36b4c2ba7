package sched

import (
	"math/bits"
	"sync/atomic"
)

// roundRobin gives connections to the backends in turn, whatever their weight, but for weight 0.
type roundRobin struct{ turn atomic.Uint64 }

func (r *roundRobin) Pick(_ uint64, backends []Backend) int {
	usable := 0
	for i := range backends {
		if backends[i].Weight > 0 {
			usable++
		}
	}
	if usable == 0 {
		return -1
	}
	skip := int((r.turn.Add(1) - 1) % uint64(usable))
	for i := range backends {
		if backends[i].Weight == 0 {
			continue
		}
		if skip == 0 {
			return i
		}
		skip--
	}
	return -1
}

// leastConn gives a connection to the backend that has the fewest; the first in the list on a tie.
type leastConn struct{}

func (leastConn) Pick(_ uint64, backends []Backend) int {
	best, fewest := -1, int64(0)
	for i := range backends {
		if backends[i].Weight == 0 {
			continue
		}
		if n := backends[i].Active.Load(); best < 0 || n < fewest {
			best, fewest = i, n
		}
	}
	return best
}

// sourceHash gives all connections of a client to one backend: the space of the hash is divided among the backends in
// list order, each part as wide as its weight. A change of the list moves many clients.
type sourceHash struct{}

func (sourceHash) Pick(hash uint64, backends []Backend) int {
	var total uint64
	for i := range backends {
		total += uint64(backends[i].Weight)
	}
	if total == 0 {
		return -1
	}
	at, _ := bits.Mul64(hash, total)
	for i := range backends {
		w := uint64(backends[i].Weight)
		if at < w {
			return i
		}
		at -= w
	}
	return -1
}
