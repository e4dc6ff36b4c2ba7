package sched_test

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"naru/sched"
)

func equalWeights(n int) []uint64 { return slices.Repeat([]uint64{1}, n) }

// TestMaglevPaper is Table 1 of the paper, B0 to B2, before and after B1 leaves.
func TestMaglevPaper(t *testing.T) {
	order := []sched.Permutation{{Offset: 3, Skip: 4}, {Offset: 0, Skip: 2}, {Offset: 3, Skip: 1}}
	if got := sched.MaglevTable(7, order, equalWeights(3)); !slices.Equal(got, []uint16{1, 0, 1, 0, 2, 2, 0}) {
		t.Errorf("before: %v", got)
	}
	without := []sched.Permutation{order[0], order[2]}
	if got := sched.MaglevTable(7, without, equalWeights(2)); !slices.Equal(got, []uint16{0, 0, 0, 0, 1, 1, 1}) {
		t.Errorf("after: %v", got)
	}
}

// katran returns the permutation of Katran's backends: MurmurHash3_x64_128 of two words, its first half.
func katran(hash uint64, n int) sched.Permutation {
	return sched.Permutation{
		Offset: uint32(murmur(hash, 42, 0) % uint64(n)),
		Skip:   uint32(murmur(hash, 2718281828, 2307)%uint64(n-1)) + 1,
	}
}

func murmur(a, b, seed uint64) uint64 {
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	h1, h2 := seed, seed
	h1 ^= bits.RotateLeft64(a*c1, 31) * c2
	h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
	h2 ^= bits.RotateLeft64(b*c2, 33) * c1
	h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
	h1, h2 = h1^16, h2^16
	h1 += h2
	h2 += h1
	return fmix(h1) + fmix(h2)
}

func fmix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func katranTable(n int, hashes, weights []uint64) []uint16 {
	order := make([]sched.Permutation, len(hashes))
	for i, h := range hashes {
		order[i] = katran(h, n)
	}
	return sched.MaglevTable(n, order, weights)
}

// differing counts the slots that two tables give to different backends; b's numbers are raised by shift.
func differing(a, b []uint16, shift uint16) (n int) {
	for i := range a {
		if a[i] != b[i]+shift {
			n++
		}
	}
	return n
}

func counts(table []uint16, backends int) []int {
	c := make([]int, backends)
	for _, b := range table {
		c[b]++
	}
	return c
}

func upTo(n int) []uint64 {
	h := make([]uint64, n)
	for i := range h {
		h[i] = uint64(i)
	}
	return h
}

// TestMaglevOfKatran has the tables and figures of Katran's second Maglev (katran/lib/MaglevHashV2), which spreads the
// turns of a weight as ours does.
func TestMaglevOfKatran(t *testing.T) {
	if a, b := katran(1000, 7), katran(2000, 7); a != (sched.Permutation{Offset: 2, Skip: 2}) || b != (sched.Permutation{Offset: 3, Skip: 6}) {
		t.Fatalf("permutations %v %v", a, b)
	}
	for _, c := range []struct {
		n               int
		hashes, weights []uint64
		want            []uint16
	}{
		{7, []uint64{1000, 2000}, []uint64{1, 1}, []uint16{1, 1, 0, 1, 0, 0, 0}},
		{7, []uint64{1000, 2000}, []uint64{2, 1}, []uint16{1, 0, 0, 1, 0, 0, 0}},
		{13, []uint64{1, 2, 3}, []uint64{1, 1, 1}, []uint16{2, 0, 1, 2, 1, 2, 2, 1, 1, 0, 0, 0, 0}},
	} {
		if got := katranTable(c.n, c.hashes, c.weights); !slices.Equal(got, c.want) {
			t.Errorf("%d %v %v: %v, want %v", c.n, c.hashes, c.weights, got, c.want)
		}
	}

	const n = 65537
	ten := slices.Repeat([]uint64{10}, 100)
	all := katranTable(n, upTo(100), ten)
	if d := differing(all, katranTable(n, upTo(100)[1:], ten[1:]), 1); d != 1020 {
		t.Errorf("without the first of 100: %d slots differ, Katran has 1020", d)
	}
	thirteen := slices.Repeat([]uint64{13}, 100)
	if d := differing(all, katranTable(n, upTo(100), thirteen), 0); d != 0 {
		t.Errorf("all weights 13 for 10: %d slots differ", d)
	}
	thirteen[0] = 26
	if d := differing(all, katranTable(n, upTo(100), thirteen), 0); d != 1013 {
		t.Errorf("then one of weight 26: %d slots differ, Katran has 1013", d)
	}
	if c := counts(katranTable(n, upTo(400), equalWeights(400)), 400); slices.Max(c)-slices.Min(c) != 1 {
		t.Errorf("400 equal: from %d to %d slots", slices.Min(c), slices.Max(c))
	}
	if c := counts(katranTable(n, upTo(3), []uint64{2, 1, 1}), 3); !slices.Equal(c, []int{32769, 16384, 16384}) {
		t.Errorf("2:1:1: %v", c)
	}
	if d := differing(katranTable(n, upTo(1), []uint64{10}), katranTable(n, upTo(2), []uint64{10, 10}), 0); d != 32768 {
		t.Errorf("a second one: %d slots differ, Katran has 32768", d)
	}
}

