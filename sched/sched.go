// Package sched chooses a backend for a new connection.
//
// Contract: Pick is called once a new connection, by any number of workers at the same time; state that it keeps is
// advanced by atomic operations only. It allocates nothing, reads no clock and does not keep its arguments. The same
// calls in the same order give the same choices. It does not know what a packet or an address is: it is handed a hash.
//
// The names and their meaning are those of ipvsadm(8).
package sched

import "sync/atomic"

// Kind names a scheduler.
type Kind uint8

// The schedulers.
const (
	RR Kind = iota // round robin
	LC             // least connections
	SH             // source hash
)

var kinds = [...]struct{ short, long string }{
	RR: {"rr", "round-robin"},
	LC: {"lc", "least-connections"},
	SH: {"sh", "source"},
}

// String returns the short name.
func (k Kind) String() string { return kinds[k].short }

// Parse returns the kind of a short or long name.
func Parse(name string) (Kind, bool) {
	for k, n := range kinds {
		if name == n.short || name == n.long {
			return Kind(k), true
		}
	}
	return 0, false
}

// Names returns the short names in the order of the kinds.
func Names() []string {
	names := make([]string, len(kinds))
	for k, n := range kinds {
		names[k] = n.short
	}
	return names
}

// Backend is what a scheduler may know of a backend.
type Backend struct {
	Weight uint32        // 0: gets no new connection
	Active *atomic.Int64 // connections it has now, over all workers
}

// Scheduler chooses among backends.
type Scheduler interface {
	// Pick returns an index into backends, or -1 if none may be used. hash is the keyed hash of what the service
	// hashes (the client's address for sh); the others ignore it.
	Pick(hash uint64, backends []Backend) int
}

// New returns a scheduler of the kind, shared by all workers.
func New(k Kind) Scheduler {
	switch k {
	case LC:
		return leastConn{}
	case SH:
		return sourceHash{}
	default:
		return new(roundRobin)
	}
}
