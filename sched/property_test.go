package sched_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"naru/sched"
)

// anyWeights draws weights, the extremes among them, of which one at least is not 0.
func anyWeights(t *rapid.T, most uint32) []uint32 {
	one := rapid.OneOf(rapid.Uint32Range(0, 3), rapid.Uint32Range(0, most), rapid.Just(most))
	ws := rapid.SliceOfN(one, 1, 16).Draw(t, "weights")
	if slices.Max(ws) == 0 {
		ws[0] = 1
	}
	return ws
}

func sum(of []uint32) (s uint64) {
	for _, x := range of {
		s += uint64(x)
	}
	return s
}

// TestTurnsAreExactInEachRound: rr gives each backend one of a round, wrr as many as its weight, however odd the weights.
func TestTurnsAreExactInEachRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t, 200)
		for _, k := range []sched.Kind{sched.RR, sched.WRR} {
			want := slices.Clone(weights)
			for i := range want {
				if k == sched.RR {
					want[i] = min(want[i], 1)
				}
			}
			bs := backends(weights...)
			s := sched.New(sched.Options{Kind: k}, bs, nil)
			for round := int64(1); round <= 2; round++ {
				for range sum(want) {
					s.Pick(0)
				}
				for i, w := range want {
					if got := bs[i].Active.Load(); got != round*int64(w) {
						t.Fatalf("%v: after %d rounds backend %d of %v has %d", k, round, i, weights, got)
					}
				}
			}
		}
	})
}

// TestLeastLoadedStaysBalanced: connections come and go, and whoever is chosen had the least load for its weight.
func TestLeastLoadedStaysBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t, 65535)
		for _, k := range []sched.Kind{sched.LC, sched.WLC, sched.SED, sched.NQ} {
			bs := backends(weights...)
			s := sched.New(sched.Options{Kind: k}, bs, nil)
			load := func(i int, own int64) (connections, weight uint64) {
				weight = uint64(weights[i])
				if k == sched.LC {
					weight = 1
				}
				return uint64(bs[i].Active.Load() + own), weight
			}
			for range 100 {
				if i := rapid.IntRange(0, 3*len(bs)).Draw(t, "ends"); i < len(bs) && bs[i].Active.Load() > 0 {
					bs[i].Active.Add(-1)
				}
				got := s.Pick(0)
				own := int64(-1) // the new connection counts with sed and nq
				if k == sched.SED || k == sched.NQ {
					own = 0
				}
				n, w := load(got, own)
				for j := range bs {
					other, otherW := load(j, own+1)
					if k == sched.NQ && n == 1 || j == got || weights[j] == 0 {
						continue // never queue: an idle one is taken whatever its weight
					}
					if weights[got] == 0 || n*otherW > other*w {
						t.Fatalf("%v: %d of %v is chosen, which has %d, and %d has %d", k, got, weights, n, j, other)
					}
				}
			}
		}
	})
}

// TestLimitsHoldAndNobodyIsTurnedAwayTooSoon: every scheduler, any limits.
func TestLimitsHoldAndNobodyIsTurnedAwayTooSoon(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t, 65535)
		limits := rapid.SliceOfN(rapid.Uint32Range(1, 9), len(weights), len(weights)).Draw(t, "limits")
		for name, o := range variants() {
			bs := backends(weights...)
			room := 0
			for i := range bs {
				bs[i].Max = int64(limits[i])
				if weights[i] > 0 {
					room += int(limits[i])
				}
			}
			s, hash := sched.New(o, bs, nil), rapid.Uint64().Draw(t, "hash")
			got := 0
			for range room {
				if s.Pick(hash) >= 0 {
					got++
				}
				hash = hash*6364136223846793005 + 1442695040888963407 // Knuth's MMIX
			}
			if !o.Refuse && got != room || !o.Refuse && s.Pick(hash) != sched.Full {
				t.Fatalf("%s: weights %v, limits %v: %d of %d have found a place", name, weights, limits, got, room)
			}
			for i := range bs {
				if n := bs[i].Active.Load(); n > bs[i].Max || weights[i] == 0 && n > 0 {
					t.Fatalf("%s: backend %d of %v has %d, its limit is %d", name, i, weights, n, bs[i].Max)
				}
			}
		}
	})
}

// TestNobodyHasMoreThanTheBound: whatever the hashes, the weights and the bound.
func TestNobodyHasMoreThanTheBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t, 65535)
		bound := rapid.Uint32Range(sched.ShareAll, 3*sched.ShareAll).Draw(t, "bound")
		few := rapid.Uint64Range(1, 5).Draw(t, "clients")
		for _, k := range []sched.Kind{sched.SH, sched.MH} {
			bs := backends(weights...)
			s := sched.New(sched.Options{Kind: k, Bounded: bound, TableSize: 251}, bs, nil)
			for n := uint64(1); n <= 200; n++ {
				got := s.Pick(n % few * 0x9e3779b97f4a7c15)
				has := float64(bs[got].Active.Load() - 1)
				part := float64(bound) / sched.ShareAll * float64(n) * float64(weights[got]) / float64(sum(weights))
				if has >= part*(1+1e-9) {
					t.Fatalf("%v: backend %d of %v had %v of %d connections, its bound is %v", k, got, weights, has, n, part)
				}
			}
		}
	})
}

// TestAwayAndBackIsAsBefore: what hashes lead to does not remember, and weight 0 is like being away.
func TestAwayAndBackIsAsBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := anyWeights(t, 65535)
		k := rapid.IntRange(0, len(weights)-1).Draw(t, "leaves")
		for name, o := range variants() {
			bs := backends(weights...)
			first := sched.New(o, bs, nil)
			at := leads(first, bs)
			drained := slices.Clone(bs)
			drained[k].Weight = 0
			less := sched.New(o, drained, first)
			without := slices.Delete(slices.Clone(bs), k, k+1)
			if !slices.Equal(leads(less, drained), leads(sched.New(o, without, first), without)) {
				t.Fatalf("%s: weight 0 for %d of %v is not like being away", name, k, weights)
			}
			if !slices.Equal(leads(sched.New(o, bs, less), bs), at) {
				t.Fatalf("%s: %d of %v, away and back again, is not as before", name, k, weights)
			}
		}
	})
}
