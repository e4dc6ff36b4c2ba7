// Package affinity remembers which backend a client was given.
//
// Contract: a table of fixed size, shared by all workers without a lock. A key is a keyed hash of what is remembered; that
// two share one is as likely as guessing 64 bits. What is looked up is either what was kept for the key or nothing. Of
// two workers that keep something for one key in the same moment, the first one's stays and both are told. Entries end
// by time; when the eight places that a key may have are taken, the entry that would end first gives way, which is
// counted. The same calls give the same answers. It does not know clients, backends or services.
package affinity

import (
	"sync/atomic"

	"naru/internal/wire"
)

// Our own choices.
const (
	ways = 8 // places that a key may have: two cache lines

	// MaxID is the largest id that can be kept.
	MaxID = 1<<idBits - 1

	idBits = 20
	tick   = 20 // times are kept in units of 2^20 ns, about a millisecond

	busy = 1 // the value of an entry that is being written; its time is long over
)

// entry is a key, and an id in the upper bits with the end of its time below, in ticks.
type entry struct{ key, value atomic.Uint64 }

// Table is the memory of one service.
type Table struct {
	sets    [][ways]entry
	mask    uint64
	evicted atomic.Uint64
}

// New makes a table for at least so many clients; it rounds up to a power of two.
func New(clients int) *Table {
	n := uint64(1)
	for n*ways < uint64(clients) {
		n *= 2
	}
	return &Table{sets: make([][ways]entry, n), mask: n - 1}
}

// Size returns for how many clients there is room.
func (t *Table) Size() int { return len(t.sets) * ways }

// Evicted returns how many entries gave way before their time.
func (t *Table) Evicted() uint64 { return t.evicted.Load() }

func (t *Table) set(key uint64) *[ways]entry { return &t.sets[key>>8&t.mask] }

// alive returns the id of a value whose time is not over.
func alive(value uint64, now wire.Time) (id uint32, ok bool) {
	end := value & (1<<(64-idBits) - 1)
	return uint32(value >> (64 - idBits)), value != busy && end > uint64(now)>>tick+1
}

// Find returns the id that was kept for a key, unless its time is over.
func (t *Table) Find(key uint64, now wire.Time) (id uint32, ok bool) {
	set := t.set(key)
	for i := range set {
		e := &set[i]
		if e.key.Load() != key {
			continue
		}
		if id, ok = alive(e.value.Load(), now); ok && e.key.Load() == key { // else it changed hands in between
			return id, true
		}
	}
	return 0, false
}

// Keep keeps an id for a key until a time, unless another one but old is kept already. It returns the id that holds then.
// old is what Find returned, or the id itself.
func (t *Table) Keep(key uint64, now, until wire.Time, id, old uint32) uint32 {
	value := uint64(id)<<(64-idBits) | uint64(until)>>tick + 2 // never busy
	set := t.set(key)
	victim, seen, soonest := -1, uint64(0), ^uint64(0)
	for i := range set {
		e := &set[i]
		v := e.value.Load()
		if v == busy {
			continue
		}
		if e.key.Load() == key {
			if there, ok := alive(v, now); ok && there != old && there != id {
				return there
			}
			e.value.CompareAndSwap(v, value) // or another worker has just kept something, or taken the place
			return id
		}
		end := v & (1<<(64-idBits) - 1)
		if end < soonest {
			victim, seen, soonest = i, v, end
		}
	}
	if victim < 0 || !set[victim].value.CompareAndSwap(seen, busy) {
		return id // many workers at once in one set: this client is remembered the next time
	}
	if _, ok := alive(seen, now); ok {
		t.evicted.Add(1)
	}
	set[victim].key.Store(key)
	set[victim].value.Store(value)
	return id
}
