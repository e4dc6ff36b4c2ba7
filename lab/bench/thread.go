package bench

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// anyCPU lets the scheduler choose where a thread runs.
const anyCPU = -1

// A crew are threads that run until they are told to end.
type crew struct {
	stop atomic.Bool
	all  sync.WaitGroup
}

// run runs f on a thread of its own, on one CPU if told so. f must end soon after stop is set.
func (c *crew) run(cpu int, f func()) {
	c.all.Go(func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if cpu != anyCPU {
			var set unix.CPUSet
			set.Set(cpu)
			_ = unix.SchedSetaffinity(0, &set) // refused: it runs where it may
		}
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

func closeNow(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// tick is how long a thread waits for events before it looks whether it is to end, in milliseconds.
const tick = 20

// events waits for events and hands each to f, until the crew is to end.
func (c *crew) events(epoll int, f func(fd int, events uint32)) {
	list := make([]unix.EpollEvent, 64)
	for !c.stop.Load() {
		n, err := unix.EpollWait(epoll, list, tick)
		if err != nil && err != unix.EINTR {
			return // the descriptor is ours and open: cannot be
		}
		for i := range max(n, 0) {
			f(int(list[i].Fd), list[i].Events)
		}
	}
}

// watch adds a descriptor to an epoll, edge triggered.
func watch(epoll, fd int, events uint32) error {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events | unix.EPOLLET, Fd: int32(fd)})
}
