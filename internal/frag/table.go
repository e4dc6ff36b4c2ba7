// Package frag remembers what the first fragments of datagrams said, so that later fragments, which have no ports, can
// follow them.
//
// Contract: one goroutine owns a Table. It has a fixed size, allocates nothing after New and does a bounded amount of work
// in each call, whatever senders do. Time is an argument and does not run backwards. A fragment goes into First or Later
// exactly once, in the order of arrival, after wire.ParseNetwork accepted it. When Later does not know it, Hold keeps a
// copy; when First notes the datagram, Release gives the copies back. A copy that is not given back is counted by Expire,
// once. So each fragment ends exactly once: to be forwarded, refused, or lost.
//
// A datagram is known by source, destination, identification and, in IPv4, protocol (RFC 791 3.2, RFC 8200 4.5; in IPv6
// only the first fragment tells the protocol). It is forgotten when all of it came, 15 s after its first fragment, or when
// its place is needed: by any new datagram when the table is full, the oldest first; by one of the same source when that
// has too many under way. 15 s is what RFC 791 itself recommends. The 60 s of RFC 8200 and RFC 1122 are for a receiver
// that reassembles; here it is enough to outlast reordering, and identifications of 16 bits come again within seconds.
//
// Fragments that overlap are refused (RFC 1858, RFC 3128), in IPv6 with the whole rest of the datagram (RFC 5722); one
// that came twice is refused alone. What a first fragment must have is wire's to judge (RFC 7112).
//
// The package does not reassemble, does not compare what fragments contain, forwards nothing and counts nothing.
package frag

import (
	"math/bits"
	"time"

	"naru/internal/wire"
)

// Our own choices.
const (
	lifetime = 15 * time.Second // of a datagram, from its first fragment
	patience = time.Second      // how long held fragments wait for the first one

	// reuse is how long a datagram of IPv4 must have been quiet for a fragment that does not fit to be taken for one of a
	// new datagram with the same identification (RFC 4963).
	reuse = time.Second

	// One source may have perSource datagrams under way. When it has more, those that were quiet for quiet give way: they
	// lost a fragment, since fragments of a datagram come one right behind the other.
	perSource = 128
	quiet     = 20 * time.Millisecond

	// One source may have 1/share of the places for datagrams and of those for held fragments.
	share = 4
)

// ID is where a datagram is kept. It is valid until the next call of First, Later, Hold or Expire.
type ID uint32

// None is no datagram.
const None = ^ID(0)

// Lists of datagrams by age.
const (
	free     = iota
	waiting  // the first fragment has not come
	followed // it has, or the datagram is refused
)

// datagram is one that is under way.
type datagram struct {
	key
	born  wire.Time // when the first fragment came; while waiting, when the first held one came
	last  wire.Time // when a fragment was accepted
	value uint32

	chain  ID     // the next datagram of the same bucket
	bucket uint32 // of the key
	crowd  uint32 // of the source

	end   int    // bytes of the datagram; 0 until its last fragment came
	top   uint16 // units up to the end of the farthest fragment
	units uint16 // that came

	srcPort, dstPort uint16
	carries          uint8 // the transport protocol
	known            bool  // the first fragment came
	refused          bool  // fragments overlapped
}

// Table remembers datagrams under way.
type Table struct {
	secret [4]uint64
	max    uint16 // datagrams of one source
	mask   uint32 // of buckets and crowds

	datagrams []datagram
	covers    []cover
	buckets   []ID     // the first datagram of each
	ages      lists    // datagrams by age
	sources   lists    // datagrams by crowd, in order of coming
	count     []uint16 // datagrams by crowd
	finished  ID       // all of it came; forgotten at the next call

	held hold
}