// TestMaglevBalance: backends of equal weight have equal parts, 65537 = 463*65 + 537*66 - 65537 mod 1000 and so on.
func TestMaglevBalance(t *testing.T) {
	order := make([]sched.Permutation, 1000)
	for i := range order {
		order[i] = sched.Permute([2]uint64{1, 2}, fmt.Sprint("b", i), 65537)
	}
	of := map[int]int{}
	for _, c := range counts(sched.MaglevTable(65537, order, equalWeights(1000)), 1000) {
		of[c]++
	}
	if of[66] != 537 || of[65] != 463 || len(of) != 2 {
		t.Errorf("backends by slots: %v, want 537 with 66 and 463 with 65", of)
	}
}

// drawn are backends with names and weights that rapid drew.
func drawn(t *rapid.T) []sched.Backend {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,6}`), 2, 24, rapid.ID).Draw(t, "names")
	bs := make([]sched.Backend, len(names))
	for i, n := range names {
		bs[i] = sched.Backend{Name: n, Weight: rapid.Uint32Range(1, 40).Draw(t, "weight"), Load: new(sched.Load)}
	}
	return bs
}

// leads returns the name that each of many hashes leads to.
func leads(s sched.Scheduler, bs []sched.Backend) []string {
	at := make([]string, 4000)
	for i := range at {
		if b := s.Stateless(uint64(i) * (1 << 64 / 4000)); b >= 0 {
			at[i] = bs[b].Name
		}
	}
	return at
}

func TestMaglevProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bs := drawn(t)
		o := sched.Options{Kind: sched.MH, TableSize: 4093, Key: [2]uint64{rapid.Uint64().Draw(t, "key"), 7}}
		first := sched.New(o, bs, nil)
		at := leads(first, bs)

		mixed := rapid.Permutation(bs).Draw(t, "order")
		if !slices.Equal(leads(sched.New(o, mixed, nil), mixed), at) {
			t.Fatal("the order of the list matters")
		}

		k := rapid.IntRange(0, len(bs)-1).Draw(t, "leaves")
		without := slices.Delete(slices.Clone(bs), k, k+1)
		drained := slices.Clone(bs)
		drained[k].Weight = 0
		less := sched.New(o, without, first)
		gone := leads(less, without)
		if !slices.Equal(leads(sched.New(o, drained, nil), drained), gone) {
			t.Fatal("weight 0 is not the same as being away")
		}
		if !slices.Equal(leads(sched.New(o, bs, less), bs), at) {
			t.Fatal("away and back again is not as before")
		}
		sum, moved := uint32(0), 0
		for i := range at {
			if at[i] != gone[i] && at[i] != bs[k].Name {
				moved++
			}
		}
		counted := map[string]int{}
		for _, name := range at {
			counted[name]++
		}
		for _, b := range bs {
			sum += b.Weight
		}
		if limit := len(at) * 15 / 100; moved > limit {
			t.Fatalf("%d of %d hashes moved that did not have to", moved, len(at))
		}
		for _, b := range bs {
			want := float64(len(at)) * float64(b.Weight) / float64(sum)
			if got := float64(counted[b.Name]); got < want*0.9-8 || got > want*1.1+8 {
				t.Fatalf("%s of weight %d in %d has %v of %d hashes, want about %.0f", b.Name, b.Weight, sum, got, len(at), want)
			}
		}
	})
}
