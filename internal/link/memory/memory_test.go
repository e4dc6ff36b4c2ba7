package memory_test

import (
	"testing"

	"naru/internal/link"
	"naru/internal/link/linktest"
	"naru/internal/link/memory"
	"naru/internal/wire"
)

func open() (a, b *memory.Device) {
	return memory.Pair(
		link.Info{Name: "a", MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1500},
		link.Info{Name: "b", MAC: [6]byte{2, 0, 0, 0, 0, 2}, MTU: 1500})
}

func TestDevice(t *testing.T) {
	linktest.TestDevice(t, linktest.Driver{
		Open: func(t *testing.T) (link.Device, link.Device) {
			a, b := open()
			t.Cleanup(func() { a.Close(); b.Close() })
			return a, b
		},
		Set: func(t *testing.T, devs ...link.Device) link.Set {
			var ds []*memory.Device
			for _, d := range devs {
				ds = append(ds, d.(*memory.Device))
			}
			return memory.NewSet(ds...)
		},
	})
}

func frame(n int) *wire.Frame {
	return &wire.Frame{Buf: make([]byte, wire.Headroom+n), Off: wire.Headroom, Len: n}
}

func TestFullQueueCountsWhatItMisses(t *testing.T) {
	a, b := open()
	for range memory.QueueLen + 5 {
		if err := a.Send([]*wire.Frame{frame(60)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.Stats().RxMissed; got != 5 {
		t.Errorf("RxMissed = %d, want 5", got)
	}
	if got := a.Stats(); got.TxFrames != memory.QueueLen+5 || got.TxDropped != 0 {
		t.Errorf("sender's Stats() = %+v", got)
	}
}

func TestQueueThatNeverRunsEmptyStaysInOrder(t *testing.T) {
	a, b := open()
	batch := make([]wire.Packet, 1)
	next := byte(0)
	for i := range 5 * memory.QueueLen {
		f := frame(60)
		f.Bytes()[20] = byte(i)
		if err := a.Send([]*wire.Frame{f}); err != nil {
			t.Fatal(err)
		}
		if i < memory.QueueLen-1 {
			continue
		}
		if n, err := b.Recv(batch); n != 1 || err != nil {
			t.Fatalf("Recv = %d, %v", n, err)
		}
		if got := batch[0].Bytes()[20]; got != next {
			t.Fatalf("frame %d arrived, want %d", got, next)
		}
		next++
	}
	if got := b.Stats().RxMissed; got != 0 {
		t.Errorf("RxMissed = %d, want 0", got)
	}
}

func TestSendToAClosedEndIsDropped(t *testing.T) {
	a, b := open()
	b.Close()
	if err := a.Send([]*wire.Frame{frame(60)}); err != nil {
		t.Errorf("Send: %v", err)
	}
	if got := a.Stats(); got.TxDropped != 1 || got.TxFrames != 0 {
		t.Errorf("sender's Stats() = %+v", got)
	}
}

func TestRecvLeavesTheLegAlone(t *testing.T) {
	a, b := open()
	f := frame(60)
	f.Leg = 9
	if err := a.Send([]*wire.Frame{f}); err != nil {
		t.Fatal(err)
	}
	batch := make([]wire.Packet, 1)
	batch[0].Leg = 3
	if n, err := b.Recv(batch); n != 1 || err != nil || batch[0].Leg != 3 {
		t.Errorf("Recv = %d, %v with leg %d, want leg 3", n, err, batch[0].Leg)
	}
}
