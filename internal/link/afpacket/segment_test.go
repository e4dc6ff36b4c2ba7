package afpacket

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"naru/internal/link"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// super makes a TCP super-frame of n segments of 1000 bytes.
func super(from, to *Device, n int) *wire.Frame {
	const head = 14 + 20 + 20
	f := frame(from, to, head+1000*n, 0)
	b := f.Bytes()
	b[12], b[13] = 0x08, 0x00
	b[14], b[22], b[23] = 0x45, 64, 6
	binary.BigEndian.PutUint16(b[16:], uint16(f.Len-14))
	b[34+12], b[34+13] = 5<<4, 0x10
	f.Offload = wire.Offload{Flags: wire.NeedsCsum, GSOType: wire.GSOTCPv4, GSOSize: 1000, HdrLen: head, CsumStart: 34,
		CsumOffset: 16}
	return f
}

// sequences returns the TCP sequence numbers of received segments, or -1 for other frames.
func sequences(ps []wire.Packet) []int {
	var seqs []int
	for i := range ps {
		if b := ps[i].Bytes(); b[12] == 0x08 {
			seqs = append(seqs, int(binary.BigEndian.Uint32(b[38:])))
		} else {
			seqs = append(seqs, -1)
		}
	}
	return seqs
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestSuperFrameIsCutByTheKernelWhereTheInterfaceCannot(t *testing.T) {
	for _, tc := range []struct {
		name    string
		refresh bool
	}{
		{"features are fresh", true},
		{"features are stale: the driver's refusal is made good", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := wired(t)
			da, db := open(t, a, "v0", Options{}), open(t, b, "v1", Options{})
			s := super(da, db, 3)
			if !da.feat.Load().covers(s) {
				t.Fatal("a veth with default offloads does not cover a TCP super-frame")
			}
			a.Segmentation(t, "v0", false)
			if tc.refresh {
				if err := da.Refresh(); err != nil {
					t.Fatal(err)
				}
				if da.feat.Load().covers(s) {
					t.Error("a veth with tso off covers a TCP super-frame")
				}
			}
			send(t, da, frame(da, db, 100, 1), s, frame(da, db, 100, 2), frame(da, db, 100, 3), super(da, db, 2))
			got := sequences(receive(t, db, 8))
			if want := []int{-1, 0, 1000, 2000, -1, -1, 0, 1000}; !equal(got, want) {
				t.Errorf("sequence numbers %v, want %v", got, want)
			}
			if st := da.Stats(); st.TxDropped != 0 || st.TxFrames != 5 {
				t.Errorf("sender's Stats() = %+v", st)
			}
		})
	}
}

// TestFramesDoNotOvertakeWhatWaitsInTheQueueingDiscipline puts a slow one under the sender: what goes around it would
// arrive first.
func TestFramesDoNotOvertakeWhatWaitsInTheQueueingDiscipline(t *testing.T) {
	a, b := wired(t)
	a.Segmentation(t, "v0", false)
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: a.Link(t, "v0").Attrs().Index, Handle: netlink.MakeHandle(1, 0),
			Parent: netlink.HANDLE_ROOT},
		Rate: 2 << 20, Buffer: 100_000, Limit: 1 << 20,
	}
	if err := a.Handle().QdiscAdd(tbf); err != nil {
		t.Skipf("this kernel has no tbf: %v", err)
	}
	da, db := open(t, a, "v0", Options{}), open(t, b, "v1", Options{})
	want := []int{}
	for range 4 {
		send(t, da, super(da, db, 5), frame(da, db, 100, 1))
		want = append(want, 0, 1000, 2000, 3000, 4000, -1)
	}
	if !da.tx.queued {
		t.Error("the super-frames did not take the way through the queueing discipline")
	}
	if got := sequences(receive(t, db, len(want))); !equal(got, want) {
		t.Errorf("sequence numbers %v, want %v", got, want)
	}
	send(t, da, frame(da, db, 100, 2))
	receive(t, db, 1)
	if da.tx.queued {
		t.Error("nothing waits any more, and frames still do not go around the queueing discipline")
	}
}

