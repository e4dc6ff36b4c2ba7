package afpacket

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// A sock is one packet socket that the Go runtime's poller does not know: a socket in the poller wakes a runtime
// thread at every arrival, though nobody waits there. Each call holds the descriptor, so Close from another goroutine
// never closes it under a system call.
type sock struct {
	f  *os.File
	rc syscall.RawConn

	// Arguments and results of the one batch call under way, and the calls themselves, made once: a closure made per
	// call would be an allocation per call.
	msgs       []unix.Mmsghdr
	n          int
	errno      syscall.Errno
	recv, send func(fd uintptr)
}

// detach takes the socket over from conn and closes conn.
func detach(conn *packet.Conn, name string) (*sock, error) {
	defer conn.Close()
	rc, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	cerr := rc.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			// The flag belongs to the socket, not to the descriptor; a blocking file stays out of the poller. All
			// our calls carry MSG_DONTWAIT.
			err = unix.SetNonblock(fd, false)
		}
	})
	if err == nil {
		err = cerr
	}
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("take over descriptor: %w", err)
	}
	return newSock(os.NewFile(uintptr(fd), name))
}

func newSock(f *os.File) (*sock, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	s := &sock{f: f, rc: rc}
	s.recv = func(fd uintptr) { s.call(unix.SYS_RECVMMSG, fd) }
	s.send = func(fd uintptr) { s.call(unix.SYS_SENDMMSG, fd) }
	return s, nil
}

// call does recvmmsg or sendmmsg; the two take the same arguments but for the timeout, which is not used. The runtime is
// not told: a batch that takes longer than 20 microseconds would cost the goroutine its place (P), and keep the
// runtime's monitor awake. So a garbage collection may wait for a batch, a millisecond or two.
func (s *sock) call(trap, fd uintptr) {
	n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.msgs))), uintptr(len(s.msgs)),
		unix.MSG_DONTWAIT, 0, 0)
	s.n, s.errno = int(n), errno
	if errno != 0 {
		s.n = 0
	}
}

// recvBatch fills msgs from the front and returns how many, or an errno. A closed socket is EBADF.
func (s *sock) recvBatch(msgs []unix.Mmsghdr) (int, syscall.Errno) { return s.batch(msgs, s.recv) }

// sendBatch sends msgs from the front and returns how many, or the errno of the first. A closed socket is EBADF.
func (s *sock) sendBatch(msgs []unix.Mmsghdr) (int, syscall.Errno) { return s.batch(msgs, s.send) }

func (s *sock) batch(msgs []unix.Mmsghdr, call func(uintptr)) (int, syscall.Errno) {
	for {
		s.msgs = msgs
		err := s.rc.Control(call)
		s.msgs = nil
		if err != nil {
			return 0, unix.EBADF
		}
		if s.errno != unix.EINTR {
			return s.n, s.errno
		}
	}
}

// control runs f on the descriptor, which stays open meanwhile.
func (s *sock) control(f func(fd int) error) error {
	var err error
	if cerr := s.rc.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func (s *sock) close() error { return s.f.Close() }
