package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// Our own choices.
const (
	decapBatch   = 32      // packets a system call
	decapPacket  = 1 << 16 // bytes: the longest datagram
	decapBuffer  = 8 << 20 // bytes that may wait in a socket
	controlSpace = 64      // bytes of ancillary data: the traffic class
)

// udpNoCheck6RX is UDP_NO_CHECK6_RX of linux/udp.h: take datagrams over IPv6 without a checksum, as tunnels may send
// them (RFC 6935).
const udpNoCheck6RX = 102

// outerSocket receives outer packets of one family and protocol, in batches.
type outerSocket struct {
	f     *os.File
	conn  syscall.RawConn
	proto uint8 // of the inner packet, unless gue
	gue   bool
	v4raw bool // the bytes begin with the outer IPv4 header

	msgs    []unix.Mmsghdr
	iovs    []unix.Iovec
	bufs    [][]byte
	names   []unix.RawSockaddrInet6
	control [][controlSpace]byte
}

// openOuter opens the sockets that the options need: both inner families in each outer one. An outer family that this
// kernel does not have is left out, unless an address of it was asked for.
func openOuter(opt DecapOptions) (all []*outerSocket, err error) {
	locals := opt.Local
	if len(locals) == 0 {
		locals = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	protos := []uint8{protoIPv4, protoIPv6}
	if opt.Mode == GUE {
		protos = []uint8{unix.IPPROTO_UDP}
	}
	for _, local := range locals {
		for _, proto := range protos {
			s, err := openOuterSocket(local, proto, opt)
			if err != nil && local.IsUnspecified() && local.Is6() && errors.Is(err, unix.EAFNOSUPPORT) {
				continue
			}
			if err != nil {
				for _, s := range all {
					s.close()
				}
				return nil, err
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func openOuterSocket(local netip.Addr, proto uint8, opt DecapOptions) (*outerSocket, error) {
	family, kind, port := unix.AF_INET, unix.SOCK_RAW, uint16(0)
	if local.Is6() {
		family = unix.AF_INET6
	}
	if opt.Mode == GUE {
		kind, port = unix.SOCK_DGRAM, opt.Port
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
	if err != nil {
		return nil, fmt.Errorf("socket for protocol %d: %w", proto, err)
	}
	if err := prepareOuter(fd, family, local, port, opt.Mode == GUE); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("socket for protocol %d on %s: %w", proto, netip.AddrPortFrom(local, port), err)
	}
	s := &outerSocket{f: os.NewFile(uintptr(fd), "outer"), proto: proto, gue: opt.Mode == GUE,
		v4raw: opt.Mode != GUE && local.Is4()}
	if s.conn, err = s.f.SyscallConn(); err != nil {
		s.close()
		return nil, err
	}
	s.buffers()
	return s, nil
}

// prepareOuter sets the options of a socket and binds it.
func prepareOuter(fd, family int, local netip.Addr, port uint16, gue bool) error {
	// Without CAP_NET_ADMIN the buffer stays at the system's limit, which is no reason not to work.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, decapBuffer)
	if family == unix.AF_INET {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: local.As4()})
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1); err != nil {
		return err
	}
	if gue {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpNoCheck6RX, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, &unix.SockaddrInet6{Port: int(port), Addr: local.As16()})
}

// buffers lays out a batch. The memory is touched only as far as packets fill it.
func (s *outerSocket) buffers() {
	s.msgs = make([]unix.Mmsghdr, decapBatch)
	s.iovs = make([]unix.Iovec, decapBatch)
	s.bufs = make([][]byte, decapBatch)
	s.names = make([]unix.RawSockaddrInet6, decapBatch)
	s.control = make([][controlSpace]byte, decapBatch)
	all := make([]byte, decapBatch*decapPacket)
	for i := range s.msgs {
		s.bufs[i] = all[i*decapPacket : (i+1)*decapPacket]
		s.iovs[i].Base = &s.bufs[i][0]
		s.iovs[i].SetLen(decapPacket)
		h := &s.msgs[i].Hdr
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
		h.Control = &s.control[i][0]
	}
}

// recv waits for packets and returns how many came; 0 when the socket was closed.
func (s *outerSocket) recv() (n int, err error) {
	for i := range s.msgs {
		s.msgs[i].Hdr.Namelen = unix.SizeofSockaddrInet6
		s.msgs[i].Hdr.SetControllen(controlSpace)
	}
	var errno syscall.Errno
	cerr := s.conn.Read(func(fd uintptr) bool {
		got, _, e := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[0])), uintptr(len(s.msgs)),
			unix.MSG_DONTWAIT, 0, 0)
		n, errno = int(got), e
		return e != unix.EAGAIN && e != unix.EINTR
	})
	switch {
	case cerr != nil:
		return 0, nil // closed
	case errno != 0:
		return 0, fmt.Errorf("receive: %w", errno)
	}
	return n, nil
}

// packet returns what is behind the outer IP header of a packet of the last batch, its source, and its traffic class.
func (s *outerSocket) packet(i int) (b []byte, src netip.Addr, tos uint8) {
	b = s.bufs[i][:s.msgs[i].Len]
	if s.v4raw {
		if len(b) < wire.IPv4Len || len(b) < int(b[0]&0xf)*4 { // never: the kernel has checked the header
			return nil, src, 0
		}
		return b[int(b[0]&0xf)*4:], netip.AddrFrom4([4]byte(b[12:16])), b[1]
	}
	name := &s.names[i]
	if name.Family == unix.AF_INET {
		src = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	} else {
		src = netip.AddrFrom16(name.Addr)
	}
	return b, src, trafficClass(s.control[i][:s.msgs[i].Hdr.Controllen])
}

// trafficClass reads the ancillary data: the kernel gives one byte for IPv4 and an int for IPv6.
func trafficClass(control []byte) uint8 {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return 0
		}
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			return data[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			return uint8(binary.NativeEndian.Uint32(data))
		}
		control = rest
	}
	return 0
}

func (s *outerSocket) close() { _ = s.f.Close() }
