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
	ev     held
	woken  atomic.Bool // a wake-up has been written, or is being written, and was not taken back
	closed atomic.Bool
	seen   uint64 // frames that had come when it last slept
	idle   bool   // no frame came since

	// Argument and results of the one wait under way: the descriptors, the eventfd's first.
	fds     []unix.PollFd
	left    unix.Timespec
	errno   syscall.Errno
	counter [8]byte
}

func newWaiter(how Waiting, devs []*Device) (w *waiter, err error) {
	w = &waiter{how: how, devs: devs, fds: make([]unix.PollFd, 1+len(devs))}
	// A blocking descriptor stays out of the runtime's poller; it is only read when poll says that it can be.
	evfd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	w.ev.hold(os.NewFile(uintptr(evfd), "eventfd"))
	for i := range w.fds {
		w.fds[i].Events = unix.POLLIN
		w.fds[i].Fd = int32(w.at(i).fd)
	}
	return w, nil
}

// at returns what the i-th descriptor belongs to.
func (w *waiter) at(i int) *held {
	if i == 0 {
		return &w.ev
	}
	return &w.devs[i-1].rx.sock.held
}

// enter holds all descriptors, or none.
func (w *waiter) enter() bool {
	for i := range w.fds {
		if !w.at(i).enter() {
			w.leave(i)
			return false
		}
	}
	return true
}

// leave lets the first n go.
func (w *waiter) leave(n int) {
	for i := range n {
		w.at(i).leave()
	}
}

// poll sleeps until a descriptor has something, at most for a time; a negative one never ends. While there is work the
// runtime is not told, which saves two hand-overs and a wake-up of its monitor at each return; a worker that has been idle
// leaves the runtime in peace.
func (w *waiter) poll(timeout time.Duration) {
	call := syscall.RawSyscall6
	if w.idle && timeout != 0 {
		call = syscall.Syscall6
	}
	var limit *unix.Timespec
	if timeout >= 0 {
		w.left = unix.NsecToTimespec(int64(timeout))
		limit = &w.left
	}
	_, _, w.errno = call(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&w.fds[0])), uintptr(len(w.fds)),
		uintptr(unsafe.Pointer(limit)), 0, 0, 0)
}

func (w *waiter) wait(timeout time.Duration) error {
	if w.closed.Load() {
		return link.ErrClosed
	}
	if !w.enter() {
		if w.closed.Load() {
			return link.ErrClosed
		}
		return nil // a device was closed by itself; Recv says so
	}
	defer w.leave(len(w.fds))
	start := time.Now()
	w.errno = 0
	for i := range w.fds {
		w.fds[i].Revents = 0
	}
	if w.spin(start, timeout) && w.errno != unix.EINTR {
		return w.end()
	}
	for {
		left := timeout
		if timeout > 0 {
			left = max(0, timeout-time.Since(start))
		}
		w.poll(left)
		if w.errno != unix.EINTR || w.closed.Load() {
			return w.end()
		}
	}
}

// spin looks for a while whether a frame has come and reports whether that was enough.
func (w *waiter) spin(start time.Time, timeout time.Duration) bool {
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
	for {
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
	w.poll(0)
	if w.errno != 0 {
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
		// The runtime is told: it may want to stop who is about to write.
		_, _ = unix.Read(int(w.ev.fd), w.counter[:])
		w.woken.Store(false)
	}
	return nil
}

// wake writes once until the wake-up is taken back, so that taking it back never waits for long.
func (w *waiter) wake() {
	if !w.woken.Swap(true) {
		w.ring()
	}
}

// ring makes the eventfd readable.
func (w *waiter) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if w.ev.enter() {
		_, _ = unix.Write(int(w.ev.fd), one[:])
		w.ev.leave()
	}
}

func (w *waiter) close() error {
	if w.closed.Swap(true) {
		return nil
	}
	w.ring() // whoever has said that a wake-up comes may be too late to write it
	var first error
	for _, d := range w.devs {
		if err := d.Close(); err != nil && first == nil {
			first = err
		}
	}
	_ = w.ev.close()
	return first
}