// New makes a table for so many datagrams under way and so many held fragments, each at least 1. key is the secret of
// its hash.
func New(datagrams, held int, key uint64) *Table {
	size := 1 << bits.Len(uint(2*datagrams-1))
	t := &Table{
		max: uint16(min(perSource, (datagrams+share-1)/share)), mask: uint32(size - 1),
		datagrams: make([]datagram, datagrams), covers: make([]cover, datagrams), buckets: make([]ID, size),
		ages: newLists(datagrams, 3), sources: newLists(datagrams, size), count: make([]uint16, size), finished: None,
	}
	for i := range t.secret {
		key += 0x9e3779b97f4a7c15
		t.secret[i] = mix(key, 0xd1342543de82ef95) | 1
	}
	for i := range t.buckets {
		t.buckets[i] = None
	}
	for i := range datagrams {
		t.ages.push(free, uint32(i))
	}
	t.held.init(datagrams, held, size)
	return t
}

// First notes a first fragment and returns where its datagram is kept, or the reason to drop the packet. The engine then
// calls Release until there is nothing more.
func (t *Table) First(now wire.Time, p *wire.Packet) (ID, wire.Reason) {
	pc, ok := read(p)
	if !ok {
		return None, wire.FragmentMalformed
	}
	id, reason := t.seek(now, &pc)
	if reason != wire.ReasonNone {
		return None, reason
	}
	if id == None {
		if id = t.admit(now, &pc.key); id == None {
			return None, wire.FragmentFlood
		}
	}
	d := &t.datagrams[id]
	d.known, d.born = true, now
	d.carries, d.srcPort, d.dstPort = p.Proto, p.Flow.SrcPort, p.Flow.DstPort
	t.ages.move(followed, uint32(id))
	t.note(now, id, &pc)
	return id, wire.ReasonNone
}

// Later looks a later fragment up. When its datagram is known, it fills in what the fragment does not tell: the ports and
// the transport protocol. Otherwise it returns the reason to drop the packet, or ReasonNone when it is to be held.
func (t *Table) Later(now wire.Time, p *wire.Packet) (id ID, known bool, reason wire.Reason) {
	pc, ok := read(p)
	if !ok {
		return None, false, wire.FragmentMalformed
	}
	id, reason = t.seek(now, &pc)
	if reason != wire.ReasonNone || id == None || !t.datagrams[id].known {
		return None, false, reason
	}
	t.note(now, id, &pc)
	t.datagrams[id].fill(p)
	return id, true, wire.ReasonNone
}

// Value returns what SetValue kept with a datagram; 0 before.
func (t *Table) Value(id ID) uint32 { return t.datagrams[id].value }

// SetValue keeps a value of the engine's with a datagram.
func (t *Table) SetValue(id ID, v uint32) { t.datagrams[id].value = v }

// Expire gives up at most budget datagrams whose first fragment did not come in time, and returns how many held fragments
// were lost since the last call, to whatever end: each is to be counted as FragmentLost. Other datagrams take up nothing
// but their own place, and are forgotten when that is needed or when their time is over and a fragment asks for them.
func (t *Table) Expire(now wire.Time, budget int) int {
	t.forgetFinished()
	for ; budget > 0; budget-- {
		id := t.oldest(waiting)
		if id == None || !t.over(now, id) {
			break
		}
		t.forget(id)
	}
	lost := t.held.lost
	t.held.lost = 0
	return lost
}

// seek finds the datagram of a fragment that fits it: None when there is none yet, or the reason why it does not fit.
func (t *Table) seek(now wire.Time, pc *piece) (ID, wire.Reason) {
	t.forgetFinished()
	id := t.find(&pc.key)
	if id == None {
		return None, wire.ReasonNone
	}
	if t.over(now, id) {
		t.forget(id)
		return None, wire.ReasonNone
	}
	d := &t.datagrams[id]
	reason := t.fits(now, id, pc)
	if reason != wire.ReasonNone && d.version == 4 && now.Sub(d.last) > reuse {
		t.forget(id)
		return None, wire.ReasonNone
	}
	return id, reason
}

