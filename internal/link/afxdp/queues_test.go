package afxdp

import (
	"errors"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// channels sets how many queues an interface uses (ethtool -L).
func channels(t *testing.T, n *wiretest.NS, name string, rx, tx uint32) {
	t.Helper()
	args := [9]uint32{0: unix.ETHTOOL_SCHANNELS, 5: rx, 6: tx} // struct ethtool_channels
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: unsafe.Pointer(&args)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	n.Do(t, func() {
		sock, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(sock)
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(sock), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
			t.Fatalf("%s: %d queues to receive and %d to send: %v", name, rx, tx, e)
		}
	})
}

// TestRingsTell sees what the kernel counts, and how many queues there are, also when that changes.
func TestRingsTell(t *testing.T) {
	n := cable(t, 2)
	channels(t, n, "v0", 2, 1)
	channels(t, n, "v1", 1, 2)
	a, b := opened(t, n)
	if r := b.Rings(); r.Queues != 1 || r.QueuesNow != 1 || r.RxDropped+r.RxFull+r.RxInvalid+r.TxInvalid != 0 {
		t.Errorf("at first: %+v", r)
	}
	channels(t, n, "v1", 2, 2)
	if r := b.Rings(); r.Queues != 1 || r.QueuesNow != 2 {
		t.Errorf("with one more queue: %+v", r)
	}
	var fs []*wire.Frame
	for range 64 {
		fs = append(fs, ours(t, b, 100, false))
	}
	for range 2 * ringSize / len(fs) { // nobody receives
		if err := a.Send(fs); err != nil {
			t.Fatal(err)
		}
	}
	if r, st := b.Rings(), b.Stats(); r.FillEmpty == 0 || st.RxMissed == 0 || r.RxFull+r.RxDropped != st.RxMissed {
		t.Errorf("overrun: %+v, %+v", r, st)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if r := b.Rings(); r.Queues != 0 {
		t.Errorf("closed: %+v", r)
	}
}

// TestWaitTellsWhatIsBeside: what came to the tap is there at the next Recv, though that mostly looks at the rings alone.
func TestWaitTellsWhatIsBeside(t *testing.T) {
	_, a, b := wired(t, 1)
	batch := make([]wire.Packet, 8)
	vain := 0
	for range 20 {
		if err := a.Send([]*wire.Frame{ours(t, b, 100, true)}); err != nil {
			t.Fatal(err)
		}
		for n := 0; n == 0 && vain < 20; {
			err := b.x.wait(10 * time.Second)
			if err == nil {
				n, err = b.Recv(batch)
			}
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				vain++
			}
		}
	}
	if vain >= 20 {
		t.Error("what Wait had seen was not received")
	}
}

// TestWhatFailsAfterZeroCopyIsTriedWithCopies: no card here shares its memory, so this is about the decision alone.
func TestWhatFailsAfterZeroCopyIsTriedWithCopies(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name  string
		first error
		took  bool
		again error
		want  error
		tries []bool
	}{
		{name: "all share their memory", took: true, tries: []bool{true}},
		{name: "none does", tries: []bool{true}},
		{name: "none does, and something else fails", first: broken, want: broken, tries: []bool{true}},
		{name: "the second cannot", first: broken, took: true, tries: []bool{true, false}},
		{name: "and copies fail too", first: errors.New("other"), took: true, again: broken, want: broken, tries: []bool{true, false}},
	} {
		var tries []bool
		err := byEitherWay(func(zeroCopy bool) (bool, error) {
			tries = append(tries, zeroCopy)
			if zeroCopy {
				return c.took, c.first
			}
			return false, c.again
		})
		if !errors.Is(err, c.want) || !slices.Equal(tries, c.tries) {
			t.Errorf("%s: %v after %v, want %v after %v", c.name, err, tries, c.want, c.tries)
		}
	}
}
