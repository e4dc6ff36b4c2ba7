package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"naru/internal/link/pcapfile"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// kernelFolder has, in a folder for each mode, a configuration; for each case a capture of what is put in; and one of what
// the kernel sent for it, measured by TestTheKernelStillAnswersSo.
const kernelFolder = "testdata/kernel/"

// What follows the name of a case.
const (
	kernelInput  = ".pcapng.gz"
	kernelOutput = ".kernel.pcapng.gz"
)

// kernelMTU is the MTU of a replay's interfaces.
const kernelMTU = 1500

// kernelModes are the modes and their cases. host is the kernel itself with the VIPs.
var kernelModes = []struct {
	mode  string
	cases []string
}{
	{"fullnat", []string{"tcp4", "tcp6", "dns", "icmp", "frag", "big", "back"}},
	{"nat", []string{"tcp4", "tcp6", "dns", "icmp", "frag", "big", "back"}},
	{"l2dsr", []string{"tcp4", "tcp6", "dns", "icmp", "frag"}},
	{"dscp", []string{"tcp4", "tcp6", "dns", "icmp", "frag"}},
	{"host", []string{"host"}},
}

// kernelSubtests runs a test for every case of every mode.
func kernelSubtests(t *testing.T, f func(t *testing.T, path string, k *kernelCase)) {
	for _, m := range kernelModes {
		for _, name := range m.cases {
			t.Run(m.mode+"/"+name, func(t *testing.T) { f(t, kernelFolder+m.mode+"/"+name, buildKernelCase(t, m.mode, name)) })
		}
	}
}

func buildKernelCase(t *testing.T, mode, name string) *kernelCase {
	t.Helper()
	k := &kernelCase{t: t, mode: mode, gap: int64(60 * time.Millisecond)}
	kernelCases[name](k)
	return k
}

// kernelSent is a frame that came out, and where.
type kernelSent struct {
	side  wiretest.Side
	frame []byte
}

// capture is what is put in, as a file, with what came out behind each frame, if there is any.
func (k *kernelCase) capture(out [][]kernelSent) []byte {
	k.t.Helper()
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("eth0", "")
	w.AddInterface("eth1", "")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	for i, s := range k.steps {
		at += k.gap
		w.Packet(int(s.side), at, s.frame, len(s.frame), s.what)
		if out == nil {
			continue
		}
		for _, o := range out[i] {
			w.Packet(int(o.side), at, o.frame, len(o.frame), "")
		}
	}
	if err := w.Flush(); err != nil {
		k.t.Fatal(err)
	}
	return b.Bytes()
}

// read reads what came out for each frame from a file that has both, and wants the frames that were put in to be these.
// What naru announces to everybody is left out.
func (k *kernelCase) read(path string) ([][]kernelSent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := pcapfile.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := make([][]kernelSent, 0, len(k.steps))
	var p pcapfile.Packet
	for err = r.Next(&p); err == nil; err = r.Next(&p) {
		side, frame := wiretest.Side(p.Interface), bytes.Clone(p.Data)
		switch {
		case wire.MAC(frame[:6]) == kernelMACs[side]:
			if n := len(out); n == len(k.steps) || k.steps[n].side != side || !bytes.Equal(k.steps[n].frame, frame) {
				return nil, fmt.Errorf("%s: packet %d is not what the case puts in", path, n+1)
			}
			out = append(out, nil)
		case frame[0]&1 == 0 && len(out) > 0:
			out[len(out)-1] = append(out[len(out)-1], kernelSent{side, frame})
		}
	}
	if err != io.EOF || len(out) != len(k.steps) {
		return nil, fmt.Errorf("%s: %d packets, the case has %d: %w", path, len(out), len(k.steps), err)
	}
	return out, nil
}

// mustRead is read where an error ends the test.
func (k *kernelCase) mustRead(path string) [][]kernelSent {
	k.t.Helper()
	out, err := k.read(path)
	if err != nil {
		k.t.Fatal(err)
	}
	return out
}

