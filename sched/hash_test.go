package sched_test

import (
	"math/rand/v2"
	"testing"

	"naru/sched"
)

// While a backend's share grows clients move to it and to nobody else, with mh each from where it was before the backend
// came.
func TestSlowStartOfHashesMovesClientsToTheNewBackendOnly(t *testing.T) {
	const clients = 20000
	for _, k := range []sched.Kind{sched.SH, sched.MH} {
		o := sched.Options{Kind: k}
		bs := backends(1, 1, 1, 1)
		old := sched.New(o, bs[:3], nil)
		at := make([]int, clients)
		for c := range at {
			at[c] = old.Stateless(mix(c))
		}
		moved := make([]int, clients)
		for _, share := range []uint32{1, 1000, 20000, 40000, 65000, 0} {
			bs[3].Share = share
			s := sched.New(o, bs, old)
			there := 0
			for c := range at {
				now := s.Stateless(mix(c))
				if now == 3 {
					there++
				}
				if now != at[c] {
					if now != 3 && share != 1 {
						t.Fatalf("%v: share %d moved client %d to %d, which is not new", k, share, c, now)
					}
					moved[c]++
					at[c] = now
				}
			}
			if want := float64(share) / sched.ShareAll / 4 * clients; share != 0 && (float64(there) < want-300 || float64(there) > want+300) {
				t.Errorf("%v: with a share of %d the new backend has %d clients, want about %.0f", k, share, there, want)
			}
			old = s
		}
		again := 0
		for _, n := range moved {
			if n > 1 {
				again++
			}
		}
		if k == sched.MH && again > clients/200 {
			t.Errorf("mh: %d of %d clients moved more than once", again, clients)
		}
	}
}

func mix(c int) uint64 { return (uint64(c) + 1) * 0xd1342543de82ef95 * (uint64(c) | 1) }

func TestBoundedLoad(t *testing.T) {
	for _, k := range []sched.Kind{sched.SH, sched.MH} {
		for _, bound := range []float64{1, 1.05, 1.25, 2} {
			bs := backends(1, 2, 1, 4, 0)
			s := sched.New(sched.Options{Kind: k, Bounded: uint32(bound * sched.ShareAll)}, bs, nil)
			for n := 1; n <= 4000; n++ {
				i := s.Pick(uint64(rand.IntN(3)) << 60) // three heavy clients
				if most := bound*float64(n)*float64(bs[i].Weight)/8 + 1; float64(bs[i].Active.Load()) > most {
					t.Fatalf("%v bounded %v: of %d connections backend %d has %d", k, bound, n, i, bs[i].Active.Load())
				}
			}
			if bs[4].Active.Load() != 0 {
				t.Errorf("%v: a drained backend was chosen", k)
			}
		}
	}
}

func TestWithoutPressureABoundChangesNothing(t *testing.T) {
	for _, k := range []sched.Kind{sched.SH, sched.MH} {
		bs := backends(1, 1, 1, 1)
		for i := range bs {
			bs[i].Active.Store(1000)
		}
		free, bound := sched.New(sched.Options{Kind: k}, bs, nil), sched.New(sched.Options{Kind: k, Bounded: 2 * sched.ShareAll}, bs, nil)
		for range 500 {
			if h := rand.Uint64(); free.Stateless(h) != bound.Pick(h) {
				t.Fatalf("%v: a hash changed its backend", k)
			}
		}
	}
}
