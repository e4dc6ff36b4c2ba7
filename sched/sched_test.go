package sched_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"naru/sched"
)

func backends(weights ...uint32) []sched.Backend {
	bs := make([]sched.Backend, len(weights))
	for i, w := range weights {
		bs[i] = sched.Backend{Weight: w, Active: new(atomic.Int64)}
	}
	return bs
}

// kinds are all schedulers: the contract holds for each.
func kinds() (ks []sched.Kind) {
	for _, n := range sched.Names() {
		k, ok := sched.Parse(n)
		if !ok {
			panic(n)
		}
		ks = append(ks, k)
	}
	return ks
}

func TestContract(t *testing.T) {
	for _, k := range kinds() {
		t.Run(k.String(), func(t *testing.T) {
			s := sched.New(k)
			if got := s.Pick(1, nil); got != -1 {
				t.Errorf("no backend: %d", got)
			}
			if got := s.Pick(1, backends(0, 0)); got != -1 {
				t.Errorf("all drained: %d", got)
			}
			bs := backends(0, 1, 0, 3, 0)
			for range 1000 {
				if got := s.Pick(rand.Uint64(), bs); got != 1 && got != 3 {
					t.Fatalf("drained backend %d was chosen", got)
				}
			}
			if n := testing.AllocsPerRun(100, func() { s.Pick(7, bs) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
			a, b := sched.New(k), sched.New(k)
			for i := range uint64(200) {
				if x, y := a.Pick(i*i*0x9e3779b97f4a7c15, bs), b.Pick(i*i*0x9e3779b97f4a7c15, bs); x != y {
					t.Fatalf("pick %d: %d and %d", i, x, y)
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{"rr": "rr", "round-robin": "rr", "lc": "lc", "least-connections": "lc",
		"sh": "sh", "source": "sh"} {
		if k, ok := sched.Parse(name); !ok || k.String() != want {
			t.Errorf("%s: %v %v", name, k, ok)
		}
	}
	if _, ok := sched.Parse("random"); ok {
		t.Error("an unknown name is accepted")
	}
}

func TestRoundRobinIsExactWithManyWorkers(t *testing.T) {
	s, bs := sched.New(sched.RR), backends(1, 5, 0, 9)
	var hits [4]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				hits[s.Pick(0, bs)].Add(1)
			}
		})
	}
	wg.Wait()
	for i, want := range []int64{800, 800, 0, 800} {
		if got := hits[i].Load(); got != want {
			t.Errorf("backend %d: %d of 2400, want %d", i, got, want)
		}
	}
}

func TestLeastConnections(t *testing.T) {
	s, bs := sched.New(sched.LC), backends(1, 1, 1)
	for i, want := range []int{0, 1, 2, 0, 1, 2} {
		got := s.Pick(0, bs)
		if got != want {
			t.Fatalf("pick %d: %d, want %d", i, got, want)
		}
		bs[got].Active.Add(1)
	}
	bs[1].Active.Add(-1)
	if got := s.Pick(0, bs); got != 1 {
		t.Errorf("backend 1 has fewest, %d was chosen", got)
	}
}

func TestSourceHashFollowsWeights(t *testing.T) {
	s, bs := sched.New(sched.SH), backends(1, 2, 0, 5)
	var hits [4]int
	for range 80000 {
		h := rand.Uint64()
		i := s.Pick(h, bs)
		if again := s.Pick(h, bs); again != i {
			t.Fatal("one client, two backends")
		}
		hits[i]++
	}
	for i, want := range []int{10000, 20000, 0, 50000} {
		if d := hits[i] - want; d > 1000 || d < -1000 {
			t.Errorf("backend %d: %d of 80000, want about %d", i, hits[i], want)
		}
	}
}