// writeCompressed writes a file that is always the same for the same data.
func writeCompressed(t *testing.T, path string, data []byte) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readCompressed(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func TestTheKernelsCapturesAreWhatTheirBuilderMakes(t *testing.T) {
	kernelSubtests(t, func(t *testing.T, path string, k *kernelCase) {
		want := k.capture(nil)
		got, err := readCompressed(path + kernelInput)
		if os.Getenv("NARU_REGEN") != "" && !bytes.Equal(got, want) {
			writeCompressed(t, path+kernelInput, want)
			got, err = readCompressed(path + kernelInput)
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s%s is another one (%v): NARU_REGEN=1 renews it, as root", path, kernelInput, err)
		}
	})
}

// TestReplayAnswersAsTheKernelDoes compares what naru replay makes of each capture with what the kernel made of it.
func TestReplayAnswersAsTheKernelDoes(t *testing.T) {
	var count kernelCount
	count.differ = map[*kernelChoice]int{}
	kernelSubtests(t, func(t *testing.T, path string, k *kernelCase) {
		out := filepath.Join(t.TempDir(), "out.pcapng")
		line := "replay -q -c " + filepath.Dir(path) + "/naru.yaml " + path + kernelInput + " --out " + out
		if code, stdout, stderr := naru("", line); code != 0 || stdout+stderr != "" {
			t.Fatalf("exit %d: %s%s", code, stdout, stderr)
		}
		compareKernel(t, k, k.mustRead(path+kernelOutput), k.mustRead(out), &count)
	})
	if !t.Failed() {
		documentedAsCounted(t, &count)
	}
}

// kernelCount is how many packets come out the same, of neither, and otherwise.
type kernelCount struct {
	same, neither int
	differ        map[*kernelChoice]int
}

// compareKernel wants each packet to come out the same, or to differ as its choice says.
func compareKernel(t *testing.T, k *kernelCase, kernel, naru [][]kernelSent, count *kernelCount) {
	t.Helper()
	for i, s := range k.steps {
		if s.fragment && s.choice == nil {
			continue
		}
		diff := differences(kernel[i], naru[i])
		switch {
		case s.choice == nil && diff == nil && len(kernel[i]) == 0:
			count.neither++
		case s.choice == nil && diff == nil:
			count.same++
		case s.choice != nil && diff != nil && s.choice.may(diff):
			count.differ[s.choice]++
		case s.choice != nil && diff == nil:
			t.Errorf("packet %d, %s: the same as the kernel's, but should differ: %s", i+1, s.what, s.choice.why)
		default:
			t.Errorf("packet %d, %s: kernel %d, naru %d frames; %s\nin     %x%s%s", i+1, s.what, len(kernel[i]), len(naru[i]),
				strings.Join(diff, "; "), s.frame[:min(len(s.frame), 100)], hexFrames("kernel", kernel[i]), hexFrames("naru  ", naru[i]))
		}
	}
	compareFragments(t, k, kernel, naru, count)
}

func hexFrames(who string, list []kernelSent) (text string) {
	for _, f := range list {
		text += fmt.Sprintf("\n%s %d %x", who, f.side, f.frame[:min(len(f.frame), 100)])
	}
	return text
}

// differences returns the fields in which what came out differs, nil for none.
func differences(kernel, naru []kernelSent) (fields []string) {
	if len(kernel) != len(naru) {
		return []string{fmt.Sprintf("frames %d, %d", len(kernel), len(naru))}
	}
	for i := range kernel {
		a, b := kernel[i], naru[i]
		if a.side != b.side {
			fields = append(fields, "side")
		}
		if !bytes.Equal(a.frame[:wire.EthernetLen], b.frame[:wire.EthernetLen]) {
			fields = append(fields, "ethernet")
		}
		for _, d := range wiretest.Differences(a.frame, b.frame) {
			fields = append(fields, d.Field)
		}
		if fields == nil && !bytes.Equal(a.frame, b.frame) {
			fields = append(fields, "behind the packet")
		}
	}
	return fields
}

// compareFragments compares what came out for fragments. In direct server return that is the same frames, though a
// later fragment waits for its first one; with translation the same datagrams.
func compareFragments(t *testing.T, k *kernelCase, kernel, naru [][]kernelSent, count *kernelCount) {
	t.Helper()
	var parts [2][2][][]byte
	for i, s := range k.steps {
		if !s.fragment || s.choice != nil {
			continue
		}
		for who, list := range [][]kernelSent{kernel[i], naru[i]} {
			for _, f := range list {
				parts[who][f.side] = append(parts[who][f.side], f.frame)
			}
		}
	}
	choice := choiceHeld
	if !k.dsr() {
		choice = choiceOwnID
	}
	for side := range 2 {
		a, b := parts[0][side], parts[1][side]
		if slices.EqualFunc(a, b, bytes.Equal) {
			count.same += len(a)
			continue
		}
		if !k.dsr() {
			var left [2]int
			a, left[0] = wiretest.Datagrams(a)
			b, left[1] = wiretest.Datagrams(b)
			if left != [2]int{} {
				t.Errorf("side %d: incomplete datagrams: kernel %d, naru %d", side, left[0], left[1])
			}
		}
		slices.SortFunc(a, bytes.Compare)
		slices.SortFunc(b, bytes.Compare)
		if !slices.EqualFunc(a, b, bytes.Equal) {
			t.Errorf("side %d: %d and %d fragments or datagrams, not the same", side, len(a), len(b))
		}
		count.differ[choice] += len(a)
	}
}
