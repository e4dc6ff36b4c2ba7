package affinity

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"naru/internal/state"
	"naru/internal/wire"
)

// TestACarriedTableAnswersTheSame fills a table until entries give way, carries it, and goes on with both.
func TestACarriedTableAnswersTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tab, now := New(20), wire.Time(1<<30)
	type call struct {
		key uint64
		id  uint32
	}
	draw := func() call { return call{random.Uint64N(200) << 8, random.Uint32N(MaxID + 1)} }
	for range 300 {
		c := draw()
		now += wire.Time(random.Uint64N(1 << 26))
		tab.Keep(c.key, now, now+1<<32, c.id, c.id)
	}
	w := state.NewWriter()
	tab.Carry(w)
	other, r := New(20), state.NewReader(w.Bytes())
	if other.Carry(r); r.Err() != nil {
		t.Fatal(r.Err())
	}
	if tab.Evicted() == 0 || other.Evicted() != tab.Evicted() {
		t.Errorf("%d entries gave way, %d where it was carried to", tab.Evicted(), other.Evicted())
	}
	for range 2000 {
		c := draw()
		now += wire.Time(random.Uint64N(1 << 26))
		if random.IntN(2) == 0 {
			a, had := tab.Find(c.key, now)
			b, has := other.Find(c.key, now)
			if a != b || had != has {
				t.Fatalf("key %x: %d %v, where it was carried to %d %v", c.key, a, had, b, has)
			}
		} else if a, b := tab.Keep(c.key, now, now+1<<32, c.id, c.id), other.Keep(c.key, now, now+1<<32, c.id, c.id); a != b {
			t.Fatalf("key %x: %d is kept, where it was carried to %d", c.key, a, b)
		}
	}
	if a, b := state.NewWriter(), state.NewWriter(); true {
		tab.Carry(a)
		if other.Carry(b); !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Error("the tables have come apart")
		}
	}
}

func TestACarriedTableMustFit(t *testing.T) {
	tab := New(20)
	tab.Keep(1<<8, 0, 1<<40, 7, 7)
	w := state.NewWriter()
	tab.Carry(w)
	for n := range w.Bytes() {
		r := state.NewReader(w.Bytes()[:n])
		if New(20).Carry(r); r.Err() == nil {
			t.Errorf("the first %d bytes of %d are enough", n, len(w.Bytes()))
		}
	}
	r := state.NewReader(w.Bytes())
	if New(200).Carry(r); r.Err() == nil {
		t.Error("a table of another size is read")
	}
	w = state.NewWriter()
	size, evicted, used, at := tab.Size(), uint64(0), 1, tab.Size()
	state.All(w, &size)
	state.All(w, &evicted)
	state.All(w, &used, &at)
	state.All(w, &evicted, &evicted)
	r = state.NewReader(w.Bytes())
	if New(20).Carry(r); r.Err() == nil {
		t.Error("a place behind the last one is read")
	}
}
