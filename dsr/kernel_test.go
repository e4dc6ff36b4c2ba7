package dsr_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"naru/dsr"
	"naru/internal/link/afpacket"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// cable is a veth whose sending end can neither cut super-frames nor compute checksums, so that the kernel does both.
type cable struct{ from, to *afpacket.Device }

func newCable(t *testing.T) cable {
	wiretest.Root(t)
	var ns [2]*wiretest.NS
	for i, name := range []string{"left", "right"} {
		ns[i] = wiretest.NewNS(t, name)
		ns[i].Sysctl(t, "net/ipv6/conf/all/disable_ipv6", "1") // so that the kernel says nothing of its own
		ns[i].Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	}
	wiretest.Veth(t, ns[0], "v0", ns[1], "v1")
	ns[0].Segmentation(t, "v0", false)
	ns[0].Checksumming(t, "v0", false)
	var c cable
	for i, dev := range []**afpacket.Device{&c.from, &c.to} {
		ns[i].Do(t, func() {
			var err error
			if *dev, err = afpacket.Open([]string{"v0", "v1"}[i], afpacket.Options{}); err != nil {
				t.Fatal(err)
			}
		})
		t.Cleanup(func() { (*dev).Close() })
	}
	return c
}

// cross sends a frame and returns copies of the frames that arrive, at least n if they come within some seconds.
func (c cable) cross(t *testing.T, f *wire.Frame, n int) (got [][]byte) {
	t.Helper()
	if err := c.from.Send([]*wire.Frame{f}); err != nil {
		t.Fatal(err)
	}
	batch := make([]wire.Packet, 64)
	for deadline := time.Now().Add(5 * time.Second); len(got) < n && time.Now().Before(deadline); {
		k, err := c.to.Recv(batch)
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch[:k] {
			if batch[i].Offload != (wire.Offload{}) {
				t.Fatalf("the kernel left something to do: %+v", batch[i].Offload)
			}
			got = append(got, bytes.Clone(batch[i].Bytes()))
		}
		if k == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return got
}

// timestamps is an option as every connection has it, behind two empty ones.
var timestamps = []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}

var superFrames = []struct {
	name string
	super
}{
	{"three segments, the last one odd", super{Frame: tcp4("A", 2999), size: 1000}},
	{"the last one full", super{Frame: tcp4("A", 3000), size: 1000}},
	{"odd segments", super{Frame: tcp4("A", 2999), size: 999}},
	{"PSH and FIN", super{Frame: tcp4("APF", 4000), size: 1448, options: timestamps}},
	{"URG", super{Frame: tcp4("AU", 4000), size: 1448, options: timestamps}},
	{"CWR and ECE, told", super{Frame: tcp4("AP", 4000), size: 1448, flags: cwr | ece, ecn: true}},
	{"CWR and ECE, not told", super{Frame: tcp4("AP", 4000), size: 1448, flags: cwr | ece}},
	{"64 KiB", super{Frame: tcp4("AP", 65495-12), size: 1448, options: timestamps}},
	{"DF", super{Frame: with(tcp4("A", 5000), func(f *wiretest.Frame) { f.DF, f.ID, f.TOS = true, 0, 0xb9 }), size: 1460}},
	{"identification and sequence number wrap", super{Frame: with(tcp4("A", 5000), func(f *wiretest.Frame) {
		f.ID, f.Seq = 0xfffe, 0xfffffff0
	}), size: 1460}},
	{"IP options", super{Frame: with(tcp4("A", 5000), func(f *wiretest.Frame) {
		f.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}} // router alert
	}), size: 1400}},
	{"a finished checksum", super{Frame: tcp4("A", 5000), size: 1460, sum: true}},
	{"less than a segment", super{Frame: tcp4("APF", 500), size: 1460, flags: cwr}},
	{"TCP over IPv6", super{Frame: tcp6("APF", 5001), size: 1428, options: timestamps, label: 0xabcde}},
	{"TCP over IPv6, CWR", super{Frame: tcp6("AP", 5001), size: 1428, flags: cwr | ece, ecn: true}},
	{"TCP over IPv6, an extension header", super{Frame: tcp6("AP", 5001), size: 1400, hop: []byte{0, 1, 4, 0, 0, 0, 0}}},
	{"UDP", super{Frame: udp4(5001), size: 1472}},
	{"UDP, odd datagrams", super{Frame: with(udp4(5001), func(f *wiretest.Frame) { f.DF, f.ID = true, 77 }), size: 999}},
	{"UDP, tiny datagrams", super{Frame: udp4(50), size: 1}},
	{"UDP over IPv6", super{Frame: udp6(5001), size: 1452, label: 0x12345}},
	{"UDP over IPv6, the last one full", super{Frame: udp6(4000), size: 1000}},
}

func tcp4(flags string, n int) wiretest.Frame {
	return wiretest.Frame{SrcMAC: wire.MAC{2, 0, 0, 0, 0, 1}, DstMAC: wire.MAC{2, 0, 0, 0, 0, 2}, Src: "192.0.2.1:40000",
		Dst: "198.51.100.1:80", TCP: flags, Seq: 1000, Ack: 2000, ID: 7, Payload: payload(n)}
}

func tcp6(flags string, n int) wiretest.Frame {
	f := tcp4(flags, n)
	f.Src, f.Dst = "[2001:db8::1]:40000", "[2001:db8:1::1]:80"
	return f
}

func udp4(n int) wiretest.Frame {
	f := tcp4("", n)
	f.UDP = true
	return f
}

func udp6(n int) wiretest.Frame {
	f := tcp6("", n)
	f.UDP = true
	return f
}

func with(f wiretest.Frame, change func(*wiretest.Frame)) wiretest.Frame {
	change(&f)
	return f
}

// cut returns the segments of a super-frame.
func cut(t testing.TB, p *wire.Packet) (segments [][]byte) {
	t.Helper()
	var s dsr.Segmenter
	if !s.Start(p) {
		t.Fatal("the super-frame cannot be cut")
	}
	dst := make([]byte, 2000)
	for n, ok := s.Next(dst); ok; n, ok = s.Next(dst) {
		segments = append(segments, bytes.Clone(dst[:n]))
	}
	return segments
}

func TestSegmentsAreThoseOfTheKernel(t *testing.T) {
	c := newCable(t)
	for _, tc := range superFrames {
		t.Run(tc.name, func(t *testing.T) {
			p := tc.packet(t)
			want := cut(t, &p)
			got := c.cross(t, &p.Frame, len(want))
			if len(got) != len(want) {
				t.Fatalf("the kernel made %d segments, we %d; its device says %+v", len(got), len(want), c.from.Stats())
			}
			for i := range got {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("segment %d of %d:\n%x, the kernel's is\n%x", i, len(got), want[i], got[i])
				}
			}
		})
	}
}

func TestChecksumIsFinishedAsTheKernelDoes(t *testing.T) {
	c := newCable(t)
	for _, tc := range []struct {
		name  string
		frame wiretest.Frame
	}{
		{"TCP", tcp4("AP", 1001)}, {"TCP over IPv6", tcp6("AP", 1001)}, {"UDP", udp4(1001)}, {"UDP over IPv6", udp6(0)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := tc.frame.Packet(t)
			wiretest.Unfinish(&p)
			got := c.cross(t, &p.Frame, 1)
			dsr.Finish(&p)
			if len(got) != 1 || !bytes.Equal(got[0], p.Bytes()) {
				t.Errorf("finished:\n%x, the kernel's is\n%x", p.Bytes(), got)
			}
		})
	}
}
