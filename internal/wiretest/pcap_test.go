package wiretest

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"naru/internal/link/pcapfile"
)

var (
	exampleIP    = []byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
	exampleFrame = slices.Concat(pcapfile.MadeDestination[:], pcapfile.MadeSource[:], []byte{8, 0}, exampleIP)
)

// pcapOf writes a capture of two packets a second apart.
func pcapOf(t *testing.T, link layers.LinkType, packet []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	check(t, w.WriteFileHeader(65535, link))
	for i := range 2 {
		check(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(packet),
			Length: len(packet)}, packet))
	}
	return out.Bytes()
}

func TestACaptureIsReadAsEthernetFrames(t *testing.T) {
	for _, tt := range []struct {
		name  string
		link  layers.LinkType
		front []byte
	}{
		{"ethernet", layers.LinkTypeEthernet, exampleFrame[:14]},
		{"null", layers.LinkTypeNull, []byte{2, 0, 0, 0}},
		{"raw 12", 12, nil},
		{"raw 101", layers.LinkTypeRaw, nil},
		{"ipv4", layers.LinkTypeIPv4, nil},
		{"cooked", layers.LinkTypeLinuxSLL, append(make([]byte, 14), 8, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readCapture(bytes.NewReader(pcapOf(t, tt.link, append(bytes.Clone(tt.front), exampleIP...))))
			if err != nil || len(got) != 2 {
				t.Fatalf("%d packets, error %v; want 2", len(got), err)
			}
			if got[1].Number != 2 || got[1].At != time.Second || !bytes.Equal(got[1].Frame, exampleFrame) {
				t.Errorf("the second packet is %+v", got[1])
			}
		})
	}
}

func TestAPcapngIsRead(t *testing.T) {
	var out bytes.Buffer
	w, err := pcapgo.NewNgWriter(&out, layers.LinkTypeEthernet)
	check(t, err)
	check(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(exampleFrame),
		Length: len(exampleFrame)}, exampleFrame))
	check(t, w.Flush())
	got, err := readCapture(&out)
	if err != nil || len(got) != 1 || !bytes.Equal(got[0].Frame, exampleFrame) {
		t.Errorf("%+v, error %v", got, err)
	}
}

func TestACutCaptureGivesThePacketsBeforeTheError(t *testing.T) {
	whole := pcapOf(t, layers.LinkTypeEthernet, exampleFrame)
	got, err := readCapture(bytes.NewReader(whole[:len(whole)-5]))
	if err == nil || len(got) != 1 {
		t.Errorf("%d packets, error %v; want 1 and an error", len(got), err)
	}
	for _, junk := range [][]byte{nil, []byte("no"), bytes.Repeat([]byte{0x0a, 0x0d, 0x0d, 0x0a}, 8)} {
		if got, err := readCapture(bytes.NewReader(junk)); err == nil {
			t.Errorf("%q: %d packets and no error", junk, len(got))
		}
	}
}

func TestEveryCaptureIsReadOrRefused(t *testing.T) {
	dir := Captures(t)
	files, packets := 0, 0
	for _, folder := range []string{"tcp4", "tcp6", "flows", "dns", "frag", "icmp", "malformed", "format", "big"} {
		for _, f := range CaptureFiles(t, dir, folder) {
			got, err := ReadCapture(filepath.Join(dir, f))
			if err != nil {
				t.Logf("%v", err)
			}
			files, packets = files+1, packets+len(got)
		}
	}
	if files == 0 || packets == 0 {
		t.Errorf("%d files, %d packets", files, packets)
	}
	t.Logf("%d files, %d packets", files, packets)
}
