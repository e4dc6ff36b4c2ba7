package schedbench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"naru/sched"
)

// TableSize is what mh's table of one size is like for so many backends of equal weight.
type TableSize struct {
	Slots    int           `json:"slots"`
	Backends int           `json:"backends"`
	Least    int           `json:"least"` // slots that a backend has
	Most     int           `json:"most"`
	MaxMean  float64       `json:"max_mean"`
	Build    time.Duration `json:"build_ns"` // on this machine
	Memory   int           `json:"memory_bytes"`
	Leaves   []Leave       `json:"leaves"`
}

// Leave is what changes when some backends leave.
type Leave struct {
	Backends int     `json:"backends"`
	Changed  float64 `json:"changed"` // the part of the slots that changed
	Needed   float64 `json:"needed"`  // the part that those had
}

// PaperSizes are the two sizes of table in the Maglev paper.
func PaperSizes() []int { return []int{65537, 655373} }

// Tables works out the figures of section 5.3 of the Maglev paper (balance) and of its figure 12 (what moves), for so many
// backends and repetitions of each departure.
func Tables(sizes []int, backends, repeat int) []TableSize {
	rng := rand.New(rand.NewPCG(1, 12))
	var out []TableSize
	for _, n := range sizes {
		start := time.Now()
		all := table(n, backends, nil)
		t := TableSize{Slots: n, Backends: backends, Build: time.Since(start), Memory: 2 * n}
		counts := make([]int, backends)
		for _, b := range all {
			counts[b]++
		}
		t.Least, t.Most = slices.Min(counts), slices.Max(counts)
		t.MaxMean = float64(t.Most) * float64(backends) / float64(n)
		for _, k := range []int{1, 5, 10, 20, 30, 40, 50} {
			if k < backends {
				t.Leaves = append(t.Leaves, leave(rng, all, backends, k, repeat))
			}
		}
		out = append(out, t)
	}
	return out
}

// leave takes k backends away, several times.
func leave(rng *rand.Rand, all []int32, backends, k, repeat int) Leave {
	l := Leave{Backends: k}
	for range repeat {
		gone := map[int32]bool{}
		for _, b := range rng.Perm(backends)[:k] {
			gone[int32(b)] = true
		}
		for i, b := range table(len(all), backends, gone) {
			if b != all[i] {
				l.Changed++
			}
			if gone[all[i]] {
				l.Needed++
			}
		}
	}
	l.Changed /= float64(repeat * len(all))
	l.Needed /= float64(repeat * len(all))
	return l
}

// table builds the table of backends without those that are gone; numbers are those of the whole list.
func table(n, backends int, gone map[int32]bool) []int32 {
	var order []sched.Permutation
	var who []int32
	for b := range int32(backends) {
		if !gone[b] {
			order, who = append(order, sched.Permute([2]uint64{1, 2}, fmt.Sprintf("b%d", b+1), n)), append(who, b)
		}
	}
	out := make([]int32, n)
	for i, b := range sched.MaglevTable(n, order, slices.Repeat([]uint64{1}, len(order))) {
		out[i] = who[b]
	}
	return out
}
