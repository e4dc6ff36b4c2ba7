package bench

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wordBits is the size of a word of a set of signals.
const wordBits = 64

// anyCPU lets the scheduler choose where a thread runs.
const anyCPU = -1

// A crew are threads that run until they are told to end.
type crew struct {
	stop atomic.Bool
	all  sync.WaitGroup
}

// run runs f on a thread of its own, on one CPU if told so. f must end soon after stop is set.
//
// The Go runtime is kept out of it: f calls the kernel by raw system calls only, so that the runtime neither takes the
// processor away nor, to find out whether it should, wakes up fifty thousand times a second; and the signal that it
// preempts with, which would cut such calls short, is blocked. While crews run there must be no garbage collection,
// which would wait for them: see Run.
func (c *crew) run(cpu int, f func()) {
	c.all.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if cpu != anyCPU {
			var set unix.CPUSet
			set.Set(cpu)
			_ = unix.SchedSetaffinity(0, &set) // refused: it runs where it may
		}
		var urgent unix.Sigset_t
		const n = unix.SIGURG - 1
		urgent.Val[n/wordBits] = 1 << (n % wordBits)
		_ = unix.PthreadSigmask(unix.SIG_BLOCK, &urgent, nil) // cannot fail
		f()
	})
}

// end tells the threads to end and waits for it.
func (c *crew) end() {
	c.stop.Store(true)
	c.all.Wait()
}

// Calls on descriptors that do not block. They are raw: the runtime need not hear of what takes microseconds.

func readNow(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}

func writeNow(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	return int(n), e
}

// sleepNow waits; it may be less.
func sleepNow(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// now is the time on a clock of its own that never jumps.
func now() time.Duration {
	var t unix.Timespec
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

func closeNow(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// tick is how long a thread waits for events before it looks whether it is to end, in milliseconds.
const tick = 20

// events waits for events and hands each to f, until the crew is to end.
func (c *crew) events(epoll int, f func(fd int, events uint32)) {
	list := make([]unix.EpollEvent, 64)
	for !c.stop.Load() {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&list[0])),
			uintptr(len(list)), tick, 0, 0)
		if e != 0 {
			continue // a signal
		}
		for i := range n {
			f(int(list[i].Fd), list[i].Events)
		}
	}
}

// watch adds a descriptor to an epoll, edge triggered.
func watch(epoll, fd int, events uint32) error {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)})
}
