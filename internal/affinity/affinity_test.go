package affinity

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"naru/internal/wire"
)

func at(d time.Duration) wire.Time { return wire.Time(0).Add(d) }

func TestEntriesEnd(t *testing.T) {
	tab := New(64)
	tab.Keep(5<<8, 0, at(10*time.Second), 3, 3)
	for _, c := range []struct {
		now  time.Duration
		want bool
	}{{0, true}, {9999 * time.Millisecond, true}, {10*time.Second + 3*time.Millisecond, false}, {time.Hour, false}} {
		if id, ok := tab.Find(5<<8, at(c.now)); ok != c.want || ok && id != 3 {
			t.Errorf("at %v: %d %v", c.now, id, ok)
		}
	}
	if _, ok := tab.Find(6<<8, 0); ok {
		t.Error("a key that was never kept is found")
	}
}

func TestAnotherWorkersChoiceStays(t *testing.T) {
	tab := New(64)
	tab.Keep(1, 0, at(time.Second), 3, 3)
	if got := tab.Keep(1, 0, at(time.Second), 4, 4); got != 3 {
		t.Errorf("3 was kept first, and %d holds", got)
	}
	if got := tab.Keep(1, 0, at(time.Second), 4, 3); got != 4 {
		t.Errorf("3 was to be replaced, and %d holds", got)
	}
	if id, ok := tab.Find(1, 0); id != 4 || !ok {
		t.Errorf("found %d %v", id, ok)
	}
	if got := tab.Keep(1, at(2*time.Second), at(3*time.Second), 9, 9); got != 9 {
		t.Errorf("the time of 4 is over, and %d holds", got)
	}
}

// A full set gives up the entry that would end first, and says so.
func TestTheEntryThatEndsFirstGivesWay(t *testing.T) {
	tab := New(ways)
	for i := range uint64(ways) {
		tab.Keep(i, 0, at(time.Duration(10+i)*time.Second), uint32(i), uint32(i))
	}
	tab.Keep(100, 0, at(time.Minute), 7, 7)
	if _, ok := tab.Find(0, 0); ok || tab.Evicted() != 1 {
		t.Errorf("the first entry is still there (%d evicted)", tab.Evicted())
	}
	for _, k := range []uint64{1, ways - 1, 100} {
		if _, ok := tab.Find(k, 0); !ok {
			t.Errorf("%d is gone", k)
		}
	}
	tab.Keep(101, at(time.Hour), at(2*time.Hour), 7, 7)
	if tab.Evicted() != 1 {
		t.Error("an entry whose time is over counts as evicted")
	}
}

// TestAgainstAMap: with few keys nothing is evicted, and the table is a map with times.
func TestAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type kept struct {
			id  uint32
			end wire.Time
		}
		tab, model, now := New(1<<12), map[uint64]kept{}, wire.Time(0)
		keys := rapid.SliceOfNDistinct(rapid.Uint64(), 1, 6, rapid.ID).Draw(t, "keys")
		for range 100 {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			key := rapid.SampledFrom(keys).Draw(t, "key")
			m, there := model[key]
			there = there && m.end>>tick+2 > now>>tick+1
			if id, ok := tab.Find(key, now); ok != there || ok && id != m.id {
				t.Fatalf("found %d %v, the map has %d %v", id, ok, m.id, there)
			}
			id, end := uint32(rapid.IntRange(0, MaxID).Draw(t, "id")), now.Add(10*time.Second)
			if got := tab.Keep(key, now, end, id, m.id); got != id {
				t.Fatalf("kept %d, %d holds", id, got)
			}
			model[key] = kept{id, end}
		}
	})
}

// TestNothingIsReadOrKeptWhileAnotherWorkerWrites: what the other one is at may be half done.
func TestNothingIsReadOrKeptWhileAnotherWorkerWrites(t *testing.T) {
	tab := New(64)
	tab.Keep(1, 0, at(time.Second), 3, 3)
	tab.set(1).turn.Add(1)
	if id, ok := tab.Find(1, 0); ok {
		t.Errorf("found %d", id)
	}
	if got := tab.Keep(1, 0, at(time.Second), 4, 3); got != 4 {
		t.Errorf("%d holds for who did not wait", got)
	}
	tab.set(1).turn.Add(1)
	if id, ok := tab.Find(1, 0); !ok || id != 3 {
		t.Errorf("after it: %d %v", id, ok)
	}
}

// TestManyWorkers: what is found for a key is always what was kept for it, though many keys fight for few places. The race
// detector makes the moments longer in which that could go wrong.
func TestManyWorkers(t *testing.T) {
	tab := New(ways * 2)
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, w))
			for i := range 50000 {
				key, now := uint64(rng.IntN(64))<<8|1, at(time.Duration(i)*time.Millisecond)
				if id, ok := tab.Find(key, now); ok && uint64(id)>>2 != key>>8 {
					t.Errorf("%d was found for key %d", id, key>>8)
					return
				}
				id := uint32(key>>8)<<2 | uint32(w)
				if got := tab.Keep(key, now, now.Add(time.Second), id, id); uint64(got)>>2 != key>>8 {
					t.Errorf("%d holds for key %d", got, key>>8)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := testing.AllocsPerRun(100, func() { tab.Find(9, 0); tab.Keep(9, 0, 1<<40, 1, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
