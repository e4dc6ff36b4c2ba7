// Package affinity remembers which backend a client was given.
//
// Contract: a table of fixed size, shared by all workers without a lock. A key is a keyed hash of what is remembered; that
// two share one is as likely as guessing 64 bits. What is looked up is either what was kept for the key or nothing. Of
// two workers that keep something for one key in the same moment, the first one's stays and both are told, unless one
// cannot wait for the other, which is bounded. Entries end by time; when the seven places that a key may have are taken,
// the entry that would end first gives way, which is counted. The same calls give the same answers. It does not know
// clients, backends or services.
package affinity

import (
	"sync/atomic"

	"naru/internal/wire"
)

// Our own choices.
const (
	ways = 7 // places that a key may have: with their turn they are two cache lines

	// MaxID is the largest id that can be kept.
	MaxID = 1<<idBits - 1

	idBits = 20
	tick   = 20 // times are kept in units of 2^20 ns, about a millisecond

	patience = 64 // how often one looks again while another worker writes, which takes it a few instructions
)

// entry is a key, and an id in the upper bits with the end of its time below, in ticks.
type entry struct{ key, value atomic.Uint64 }

// set is the places of a key. While turn is odd a worker writes. Whoever reads the same even turn before and after has
// read what belongs together: a look at the key before and after would not do, for its place may have been another
// key's in between.
type set struct {
	turn    atomic.Uint64
	_       uint64 // two cache lines are full
	entries [ways]entry
}

// Table is the memory of one service.
type Table struct {
	sets    []set
	mask    uint64
	evicted atomic.Uint64
}

// New makes a table for at least so many clients; it rounds up to seven times a power of two.
func New(clients int) *Table {
	n := uint64(1)
	for n*ways < uint64(clients) {
		n *= 2
	}
	return &Table{sets: make([]set, n), mask: n - 1}
}

// Size returns for how many clients there is room.
func (t *Table) Size() int { return len(t.sets) * ways }

// Evicted returns how many entries gave way before their time.
func (t *Table) Evicted() uint64 { return t.evicted.Load() }

func (t *Table) set(key uint64) *set { return &t.sets[key>>8&t.mask] }

// alive returns the id of a value whose time is not over.
func alive(value uint64, now wire.Time) (id uint32, ok bool) {
	return uint32(value >> (64 - idBits)), end(value) > uint64(now)>>tick+1
}

func end(value uint64) uint64 { return value & (1<<(64-idBits) - 1) }

// Find returns the id that was kept for a key, unless its time is over.
func (t *Table) Find(key uint64, now wire.Time) (id uint32, ok bool) {
	set := t.set(key)
	for range patience {
		turn := set.turn.Load()
		if turn&1 != 0 {
			continue
		}
		id, ok = set.find(key, now)
		if set.turn.Load() == turn {
			return id, ok
		}
	}
	return 0, false
}

func (s *set) find(key uint64, now wire.Time) (id uint32, ok bool) {
	for i := range s.entries {
		if e := &s.entries[i]; e.key.Load() == key {
			if id, ok = alive(e.value.Load(), now); ok {
				return id, true
			}
		}
	}
	return 0, false
}

// Keep keeps an id for a key until a time, unless another one but old is kept already. It returns the id that holds then.
// old is what Find returned, or the id itself.
func (t *Table) Keep(key uint64, now, until wire.Time, id, old uint32) uint32 {
	set := t.set(key)
	for range patience {
		turn := set.turn.Load()
		if turn&1 == 0 && set.turn.CompareAndSwap(turn, turn+1) {
			holds, evicted := set.keep(key, now, until, id, old)
			set.turn.Store(turn + 2)
			if evicted {
				t.evicted.Add(1)
			}
			return holds
		}
	}
	return id // the worker that writes was interrupted: this client is remembered the next time
}

// keep is Keep, by the worker whose turn it is.
func (s *set) keep(key uint64, now, until wire.Time, id, old uint32) (holds uint32, evicted bool) {
	victim := &s.entries[0]
	for i := range s.entries {
		e := &s.entries[i]
		if v := e.value.Load(); e.key.Load() != key {
			if end(v) < end(victim.value.Load()) {
				victim = e
			}
			continue
		} else if there, ok := alive(v, now); ok && there != old && there != id {
			return there, false
		}
		victim = e
		break
	}
	if victim.key.Load() != key {
		_, evicted = alive(victim.value.Load(), now)
	}
	victim.key.Store(key)
	victim.value.Store(uint64(id)<<(64-idBits) | uint64(until)>>tick + 2)
	return id, evicted
}
