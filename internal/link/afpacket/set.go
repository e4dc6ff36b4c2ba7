package afpacket

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/internal/link"
)

// Waiting says how a set waits. The zero value sleeps at once.
type Waiting struct {
	// Spin is how long devices are looked at before Wait sleeps, if frames came since the last time it slept; 0 sleeps at
	// once. A sleep and a wake cost more than some microseconds of looking. Between two looks the processor is offered
	// to others, so that who would answer on it is not kept waiting.
	Spin time.Duration

	// Busy never sleeps and never offers the processor: devices are looked at until a frame comes or the time is up. It
	// needs a processor of its own.
	Busy bool
}

// NewSet makes the set of devices that one worker owns. Its Wait sleeps in ppoll(2), so it works from any goroutine,
// bound to a thread or not. An error is about descriptors (EMFILE); the devices stay open then.
func NewSet(how Waiting, devs ...*Device) (link.Set, error) {
	w, err := newWaiter(how, devs)
	if err != nil {
		return link.Set{}, fmt.Errorf("afpacket: set: %w", err)
	}
	set := link.Set{Wait: w.wait, Wake: w.wake, Close: w.close}
	for _, d := range devs {
		set.Devices = append(set.Devices, d)
	}
	return set, nil
}

// A waiter waits for the receiving sockets of its devices and for an eventfd. It polls rather than keep an epoll
// instance: that would be told of every frame by whoever sends it, also while nobody sleeps.
type waiter struct {
	how    Waiting
	devs   []*Device
	ev     *os.File
	evRC   syscall.RawConn
	woken  atomic.Bool // a wake-up has been written, or is being written, and was not taken back
	closed atomic.Bool
	seen   uint64 // frames that had come when it last slept
	idle   bool   // no frame came since

	// Argument and results of the one wait under way (see sock): the descriptors, the eventfd's first, each held
	// while the next ones are taken.
	fds     []unix.PollFd
	hold    []func(fd uintptr)
	timeout *unix.Timespec
	left    unix.Timespec
	errno   syscall.Errno
	drain   func(fd uintptr)
	counter [8]byte
}

func newWaiter(how Waiting, devs []*Device) (w *waiter, err error) {
	w = &waiter{how: how, devs: devs, fds: make([]unix.PollFd, 1+len(devs))}
	w.drain = func(fd uintptr) { unix.Read(int(fd), w.counter[:]) }
	// A blocking descriptor stays out of the runtime's poller; it is only read when poll says that it can be.
	evfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	w.ev = os.NewFile(uintptr(evfd), "eventfd")
	if w.evRC, err = w.ev.SyscallConn(); err != nil {
		w.ev.Close()
		return nil, err
	}
	for i := range w.fds {
		w.fds[i].Events = unix.POLLIN
		w.hold = append(w.hold, func(fd uintptr) {
			w.fds[i].Fd = int32(fd)
			if i == len(w.devs) {
				w.poll()
				return
			}
			if w.devs[i].rx.sock.rc.Control(w.hold[i+1]) != nil {
				w.errno = unix.EBADF
			}
		})
	}
	return w, nil
}

// poll sleeps until a descriptor has something, at most w.timeout. While there is work the runtime is not told, which
// saves two hand-overs and a wake-up of its monitor at each return; a worker that has been idle leaves the runtime in
// peace.
func (w *waiter) poll() {
	call := syscall.RawSyscall6
	if w.idle {
		call = syscall.Syscall6
	}
	_, _, w.errno = call(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fds[0])), uintptr(len(w.fds)),
		uintptr(unsafe.Pointer(w.timeout)), 0, 0, 0)
}

func (w *waiter) wait(timeout time.Duration) error {
	var start time.Time
	if timeout > 0 {
		start = time.Now()
	}
	w.errno = 0
	for i := range w.fds {
		w.fds[i].Revents = 0
	}
	if w.spin(timeout) && w.errno != unix.EINTR {
		return w.end()
	}
	for {
		w.timeout = nil
		if timeout >= 0 {
			left := time.Duration(0)
			if timeout > 0 {
				left = max(0, timeout-time.Since(start))
			}
			w.left = unix.NsecToTimespec(int64(left))
			w.timeout = &w.left
		}
		if w.closed.Load() || w.evRC.Control(w.hold[0]) != nil {
			return link.ErrClosed
		}
		if w.errno != unix.EINTR {
			return w.end()
		}
	}
}

// spin looks for a while whether a frame has come and reports whether that was enough.
func (w *waiter) spin(timeout time.Duration) bool {
	frames := uint64(0)
	for _, d := range w.devs {
		frames += d.rxFrames.Load()
	}
	w.idle = frames == w.seen
	w.seen = frames
	span := w.how.Spin
	switch {
	case w.how.Busy:
		span = math.MaxInt64
	case w.idle || span == 0:
		return false
	}
	if timeout >= 0 {
		span = min(span, timeout)
	}
	for start := time.Now(); ; {
		if w.woken.Load() || w.look() {
			return true
		}
		if time.Since(start) >= span {
			return false
		}
		if !w.how.Busy {
			_, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
}

// look reports whether a frame has come, without a system call where all devices have rings.
func (w *waiter) look() bool {
	for _, d := range w.devs {
		if d.ring == nil {
			return w.ask()
		}
		if d.ring.ready() {
			return true
		}
	}
	return false
}

// ask polls without a sleep and reports whether a descriptor has something.
func (w *waiter) ask() bool {
	w.left = unix.Timespec{}
	w.timeout = &w.left
	if w.closed.Load() || w.evRC.Control(w.hold[0]) != nil || w.errno != 0 {
		return true
	}
	for i := range w.fds {
		if w.fds[i].Revents != 0 {
			return true
		}
	}
	return false
}

// end says what a finished wait means, and takes a wake-up back.
func (w *waiter) end() error {
	switch {
	case w.closed.Load():
		return link.ErrClosed
	case w.errno == unix.EBADF: // a device was closed by itself; Recv says so
		return nil
	case w.errno != 0:
		return fmt.Errorf("afpacket: wait: %w", w.errno)
	}
	for i, d := range w.devs {
		if w.fds[1+i].Revents&^unix.POLLIN != 0 && d.ring != nil {
			d.ring.alarm.Store(true)
		}
	}
	// In this order a wake-up that comes in between is served by the end of this wait.
	if w.woken.Load() {
		w.evRC.Control(w.drain)
		w.woken.Store(false)
	}
	return nil
}

// wake writes once until the wake-up is taken back, so that taking it back never waits for long.
func (w *waiter) wake() {
	if w.woken.Swap(true) {
		return
	}
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
	w.ev.Close()
	return first
}
