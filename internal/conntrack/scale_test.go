package conntrack

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// soak reports whether tests may take minutes and gigabytes: NARU_SOAK says so.
func soak() bool { return os.Getenv("NARU_SOAK") != "" }

// crowd is the connection number n: a million look different in every field of their keys.
func crowd(paths []PathID, n int) Conn {
	c := udp(paths[n%3], n)
	c.LocalPort, c.BackendPort = uint16(n/3), uint16(n/3>>16)
	return c
}

// TestAMillionEndInTheSameSecond while packets of others flow: no tick makes more than its visits, no lookup looks further
// than it may, and the others live on.
func TestAMillionEndInTheSameSecond(t *testing.T) {
	const n, others, budget = 1_000_000, 1000, 2048
	tab := newTable(t, n+others)
	ids := paths3(tab)
	now := wire.Time(1e9)
	var flows []wire.Flow
	for i := range n + others {
		c := crowd(ids, i)
		if tab.insert(now, &c) == None {
			t.Fatal("no room")
		}
		if i >= n {
			flows = append(flows, c.flow(tab.Path(c.Path), Original))
		}
	}
	packet := &wire.Packet{Proto: wire.ProtoUDP, End: 100}
	talk := func(k int) {
		f := &flows[k%others]
		id, dir := tab.Lookup(f, tab.Hash(f))
		if id == None || tab.Expired(tab.Conn(id), now) {
			t.Fatalf("a connection that talks is gone at %v", time.Duration(now))
		}
		tab.Seen(now, id, dir, packet)
	}
	for range 29 {
		now = now.Add(time.Second)
		for k := range others {
			talk(k)
		}
		tab.Expire(now, budget, func(ID) bool { t.Fatal("too early"); return false })
	}
	now = now.Add(2 * time.Second)
	ticks := 0
	for ; tab.Len() > others; ticks++ {
		ended := 0
		now = now.Add(5 * time.Millisecond)
		if visits := tab.Expire(now, budget, func(id ID) bool { ended++; tab.Remove(id); return true }); visits > budget || ended > visits {
			t.Fatalf("%d visits, %d ends in one tick", visits, ended)
		}
		for k := range 64 {
			talk(ticks*64 + k)
		}
		if ticks > 2*n/budget {
			t.Fatalf("%d are left after %d ticks", tab.Len(), ticks)
		}
	}
	t.Logf("%d connections in %d ticks", n, ticks)
}

// TestNoWordIsFarFromItsHome fills a table of the highest load of the index to its capacity: what bounds an insert, a lookup
// and a removal is counted.
func TestNoWordIsFarFromItsHome(t *testing.T) {
	const n = 3 << 17 // three quarters of the index
	tab := newTable(t, n)
	ids := paths3(tab)
	for i := range n {
		c := crowd(ids, i)
		if tab.insert(1e9, &c) == None {
			t.Fatalf("no room for number %d of %d", i, n)
		}
	}
	far, run, longest := uint32(0), 0, 0
	for i, w := range tab.index {
		if w == 0 {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
		far = max(far, (uint32(i)-uint32(w>>32))&tab.mask)
	}
	t.Logf("load %d of %d, at most %d from home, a run of %d", 2*n, len(tab.index), far, longest)
	if far >= maxProbe || longest > 4*maxProbe || 4*2*n != 3*len(tab.index) {
		t.Errorf("a word is %d from its home, a run %d long", far, longest)
	}
}

// TestMemoryOfManyConnections measures the process: a million connections, ten with NARU_SOAK, which must fit 1.4 GiB.
func TestMemoryOfManyConnections(t *testing.T) {
	if wiretest.Raced {
		t.Skip("the race detector's memory would be measured")
	}
	n, most := 1_000_000, 170.0 // the index is that of a power of two
	if soak() {
		n, most = 10_000_000, 1.4*(1<<30)/10_000_000
	}
	debug.FreeOSMemory()
	before := resident(t)
	tab := newTable(t, n)
	ids := paths3(tab)
	for i := range n {
		c := crowd(ids, i)
		if tab.insert(1e9, &c) == None {
			t.Fatal("no room")
		}
	}
	runtime.GC()
	per := float64(resident(t)-before) / float64(n)
	t.Logf("%d connections: %.1f bytes each, %.2f GiB in all", n, per, per*float64(n)/(1<<30))
	if per > most || tab.Len() != n {
		t.Errorf("%.1f bytes a connection, %d connections", per, tab.Len())
	}
	if header := unsafe.Sizeof(Conn{}); header != 88 {
		t.Errorf("an entry has %d bytes", header)
	}
}

// resident is what the process has of memory.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(b)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// BenchmarkFill fills a table to its capacity in batches of 32 and reports how long the slowest took: there is no pause.
func BenchmarkFill(b *testing.B) {
	const n, batch = 1 << 20, 32
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		tab := newTable(b, n)
		ids := paths3(tab)
		conns := make([]Conn, batch)
		b.StartTimer()
		for i := 0; i < n; i += batch {
			for k := range conns {
				conns[k] = crowd(ids, i+k)
			}
			start := time.Now()
			for k := range conns {
				if tab.insert(1e9, &conns[k]) == None {
					b.Fatal("no room")
				}
			}
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	at := func(share float64) float64 { return float64(took[int(share*float64(len(took)-1))].Nanoseconds()) }
	b.ReportMetric(at(0.5), "ns/p50-batch")
	b.ReportMetric(at(0.9999), "ns/p99.99-batch")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(len(took)*batch), "ns/insert")
}
