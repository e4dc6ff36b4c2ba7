package afpacket

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// tap makes a TAP device in a namespace, whose other end is a file: each write is a virtio header and a frame.
func tap(t *testing.T, n *wiretest.NS, name string) *os.File {
	t.Helper()
	var f *os.File
	n.Do(t, func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skipf("this kernel has no TUN devices: %v", err)
		}
		f = os.NewFile(uintptr(fd), name)
		req, err := unix.NewIfreq(name)
		if err != nil {
			t.Fatal(err)
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { f.Close() })
	n.Up(t, name)
	return f
}

// TestFrameOfAKindWithoutWordsStopsNothing receives what the virtio header cannot describe on its way to us: an IP
// datagram that is still to be fragmented (UFO). A ring loses what comes until it is renewed.
func TestFrameOfAKindWithoutWordsStopsNothing(t *testing.T) {
	drivers(t, func(t *testing.T, driver Driver) {
		n := quiet(t, "tap")
		f := tap(t, n, "tap0")
		d := open(t, n, "tap0", Options{Driver: driver})
		put := func(mark byte, o wire.Offload, payload int) {
			b := udp(d, d, 1000).Bytes()[:42:42]
			binary.BigEndian.PutUint16(b[16:], uint16(28+payload))
			binary.BigEndian.PutUint16(b[38:], uint16(8+payload))
			b = append(b, make([]byte, payload)...)
			b[42] = mark
			head := make([]byte, vnetLen)
			putVnet(head, &o, 0)
			if _, err := f.Write(append(head, b...)); err != nil {
				t.Fatal(err)
			}
		}
		put(1, wire.Offload{}, 50)
		put(2, wire.Offload{Flags: wire.NeedsCsum, GSOType: wire.GSOUDP, GSOSize: 1400, HdrLen: 42, CsumStart: 34,
			CsumOffset: 6}, 3000)
		batch, got := make([]wire.Packet, 64), []byte{}
		for range 10 * ringQuiet {
			put(3, wire.Offload{}, 50)
			k, err := d.Recv(batch)
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch[:k] {
				got = append(got, batch[i].Bytes()[42])
			}
		}
		if len(got) < 2*ringQuiet || got[0] != 1 || got[1] != 3 || got[len(got)-1] != 3 {
			t.Errorf("%d frames arrive: %v; Stats() = %+v", len(got), got, d.Stats())
		}
		if s := d.Stats(); s.RxFrames+s.RxMissed+s.RxTruncated < 10*ringQuiet+2 {
			t.Errorf("%d frames were sent, Stats() = %+v", 10*ringQuiet+2, s)
		}
	})
}
