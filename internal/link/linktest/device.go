package linktest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"naru/internal/link"
	"naru/internal/wire"
)

func testInfo(t *testing.T, p *pair) {
	for _, d := range []link.Device{p.a, p.b} {
		if i := d.Info(); i.Name == "" || i.MAC == [6]byte{} || i.MTU != mtu {
			t.Errorf("Info() = %+v", i)
		}
	}
	if p.a.Info().MAC == p.b.Info().MAC {
		t.Error("both ends have one MAC")
	}
}

func testEmpty(t *testing.T, p *pair) {
	within(t, "Recv", func() {
		for _, batch := range [][]wire.Packet{make([]wire.Packet, 8), nil} {
			if n, err := p.b.Recv(batch); n != 0 || err != nil {
				t.Errorf("Recv of %d = %d, %v", len(batch), n, err)
			}
		}
	})
	if err := p.a.Send(nil); err != nil {
		t.Errorf("Send of nothing: %v", err)
	}
}

func testOrder(t *testing.T, p *pair) {
	fs := p.frames(500)
	for from := 0; from < len(fs); from += 77 {
		p.send(t, fs[from:min(from+77, len(fs))]...)
	}
	for i, f := range p.receive(t, len(fs)) {
		same(t, fmt.Sprint("frame ", i), &f, fs[i])
	}
}

func testSmallBatch(t *testing.T, p *pair) {
	fs := p.frames(7)
	p.send(t, fs...)
	for i, f := range receive(t, p.b, p.set, len(fs), 2) {
		same(t, fmt.Sprint("frame ", i), &f, fs[i])
	}
}

func testOwn(t *testing.T, p *pair) {
	// A super-frame behind a tag leaves by other ways than small frames do.
	tagged := p.other()
	tagged.TPID, tagged.TCI = 0x8100, 42
	p.send(t, append(p.frames(5), tagged)...)
	p.receive(t, 6)
	fence := p.frame(99, 100)
	if err := p.b.Send([]*wire.Frame{fence}); err != nil {
		t.Fatal(err)
	}
	batch := make([]wire.Packet, 8)
	for range 1000 {
		n, err := p.a.Recv(batch)
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			same(t, "the first frame that arrives at the sender", &batch[0].Frame, fence)
			return
		}
		p.set.Wait(1e6)
	}
	t.Error("a frame the other way does not arrive")
}

func testSendKeepsNothing(t *testing.T, p *pair) {
	fs, want := p.frames(5), p.frames(5)
	p.send(t, fs...)
	for _, f := range fs {
		for i := range f.Buf {
			f.Buf[i] = 0xee
		}
	}
	for i, f := range p.receive(t, 5) {
		same(t, fmt.Sprint("frame ", i), &f, want[i])
	}
}

func testSendWritesNothing(t *testing.T, p *pair) {
	fs := p.frames(4)
	fs[1].TPID, fs[1].TCI = 0x8100, 42
	var before [][]byte
	for _, f := range fs {
		before = append(before, bytes.Clone(f.Buf[f.Off:]))
	}
	p.send(t, fs...)
	for i, f := range fs {
		if !bytes.Equal(f.Buf[f.Off:], before[i]) {
			t.Errorf("Send changed frame %d or what is behind it", i)
		}
	}
}

func testRoom(t *testing.T, p *pair) {
	fs := p.frames(8)
	p.send(t, fs...)
	batch := make([]wire.Packet, 8)
	got := 0
	for range 1000 {
		n, err := p.b.Recv(batch)
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch[:n] {
			f := &batch[i].Frame
			if f.Off < wire.Headroom || len(f.Buf)-f.Off < wire.MinBuffer {
				t.Fatalf("frame with %d bytes before and %d behind its start", f.Off, len(f.Buf)-f.Off)
			}
			scribble(f.Buf[f.Off-wire.Headroom : f.Off])
			scribble(f.Buf[f.Off+f.Len : f.Off+max(f.Len, wire.MinBuffer)])
		}
		for i := range batch[:n] {
			same(t, fmt.Sprint("frame ", got+i), &batch[i].Frame, fs[got+i])
		}
		if got += n; got == len(fs) {
			return
		}
		p.set.Wait(1e6)
	}
	t.Errorf("%d of %d frames arrived", got, len(fs))
}

func scribble(b []byte) {
	for i := range b {
		b[i] = 0xee
	}
}

func testOffload(t *testing.T, p *pair) {
	if p.plain {
		testFinished(t, p)
		return
	}
	for _, o := range offloads {
		f := p.offloaded(o)
		p.send(t, f)
		got := p.receive(t, 1)
		same(t, o.name, &got[0], f)
	}
}

func testVLAN(t *testing.T, p *pair) {
	for _, tpid := range []uint16{0x8100, 0x88a8} {
		for _, tci := range []uint16{0, 42, 0xe001} {
			n := mtu + 14
			if tpid != 0x8100 {
				n -= 4 // a wire may have no room beyond the MTU for other tags
			}
			f := p.frame(1, n)
			f.TPID, f.TCI = tpid, tci
			p.send(t, f)
			got := p.receive(t, 1)
			same(t, fmt.Sprintf("tag %04x:%04x", tpid, tci), &got[0], f)
		}
	}
	for _, o := range p.offloads() {
		f := p.offloaded(o)
		f.TPID, f.TCI = 0x8100, 42
		p.send(t, f)
		got := p.receive(t, 1)
		same(t, o.name+" behind a tag", &got[0], f)
	}
}

