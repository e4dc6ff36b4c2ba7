package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"naru/internal/config"
	"naru/internal/replay"
)

// whole is what a run gave: one, or several after each other.
type whole struct {
	packets  []byte // blocks of the pcapng file, without what describes its interfaces
	flows    []byte
	counters []byte
}

// blocks returns a pcapng file without its section and interfaces.
func blocks(t *testing.T, file []byte) (out []byte) {
	t.Helper()
	for len(file) > 0 {
		n := binary.LittleEndian.Uint32(file[4:])
		if kind := binary.LittleEndian.Uint32(file); kind != 0x0a0d0d0a && kind != 1 {
			out = append(out, file[:n]...)
		}
		file = file[n:]
	}
	return out
}

// inParts replays a capture in parts, each of which ends before one of the packets, with the state carried over.
func inParts(t *testing.T, opt replay.Options, file []byte, cuts ...int) (w whole) {
	t.Helper()
	src := source(t, file)
	var carried []byte
	for k := 0; k <= len(cuts); k++ {
		var frames, flows, state bytes.Buffer
		o := opt
		o.Frames, o.Flows, o.StateOut = &frames, &flows, nil
		if k > 0 {
			o.StateIn = bytes.NewReader(carried)
		}
		if k < len(cuts) {
			o.StateOut = &state
		}
		r, err := replay.New(o)
		if err != nil {
			t.Fatal(err)
		}
		result := feed(t, r, src, k, cuts)
		carried = state.Bytes()
		var counters bytes.Buffer
		if err := result.WriteJSON(&counters); err != nil {
			t.Fatal(err)
		}
		w.packets = append(w.packets, blocks(t, frames.Bytes())...)
		w.flows = append(w.flows, flows.Bytes()...)
		w.counters = counters.Bytes()
	}
	return w
}

// feed gives a run the packets of its part: without cuts, all.
func feed(t *testing.T, r *replay.Replay, src *replay.Source, part int, cuts []int) *replay.Result {
	t.Helper()
	n := 0
	if part > 0 {
		n = cuts[part-1]
	}
	for ; part == len(cuts) || n < cuts[part]; n++ {
		p, ifname, err := src.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Packet(p, ifname); err != nil {
			t.Fatal(err)
		}
	}
	result, err := r.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// packetsOf counts the packets of a capture.
func packetsOf(t *testing.T, file []byte) (n int) {
	src := source(t, file)
	for {
		if _, _, err := src.Next(); err == io.EOF {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// sameInParts compares one run with runs over random parts.
func sameInParts(t *testing.T, name string, opt replay.Options, file []byte, random *rand.Rand, tries int) {
	t.Helper()
	if opt.Seed == 0 {
		opt.Seed, opt.Table = 1, 1024
	}
	one, n := inParts(t, opt, file), packetsOf(t, file)
	for range tries {
		cuts := []int{random.IntN(n + 1)}
		if random.IntN(2) == 0 {
			cuts = append(cuts, cuts[0]+random.IntN(n+1-cuts[0]))
		}
		parts := inParts(t, opt, file, cuts...)
		for what, pair := range map[string][2][]byte{"frames": {one.packets, parts.packets}, "flows": {one.flows, parts.flows},
			"counters": {one.counters, parts.counters}} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%s, cut before packets %v of %d: other %s than in one run%s", name, cuts, n, what, firstLines(pair))
			}
		}
	}
}

// firstLines shows where two texts begin to differ.
func firstLines(pair [2][]byte) string {
	a, b := strings.Split(string(pair[0]), "\n"), strings.Split(string(pair[1]), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("\none run   %.400q\nin parts  %.400q", a[i], b[i])
		}
	}
	return fmt.Sprintf(": %d and %d lines", len(a), len(b))
}

func golden(t *testing.T) (*config.Config, []byte) {
	t.Helper()
	const folder = "../../cmd/naru/testdata/replay/"
	yaml, err := os.ReadFile(folder + "naru.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(folder + "in.pcapng")
	if err != nil {
		t.Fatal(err)
	}
	return load(t, string(yaml)), file
}

var everyBackends = map[string]replay.Backends{"captured": replay.AsCaptured, "recorded": replay.Recorded,
	"simulated": replay.Simulated}

// lossy is a simulation in which everything happens.
var lossy = replay.Simulation{Reply: 3000, Delay: 7 * ms, Loss: 0.05, Reset: 0.05}

func TestTheGoldenCaptureInPartsIsTheSame(t *testing.T) {
	cfg, file := golden(t)
	random := rand.New(rand.NewPCG(1, 2))
	for name, backends := range everyBackends {
		opt := replay.Options{Config: cfg, Backends: backends}
		if backends == replay.Simulated {
			opt.Sim = lossy
		}
		for cut := range packetsOf(t, file) + 1 {
			opt.Seed, opt.Table = 1, 1024
			one, parts := inParts(t, opt, file), inParts(t, opt, file, cut)
			if !bytes.Equal(one.packets, parts.packets) || !bytes.Equal(one.flows, parts.flows) ||
				!bytes.Equal(one.counters, parts.counters) {
				t.Errorf("%s: cut before packet %d: another result", name, cut)
			}
		}
		sameInParts(t, "golden "+name, opt, file, random, 5)
	}
}

func TestEveryCaptureInPartsIsTheSame(t *testing.T) {
	modes := replay.AutoModes()
	random := rand.New(rand.NewPCG(3, 4))
	for i, path := range captures(t) {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		mode := modes[i%len(modes)]
		yaml, err := replay.Auto(source(t, file), mode)
		if err != nil || len(file) > 1<<20 {
			continue
		}
		opt := replay.Options{Config: load(t, yaml), Backends: replay.Recorded}
		if i%2 == 0 {
			opt.Backends, opt.Sim = replay.Simulated, lossy
		}
		sameInParts(t, filepath.Base(path)+" "+mode, opt, file, random, 1)
	}
}
