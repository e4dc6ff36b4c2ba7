package wiretest

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Segmentation switches on or off what the kernel calls tso and gso of the interface: whether it takes TCP
// super-frames, and whether the kernel makes super-frames for it at all.
func (n *NS) Segmentation(t testing.TB, name string, on bool) {
	t.Helper()
	n.ethtool(t, name, on, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO)
}

// Checksumming switches on or off whether the interface computes checksums of what it sends. Off, the kernel does it
// before, and cuts every super-frame, of UDP too.
func (n *NS) Checksumming(t testing.TB, name string, on bool) {
	t.Helper()
	n.ethtool(t, name, on, unix.ETHTOOL_STXCSUM)
}

// noOffloads makes the interface finish every checksum itself and neither join nor cut segments.
func noOffloads(t testing.TB, n *NS, name string) {
	t.Helper()
	n.ethtool(t, name, false, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_SRXCSUM,
		unix.ETHTOOL_STXCSUM)
}

// ethtool gives several commands one value.
func (n *NS) ethtool(t testing.TB, name string, on bool, cmds ...uint32) {
	t.Helper()
	n.Do(t, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("wiretest: %s: socket: %v", n, err)
		}
		defer unix.Close(fd)
		for _, cmd := range cmds {
			if err := ethtoolSet(fd, name, cmd, on); err != nil {
				t.Fatalf("wiretest: %s/%s: ethtool command %#x: %v", n, name, cmd, err)
			}
		}
	})
}

// ethtoolSet runs an ethtool command that takes one value (struct ethtool_value of linux/ethtool.h).
func ethtoolSet(fd int, name string, cmd uint32, on bool) error {
	value := [2]uint32{cmd, 0}
	if on {
		value[1] = 1
	}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	req.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
