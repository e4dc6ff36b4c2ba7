package wiretest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"naru/internal/link/pcapfile"
)

// Our own choices: no capture for tests is near them.
const (
	captureBytes   = 64 << 20
	capturePackets = 200_000
)

// Captured is one packet of a capture.
type Captured struct {
	Number int           // in the file, from 1
	At     time.Duration // since the first packet of the file
	Frame  []byte        // an Ethernet frame; its header is made up when the capture had none
}

// Captures returns the directory of captures that the environment variable NARU_PCAPS names. Without it the test is
// skipped, or fails when NARU_REQUIRE lists "pcaps".
func Captures(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("NARU_PCAPS")
	if info, err := os.Stat(dir); dir != "" && err == nil && info.IsDir() {
		return dir
	}
	missing := fmt.Sprintf("needs captures: NARU_PCAPS must name their directory, it is %q", dir)
	if Required("pcaps") {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// CaptureFiles returns the captures of a folder of dir, sorted, as paths relative to dir.
func CaptureFiles(t testing.TB, dir, folder string) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.pcap", "*.pcapng"} {
		found, err := filepath.Glob(filepath.Join(dir, folder, pattern))
		if err != nil {
			t.Fatalf("wiretest: %s: %v", folder, err)
		}
		for _, f := range found {
			files = append(files, filepath.Join(folder, filepath.Base(f)))
		}
	}
	slices.Sort(files)
	return files
}

// ReadCapture reads a capture file, pcap or pcapng, of any kind that naru itself reads. Packets of a link type that cannot
// be an Ethernet frame are left out. The error comes with the packets before it.
func ReadCapture(path string) (packets []Captured, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("wiretest: %w", err)
	}
	defer f.Close()
	packets, err = readCapture(f)
	if err != nil {
		err = fmt.Errorf("wiretest: %s: %w", path, err)
	}
	return packets, err
}

func readCapture(in io.Reader) (packets []Captured, err error) {
	r, err := pcapfile.NewReader(io.LimitReader(in, captureBytes))
	if err != nil {
		return nil, err
	}
	var p pcapfile.Packet
	var start int64
	for number := 1; number <= capturePackets; number++ {
		if err := r.Next(&p); err == io.EOF {
			return packets, nil
		} else if err != nil {
			return packets, fmt.Errorf("packet %d: %w", number, err)
		}
		if number == 1 {
			start = p.Time
		}
		if frame, ok := pcapfile.AppendEthernet(nil, p.Link, p.Data); ok {
			packets = append(packets, Captured{number, time.Duration(p.Time - start), frame})
		}
	}
	return packets, fmt.Errorf("more than %d packets", capturePackets)
}

// FixturePairs reads a capture of what a peer's test suite puts in and one of what it wants to come out, packet by packet,
// from the folder "fixtures" of the captures.
func FixturePairs(t *testing.T, in, out string) (a, b []Captured) {
	t.Helper()
	dir := filepath.Join(Captures(t), "fixtures")
	for name, to := range map[string]*[]Captured{in: &a, out: &b} {
		var err error
		if *to, err = ReadCapture(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%d packets in, %d out", len(a), len(b))
	}
	return a, b
}
