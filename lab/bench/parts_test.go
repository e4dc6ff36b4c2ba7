package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"naru/lab"
)

func TestMedianIsTheMiddle(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{4}, 4}, {[]float64{9, 1, 5}, 5}, {[]float64{1, 2, 4, 100}, 3}} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.values, got, tt.want)
		}
	}
}

// TestACountIsWaitedFor: what comes late is measured all the same, and a count that cannot be read ends it.
func TestACountIsWaitedFor(t *testing.T) {
	counts := []uint64{7, 7, 9, 12}
	count := func() (n uint64, err error) {
		n, counts = counts[0], counts[1:]
		return n, nil
	}
	if to, took, err := beyond(7, time.Millisecond, count); to != 9 || took < 3*time.Millisecond || err != nil {
		t.Errorf("%d after %v, %v", to, took, err)
	}
	broken := errors.New("broken")
	if _, _, err := beyond(0, time.Millisecond, func() (uint64, error) { return 0, broken }); err != broken {
		t.Error(err)
	}
	looks := 0
	m := measurement{time: time.Millisecond, warm: time.Millisecond}
	rate, err := m.measure(func() (uint64, error) { // nothing at first, and nothing for a while after the first of it
		looks++
		return map[bool]uint64{true: 1}[looks > 3] + map[bool]uint64{true: 10}[looks > 7], nil
	})
	if rate <= 0 || err != nil || looks != 8 {
		t.Errorf("%v a second after %d looks, %v", rate, looks, err)
	}
}

func TestRoundsThatDifferAreDoubtful(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ratios []float64
		want   bool
	}{
		{"two rounds tell nothing", []float64{1, 1}, true},
		{"close to each other", []float64{1.3, 1.35, 1.4}, false},
		{"far from each other", []float64{1, 1.3, 1.6}, true},
		{"one of five is an accident", []float64{1.3, 1.32, 1.35, 1.31, 9}, false},
		{"two of five are not", []float64{1.3, 1.32, 1.35, 8, 9}, true},
	} {
		if got := doubtful(tt.ratios); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestSteeringLeavesTheFirstCPU(t *testing.T) {
	for n, want := range map[int]string{1: "00000001", 2: "00000002", 32: "fffffffe", 34: "00000003,fffffffe"} {
		if got := otherCPUs(n); got != want {
			t.Errorf("%d CPUs: %s, want %s", n, got, want)
		}
	}
}

func TestAmounts(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 7.126: "7.13", 9.999: "10.0", 999.4: "999", 999.7: "1.00k",
		14250: "14.2k", 187_400: "187k", 11.64e9: "11.6G", 3e12: "3000G"} {
		if got := amount(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
}

func TestAFloodIsOfDifferentFlows(t *testing.T) {
	seen := map[string]bool{}
	for i := range 3 * portsOfOne {
		a, p := flowSource(TwoLegs, i)
		if key := a.String() + string(binary.BigEndian.AppendUint16(nil, p)); seen[key] {
			t.Fatalf("flow %d is there twice", i)
		} else {
			seen[key] = true
		}
		if !clientNet.Contains(a) {
			t.Fatalf("flow %d comes from %s", i, a)
		}
	}
	last, _ := flowSource(OneArm, 999_999)
	if !backendNet.Contains(last) || last.Compare(poolAddr(0)) >= 0 {
		t.Errorf("the last flow comes from %s", last)
	}
}

func TestFramesAreWhole(t *testing.T) {
	for _, size := range []int{smallFrame, largeFrame} {
		b := make([]byte, size)
		fillFrame(b, TwoLegs, vip, 70_000)
		mac := lab.MAC(balancerIn)
		if !bytes.Equal(b[:6], mac[:]) || checksum(b[14:34], 0) != 0 {
			t.Errorf("%d: %x", size, b[:34])
		}
		pseudo := append(slices.Clone(b[26:34]), 0, 17, b[38], b[39])
		if sum := checksum(append(pseudo, b[34:]...), 0); sum != 0 {
			t.Errorf("%d: the checksum is off by %#x", size, sum)
		}
	}
}

func TestTheReportComparesRoundsWithRounds(t *testing.T) {
	o := Options{Systems: choose("nft", "fullnat"), Rounds: 3}
	r := newReport(&o)
	metric := &Metrics()[0]
	// The machine is twice as fast in the second round, and fullnat fails in the third.
	for round, v := range []float64{100, 200, 100} {
		for i, factor := range []float64{1, 1.5} {
			if round == 2 && i == 1 {
				r.add(metric, &o.Systems[i], &measurement{round: round}, errNoEcho)
				continue
			}
			r.add(metric, &o.Systems[i], &measurement{round: round, values: map[string]float64{"rate": v * factor}}, nil)
		}
	}
	r.finish()
	x := r.result("udp60", "rate", "fullnat")
	if x == nil || len(x.Ratios) != 1 || x.Ratios[0].To != "nft" || x.Ratios[0].Low != 1.5 || x.Ratios[0].High != 1.5 {
		t.Fatalf("%+v", x)
	}
	if x.Median != 225 || x.Ratios[0].Ratio != 2.25 || !x.Ratios[0].Doubtful {
		t.Errorf("%+v", x)
	}
	var out strings.Builder
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.25~", "too much to tell", "failed: no echo", "100-200"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, out.String())
		}
	}
}