func TestSuperFrameBeyondTheLimitOfTheInterfaceIsCutByTheKernel(t *testing.T) {
	a, b := wired(t)
	if err := a.Handle().LinkSetGSOMaxSize(a.Link(t, "v0"), 5000); err != nil {
		t.Fatal(err)
	}
	da, db := open(t, a, "v0", Options{}), open(t, b, "v1", Options{})
	s, small := super(da, db, 9), super(da, db, 2)
	if f := da.feat.Load(); f.covers(s) || !f.covers(small) {
		t.Errorf("features %+v do not follow gso_max_size 5000", *f)
	}
	send(t, da, s, small)
	got := receive(t, db, 10)
	if want := []int{0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 0}; !equal(sequences(got), want) {
		t.Errorf("sequence numbers %v, want %v", sequences(got), want)
	}
	if !got[9].Super() {
		t.Error("a super-frame within the limit was cut")
	}
}

func TestFeaturesCoverOnlyWhatTheyName(t *testing.T) {
	all := features{tcp4: true, tcp6: true, ecn: true, udp: true, maxSize: 65536, maxSegs: 65535}
	base := wire.Offload{Flags: wire.NeedsCsum, GSOSize: 1000, CsumStart: 34, CsumOffset: 16}
	with := func(gso uint8, change func(*wire.Frame)) *wire.Frame {
		f := &wire.Frame{Buf: make([]byte, 70000), Off: 128, Len: 5000, Offload: base}
		f.Offload.GSOType = gso
		if change != nil {
			change(f)
		}
		return f
	}
	for _, tc := range []struct {
		name  string
		feat  features
		frame *wire.Frame
		want  bool
	}{
		{"finished frame, nothing known", features{}, &wire.Frame{}, true},
		{"unfinished checksum, nothing known", features{}, with(wire.GSONone, nil), true},
		{"TCP over IPv4", all, with(wire.GSOTCPv4, nil), true},
		{"TCP over IPv4, nothing known", features{}, with(wire.GSOTCPv4, nil), false},
		{"TCP over IPv6 without the feature", features{tcp4: true, maxSize: 65536, maxSegs: 65535},
			with(wire.GSOTCPv6, nil), false},
		{"TCP over IPv6", all, with(wire.GSOTCPv6, nil), true},
		{"CWR", all, with(wire.GSOTCPv4|wire.GSOECNBit, nil), true},
		{"CWR without the feature", features{tcp4: true, maxSize: 65536, maxSegs: 65535},
			with(wire.GSOTCPv4|wire.GSOECNBit, nil), false},
		{"UDP segments", all, with(wire.GSOUDPL4, nil), true},
		{"UDP fragments", all, with(wire.GSOUDP, nil), false},
		{"a tag in the metadata", all, with(wire.GSOTCPv4, func(f *wire.Frame) { f.TPID = 0x8100 }), false},
		{"a tag in the bytes", all,
			with(wire.GSOTCPv4, func(f *wire.Frame) { copy(f.Buf[140:], []byte{0x88, 0xa8}) }), false},
		{"a finished checksum", all, with(wire.GSOTCPv4, func(f *wire.Frame) { f.Offload.Flags = 0 }), false},
		{"no segment size", all, with(wire.GSOTCPv4, func(f *wire.Frame) { f.Offload.GSOSize = 0 }), false},
		{"longer than the interface takes", all, with(wire.GSOTCPv4, func(f *wire.Frame) { f.Len = 65536 }), false},
		{"more segments than the interface takes", features{tcp4: true, maxSize: 65536, maxSegs: 5},
			with(wire.GSOTCPv4, nil), false},
	} {
		if got := tc.feat.covers(tc.frame); got != tc.want {
			t.Errorf("%s: covers = %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestVnetHeaderGoesThereAndBack(t *testing.T) {
	super := wire.Offload{Flags: wire.NeedsCsum, GSOType: wire.GSOTCPv6, HdrLen: 74, GSOSize: 1440, CsumStart: 54,
		CsumOffset: 16}
	shifted := super
	shifted.CsumStart, shifted.HdrLen = 58, 78
	for _, tc := range []struct {
		name     string
		in, want wire.Offload
		shift    uint16
	}{
		{"super-frame", super, super, 0},
		{"super-frame that has got a tag", super, shifted, 4},
		{"unfinished checksum", wire.Offload{Flags: wire.NeedsCsum, CsumStart: 34, CsumOffset: 6, HdrLen: 42},
			wire.Offload{Flags: wire.NeedsCsum, CsumStart: 34, CsumOffset: 6}, 0},
		{"verified checksum is nothing to do", wire.Offload{Flags: wire.DataValid, CsumStart: 34, CsumOffset: 6},
			wire.Offload{}, 4},
	} {
		b := [vnetLen]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee}
		putVnet(b[:], &tc.in, tc.shift)
		if got := getVnet(b[:]); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// A bridge copies frames between two devices, offload metadata and all: the smallest forwarder there is.
type bridge struct {
	supers atomic.Int64
	done   sync.WaitGroup
}

func startBridge(t *testing.T, a, b *Device) *bridge {
	t.Helper()
	br, set := &bridge{}, newSet(t, a, b)
	br.done.Add(1)
	go func() {
		defer br.done.Done()
		for set.Wait(time.Second) == nil {
			br.move(t, a, b)
			br.move(t, b, a)
		}
	}()
	t.Cleanup(func() {
		set.Close()
		br.done.Wait()
	})
	return br
}

func (br *bridge) move(t *testing.T, from, to link.Device) {
	batch := make([]wire.Packet, 64)
	var out []*wire.Frame
	for {
		n, err := from.Recv(batch)
		if n == 0 || err != nil {
			return
		}
		out = out[:0]
		for i := range batch[:n] {
			if batch[i].Super() {
				br.supers.Add(1)
			}
			out = append(out, &batch[i].Frame)
		}
		if err := to.Send(out); err != nil && !errors.Is(err, link.ErrClosed) {
			t.Errorf("bridge: %v", err)
		}
	}
}

func TestBulkTCPCrossesABridgeOfTwoDevices(t *testing.T) {
	for _, tc := range []struct {
		name         string
		server       string
		segmentation bool
	}{
		{"IPv4, default offloads", "10.0.0.2", true},
		{"IPv6, default offloads", "2001:db8::2", true},
		{"IPv4, tso off gso off on the sending leg", "10.0.0.2", false},
		{"IPv6, tso off gso off on the sending leg", "2001:db8::2", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wiretest.Root(t)
			left, mid, right := wiretest.NewNS(t, "left"), quiet(t, "mid"), wiretest.NewNS(t, "right")
			wiretest.Veth(t, left, "l0", mid, "m0")
			wiretest.Veth(t, right, "r0", mid, "m1")
			left.Addr(t, "l0", "10.0.0.1/24", "2001:db8::1/64")
			right.Addr(t, "r0", "10.0.0.2/24", "2001:db8::2/64")
			if !tc.segmentation {
				mid.Segmentation(t, "m1", false)
			}
			a, b := open(t, mid, "m0", Options{}), open(t, mid, "m1", Options{})
			br := startBridge(t, a, b)
			transfer(t, left, right, tc.server, 20<<20)
			if n := br.supers.Load(); n == 0 {
				t.Error("no super-frame was seen")
			} else {
				t.Logf("%d super-frames", n)
			}
			for _, d := range []*Device{a, b} {
				if s := d.Stats(); s.TxDropped != 0 || s.RxMissed != 0 || s.RxTruncated != 0 {
					t.Errorf("%s: something was lost: %+v", d.Info().Name, s)
				}
			}
		})
	}
}

// transfer moves n bytes by TCP from left to a server in right and compares what arrives.
func transfer(t *testing.T, left, right *wiretest.NS, server string, n int64) {
	t.Helper()
	var ln net.Listener
	right.Do(t, func() {
		var err error
		if ln, err = net.Listen("tcp", net.JoinHostPort(server, "5001")); err != nil {
			t.Fatal(err)
		}
	})
	defer ln.Close()
	var conn net.Conn
	left.Do(t, func() {
		var err error
		if conn, err = net.DialTimeout("tcp", ln.Addr().String(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	})
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	sum := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		io.CopyN(io.MultiWriter(conn, h), &pattern{}, n)
		conn.(*net.TCPConn).CloseWrite()
		sum <- [32]byte(h.Sum(nil))
	}()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	peer.SetDeadline(time.Now().Add(60 * time.Second))
	h := sha256.New()
	got, err := io.Copy(h, peer)
	if err != nil || got != n {
		t.Fatalf("%d of %d bytes arrived: %v", got, n, err)
	}
	if [32]byte(h.Sum(nil)) != <-sum {
		t.Error("what arrived is not what was sent")
	}
}

// pattern reads as bytes that do not repeat soon.
type pattern struct{ x uint32 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.x = p.x*1664525 + 1013904223
		b[i] = byte(p.x >> 24)
	}
	return len(b), nil
}
