package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// tunDevice hands inner packets to the kernel as if they came in by an interface of their own.
type tunDevice struct {
	f    *os.File
	conn syscall.RawConn
}

// vnetLen are the bytes of struct virtio_net_hdr (linux/virtio_net.h) in front of each packet.
const vnetLen = 10

const tunFile = "/dev/net/tun"

func openTun(name string) (*tunDevice, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("a name of an interface has at most 15 characters: %w", err)
	}
	if _, err := netlink.LinkByName(name); err == nil {
		return nil, errors.New("an interface of that name exists; does another decapsulator run? choose one with --device NAME")
	}
	fd, err := unix.Open(tunFile, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%s: %w: load the module (modprobe tun), or give the container the device", tunFile, ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", tunFile, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make the device: %w", err)
	}
	t := &tunDevice{f: os.NewFile(uintptr(fd), name)}
	if t.conn, err = t.f.SyscallConn(); err == nil {
		err = t.up(name)
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// up sets the device up. It sends nothing: no link-local address, no router solicitation.
func (t *tunDevice) up(name string) error {
	for _, p := range []struct{ path, value string }{
		{"net/ipv6/conf/" + name + "/addr_gen_mode", "1"},
		{"net/ipv6/conf/" + name + "/accept_ra", "0"},
	} {
		if _, err := writeSysctl(p.path, p.value); err != nil {
			return err
		}
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if _, err := loosen(l); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// dummyAddress is the IPv4 dummy address (RFC 7600 4.8): it means nothing and belongs to nobody.
const dummyAddress = "192.0.0.8"

// loosen lets IPv4 packets in by a tunnel device whose replies leave by another: a loose reverse path filter, not none,
// since the larger of all and this one counts and all may be strict. On an interface without an address even a loose one
// drops everything, so it gets one that is never chosen as a source.
func loosen(l netlink.Link) (changed bool, err error) {
	changed, err = writeSysctl("net/ipv4/conf/"+l.Attrs().Name+"/rp_filter", "2")
	if err != nil {
		return changed, err
	}
	dummy := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(dummyAddress).To4(), Mask: net.CIDRMask(32, 32)},
		Scope: unix.RT_SCOPE_HOST}
	if err := netlink.AddrAdd(l, dummy); err != nil && !errors.Is(err, unix.EEXIST) {
		return changed, err
	} else if err == nil {
		changed = true
	}
	return changed, nil
}

// write hands over one inner packet; several goroutines may call it.
func (t *tunDevice) write(ip []byte) error {
	var head [vnetLen]byte
	if start, offset, yes := unfinished(ip); yes {
		head[0] = wire.NeedsCsum
		binary.NativeEndian.PutUint16(head[6:], uint16(start))
		binary.NativeEndian.PutUint16(head[8:], uint16(offset))
	}
	var werr error
	err := t.conn.Write(func(fd uintptr) bool {
		_, werr = unix.Writev(int(fd), [][]byte{head[:], ip})
		return werr != unix.EAGAIN
	})
	return errors.Join(err, werr)
}

func (t *tunDevice) close() { _ = t.f.Close() }
