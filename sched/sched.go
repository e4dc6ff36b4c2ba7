// Package sched chooses a backend for a new connection.
//
// A scheduler is made for a list of backends and is not changed any more; when the list, a weight or a share changes, a
// new one is made that takes over what the old one remembers. Pick is called once a new connection, by any number of
// workers at the same time: what it keeps is advanced by atomic operations only. It allocates nothing, divides nothing
// and reads no clock. The same calls in the same order give the same choices. It does not know what a packet or an
// address is: it is handed a hash.
//
// The names and their meaning are those of ipvsadm(8), with these differences. The list is in the order of the
// configuration (IPVS has the newest server first). Active counts all connections that are not closed (IPVS remembers
// closed ones for a while, as 1/256). When the list or a weight changes, the turn of wrr stays where it is (IPVS begins
// at the first again). sh divides the space of the hash by weight (IPVS has 256 buckets). mh has a larger table and
// places backends by their names.
//
// Ties go to the backend that is first in the list.
package sched

import "sync/atomic"

// Kind names a scheduler.
type Kind uint8

// The schedulers.
const (
	RR   Kind = iota // round robin: in turn, whatever the weight
	WRR              // weighted round robin, by the rule of IPVS
	LC               // fewest connections
	WLC              // fewest connections for its weight
	SH               // hash, the space divided by weight
	MH               // hash, Maglev's table
	SED              // shortest expected delay: fewest connections for its weight, the new one included
	NQ               // never queue: the first idle one, else as sed
	Twos             // the less loaded of two drawn at random
)

// The first of the names is short and printed, the others are accepted.
var names = [...][]string{
	RR:   {"rr", "round-robin"},
	WRR:  {"wrr", "weighted-round-robin"},
	LC:   {"lc", "least-connections", "least-conn"},
	WLC:  {"wlc", "weighted-least-connections", "weighted-least-conn"},
	SH:   {"sh", "source", "source-hash"},
	MH:   {"mh", "maglev"},
	SED:  {"sed", "shortest-expected-delay"},
	NQ:   {"nq", "never-queue"},
	Twos: {"twos", "two-choices"},
}

// String returns the short name.
func (k Kind) String() string { return names[k][0] }

// Long returns the long name.
func (k Kind) Long() string { return names[k][1] }

// words are what schedulers do in a few words.
var words = [...]string{
	RR:   "round robin, one after the other",
	WRR:  "weighted round robin, in turn and as often as the weights say",
	LC:   "the one with the least connections",
	WLC:  "the one with the least connections for its weight",
	SH:   "the hash of the client's address, the space divided by weight",
	MH:   "Maglev's table, in which few places change with the backends",
	SED:  "the shortest expected delay: the least connections for its weight, the new one included",
	NQ:   "never queue: the first idle one, else the shortest expected delay",
	Twos: "the less loaded of two drawn at random",
}

// Words says in a few words how the scheduler chooses.
func (k Kind) Words() string { return words[k] }

// Hashes reports whether the scheduler chooses by the hash.
func (k Kind) Hashes() bool { return k == SH || k == MH }

// Parse returns the kind of a short or long name.
func Parse(name string) (Kind, bool) {
	for k, all := range names {
		for _, n := range all {
			if n == name {
				return Kind(k), true
			}
		}
	}
	return 0, false
}

// Names returns the short names in the order of the kinds.
func Names() []string {
	short := make([]string, len(names))
	for k := range names {
		short[k] = Kind(k).String()
	}
	return short
}

// AllNames returns every name that Parse takes: the short ones, then the long ones.
func AllNames() []string {
	all := Names()
	for _, of := range names {
		all = append(all, of[1:]...)
	}
	return all
}

// ShareAll is a share of everything, and Bounded's 1.
const ShareAll = 1 << 16

// DefaultTableSize is the number of slots of mh's table unless Options say otherwise: the small one of the Maglev paper.
const DefaultTableSize = 65537

// MaxBackends is the most backends that a scheduler is made for.
const MaxBackends = 1<<16 - 1

// What Pick returns when it chooses none.
const (
	None = -1 // no backend may be used
	Full = -2 // each that may be used has as many connections as it may have, or with Refuse the one chosen has
)

// Load is what is counted of a backend, over all workers and over all schedulers made for it one after the other.
type Load struct {
	Active atomic.Int64 // connections now
	ramp   atomic.Uint32
	_      [52]byte // a cache line each: workers that count at one backend do not wait for those at another
}

// Take counts a connection, unless there are limit of them already, which it never exceeds. A swap that fails means that
// another worker's did not.
func (l *Load) Take(limit int64) bool {
	for {
		n := l.Active.Load()
		if n >= limit {
			return false
		}
		if l.Active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// NoLimit is a limit for Take that nothing reaches.
const NoLimit = 1<<63 - 1

// Backend is what a scheduler may know of a backend.
type Backend struct {
	Name   string // mh places a backend by it
	Weight uint32 // 0 to 65535; 0: gets no new connection
	// Share of the weight that counts, in 1/ShareAll: less than all during slow start. 0 means all. What matters is the
	// share relative to the largest of the list: when all are new, nobody is held back.
	Share uint32
	Max   int64 // most connections; 0: no limit
	*Load
}

// Options are how a scheduler chooses.
type Options struct {
	Kind Kind
	Seed uint64 // of twos
	// Bounded is the most load that a hash scheduler gives a backend, relative to what its weight stands for, in
	// 1/ShareAll; beyond it the next backend is tried. 0: no bound.
	Bounded   uint32
	TableSize int       // of mh, a prime; 0 means DefaultTableSize
	Key       [2]uint64 // of mh, by which names are hashed
	// Refuse makes Pick return Full when the backend that it chose has as many connections as it may have. Otherwise
	// another one is chosen.
	Refuse bool
}

// Scheduler chooses among the backends that it was made for.
type Scheduler interface {
	// Pick returns an index into the backends, or None or Full. The connection is counted at the backend as active
	// already: whoever ends it, or cannot make it, counts it down. hash is the keyed hash of what the service hashes;
	// the schedulers that do not hash ignore it.
	Pick(hash uint64) int

	// Stateless returns the backend that the hash alone leads to, or None. Nothing is counted, limits and load do not
	// matter. Only the schedulers that hash agree with Pick.
	Stateless(hash uint64) int
}

// New makes a scheduler for at most MaxBackends backends; it keeps the slice. It takes over the turn, the draws and the
// tables of old, the scheduler that was made for the same service before; old may be nil or of another kind.
func New(o Options, backends []Backend, old Scheduler) Scheduler {
	s := newSet(&o, backends)
	switch o.Kind {
	case LC, WLC, SED, NQ:
		return newLeast(o.Kind, s)
	case SH:
		return newSourceHash(&o, s)
	case MH:
		prev, _ := old.(*hashed)
		return newMaglev(&o, s, prev)
	case Twos:
		prev, _ := old.(*twos)
		return newTwos(o.Seed, s, prev)
	default:
		prev, _ := old.(*turn)
		return newTurn(o.Kind, s, prev)
	}
}
