package afpacket

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"naru/internal/link"
)

// NewSet makes the set of devices that one worker owns. Its Wait sleeps in epoll(7), so it works from any goroutine,
// bound to a thread or not; timeouts are rounded up to milliseconds. An error is about descriptors (EMFILE); the
// devices stay open then.
func NewSet(devs ...*Device) (link.Set, error) {
	w, err := newWaiter(devs)
	if err != nil {
		return link.Set{}, fmt.Errorf("afpacket: set: %w", err)
	}
	set := link.Set{Wait: w.wait, Wake: w.wake, Close: w.close}
	for _, d := range devs {
		set.Devices = append(set.Devices, d)
	}
	return set, nil
}

// What epoll tells us of an event: only whether it is the eventfd.
const (
	tokenDevice int32 = iota
	tokenWake
)

// A waiter waits for the receiving sockets of its devices and for an eventfd.
type waiter struct {
	devs   []*Device
	ep, ev *os.File
	epRC   syscall.RawConn
	evRC   syscall.RawConn
	closed atomic.Bool

	// Argument and results of the one wait under way (see sock).
	events  [8]unix.EpollEvent
	msec    int
	n       int
	err     error
	sleep   func(fd uintptr)
	drain   func(fd uintptr)
	counter [8]byte
}

func newWaiter(devs []*Device) (w *waiter, err error) {
	w = &waiter{devs: devs}
	w.sleep = func(fd uintptr) { w.n, w.err = unix.EpollWait(int(fd), w.events[:], w.msec) }
	w.drain = func(fd uintptr) { unix.Read(int(fd), w.counter[:]) }

	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	w.ep = os.NewFile(uintptr(epfd), "epoll")
	// A blocking descriptor stays out of the runtime's poller; it is only read when epoll says that it can be.
	evfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		w.ep.Close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	w.ev = os.NewFile(uintptr(evfd), "eventfd")
	defer func() {
		if err != nil {
			w.ep.Close()
			w.ev.Close()
		}
	}()
	if w.epRC, err = w.ep.SyscallConn(); err != nil {
		return nil, err
	}
	if w.evRC, err = w.ev.SyscallConn(); err != nil {
		return nil, err
	}
	if err := w.add(epfd, evfd, tokenWake); err != nil {
		return nil, err
	}
	for _, d := range devs {
		if err := d.rx.sock.control(func(fd int) error { return w.add(epfd, fd, tokenDevice) }); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return w, nil
}

func (w *waiter) add(epfd, fd int, token int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: token}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &ev))
}

func (w *waiter) wait(timeout time.Duration) error {
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	for left := timeout; ; left = max(0, time.Until(deadline)) {
		w.msec = -1
		if timeout >= 0 {
			w.msec = int(min((left+time.Millisecond-1)/time.Millisecond, 1<<30))
		}
		if err := w.epRC.Control(w.sleep); err != nil || w.closed.Load() {
			return link.ErrClosed
		}
		if w.err != unix.EINTR {
			return w.result()
		}
	}
}

// result says what a finished epoll_wait means, and takes a wake-up back.
func (w *waiter) result() error {
	if w.err != nil {
		return fmt.Errorf("afpacket: wait: %w", w.err)
	}
	for i := range w.events[:w.n] {
		if w.events[i].Fd == tokenWake {
			w.evRC.Control(w.drain)
		}
	}
	return nil
}

// wake adds to the counter; one that is full is as good as one more.
func (w *waiter) wake() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	w.evRC.Control(func(fd uintptr) { unix.Write(int(fd), one[:]) })
}

func (w *waiter) close() error {
	if w.closed.Swap(true) {
		return nil
	}
	w.wake()
	var first error
	for _, d := range w.devs {
		if err := d.Close(); err != nil && first == nil {
			first = err
		}
	}
	w.ep.Close()
	w.ev.Close()
	return first
}