// fits judges a fragment by those that came before it.
func (t *Table) fits(now wire.Time, id ID, pc *piece) wire.Reason {
	d, c := &t.datagrams[id], &t.covers[id]
	from, to := pc.units()
	switch {
	case d.refused:
		return wire.FragmentOverlap
	case d.end != 0 && (pc.to > d.end || pc.more == (pc.to == d.end)):
		return wire.FragmentMalformed // beyond the end, or another end
	case d.end == 0 && !pc.more && to < int(d.top):
		return wire.FragmentMalformed // an end before what came
	case c.came.count(from, to) == 0:
		return wire.ReasonNone
	}
	if again := c.same(from, to) && (pc.more || d.end != 0); !again && d.version == 6 {
		t.refuse(now, id)
	}
	return wire.FragmentOverlap
}

// refuse makes all further fragments of a datagram be dropped for as long as it would have lived.
func (t *Table) refuse(now wire.Time, id ID) {
	d := &t.datagrams[id]
	d.refused = true
	t.held.drop(id, d.crowd)
	if !d.known {
		d.born = now
		t.ages.move(followed, uint32(id)) // the time of what waits is too short
	}
}

// note enters a fragment that fits.
func (t *Table) note(now wire.Time, id ID, pc *piece) {
	d := &t.datagrams[id]
	from, to := pc.units()
	t.covers[id].add(from, to)
	d.last = now
	d.units += uint16(to - from)
	d.top = max(d.top, uint16(to))
	if !pc.more {
		d.end = pc.to
	}
	if d.known && d.end != 0 && d.units == d.top {
		t.finished = id
	}
}

// fill writes what the first fragment said into a later one.
func (d *datagram) fill(p *wire.Packet) {
	p.Proto, p.Flow.Proto = d.carries, d.carries
	p.Flow.SrcPort, p.Flow.DstPort = d.srcPort, d.dstPort
}

// admit makes room for a datagram, which waits for its first fragment; None when its source has too many under way.
func (t *Table) admit(now wire.Time, k *key) ID {
	crowd := t.crowd(k)
	if t.count[crowd] >= t.max {
		oldest := ID(t.sources.first(int(crowd)))
		if now.Sub(t.datagrams[oldest].last) < quiet {
			return None
		}
		t.forget(oldest)
	}
	id := ID(t.ages.last(free))
	if id == None {
		id = t.oldest(followed)
		if w := t.oldest(waiting); id == None || w != None && t.datagrams[w].born < t.datagrams[id].born {
			id = w
		}
		t.forget(id)
	}
	d := &t.datagrams[id]
	t.covers[id].clear(int(d.top))
	*d = datagram{key: *k, born: now, last: now, bucket: t.bucket(k), crowd: crowd}
	d.chain, t.buckets[d.bucket] = t.buckets[d.bucket], id
	t.count[crowd]++
	t.sources.push(int(crowd), uint32(id))
	t.ages.move(waiting, uint32(id))
	return id
}

// forget ends a datagram.
func (t *Table) forget(id ID) {
	d := &t.datagrams[id]
	t.held.drop(id, d.crowd)
	at := &t.buckets[d.bucket]
	for *at != id {
		at = &t.datagrams[*at].chain
	}
	*at = d.chain
	t.count[d.crowd]--
	t.sources.cut(uint32(id))
	t.ages.move(free, uint32(id))
	if t.finished == id {
		t.finished = None
	}
}

func (t *Table) forgetFinished() {
	if t.finished != None {
		t.forget(t.finished)
	}
}

func (t *Table) oldest(list int) ID { return ID(t.ages.first(list)) }

// over reports whether a datagram's time is over.
func (t *Table) over(now wire.Time, id ID) bool {
	d := &t.datagrams[id]
	if !d.known && !d.refused {
		return now.Sub(d.born) >= patience
	}
	return now.Sub(d.born) >= lifetime
}
