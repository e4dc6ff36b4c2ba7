package afxdp

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// Lengths of the rings of a socket, powers of two: our own choices.
const (
	ringSize    = 2048
	chunksASock = 2 * ringSize // to receive into, and to send from
)

// sendTries bounds how often the kernel is asked to send what it has not taken: it takes a limited number a call.
const sendTries = 64

// A socket serves one receive queue of an interface.
type socket struct {
	fd   int
	rx   *queue[unix.XDPDesc]
	tx   *queue[unix.XDPDesc]
	fill *queue[uint64] // chunks for the kernel to receive into
	done *queue[uint64] // chunks that the kernel has sent

	down bool   // the interface was, when something was to be sent
	lost uint64 // frames that the interface has refused, not yet counted
}

// newSocket opens a socket over m. The first one registers the memory; the others name the first one's descriptor.
func newSocket(m *memory, first *socket) (s *socket, err error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket: %w", err)
	}
	s = &socket{fd: fd}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if first == nil {
		reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(m.bytes)))), Len: uint64(len(m.bytes)),
			Size: chunkSize, Headroom: wire.Headroom}
		if err = setsockopt(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg)); err != nil {
			if errors.Is(err, unix.ENOBUFS) {
				err = fmt.Errorf("%w: the limit of locked memory is too low for %d MiB (LimitMEMLOCK=infinity)", err, len(m.bytes)>>20)
			}
			return nil, fmt.Errorf("register memory: %w", err)
		}
	}
	for _, opt := range []int{unix.XDP_RX_RING, unix.XDP_TX_RING, unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING} {
		if err = unix.SetsockoptInt(fd, unix.SOL_XDP, opt, ringSize); err != nil {
			return nil, fmt.Errorf("set ring %d: %w", opt, err)
		}
	}
	return s, s.mapRings()
}

func (s *socket) mapRings() error {
	var off unix.XDPMmapOffsets
	size := uint32(unsafe.Sizeof(off))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS,
		uintptr(unsafe.Pointer(&off)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return fmt.Errorf("XDP_MMAP_OFFSETS: %w", errno)
	}
	var err error
	if s.rx, err = mapQueue[unix.XDPDesc](s.fd, unix.XDP_PGOFF_RX_RING, off.Rx, ringSize); err != nil {
		return err
	}
	if s.tx, err = mapQueue[unix.XDPDesc](s.fd, unix.XDP_PGOFF_TX_RING, off.Tx, ringSize); err != nil {
		return err
	}
	if s.fill, err = mapQueue[uint64](s.fd, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, ringSize); err != nil {
		return err
	}
	s.done, err = mapQueue[uint64](s.fd, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, ringSize)
	return err
}

// bind attaches the socket to a queue: with the driver's own memory if it can and may, else by copies. It reports which.
func (s *socket) bind(index, queue int, first *socket, may bool) (zeroCopy bool, err error) {
	sa := unix.SockaddrXDP{Ifindex: uint32(index), QueueID: uint32(queue)}
	if first != nil { // the way of the first is that of all
		sa.Flags, sa.SharedUmemFD = unix.XDP_SHARED_UMEM, uint32(first.fd)
		if err = unix.Bind(s.fd, &sa); err != nil {
			return false, fmt.Errorf("bind to queue %d: %w", queue, err)
		}
		return s.zeroCopy(), nil
	}
	ways := []uint16{unix.XDP_ZEROCOPY, unix.XDP_COPY}
	if !may {
		ways = ways[1:]
	}
	for _, way := range ways {
		sa.Flags = way | unix.XDP_USE_NEED_WAKEUP
		if err = unix.Bind(s.fd, &sa); err == nil {
			return way == unix.XDP_ZEROCOPY, nil
		}
	}
	return false, fmt.Errorf("bind to queue %d: %w", queue, err)
}

func (s *socket) zeroCopy() bool {
	opt, err := unix.GetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	return err == nil && opt&unix.XDP_OPTIONS_ZEROCOPY != 0
}

// stock gives the kernel idle chunks to receive into, until its ring is full or none is left.
func (s *socket) stock(m *memory) {
	room := s.fill.free(len(s.fill.entries))
	if room == 0 {
		return
	}
	for ; room > 0 && len(m.free) > ringSize/4; room-- { // some stay for sending
		n, _ := m.get(driver)
		s.fill.put(uint64(n) * chunkSize)
	}
	s.fill.publish()
}

// reap takes back the chunks that were sent.
func (s *socket) reap(m *memory) {
	n := s.done.ready(len(s.done.entries))
	if n == 0 {
		return
	}
	for range n {
		m.put(uint32(s.done.take() / chunkSize))
	}
	s.done.release()
}

// kick makes the kernel send what is in the ring, and take frames in. In copy mode a call sends a limited number.
func (s *socket) kick() error {
	for range sendTries {
		if s.tx.drained() || !s.tx.asleep() {
			return nil
		}
		_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0, unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
		case unix.EBUSY: // a frame was taken and dropped, say without a carrier
			s.lost++
		default:
			return errno
		}
	}
	return nil
}

// wakeReceiver makes a driver that sleeps look for chunks to receive into.
func (s *socket) wakeReceiver() {
	if s.fill.asleep() {
		unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	}
}

// statistics returns what the kernel counts about the rings since the socket was opened; zeros when it does not say.
func (s *socket) statistics() (st unix.XDPStatistics) {
	size := uint32(unsafe.Sizeof(st))
	_, _, _ = unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_STATISTICS,
		uintptr(unsafe.Pointer(&st)), uintptr(unsafe.Pointer(&size)), 0)
	return st
}

func (s *socket) close() {
	s.rx.unmap()
	s.tx.unmap()
	s.fill.unmap()
	s.done.unmap()
	unix.Close(s.fd)
}

func setsockopt(fd, opt int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(value), size, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
