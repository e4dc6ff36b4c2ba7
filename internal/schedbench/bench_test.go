package schedbench

import (
	"math"
	"reflect"
	"testing"
	"time"
)

func run(t *testing.T, name string) map[string]*Result {
	t.Helper()
	sc, ok := FindScenario(name)
	if !ok {
		t.Fatal(name)
	}
	in, err := sc.Input()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Result{}
	for i := range sc.Setups {
		r := Run(in, &sc.Setups[i])
		out[r.Name] = r
		sum := 0
		for _, n := range r.Total {
			sum += n
		}
		if sum+r.Refused != len(in.Arrivals) {
			t.Errorf("%s: %d connections of %d", r.Name, sum+r.Refused, len(in.Arrivals))
		}
	}
	return out
}

func TestRoundRobinIgnoresLoad(t *testing.T) {
	r := run(t, "slow-backend")
	if rr := r["rr"]; rr.NewMaxMean > 1.001 || rr.LoadMaxMean < 2.5 {
		t.Errorf("rr: new %.3f, load %.2f", rr.NewMaxMean, rr.LoadMaxMean)
	}
	if lc := r["lc"]; lc.LoadMaxMean > 1.1 || lc.NewMaxMean < 1.2 {
		t.Errorf("lc: new %.3f, load %.2f", lc.NewMaxMean, lc.LoadMaxMean)
	}
	if b := r["mh bounded 1.25"]; b.LoadMaxMean > 1.3 {
		t.Errorf("mh bounded: load %.2f", b.LoadMaxMean)
	}
}

func TestLeastConnectionsFloodsANewcomerWithoutSlowStart(t *testing.T) {
	r := run(t, "newcomer")
	if flood := r["lc"].JoinRate; flood < 900 {
		t.Errorf("lc: at most %d new connections in a second on the newcomer, want nearly all 1000", flood)
	}
	if eased := r["lc slow start 30s"].JoinRate; eased > 500 {
		t.Errorf("lc with slow start: %d new connections in a second", eased)
	}
	if rr, slow := r["rr"], r["rr slow start 30s"]; slow.Total[3] > rr.Total[3]*9/10 {
		t.Errorf("rr: the newcomer got %d, with slow start %d", rr.Total[3], slow.Total[3])
	}
	if mh := r["mh slow start 30s"]; mh.Moved > 0.35 || mh.Moved < mh.Least || mh.Least < 0.23 || r["lc"].Moved != 0 {
		t.Errorf("mh: %.3f of the clients moved, %.3f had to", mh.Moved, mh.Least)
	}
}

func TestABoundHoldsHeavySources(t *testing.T) {
	r := run(t, "heavy-sources")
	for _, name := range []string{"sh", "mh"} {
		if free, bound := r[name].LoadMaxMean, r[name+" bounded 1.25"].LoadMaxMean; free < 1.5 || bound > 1.3 {
			t.Errorf("%s: load %.2f, bounded %.2f", name, free, bound)
		}
	}
}

// TestMaglevPaperFigures compares with what the paper says of 1000 backends (5.3) and with figure 12 re-made with Katran's
// hash: 0.69, 2.36 and 3.36 % of the slots changed when 1, 5 and 10 left.
func TestMaglevPaperFigures(t *testing.T) {
	small := Tables([]int{65537}, 1000, 1)[0]
	if small.Least != 65 || small.Most != 66 {
		t.Errorf("slots from %d to %d", small.Least, small.Most)
	}
	for i, want := range []float64{0.0069, 0.0236, 0.0336} {
		if got := small.Leaves[i]; math.Abs(got.Changed-want) > 0.004 || got.Changed < got.Needed {
			t.Errorf("%d leave: %.4f of the slots changed, want about %.4f", got.Backends, got.Changed, want)
		}
	}
}

func TestCountsThatLinger(t *testing.T) {
	l := Load{Rate: 200, Duration: 20 * time.Second, Service: "fixed", Mean: time.Second, Clients: 100, Seed: 3}
	as, err := l.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Backends: Equal(2), Arrivals: as, Clients: 100, Bucket: time.Second, End: l.Duration}
	exact, late := setup("lc"), setup("lc")
	late.Linger, late.Silent = 4*time.Second, 1
	if r := Run(in, &exact); r.CountError != 0 {
		t.Errorf("exact counts have an error of %v", r.CountError)
	}
	if r := Run(in, &late); r.CountError < 3.5 || r.CountError > 4.5 {
		t.Errorf("counts that linger four times as long as connections last: an error of %.2f of the count, want about 4", r.CountError)
	}
	late.Silent = 0.25
	if r := Run(in, &late); r.CountError < 0.8 || r.CountError > 1.3 {
		t.Errorf("a quarter of the counts lingers: an error of %.2f of the count, want about 1", r.CountError)
	}
}

func TestTheSameInputGivesTheSameFigures(t *testing.T) {
	a, b := run(t, "heavy-sources"), run(t, "heavy-sources")
	for name := range a {
		if !reflect.DeepEqual(a[name].Buckets, b[name].Buckets) {
			t.Errorf("%s: two runs differ", name)
		}
	}
}

func TestLoads(t *testing.T) {
	for _, service := range Services() {
		l := Load{Rate: 1000, Duration: 100 * time.Second, Service: service, Mean: time.Second, Clients: 50, Heavy: 0.5, HeavyClients: 1, Seed: 2}
		as, err := l.Arrivals()
		if err != nil {
			t.Fatal(err)
		}
		sum, heavy, last := time.Duration(0), 0, time.Duration(0)
		for _, a := range as {
			if a.At < last || a.At >= l.Duration || a.Client >= 50 {
				t.Fatalf("%+v after %v", a, last)
			}
			last, sum = a.At, sum+a.Lasts
			if a.Client == 0 {
				heavy++
			}
		}
		n := float64(len(as))
		if mean := sum.Seconds() / n; n < 98000 || n > 102000 || mean < 0.9 || mean > 1.2 || float64(heavy)/n < 0.48 || float64(heavy)/n > 0.54 {
			t.Errorf("%s: %v connections of %.2fs, %d of the heavy client", service, n, mean, heavy)
		}
	}
	for _, l := range []Load{{}, {Rate: 1, Duration: 1, Mean: 1, Clients: 1, Service: "normal"}, {Rate: 1e9, Duration: time.Hour, Mean: 1, Clients: 1, Service: "exp"}} {
		if _, err := l.Arrivals(); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}
