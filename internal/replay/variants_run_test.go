package replay_test

import (
	"testing"

	"naru/internal/replay"
)

// TestWhatMustHoldForEveryVariant makes other captures of each capture. Of them all, one in five is played, in one mode of
// the six, unless NARU_FULL asks for all.
func TestWhatMustHoldForEveryVariant(t *testing.T) {
	runs(t)
	modes := replay.AutoModes()
	made, packets, played, n := 0, 0, 0, 0
	judged := map[string]int{}
	for _, path := range captures(t) {
		_, tp := fileOf(t, path)
		for _, v := range variants {
			n++
			if !full() && n%5 != 0 {
				continue
			}
			other := v.make(seeded(tp.name, v.name), tp)
			if len(other.frames) == 0 {
				continue
			}
			other.name = tp.name + ", " + v.name
			made, packets = made+1, packets+len(other.frames)
			for k, mode := range modes {
				if !full() && k != n/5%len(modes) {
					continue
				}
				played++
				judged[mode] += twice(t, other, other.name+" "+mode, other.auto(t, mode)).judged
			}
		}
	}
	t.Logf("%d captures made, %d packets, %d runs; packets compared: %v", made, packets, played, judged)
	if made < 500 {
		t.Errorf("only %d captures were made", made)
	}
}
