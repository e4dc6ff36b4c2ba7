package wiretest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"naru/internal/wire"
)

// Our own choices: no capture for tests is near them.
const (
	captureBytes   = 64 << 20
	capturePackets = 200_000
)

// Link types of capture files (https://www.tcpdump.org/linktypes.html) that gopacket has no name for, or two.
const (
	linkNull = 0   // BSD loopback: an address family in the byte order of the capturing host
	linkRaw  = 12  // an IP packet, as OpenBSD wrote it
	linkIP   = 101 // an IP packet
	linkSLL  = 113 // Linux "cooked": 16 bytes, the EtherType last
	linkIPv4 = 228
	linkIPv6 = 229
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

// ReadCapture reads a capture file, pcap or pcapng, in whatever byte order and resolution. Packets of a link type
// that is neither Ethernet nor a bare IP packet behind a short header are left out. The error comes with the packets
// before it.
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

// packetReader is what both readers of pcapgo are.
type packetReader interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

// readCapture turns a panic of the reader, which a broken file can cause, into an error.
func readCapture(in io.Reader) (packets []Captured, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the reader panicked: %v", r)
		}
	}()
	r, err := openCapture(bufio.NewReader(io.LimitReader(in, captureBytes)))
	if err != nil {
		return nil, err
	}
	var start time.Time
	for number := 1; number <= capturePackets; number++ {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets, nil
		}
		if err != nil {
			return packets, fmt.Errorf("packet %d: %w", number, err)
		}
		if number == 1 {
			start = info.Timestamp
		}
		link := r.LinkType()
		if len(info.AncillaryData) > 0 {
			link, _ = info.AncillaryData[0].(layers.LinkType)
		}
		if frame := asEthernet(int(link), data); frame != nil {
			packets = append(packets, Captured{number, info.Timestamp.Sub(start), frame})
		}
	}
	return packets, fmt.Errorf("more than %d packets", capturePackets)
}

func openCapture(in *bufio.Reader) (packetReader, error) {
	magic, err := in.Peek(4)
	if err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(magic) == 0x0a0d0d0a { // a section header block, the same in both byte orders
		return pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
	}
	return pcapgo.NewReader(in)
}

// asEthernet returns the packet as an Ethernet frame, or nil.
func asEthernet(link int, data []byte) []byte {
	skip := 0
	switch link {
	case int(layers.LinkTypeEthernet):
		return data
	case linkNull:
		skip = 4
	case linkSLL:
		skip = 16
	case linkRaw, linkIP, linkIPv4, linkIPv6:
	default:
		return nil
	}
	if len(data) <= skip {
		return nil
	}
	ip := data[skip:]
	etherType := uint16(wire.TypeIPv4)
	switch ip[0] >> 4 {
	case 4:
	case 6:
		etherType = wire.TypeIPv6
	default:
		return nil
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 12, wire.EthernetLen+len(ip)), etherType)
	return append(frame, ip...)
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
