package replay_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"naru/internal/replay"
	"naru/internal/wiretest"
)

// clients are whole connections, of the clients alone.
func clients(t *testing.T, n int) []byte {
	var shots []shot
	for i := range n {
		at := time.Duration(i) * 3 * ms
		port := syn(0, i).f.Src
		shots = append(shots, syn(at, i), data(at+10*ms, i),
			shot{at + 300*ms, wiretest.Frame{Src: port, Dst: "200.100.50.25:80", TCP: "FA", Seq: 105, Ack: 7}},
			shot{at + 301*ms, wiretest.Frame{Src: port, Dst: "200.100.50.25:80", TCP: "A", Seq: 106, Ack: 8}})
	}
	return capture(t, 1e18, shots...)
}

func TestSimulatedEndsCloseTheLoopInEveryMode(t *testing.T) {
	const flows = 40
	file := clients(t, flows)
	for _, mode := range replay.AutoModes() {
		yaml, err := replay.Auto(source(t, file), mode)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			sim  replay.Simulation
			want func(l *replay.Loop) bool
		}{
			{"replies", replay.Simulation{Reply: 5000}, func(l *replay.Loop) bool { return l.Completed == flows && l.Lost == 0 }},
			{"late", replay.Simulation{Reply: 1, Delay: time.Second}, func(l *replay.Loop) bool { return l.Completed == flows }},
			{"loss", replay.Simulation{Reply: 5000, Loss: 0.1}, func(l *replay.Loop) bool { return l.Completed == flows && l.Lost > 40 }},
			{"resets", replay.Simulation{Reply: 10, Reset: 1}, func(l *replay.Loop) bool { return l.Reset == flows }},
			{"recorded", replay.Simulation{Reply: -1}, func(l *replay.Loop) bool { return l.Completed == flows }},
			{"no way", replay.Simulation{Loss: 1}, func(l *replay.Loop) bool { return l.Stalled == flows }},
		} {
			opt := replay.Options{Config: load(t, yaml), Backends: replay.Simulated, Sim: c.sim}
			r := replayed(t, opt, file)
			if l := r.result.Loop; l.MisDelivered != 0 || !c.want(l) {
				t.Errorf("%s, %s: %+v", mode, c.name, l)
			}
			if again := replayed(t, opt, file); !bytes.Equal(r.frames, again.frames) || !bytes.Equal(r.flows, again.flows) {
				t.Errorf("%s, %s: two runs differ", mode, c.name)
			}
			if bad := wrongFrames(t, r.frames); bad != "" {
				t.Errorf("%s, %s: %s", mode, c.name, bad)
			}
		}
	}
}

// wrongFrames returns what is wrong with the first frame that is not as it should be.
func wrongFrames(t *testing.T, file []byte) string {
	src := source(t, file)
	for {
		p, _, err := src.Next()
		if err != nil {
			return ""
		}
		if err := wiretest.Wrong(p.Data); err != nil {
			return err.Error()
		}
	}
}

func TestAFlowThatTwoBackendsSeeIsMisDelivered(t *testing.T) {
	yaml := strings.Replace(web, "    mode: fullnat\n", "    mode: fullnat\n    midstream: pickup\n    timeouts: {tcp_established: 10s}\n", 1)
	r := replayed(t, replay.Options{Config: load(t, yaml), Backends: replay.Simulated},
		capture(t, 0, syn(0, 1), data(10*ms, 1), data(30*time.Second, 1)))
	if l := r.result.Loop; l.MisDelivered != 1 || l.Completed+l.Open+l.Stalled+l.Reset != 0 {
		t.Errorf("%+v\n%s", l, strings.Join(r.comments, "\n"))
	}
	if !strings.Contains(string(r.flows), `"loop":"mis-delivered"`) {
		t.Errorf("flows %s", r.flows)
	}
}

func TestRecordedRepliesAreSentAgainByTheBackend(t *testing.T) {
	dir := wiretest.Captures(t)
	file, err := os.ReadFile(filepath.Join(dir, "tcp4/zk-methods.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := replay.Auto(source(t, file), "fullnat")
	if err != nil {
		t.Fatal(err)
	}
	r := replayed(t, replay.Options{Config: load(t, yaml), Backends: replay.Simulated, Sim: replay.Simulation{Reply: -1}}, file)
	// The bytes that the servers of the capture sent, without headers.
	var sent, got uint64
	recorded := replayed(t, replay.Options{Config: load(t, yaml), Backends: replay.Recorded}, file)
	for i, run := range []run{recorded, r} {
		for _, b := range run.result.Services[0].Backends {
			*[]*uint64{&sent, &got}[i] += b.Bytes
		}
	}
	if l := r.result.Loop; l.Completed != 49 || got < sent*9/10 || got > sent*11/10 {
		t.Errorf("%+v, %d bytes, recorded were %d", l, got, sent)
	}
}
