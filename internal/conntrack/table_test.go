package conntrack

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"naru/internal/wire"
)

var idle = Idle{TCPSyn: 30 * time.Second, TCPEstablished: time.Hour, TCPClosing: 4 * time.Minute, UDP: 5 * time.Minute,
	UDPUnreplied: 30 * time.Second}

func newTable(tb testing.TB, n int) *Table {
	tb.Helper()
	t, err := New(Alloc(n), [4]uint64{1, 2, 3, 4})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// udp returns the connection number n of a path.
func udp(path PathID, n int) Conn {
	c := Conn{Path: path, State: UDPUnreplied, VIPPort: 53, BackendPort: 53}
	c.Client = wire.Addr4(binary.BigEndian.AppendUint32(nil, 0x0a000000+uint32(n>>15)))
	c.ClientPort = uint16(n & 0x7fff)
	c.LocalPort = uint16(n)
	return c
}

func paths3(t *Table) (ids []PathID) {
	for i := range 3 {
		ids = append(ids, t.AddPath(Path{VIP: wire.Addr4([]byte{200, 100, 50, 25}), Proto: wire.ProtoUDP,
			Local: wire.Addr4([]byte{10, 10, 10, 254}), Backend: wire.Addr4([]byte{10, 10, byte(i), 1})}, idle))
	}
	return ids
}

func (t *Table) insert(now wire.Time, c *Conn) ID {
	p := t.paths.at(c.Path)
	o, r := c.flow(p, Original), c.flow(p, Reply)
	return t.Insert(now, c, t.Hash(&o), t.Hash(&r))
}

// TestAgainstAModel runs random inserts, packets, removals and expiry, with a clock that stands still, jumps and leaps,
// against a map with deadlines.
func TestAgainstAModel(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tab := newTable(t, 300)
		ids := paths3(tab)
		type entry struct {
			id       ID
			deadline wire.Time
			conn     Conn
		}
		model := map[int]*entry{}
		byID := map[ID]int{}
		now := wire.Time(1 << 40)
		end := func(id ID) bool {
			n, ok := byID[id]
			if !ok {
				t.Fatalf("ended an entry that does not exist: %d", id)
			}
			if e := model[n]; e.deadline > now {
				t.Fatalf("connection %d ended %v early", n, e.deadline.Sub(now))
			}
			tab.Remove(id)
			delete(byID, id)
			delete(model, n)
			return true
		}
		grain := time.Duration(1) << stampShift
		for step := range 60000 {
			n := rng.IntN(400)
			tab.Advance(now)
			c := udp(ids[n%3], n)
			f := c.flow(tab.Path(c.Path), Dir(n>>3&1))
			id, d := tab.Lookup(&f, tab.Hash(&f))
			e := model[n]
			if (id != None) != (e != nil) || e != nil && (id != e.id || d != Dir(n>>3&1)) {
				t.Fatalf("seed %d step %d: lookup of %d gives %d %d, model %+v", seed, step, n, id, d, e)
			}
			if e != nil && tab.Expired(tab.Conn(id), now) != (e.deadline <= now) &&
				e.deadline.Sub(now).Abs() > 2*grain {
				t.Fatalf("expired: %v, deadline in %v", tab.Expired(tab.Conn(id), now), e.deadline.Sub(now))
			}
			switch op := rng.IntN(10); {
			case e == nil && op < 6:
				got := tab.insert(now, &c)
				if (got == None) != (len(model) == tab.Cap()) {
					t.Fatalf("insert gives %d with %d of %d", got, len(model), tab.Cap())
				}
				if got != None {
					model[n], byID[got] = &entry{id: got, deadline: now.Add(idle.UDPUnreplied), conn: c}, n
				}
			case e != nil && op < 5:
				dir := Dir(rng.IntN(2))
				tab.Seen(now, id, dir, &wire.Packet{Proto: wire.ProtoUDP, End: 100})
				if dir == Reply {
					e.conn.State = UDPAssured
				}
				e.deadline = now.Add(idle.UDPUnreplied)
				if e.conn.State == UDPAssured {
					e.deadline = now.Add(idle.UDP)
				}
			case e != nil && op == 5:
				tab.Remove(id)
				delete(byID, id)
				delete(model, n)
			case op == 6:
				now = now.Add(time.Duration(rng.IntN(int(20 * time.Second))))
			case op == 7 && step%500 == 0:
				now = now.Add(time.Duration(rng.IntN(int(20000 * time.Hour))))
			case op == 8:
				tab.Expire(now, rng.IntN(30), end)
			}
			if tab.Len() != len(model) {
				t.Fatalf("%d connections, model %d", tab.Len(), len(model))
			}
		}
		now = now.Add(idle.UDP + time.Second)
		for tab.Expire(now, 1000, end) == 1000 {
		}
		if len(model) != 0 {
			t.Errorf("seed %d: %d connections outlive their idle time", seed, len(model))
		}
		for i, w := range tab.index {
			if w != 0 {
				t.Fatalf("index word %d is left behind", i)
			}
		}
	}
}