func testEcho(t *testing.T, p *pair) {
	for _, f := range p.echoes() {
		p.send(t, f)
		there := p.receive(t, 1)
		if err := p.b.Send([]*wire.Frame{&there[0]}); err != nil {
			t.Fatal(err)
		}
		batch := make([]wire.Packet, 1)
		n := 0
		for i := 0; n == 0 && i < 1000; i++ {
			var err error
			if n, err = p.a.Recv(batch); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				p.set.Wait(1e6)
			}
		}
		if n == 0 {
			t.Fatalf("%d bytes, offload %+v: nothing comes back", f.Len, f.Offload)
		}
		same(t, "the frame that came back", &batch[0].Frame, f)
	}
}

func testTooLong(t *testing.T, p *pair) {
	fs := []*wire.Frame{p.frame(0, 100), p.frame(1, mtu+14+200), p.frame(2, 100)}
	p.send(t, fs...)
	got := p.receive(t, 2)
	same(t, "the frame before", &got[0], fs[0])
	same(t, "the frame behind", &got[1], fs[2])
	if s := p.a.Stats(); s.TxDropped != 1 || s.TxFrames != 2 {
		t.Errorf("sender's Stats() = %+v", s)
	}
}

func testTooShort(t *testing.T, p *pair) {
	fs := []*wire.Frame{p.frame(0, 100), p.frame(1, 100), p.frame(2, 100), p.frame(3, 100)}
	fs[1].Len, fs[2].Len = 13, 0
	p.send(t, fs...)
	got := p.receive(t, 2)
	same(t, "the frame before", &got[0], fs[0])
	same(t, "the frame behind", &got[1], fs[3])
	if s := p.a.Stats(); s.TxDropped != 2 || s.TxFrames != 2 {
		t.Errorf("sender's Stats() = %+v", s)
	}
}

func testStats(t *testing.T, p *pair) {
	fs := p.frames(200)
	var sum uint64
	for _, f := range fs {
		sum += uint64(f.Len)
	}
	p.send(t, fs...)
	p.receive(t, len(fs))
	if got, want := p.a.Stats(), (link.Stats{TxFrames: 200, TxBytes: sum}); got != want {
		t.Errorf("sender's Stats() = %+v, want %+v", got, want)
	}
	if got, want := p.b.Stats(), (link.Stats{RxFrames: 200, RxBytes: sum}); got != want {
		t.Errorf("receiver's Stats() = %+v, want %+v", got, want)
	}
}

func testJoin(t *testing.T, p *pair) {
	group := [6]byte{0x33, 0x33, 0xff, 1, 2, 3}
	if err := p.b.Join(group); err != nil {
		t.Fatalf("Join: %v", err)
	}
	f := p.frame(0, 100)
	copy(f.Bytes(), group[:])
	p.send(t, f)
	got := p.receive(t, 1)
	same(t, "a frame to the group", &got[0], f)
	if err := p.b.Leave(group); err != nil {
		t.Errorf("Leave: %v", err)
	}
}

func testAllocs(t *testing.T, p *pair) {
	fs := append(p.frames(16), p.other())
	fs[3].TPID, fs[3].TCI = 0x8100, 42
	batch := make([]wire.Packet, 64)
	allocs := testing.AllocsPerRun(50, func() {
		if err := p.a.Send(fs); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(fs); {
			n, err := p.b.Recv(batch)
			if err != nil {
				t.Fatal(err)
			}
			if got += n; n == 0 && p.b.Stats().RxMissed > 0 {
				t.Fatal("frames were lost")
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for %d frames", allocs, len(fs))
	}
}

func testClose(t *testing.T, p *pair) {
	p.send(t, p.frames(2)...)
	for range 2 {
		if err := p.a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	wantClosed(t, "Send", p.a.Send(p.frames(1)))
	_, err := p.a.Recv(make([]wire.Packet, 1))
	wantClosed(t, "Recv", err)
	wantClosed(t, "Join", p.a.Join([6]byte{0x33, 0x33, 0, 0, 0, 1}))
	wantClosed(t, "Leave", p.a.Leave([6]byte{0x33, 0x33, 0, 0, 0, 1}))
	if s := p.a.Stats(); s.TxFrames != 2 {
		t.Errorf("Stats() after Close = %+v, want 2 frames sent", s)
	}
	if p.a.Info().MTU != mtu {
		t.Errorf("Info() after Close = %+v", p.a.Info())
	}
}

// One goroutine works with both devices: they may share memory.
func testCloseWhileWorking(t *testing.T, p *pair) {
	errs := make(chan error, 1)
	go func() {
		batch, fs := make([]wire.Packet, 8), p.frames(4)
		for {
			if _, err := p.a.Recv(batch); err != nil {
				errs <- err
				return
			}
			if err := p.a.Send(fs); err != nil {
				errs <- err
				return
			}
			if _, err := p.b.Recv(batch); err != nil {
				errs <- err
				return
			}
		}
	}()
	for end := time.Now().Add(patience); p.b.Stats().RxFrames < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no frames arrive")
		}
	}
	if err := p.a.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	within(t, "the work", func() {
		if err := <-errs; !errors.Is(err, link.ErrClosed) {
			t.Errorf("the work ended with %v, want link.ErrClosed", err)
		}
	})
}
