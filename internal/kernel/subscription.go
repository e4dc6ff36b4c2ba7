package kernel

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// routeGroups are the announcements that the mirror listens to (linux/rtnetlink.h), as the mask bind(2) takes.
const routeGroups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_NEIGH-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)

// rulesetGroups announces changes of the nftables ruleset: NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const rulesetGroups = 1 << (7 - 1)

// subscriptionBuffer is asked for as receive buffer, in bytes; the kernel may give less (net.core.rmem_max).
const subscriptionBuffer = 1 << 20

// subscription is a netlink socket that only listens. Of an announcement nothing but its type is used: what changed is
// read from the kernel afterwards, so that a lost one costs a dump and no truth.
type subscription struct {
	f   *os.File
	buf []byte
}

func subscribe(proto int, groups uint32) (*subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, subscriptionBuffer)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Non-blocking, the file is read through the runtime's poller: Close ends a Read.
	return &subscription{f: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, 1<<16)}, nil
}

// next waits for a message and says what part of the State it is about; 0 if about none. After an error other than
// os.ErrClosed it may be called again.
func (s *subscription) next() (change, error) {
	n, err := s.f.Read(s.buf)
	if err != nil {
		return 0, err
	}
	return changes(s.buf[:n]), nil
}

// Close ends next in another goroutine.
func (s *subscription) Close() error { return s.f.Close() }

// changes walks the netlink messages of a datagram (RFC 3549 2.3.2).
func changes(b []byte) (what change) {
	for len(b) >= unix.NLMSG_HDRLEN {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.NLMSG_HDRLEN || length > len(b) {
			return what
		}
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			what |= changeLinks
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			what |= changeAddrs
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			what |= changeRoutes
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			what |= changeNeighbors
		}
		b = b[min(len(b), (length+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return what
}
