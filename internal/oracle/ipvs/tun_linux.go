package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// tun is a device whose other end is this program.
type tun struct{ fd int }

func newTun(name string, prefix netip.Prefix) (tun, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR, 0)
	if err != nil {
		return tun{}, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return tun{}, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return tun{}, fmt.Errorf("tun %s: %w", name, err)
	}
	return tun{fd}, configure(name, prefix)
}

// configure gives a device an address and sets it up.
func configure(name string, prefix netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	addr, err := netlink.ParseAddr(prefix.String())
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("%s: address %s: %w", name, prefix, err)
	}
	return netlink.LinkSetUp(link)
}

// Flags of TCP.
const (
	fin = 1
	syn = 2
	rst = 4
	ack = 16
)

// segment is a TCP segment without data.
type segment struct {
	from, to netip.AddrPort
	flags    byte
	seq, ack uint32
}

func (t tun) send(s segment) error {
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], s.from.Addr().AsSlice())
	copy(b[16:], s.to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^wire.Fold(wire.Sum(b[:20], 0)))
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, s.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.to.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.seq)
	if s.flags&ack != 0 {
		binary.BigEndian.PutUint32(tcp[8:], s.ack)
	}
	tcp[12], tcp[13] = 5<<4, s.flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	sum := wire.Sum(tcp, wire.PseudoSum(b, unix.IPPROTO_TCP, len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], ^wire.Fold(sum))
	_, err := unix.Write(t.fd, b)
	return err
}

// patience is how long a packet may take, in milliseconds of the machine's clock.
const patience = 200

// receive returns the next TCP segment from an address and port; none means that none came.
func (t tun) receive(from netip.AddrPort) (segment, bool) {
	b := make([]byte, 2048)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}, patience)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return segment{}, false
		}
		n, err = unix.Read(t.fd, b)
		if err != nil {
			return segment{}, false
		}
		if n < 40 || b[0] != 0x45 || b[9] != unix.IPPROTO_TCP {
			continue // a question of the kernel's
		}
		s := segment{from: endOf(b[12:], b[20:]), to: endOf(b[16:], b[22:]), flags: b[33]}
		if s.from == from {
			return s, true
		}
	}
}

// endOf makes an address and a port of what a header has.
func endOf(addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), binary.BigEndian.Uint16(port))
}
