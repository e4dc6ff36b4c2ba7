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
	held
	rc syscall.RawConn
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
	s := &sock{rc: rc}
	s.hold(f)
	return s, nil
}

// recvBatch fills msgs from the front and returns how many, or an errno. A closed socket is EBADF.
func (s *sock) recvBatch(msgs []unix.Mmsghdr) (int, syscall.Errno) {
	return s.batch(unix.SYS_RECVMMSG, msgs)
}

// sendBatch sends msgs from the front and returns how many, or the errno of the first. A closed socket is EBADF.
func (s *sock) sendBatch(msgs []unix.Mmsghdr) (int, syscall.Errno) {
	if len(msgs) == 1 && msgs[0].Hdr.Iovlen == 1 {
		return s.sendOne(msgs[0].Hdr.Iov)
	}
	return s.batch(unix.SYS_SENDMMSG, msgs)
}

// batch does recvmmsg or sendmmsg; the two take the same arguments but for the timeout, which is not used. The runtime is
// not told: a batch that takes longer than 20 microseconds would cost the goroutine its place (P), and keep the
// runtime's monitor awake. So a garbage collection may wait for a batch, a millisecond or two.
func (s *sock) batch(trap uintptr, msgs []unix.Mmsghdr) (int, syscall.Errno) {
	return s.call(trap, unsafe.Pointer(unsafe.SliceData(msgs)), len(msgs))
}

// sendOne sends one message of one piece, for which the kernel need not read as much as for a batch.
func (s *sock) sendOne(piece *unix.Iovec) (int, syscall.Errno) {
	_, errno := s.call(unix.SYS_SENDTO, unsafe.Pointer(piece.Base), int(piece.Len))
	if errno != 0 {
		return 0, errno
	}
	return 1, 0
}

// call does a system call that takes a descriptor, memory, its length, flags and two zeros.
func (s *sock) call(trap uintptr, p unsafe.Pointer, length int) (int, syscall.Errno) {
	if !s.enter() {
		return 0, unix.EBADF
	}
	defer s.leave()
	for {
		n, _, errno := unix.RawSyscall6(trap, s.fd, uintptr(p), uintptr(length), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case 0:
			return int(n), 0
		}
		return 0, errno
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
