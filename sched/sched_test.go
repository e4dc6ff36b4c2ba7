package sched_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"naru/sched"
)

func backends(weights ...uint32) []sched.Backend {
	bs := make([]sched.Backend, len(weights))
	for i, w := range weights {
		bs[i] = sched.Backend{Name: string(rune('A' + i)), Weight: w, Load: new(sched.Load)}
	}
	return bs
}

// variants are all schedulers in all ways of choosing: the contract holds for each.
func variants() map[string]sched.Options {
	all := map[string]sched.Options{}
	for _, n := range sched.Names() {
		k, ok := sched.Parse(n)
		if !ok {
			panic(n)
		}
		all[n] = sched.Options{Kind: k, TableSize: 251}
		all[n+" refusing"] = sched.Options{Kind: k, TableSize: 251, Refuse: true}
		if k.Hashes() {
			all[n+" bounded"] = sched.Options{Kind: k, TableSize: 251, Bounded: sched.ShareAll * 5 / 4}
		}
	}
	return all
}

func TestContract(t *testing.T) {
	for name, o := range variants() {
		t.Run(name, func(t *testing.T) {
			for _, bs := range [][]sched.Backend{nil, backends(0, 0)} {
				s := sched.New(o, bs, nil)
				if got := s.Pick(1); got != sched.None {
					t.Errorf("no backend: %d", got)
				}
				if got := s.Stateless(1); got != sched.None {
					t.Errorf("no backend, stateless: %d", got)
				}
			}
			bs := backends(0, 1, 0, 3, 0)
			bs[1].Share = 1000
			s := sched.New(o, bs, nil)
			for range 1000 {
				if got := s.Pick(rand.Uint64()); got != 1 && got != 3 {
					t.Fatalf("drained backend %d was chosen", got)
				}
				if got := s.Stateless(rand.Uint64()); got != 1 && got != 3 {
					t.Fatalf("drained backend %d was chosen without state", got)
				}
			}
			if n := bs[1].Active.Load() + bs[3].Active.Load(); n != 1000 {
				t.Errorf("%d connections are counted after 1000 picks", n)
			}
			if n := testing.AllocsPerRun(100, func() { s.Pick(7); s.Stateless(7) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
			a, b := sched.New(o, backends(0, 1, 0, 3, 0), nil), sched.New(o, backends(0, 1, 0, 3, 0), nil)
			for i := range uint64(200) {
				if x, y := a.Pick(i*i*0x9e3779b97f4a7c15), b.Pick(i*i*0x9e3779b97f4a7c15); x != y {
					t.Fatalf("pick %d: %d and %d", i, x, y)
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]string{"rr": "rr", "round-robin": "rr", "lc": "lc", "least-connections": "lc",
		"least-conn": "lc", "sh": "sh", "source": "sh", "maglev": "mh", "weighted-round-robin": "wrr", "nq": "nq",
		"weighted-least-connections": "wlc", "shortest-expected-delay": "sed", "never-queue": "nq", "two-choices": "twos"} {
		if k, ok := sched.Parse(name); !ok || k.String() != want {
			t.Errorf("%s: %v %v", name, k, ok)
		}
	}
	if _, ok := sched.Parse("random"); ok {
		t.Error("an unknown name is accepted")
	}
}

// sequence is what so many picks give while no connection ends, a letter each.
func sequence(s sched.Scheduler, n int) string {
	var b strings.Builder
	for range n {
		b.WriteByte(byte('A' + s.Pick(0)))
	}
	return b.String()
}

// TestSequencesOfIPVS has the sequences that the rules of the kernel's schedulers give for servers A, B and C in the order
// of their list. "A, B and C with 4, 3, 2: AABABCABC" is LVS's own example.
func TestSequencesOfIPVS(t *testing.T) {
	for _, c := range []struct {
		weights           []uint32
		wrr, wlc, sed, nq string
	}{
		{[]uint32{4, 3, 2}, "AABABCABCAAB", "ABCABACBAABC", "ABACBAABCABA", "ABCABAABCABA"},
		{[]uint32{5, 1, 1}, "AAAAABC", "ABCAAAAABCAA", "AAAAABCAAAAA", "ABCAAAAAAAAA"},
		{[]uint32{1, 2, 3}, "CBCABC", "ABCCBCABCCBC", "CBCABCCBCABC", "ABCCBCCBCABC"},
		{[]uint32{2, 4, 6}, "CBCABC", "ABCCBCABCCBC", "CBCABCCBCABC", "ABCCBCCBCABC"},
		{[]uint32{3, 0, 1}, "AAAC", "ACAAACAAACAA", "AAACAAACAAAC", "ACAAAAACAAAC"},
		{[]uint32{10, 5}, "AAB", "ABAABAABAABA", "AABAABAABAAB", "ABAAABAABAAB"},
	} {
		for kind, want := range map[sched.Kind]string{
			sched.WRR: strings.Repeat(c.wrr, 3)[:len(c.wrr)], sched.WLC: c.wlc, sched.SED: c.sed, sched.NQ: c.nq} {
			s := sched.New(sched.Options{Kind: kind}, backends(c.weights...), nil)
			if got := sequence(s, len(want)); got != want {
				t.Errorf("%v %v: %s, want %s", kind, c.weights, got, want)
			}
		}
	}
	if got := sequence(sched.New(sched.Options{Kind: sched.RR}, backends(4, 0, 2), nil), 6); got != "ACACAC" {
		t.Errorf("rr: %s", got)
	}
	if got := sequence(sched.New(sched.Options{Kind: sched.LC}, backends(4, 1, 2), nil), 6); got != "ABCABC" {
		t.Errorf("lc: %s", got)
	}
}

func TestTurnStaysWhoseItIsWhileAnotherDrains(t *testing.T) {
	o := sched.Options{Kind: sched.RR}
	s := sched.New(o, backends(1, 1, 1, 1), nil)
	got := sequence(s, 2)
	for _, weights := range [][]uint32{{0, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 0}, {1, 0, 1, 1}} {
		s = sched.New(o, backends(weights...), s)
		got += " " + sequence(s, 3)
	}
	if want := "AB CDB CDA BCA CDA"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// together runs many picks on several goroutines and counts what each backend got.
func together(s sched.Scheduler, backends, picks int) []int64 {
	hits := make([]atomic.Int64, backends)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range picks / 8 {
				if i := s.Pick(rand.Uint64()); i >= 0 {
					hits[i].Add(1)
				}
			}
		})
	}
	wg.Wait()
	out := make([]int64, backends)
	for i := range hits {
		out[i] = hits[i].Load()
	}
	return out
}

func TestTurnsAreExactWithManyWorkers(t *testing.T) {
	for _, c := range []struct {
		kind sched.Kind
		want []int64
	}{
		{sched.RR, []int64{800, 800, 0, 800}},
		{sched.WRR, []int64{400, 800, 0, 1200}},
		{sched.LC, []int64{800, 800, 0, 800}},
		{sched.WLC, []int64{400, 800, 0, 1200}},
		{sched.SED, []int64{400, 800, 0, 1200}},
	} {
		bs := backends(1, 2, 0, 3)
		for i, got := range together(sched.New(sched.Options{Kind: c.kind}, bs, nil), 4, 2400) {
			if got != c.want[i] || bs[i].Active.Load() != got {
				t.Errorf("%v, backend %d: %d of 2400 (counted %d), want %d", c.kind, i, got, bs[i].Active.Load(), c.want[i])
			}
		}
	}
}

func TestNoBackendGetsMoreThanItMayHave(t *testing.T) {
	for name, o := range variants() {
		bs := backends(5, 1, 1, 0)
		bs[0].Max, bs[1].Max, bs[3].Max = 100, 30, 50
		hits := together(sched.New(o, bs, nil), 4, 2400)
		if hits[0] > 100 || hits[1] > 30 || hits[3] != 0 {
			t.Errorf("%s: %v", name, hits)
		}
		if sum := hits[0] + hits[1] + hits[2]; !o.Refuse && sum != 2400 {
			t.Errorf("%s: %d of 2400 were served, with one backend that has no limit", name, sum)
		}
		bs[2].Max = hits[2]
		if got := sched.New(o, bs, nil).Pick(1); hits[0] == 100 && hits[1] == 30 && got != sched.Full {
			t.Errorf("%s: all are full, and %d is chosen", name, got)
		}
	}
}

func TestTheTurnGoesOnInAChangedList(t *testing.T) {
	for _, k := range []sched.Kind{sched.RR, sched.WRR} {
		o := sched.Options{Kind: k}
		s := sched.New(o, backends(2, 2, 2), nil)
		if got := sequence(s, 4); got != "ABCA" {
			t.Fatalf("%v: %s", k, got)
		}
		s = sched.New(o, backends(2, 2, 2, 2), s)
		if got := sequence(s, 4); got != "BCDA" {
			t.Errorf("%v: with one backend more: %s, want BCDA", k, got)
		}
		s = sched.New(o, backends(1), s)
		if got := sequence(s, 3); got != "AAA" {
			t.Errorf("%v: with one backend left: %s", k, got)
		}
	}
}

func TestLeastConnections(t *testing.T) {
	bs := backends(1, 1, 1)
	s := sched.New(sched.Options{Kind: sched.LC}, bs, nil)
	if got := sequence(s, 6); got != "ABCABC" {
		t.Fatal(got)
	}
	bs[1].Active.Add(-1)
	if got := s.Pick(0); got != 1 {
		t.Errorf("backend 1 has fewest, %d was chosen", got)
	}
}

// near reports whether counts are as the weights, each within a part of the sum.
func near(t *testing.T, what string, hits []int64, weights []float64, within float64) {
	t.Helper()
	var sum, all float64
	for i := range hits {
		sum += weights[i]
		all += float64(hits[i])
	}
	for i, n := range hits {
		if want := all * weights[i] / sum; float64(n) < want-within*all || float64(n) > want+within*all {
			t.Errorf("%s: backend %d has %d of %v, want about %v", what, i, n, all, want)
		}
	}
}

func TestHashesAndDrawsFollowWeights(t *testing.T) {
	for _, k := range []sched.Kind{sched.SH, sched.MH, sched.Twos} {
		bs := backends(1, 2, 0, 5)
		s := sched.New(sched.Options{Kind: k}, bs, nil)
		hits := make([]int64, 4)
		for range 80000 {
			h := rand.Uint64()
			i := s.Pick(h)
			if k.Hashes() && (s.Pick(h) != i || s.Stateless(h) != i) {
				t.Fatalf("%v: one client, two backends", k)
			}
			hits[i]++
		}
		near(t, k.String(), hits, []float64{1, 2, 0, 5}, 0.012)
	}
}

func TestNewcomersGetTheirShare(t *testing.T) {
	for name, o := range variants() {
		if o.Bounded != 0 {
			continue // a bound is about load, not about how many come
		}
		bs := backends(2, 2, 2, 2)
		bs[3].Share = sched.ShareAll / 4
		hits := together(sched.New(o, bs, nil), 4, 26000)
		near(t, name, hits, []float64{1, 1, 1, 0.25}, 0.02)
	}
}

func TestAllNewcomersAreNotHeldBack(t *testing.T) {
	for name, o := range variants() {
		bs := backends(1, 1, 1, 1)
		for i := range bs {
			bs[i].Share = 10
		}
		near(t, name, together(sched.New(o, bs, nil), 4, 8000), []float64{1, 1, 1, 1}, 0.03)
	}
}