func TestAWitnessSeesWhatIsWrong(t *testing.T) {
	frame := func(flow int, seq byte) []byte {
		b := make([]byte, smallFrame)
		fillFrame(b, TwoLegs, vip, flow)
		b[seqAt+3] = seq
		finishUDP(b[14:])
		return b
	}
	damaged := frame(0, 2)
	damaged[50] ^= 1
	unfinished := frame(0, 3)
	binary.BigEndian.PutUint16(unfinished[40:], ^checksum(nil, pseudoHeader(unfinished[14:], smallFrame-34)))
	for _, tt := range []struct {
		name   string
		server int
		b      []byte
		want   string // "": nothing is wrong
	}{
		{"the next one", 0, frame(0, 2), ""},
		{"a checksum for the hardware", 0, unfinished, ""},
		{"a flipped bit", 0, damaged, "1 were damaged"},
		{"a short one", 0, frame(0, 2)[:40], "1 were damaged"},
		{"another server", 1, frame(0, 2), "1 at a wrong server"},
		{"the same again", 0, frame(0, 1), "1 out of order"},
	} {
		w := newWitnesses()
		w.look(0, frame(0, 1))
		w.look(0, frame(64, 1))
		w.look(tt.server, tt.b)
		err := w.verdict()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if newWitnesses().verdict() == nil {
		t.Error("a witness that saw nothing is content")
	}
}

func TestNothingIsNoMeasure(t *testing.T) {
	if _, ok := compare(&Result{Runs: []float64{1}, rounds: []int{0}, Median: 1}, &Result{Runs: []float64{0},
		rounds: []int{0}}); ok {
		t.Error("there is a ratio to 0")
	}
}

func TestTheChartShowsHowManyTimesAsGood(t *testing.T) {
	o := Options{Systems: choose("nft", "nft+rps", "haproxy", "fullnat", "nat", "nftfwd", "l2dsr"), Rounds: 1}
	r := newReport(&o)
	for i := range o.Systems {
		s := &o.Systems[i]
		for j, m := range Metrics()[:8] {
			if v := float64(i*(j%3) + 4); m.carries(s) {
				r.add(&m, s, &measurement{values: map[string]float64{m.figures[0].name: v}}, nil)
			}
		}
	}
	r.finish()
	c := r.chartOf(TwoLegs)
	if c.base != "nft" || len(c.metrics) != 8 || len(c.systems) != 5 {
		t.Fatalf("%+v", c)
	}
	// udp1400: 8 packets against 4; rtt: 4 us against 4; rtt-load: 8 us against 4; haproxy carries no UDP.
	full, proxy := c.times["fullnat"], c.times["haproxy"]
	if full[1] != 2 || full[6] != 1 || full[7] != 0.5 || !math.IsNaN(proxy[1]) || proxy[2] != 2 {
		t.Errorf("%v %v", full, proxy)
	}
	for file, magic := range map[string]string{"c.svg": "<?xml", "c.PNG": "\x89PNG"} {
		path := filepath.Join(t.TempDir(), file)
		if err := r.WriteChart(path); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(b, []byte(magic)) || len(b) < 2000 {
			t.Errorf("%s: %d bytes, %v", file, len(b), err)
		}
	}
	if err := newReport(&Options{}).WriteChart(filepath.Join(t.TempDir(), "x.png")); err == nil {
		t.Error("a chart of nothing")
	}
}