// TestABatchFindsWhatEachPacketWouldFind: also where the hashes of many keys, and of both directions, are the same.
func TestABatchFindsWhatEachPacketWouldFind(t *testing.T) {
	tab := newTable(t, 100)
	type key struct {
		flow wire.Flow
		hash uint64
		want Ref
	}
	var keys []key
	for n, ids := 0, paths3(tab); n < 60; n++ {
		c, hash := udp(ids[n%3], n), uint64(n%4)<<40|1
		id := tab.Insert(0, &c, hash, hash)
		for d := range Reply + 1 {
			flow := c.flow(tab.Path(c.Path), d)
			keys = append(keys, key{flow, hash, Ref(id)<<1 | Ref(d)})
			flow.SrcPort ^= 0x8000 // which nobody has
			keys = append(keys, key{flow, hash, NoRef})
		}
	}
	var batch []wire.Packet
	for _, k := range keys {
		batch = append(batch, wire.Packet{Flow: k.flow, Hash: k.hash})
	}
	batch = append(batch, wire.Packet{Ref: 77}) // of no flow
	tab.FindAll(batch)
	for i, k := range keys {
		if got := Ref(batch[i].Ref); got != k.want || tab.Find(&k.flow, k.hash) != k.want {
			t.Errorf("%+v: %d in the batch, %d alone, want %d", k.flow, got, tab.Find(&k.flow, k.hash), k.want)
		}
	}
	if batch[len(keys)].Ref != 77 {
		t.Error("something was found for a packet of no flow")
	}
}

func TestAtMost128BytesAConnection(t *testing.T) {
	const n = 1 << 20
	conns, index, links := Sizes(n)
	bytes := conns*int(unsafe.Sizeof(Conn{})) + index*8 + links*int(unsafe.Sizeof(Link{}))
	if per := float64(bytes) / n; per > 128.01 {
		t.Errorf("%.2f bytes a connection", per)
	}
}

func TestATickVisitsNoMoreThanItsBudget(t *testing.T) {
	tab := newTable(t, 10000)
	ids := paths3(tab)
	now := wire.Time(1e9)
	for n := range 10000 {
		c := udp(ids[n%3], n)
		if tab.insert(now, &c) == None {
			t.Fatal("no room")
		}
	}
	now = now.Add(time.Hour)
	ended, ticks := 0, 0
	for tab.Len() > 0 {
		before := ended
		tab.Expire(now, 100, func(id ID) bool { tab.Remove(id); ended++; return true })
		if ended-before > 100 {
			t.Fatalf("%d entries in one tick", ended-before)
		}
		if ticks++; ticks > 200 {
			t.Fatalf("%d connections left after %d ticks", tab.Len(), ticks)
		}
	}
}

func TestPathsAreNotReusedWhileAConnectionHoldsThem(t *testing.T) {
	tab := newTable(t, 10)
	ids := paths3(tab)
	c := udp(ids[0], 1)
	id := tab.insert(0, &c)
	if tab.DropPath(ids[0]) {
		t.Fatal("a path went while a connection held it")
	}
	if !tab.DropPath(ids[1]) {
		t.Fatal("a path that nobody holds stayed")
	}
	if again := tab.AddPath(Path{}, idle); again != ids[1] {
		t.Errorf("path %d, want the freed %d", again, ids[1])
	}
	if again := tab.AddPath(Path{}, idle); again == ids[0] {
		t.Error("a path that a connection holds was reused")
	}
	tab.Remove(id)
	if again := tab.AddPath(Path{}, idle); again != ids[0] {
		t.Errorf("path %d, want %d after its last connection ended", again, ids[0])
	}
}

func TestWrongMemoryIsRefused(t *testing.T) {
	m := Alloc(10)
	m.Index = m.Index[1:]
	if _, err := New(m, [4]uint64{}); err != ErrMemory {
		t.Errorf("got %v", err)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		tab := newTable(b, 1<<20)
		ids := paths3(tab)
		flows := make([]wire.Flow, n)
		for i := range flows {
			c := udp(ids[i%3], i)
			c.LocalPort = uint16(i / 3)
			c.BackendPort = uint16(i >> 16)
			if tab.insert(1e9, &c) == None {
				b.Fatal("no room")
			}
			flows[i] = c.flow(tab.Path(c.Path), Original)
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { flows[i], flows[j] = flows[j], flows[i] })
		conns, index, links := Sizes(1 << 20)
		per := float64(conns*int(unsafe.Sizeof(Conn{}))+index*8+links*8) / (1 << 20)
		b.Run(fmt.Sprintf("one/conns=%d", n), func(b *testing.B) {
			b.ReportMetric(per, "B/conn")
			for i := 0; b.Loop(); i++ {
				f := &flows[i%n]
				if id, _ := tab.Lookup(f, tab.Hash(f)); id == None {
					b.Fatal("not found")
				}
			}
		})
		b.Run(fmt.Sprintf("batch32/conns=%d", n), func(b *testing.B) {
			b.ReportMetric(per, "B/conn")
			lookupBatches(b, tab, flows)
		})
	}
}

// lookupBatches looks flows up as the engine does: all index words of a batch, then all entries, then the lookups.
func lookupBatches(b *testing.B, tab *Table, flows []wire.Flow) {
	var hashes [32]uint64
	var sink uint64
	for i := 0; i < b.N; i += len(hashes) {
		batch := flows[i%(len(flows)-len(hashes)):][:len(hashes)]
		for j := range batch {
			hashes[j] = tab.Hash(&batch[j])
			sink += tab.TouchIndex(hashes[j])
		}
		for j := range batch {
			sink += uint64(tab.Touch(hashes[j]))
		}
		for j := range batch {
			if id, _ := tab.Lookup(&batch[j], hashes[j]); id == None {
				b.Fatal("not found")
			}
		}
	}
	if sink == 1 {
		b.Log(sink)
	}
}
