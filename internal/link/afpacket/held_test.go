package afpacket

import (
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"naru/internal/link"
)

// heldPipe is a held writing end; the other one tells whether it is open, whatever became of its number.
type heldPipe struct {
	held
	other *os.File
}

func newHeld(t *testing.T) *heldPipe {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	h := &heldPipe{other: r}
	h.hold(w)
	return h
}

func (h *heldPipe) open() bool {
	fds := []unix.PollFd{{Fd: int32(h.other.Fd()), Events: unix.POLLIN}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLHUP == 0
}

func TestADescriptorStaysOpenWhileItIsUsed(t *testing.T) {
	h := newHeld(t)
	for range 2 {
		if !h.enter() {
			t.Fatal("an open descriptor is refused")
		}
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	if h.enter() {
		t.Error("a descriptor that is to be closed is given out")
	}
	h.leave()
	if !h.open() {
		t.Error("it is closed under its second user")
	}
	h.leave()
	if h.open() {
		t.Error("the last user left it open")
	}
	if h.enter() {
		t.Error("a closed descriptor is given out")
	}
}

func TestADescriptorWithoutUsersIsClosedAtOnce(t *testing.T) {
	h := newHeld(t)
	if err := h.close(); err != nil || h.open() {
		t.Errorf("close = %v, open %v", err, h.open())
	}
}

// Users in any order beside a close find it open, or are refused.
func TestAUsedDescriptorIsNeverClosed(t *testing.T) {
	for range 100 {
		h := newHeld(t)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					if !h.enter() {
						return
					}
					if !h.open() {
						t.Error("closed while in use")
					}
					h.leave()
				}
			})
		}
		_ = h.close()
		all.Wait()
		if h.open() {
			t.Fatal("nobody closed it")
		}
	}
}

// Whoever wakes says so first and writes then; a close in between must not leave the worker asleep.
func TestCloseDoesNotRelyOnAWakeUpUnderWay(t *testing.T) {
	w, err := newWaiter(Waiting{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.woken.Store(true)
	ended := make(chan error)
	go func() { ended <- w.wait(-1) }()
	for w.ev.users.Load() == 0 {
		runtime.Gosched()
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != link.ErrClosed {
			t.Errorf("Wait = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it still waits")
	}
}
