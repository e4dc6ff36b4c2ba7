package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"naru/internal/wiretest"
	"naru/lab"
)

// program builds naru.
func program(t *testing.T) string {
	t.Helper()
	wiretest.Root(t)
	exe := filepath.Join(t.TempDir(), "naru")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", exe, "naru/cmd/naru")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}

// choose returns the systems of the names.
func choose(names ...string) (chosen []System) {
	for _, s := range Systems() {
		if slices.Contains(names, s.Name) {
			chosen = append(chosen, s)
		}
	}
	return chosen
}

// TestTrafficArrivesWhole is about plausibility only: that traffic of every kind comes through naru and a peer whole.
// How fast is another matter.
func TestTrafficArrivesWhole(t *testing.T) {
	var metrics []Metric
	for _, m := range Metrics() {
		if slices.Contains([]string{"udp60", "cps", "rps", "bulk1", "rtt", "loss", "memory"}, m.Name) {
			metrics = append(metrics, m)
		}
	}
	exe := program(t)
	arriveWhole(t, Options{Systems: choose("nft", "fullnat"), Metrics: metrics, Exe: exe})
	xdp := choose("fullnat")[0].With("xdp")
	arriveWhole(t, Options{Systems: []System{xdp}, Metrics: metrics[:3], Exe: exe})
	states, err := lab.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if strings.HasPrefix(s.Name, fmt.Sprintf("bench%d", os.Getpid())) {
			t.Errorf("left behind: lab %s", s.Name)
		}
	}
}

// TestOneArmByDSCP is that the servers find the VIP again, for datagrams and for streams.
func TestOneArmByDSCP(t *testing.T) {
	var metrics []Metric
	for _, m := range Metrics() {
		if m.Name == "rtt" || m.Name == "rtt-tcp" { // they wait for what is late
			metrics = append(metrics, m)
		}
	}
	arriveWhole(t, Options{Systems: choose("dscp"), Metrics: metrics, Exe: program(t)})
}

func TestACongestionControlThatIsNotThereIsNamed(t *testing.T) {
	if err := CheckCongestion("reno"); err != nil { // the kernel's own, always there
		t.Error(err)
	}
	if err := CheckCongestion("no-such"); err == nil || !strings.Contains(err.Error(), "there are: ") ||
		!strings.Contains(err.Error(), "reno") {
		t.Error(err)
	}
}

// arriveWhole runs every metric for a moment and looks that there is a figure of each.
func arriveWhole(t *testing.T, o Options) {
	t.Helper()
	o.Rounds, o.Time, o.Flows, o.Many = 1, 100*time.Millisecond, 128, 2000
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Error(f)
	}
	for _, m := range o.Metrics {
		for _, s := range o.Systems {
			if !m.carries(&s) {
				continue
			}
			for _, f := range m.figures {
				x := r.result(m.Name, f.name, s.Name)
				canBeZero := f.name == "lost at half" || f.name == "cpu"
				if x == nil || x.Median < 0 || x.Median == 0 && !canBeZero || len(x.Runs) != 1 {
					t.Errorf("%s %s through %s: %+v", m.Name, f.name, s.Name, x)
				}
			}
		}
	}
}
