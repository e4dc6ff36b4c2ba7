package forwarder

import (
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// Our own choices.
const (
	oldestTries = 32 // connections that are looked at to find the one that has been without a packet for longest
	portTries   = 64 // connections that are looked at to find one that holds a port of a pool
)

// Limits bound how many connections of a kind there may be, all workers together; 0 is no bound of its own.
type Limits struct {
	Handshakes int // TCP that is not proven: see conntrack.Handshake
	TCP        int // TCP that is proven and not closed
	UDP        int
}

// perWorker returns a worker's part.
func (l Limits) perWorker(workers int) Limits {
	part := func(n int) int {
		if n == 0 {
			return int(^uint(0) >> 1)
		}
		return max(1, n/workers)
	}
	return Limits{Handshakes: part(l.Handshakes), TCP: part(l.TCP), UDP: part(l.UDP)}
}

// room makes room for a new connection and reports whether there is any. What is proven never gives way. A kind that has
// reached its limit takes the place of the oldest of its own kind. When the table is full, closed connections go first, the
// one that was closed first first; then what is not proven, of the kind that fills more of its limit.
func (e *Engine) room(proto uint8) bool {
	t, l := e.table, &e.snap.limits
	questions := t.Count(conntrack.Question)
	switch {
	case proto == wire.ProtoTCP && t.Count(conntrack.TCP) >= l.TCP:
		return false
	case proto == wire.ProtoTCP && t.Count(conntrack.Handshake) >= l.Handshakes:
		return e.evict(conntrack.Handshake)
	case proto != wire.ProtoTCP && t.Count(conntrack.UDP)+questions >= l.UDP:
		return e.evict(conntrack.Question)
	case t.Len() < t.Cap() || e.evict(conntrack.Closed):
		return true
	}
	first, second := conntrack.Handshake, conntrack.Question
	if float64(t.Count(first))*float64(l.UDP) < float64(questions)*float64(l.Handshakes) {
		first, second = second, first
	}
	return e.evict(first) || e.evict(second)
}

// evict ends the oldest connection of a class and reports whether there was one.
func (e *Engine) evict(class conntrack.Class) bool {
	id := e.table.Oldest(class, oldestTries, nil)
	if id == conntrack.None {
		return false
	}
	e.evictOne(id, class)
	return true
}

func (e *Engine) evictOne(id conntrack.ID, class conntrack.Class) {
	e.endConn(id)
	switch class {
	case conntrack.Closed:
		e.counters.EvictedClosed++
	case conntrack.Handshake:
		e.counters.EvictedHandshakes++
	default:
		e.counters.EvictedQuestions++
	}
}

// evictForPort ends an old connection that is not proven and holds a port of the pool of a path, and reports whether it
// found one soon: a flood of forged sources must not keep the ports from those who finish what they begin.
func (e *Engine) evictForPort(path conntrack.PathID, proto uint8) bool {
	class := conntrack.Question
	if proto == wire.ProtoTCP {
		class = conntrack.Handshake
	}
	pool := e.paths[path].pool
	id := e.table.Oldest(class, portTries, func(c *conntrack.Conn) bool { return e.paths[c.Path].pool == pool })
	if id == conntrack.None {
		return false
	}
	e.evictOne(id, class)
	return true
}
