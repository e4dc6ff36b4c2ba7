package schedbench

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEndingsComeInOrderOfTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var e endings
	var want []time.Duration
	for range 20000 {
		if len(want) > 0 && rng.IntN(5) < 2 {
			if got := e.pop().at; got != want[0] {
				t.Fatalf("%d came before %d", got, want[0])
			}
			want = want[1:]
			continue
		}
		at := time.Duration(rng.IntN(500))
		e.push(ending{at: at})
		i, _ := slices.BinarySearchFunc(want, at, cmp.Compare)
		want = slices.Insert(want, i, at)
	}
	if len(e) != len(want) {
		t.Errorf("%d are left of %d", len(e), len(want))
	}
}
