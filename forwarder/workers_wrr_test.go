package forwarder_test

import (
	"fmt"
	"maps"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/sched"
)

// weighted is the configuration with weights 4, 2 and 1 for the service of TCP.
func weighted() forwarder.Config {
	cfg := config()
	cfg.Services[0].Scheduler = sched.WRR
	for i, w := range []uint32{4, 2, 1} {
		cfg.Services[0].Backends[i].Weight = w
	}
	return cfg
}

func syn(t testing.TB, i int) wire.Packet {
	return fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1024+i), Dst: vip + ":80", TCP: "S"}).Packet(t)
}

// TestWeightsAreExactOverWorkers wants the very order of one engine from several.
func TestWeightsAreExactOverWorkers(t *testing.T) {
	const connections = 7 * 60
	var want []string
	one := newRig(t, weighted())
	for i := range connections {
		v, why, out := one.put(0, syn(t, i))
		if len(out) != 1 {
			t.Fatalf("connection %d: %v %v", i, v, why)
		}
		want = append(want, parsed(t, out[0].bytes).Flow.Dst.String())
	}
	for workers := 2; workers <= 4; workers++ {
		c := newCrew(t, weighted(), workers)
		for i := range connections {
			p := c.one(0, syn(t, i))
			if got := p.Flow.Dst.String(); got != want[i] {
				t.Fatalf("%d workers: connection %d goes to %s, with one worker to %s", workers, i, got, want[i])
			}
		}
		for w, r := range c.rigs {
			if n := r.eng.Counters().Connections; n < uint64(connections/workers/2) {
				t.Errorf("%d workers: %d has %d of %d connections", workers, w, n, connections)
			}
		}
	}
}

// TestWeightsAreExactInParallel opens connections on all engines at the same time: whoever comes first, the sums are exact.
func TestWeightsAreExactInParallel(t *testing.T) {
	const connections = 7 * 300
	for name, cfg := range map[string]forwarder.Config{"rr": config(), "wrr": weighted()} {
		c := newCrewSized(t, cfg, 4, 8192)
		inputs := make([][]wire.Packet, 4)
		for i := range connections {
			p := syn(t, i)
			at := c.byRule(p)
			inputs[at] = append(inputs[at], p)
		}
		sums := make(chan map[string]int)
		for w, r := range c.rigs {
			go func() {
				sum := map[string]int{}
				for len(inputs[w]) > 0 {
					n := min(8, len(inputs[w]))
					r.out.Reset()
					r.eng.Process(r.now, inputs[w][:n], r.out, nil)
					for _, f := range r.out.Legs[1] {
						p := wire.Packet{Frame: *f}
						p.ParseLink()
						p.ParseNetwork()
						sum[p.Flow.Dst.String()]++
					}
					inputs[w] = inputs[w][n:]
				}
				sums <- sum
			}()
		}
		got := map[string]int{}
		for range c.rigs {
			for backend, n := range <-sums {
				got[backend] += n
			}
		}
		want := map[string]int{server1: 700, server2: 700, "10.10.10.3": 700}
		if name == "wrr" {
			want = map[string]int{server1: 1200, server2: 600, "10.10.10.3": 300}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
