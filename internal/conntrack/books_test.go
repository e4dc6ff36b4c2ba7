package conntrack

import (
	"math/rand/v2"
	"testing"
	"time"

	"naru/internal/wire"
)

// books drives a table by anything that chooses, next to a map of what it must have, and audits it.
type books struct {
	t     testing.TB
	tab   *Table
	paths []PathID
	now   wire.Time
	live  map[int]ID
	byID  map[ID]int
	seen  [NumClasses]bool // by audits
}

func newBooks(t testing.TB, capacity int) *books {
	b := &books{t: t, tab: newTable(t, capacity), now: 1 << 40, live: map[int]ID{}, byID: map[ID]int{}}
	for i := range 12 {
		p := Path{VIP: wire.Addr4([]byte{200, 100, 50, 25}), Proto: wire.ProtoTCP, Local: wire.Addr4([]byte{10, 10, 10, 254}),
			Backend: wire.Addr4([]byte{10, 10, byte(i), 1}), Return: Return(i % 3)}
		if i >= 6 {
			p.Proto = wire.ProtoUDP
		}
		b.paths = append(b.paths, b.tab.AddPath(p, idle))
	}
	return b
}

// conn is the connection of a number: no two have a key in common.
func (b *books) conn(n int) Conn {
	c := udp(b.paths[n%len(b.paths)], n)
	c.BackendPort = uint16(n >> 16)
	return c
}

func (b *books) end(id ID) bool {
	n, there := b.byID[id]
	c := b.tab.Conn(id)
	if !there || !b.tab.Expired(c, b.now) && !b.tab.Doomed(c.Path) {
		b.t.Fatalf("ended %d: known %v, expired %v", id, there, b.tab.Expired(c, b.now))
	}
	b.forget(n, id)
	return true
}

func (b *books) forget(n int, id ID) {
	b.tab.Remove(id)
	delete(b.live, n)
	delete(b.byID, id)
}

// step does one thing. choose returns a number below its argument.
func (b *books) step(choose func(int) int) {
	tab := b.tab
	tab.Advance(b.now)
	switch op := choose(40); {
	case op < 34:
		b.packet(choose(1000), choose)
	case op == 34:
		b.now = b.now.Add(time.Duration(choose(int(20 * time.Second))))
	case op == 35 && choose(200) == 0:
		b.now = b.now.Add(time.Duration(choose(10000)) * time.Hour)
	case op == 36:
		tab.Expire(b.now, choose(50), b.end)
	case op == 37:
		class := []Class{Handshake, Question, Closed}[choose(3)]
		before := tab.Count(class)
		id := tab.Oldest(class, 1+choose(40), nil)
		if (id == None) != (before == 0) || id != None && tab.Conn(id).class() != class {
			b.t.Fatalf("the oldest of %d of class %d is %d", before, class, id)
		}
		if id != None {
			b.forget(b.byID[id], id)
		}
	case op == 38:
		p := b.paths[choose(len(b.paths))]
		tab.Doom(p, choose(4) == 0)
		if tab.Doomed(p) {
			tab.StartSweep()
		}
	default:
		tab.Sweep(choose(100), b.end)
	}
}

// packet gives a connection a packet, and makes it first if it is not there.
func (b *books) packet(n int, choose func(int) int) {
	c := b.conn(n)
	path := b.tab.Path(c.Path)
	d := Dir(choose(2))
	if path.Return == ReturnNone {
		d = Original
	}
	f := c.flow(path, d)
	id, found := b.tab.Lookup(&f, b.tab.Hash(&f))
	want, there := b.live[n]
	if there != (id != None) || there && (id != want || found != d) {
		b.t.Fatalf("lookup of %d gives %d %d, want %d", n, id, found, want)
	}
	p := segment([]string{"", []string{"S", "A", "FA", "SA", "R", "A"}[choose(6)], "0", "0", "0"})
	p.Buf[7], p.Buf[11] = byte(choose(4)), byte(choose(4))
	if path.Proto == wire.ProtoUDP {
		p.Proto, p.TCPFlags = wire.ProtoUDP, 0
	}
	if there && (b.tab.Expired(b.tab.Conn(id), b.now) || choose(50) == 0) {
		b.forget(n, id)
		there = false
	}
	if !there {
		c.Begin(p)
		if id = b.tab.insert(b.now, &c); id == None {
			if b.tab.Len() < b.tab.Cap() {
				b.t.Fatal("no room in a table that is not full")
			}
			return
		}
		b.live[n], b.byID[id] = id, n
		d = Original
	}
	b.tab.Seen(b.now, id, d, p)
}

// audit counts everything twice.
func (b *books) audit() {
	tab := b.tab
	var counts [NumClasses]uint32
	keys := 0
	tab.Each(func(c *Conn) {
		counts[c.class()]++
		b.seen[c.class()] = true
		if keys++; tab.paths.at(c.Path).Return != ReturnNone {
			keys++
		}
	})
	if counts != tab.counts || tab.Len() != len(b.live) {
		b.t.Fatalf("%d connections of %v, want %d of %v", tab.Len(), tab.counts, len(b.live), counts)
	}
	listed := 0
	for list := range uint32(listCount) {
		for id := tab.first(list); id != None; id = tab.next(uint32(id)) {
			listed++
			class := tab.Conn(id).class()
			if (list == closed) != (class == Closed) || list != closed &&
				(list < tab.wheels[class.wheel()].first || list-tab.wheels[class.wheel()].first >= tab.wheels[class.wheel()].slots) {
				b.t.Fatalf("a connection of class %d is in list %d", class, list)
			}
		}
	}
	words := 0
	for _, w := range tab.index {
		if w != 0 {
			words++
		}
	}
	if listed != tab.Len() || words != keys {
		b.t.Fatalf("%d in lists, %d words of %d keys, %d connections", listed, words, keys, tab.Len())
	}
}

// finish lets everything end.
func (b *books) finish() {
	b.now = b.now.Add(2 * time.Hour)
	for n := 0; n < 1000 && b.tab.Len() > 0; n++ {
		b.tab.Expire(b.now, 1000, b.end)
	}
	b.audit()
	if b.tab.Len() != 0 {
		b.t.Fatalf("%d connections outlive their time", b.tab.Len())
	}
}

// TestBooksOfTheTable does half a million random things, and with NARU_SOAK fifty million.
func TestBooksOfTheTable(t *testing.T) {
	steps := 100_000
	if soak() {
		steps *= 100
	}
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 7))
		b := newBooks(t, 200+int(seed)*150)
		for n := range steps {
			b.step(rng.IntN)
			if n%500 == 0 {
				b.audit()
			}
		}
		if b.seen != [NumClasses]bool{true, true, true, true, true} {
			t.Errorf("classes that were seen: %v", b.seen)
		}
		b.finish()
	}
}

// FuzzTable lets the fuzzer choose.
func FuzzTable(f *testing.F) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 9))
		data := make([]byte, 600)
		for i := range data {
			data[i] = byte(rng.IntN(256))
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), 4096)] // a short time each
		b := newBooks(t, 20)
		choose := func(n int) int {
			v := 0
			for bits := n; bits > 0 && len(data) > 0; bits >>= 8 {
				v, data = v<<8|int(data[0]), data[1:]
			}
			return v % n
		}
		for n := 1; len(data) > 0; n++ {
			b.step(choose)
			if n%64 == 0 {
				b.audit()
			}
		}
		b.finish()
	})
}
