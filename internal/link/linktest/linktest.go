// Package linktest is the contract of link.Device and link.Set as tests, which every driver passes.
//
// It needs two devices joined by a wire that carries nothing else. It does not test what only one driver can do.
package linktest

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"naru/internal/link"
	"naru/internal/wire"
)

// Driver is what a driver hands in.
type Driver struct {
	// Open returns two devices joined by a wire with an MTU of 1500 on which nobody else sends. They are closed, and
	// everything made is removed, at the end of the test by t.Cleanup.
	Open func(t *testing.T) (a, b link.Device)

	// Plain says that the driver has no words for offloads: it finishes checksums and sends no super-frames.
	Plain bool

	// Set makes the set of the devices, which Open has returned.
	Set func(t *testing.T, devs ...link.Device) link.Set
}

// Our own choices.
const (
	patience  = 10 * time.Second // until a frame that does not come is a failure
	etherType = 0x88b5           // IEEE 802: local experimental use
	mtu       = 1500
)

// TestDevice runs the contract.
func TestDevice(t *testing.T, d Driver) {
	for _, tc := range []struct {
		name string
		f    func(*testing.T, *pair)
	}{
		{"info names a MAC and an MTU of 1500", testInfo},
		{"an empty Recv returns 0", testEmpty},
		{"frames arrive whole and in order", testOrder},
		{"a small batch leaves the rest for later", testSmallBatch},
		{"own frames do not come back", testOwn},
		{"Send does not keep the frame", testSendKeepsNothing},
		{"Send does not write to the frame", testSendWritesNothing},
		{"a buffer may be overwritten from headroom to MinBuffer", testRoom},
		{"offload metadata survives", testOffload},
		{"a VLAN tag in the metadata survives", testVLAN},
		{"a received frame can be sent back as it is", testEcho},
		{"a frame that is too long is counted and stops no other", testTooLong},
		{"a frame without an Ethernet header is counted and stops no other", testTooShort},
		{"statistics add up", testStats},
		{"multicast groups are joined and left", testJoin},
		{"nothing is allocated per frame", testAllocs},
		{"after Close everything returns ErrClosed", testClose},
		{"Close from another goroutine ends the work", testCloseWhileWorking},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.f(t, open(t, d)) })
	}
	TestSet(t, d)
}

// pair is what a test works with.
type pair struct {
	a, b  link.Device
	set   link.Set // of b
	plain bool
}

func open(t *testing.T, d Driver) *pair {
	t.Helper()
	a, b := d.Open(t)
	return &pair{a: a, b: b, set: d.Set(t, b), plain: d.Plain}
}

// frame makes a frame of n bytes from a to b whose payload names i.
func (p *pair) frame(i, n int) *wire.Frame {
	f := &wire.Frame{Buf: make([]byte, wire.Headroom+max(n, wire.MinBuffer)), Off: wire.Headroom, Len: n}
	b := f.Bytes()
	to, from := p.b.Info().MAC, p.a.Info().MAC
	copy(b, to[:])
	copy(b[6:], from[:])
	b[12], b[13] = etherType>>8, etherType&0xff
	for k := 14; k < n; k++ {
		b[k] = byte(i + k + i>>8)
	}
	return f
}

// frames makes n frames of different lengths.
func (p *pair) frames(n int) []*wire.Frame {
	var fs []*wire.Frame
	for i := range n {
		fs = append(fs, p.frame(i, 60+(i*131)%(mtu+14-60+1)))
	}
	return fs
}

// send sends from a.
func (p *pair) send(t *testing.T, fs ...*wire.Frame) {
	t.Helper()
	if err := p.a.Send(fs); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

// receive returns copies of the next n frames that arrive at b.
func (p *pair) receive(t *testing.T, n int) []wire.Frame {
	t.Helper()
	return receive(t, p.b, p.set, n, 64)
}

func receive(t *testing.T, d link.Device, set link.Set, n, batchLen int) []wire.Frame {
	t.Helper()
	var got []wire.Frame
	batch := make([]wire.Packet, batchLen)
	for end := time.Now().Add(patience); len(got) < n; {
		k, err := d.Recv(batch[:min(len(batch), n-len(got))])
		if err != nil {
			t.Fatalf("Recv: %v", err)
		}
		for i := range batch[:k] {
			f := batch[i].Frame
			f.Buf = bytes.Clone(f.Buf)
			got = append(got, f)
		}
		if k > 0 {
			continue
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d frames arrived", len(got), n)
		}
		if err := set.Wait(100 * time.Millisecond); err != nil {
			t.Fatalf("Wait: %v", err)
		}
	}
	return got
}

// same compares bytes, tag and the offload metadata that matters: HdrLen is a hint, and DataValid is nobody's promise.
func same(t *testing.T, what string, got, want *wire.Frame) {
	t.Helper()
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%s: %d bytes arrived that differ from the %d sent", what, got.Len, want.Len)
	}
	if got.TPID != want.TPID || got.TCI != want.TCI {
		t.Errorf("%s: tag %04x:%04x, want %04x:%04x", what, got.TPID, got.TCI, want.TPID, want.TCI)
	}
	g, w := got.Offload, want.Offload
	g.HdrLen, w.HdrLen = 0, 0
	g.Flags, w.Flags = g.Flags&wire.NeedsCsum, w.Flags&wire.NeedsCsum
	if g != w {
		t.Errorf("%s: offload %+v, want %+v", what, g, w)
	}
}

// within runs f and fails the test when it does not end.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not end", what)
	}
}

func wantClosed(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, link.ErrClosed) {
		t.Errorf("%s after Close: %v, want link.ErrClosed", what, err)
	}
}
