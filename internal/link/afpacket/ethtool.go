package afpacket

import (
	"bytes"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ethSSFeatures  = 4    // ETH_SS_FEATURES: the string set that names the feature bits
	ethGStringLen  = 32   // ETH_GSTRING_LEN
	maxFeatureBits = 1024 // our own bound on what the kernel says; it has about 64
)

// An ethtoolReq is struct ifreq with a pointer to an ethtool command.
type ethtoolReq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// ethtool runs one SIOCETHTOOL command, which lies in cmd as the kernel's struct of it.
func ethtool[T any](fd int, name string, cmd *T) error {
	req := ethtoolReq{data: unsafe.Pointer(cmd)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}

// activeFeatures returns the names of the offload features that are on for the interface, in the kernel's spelling
// (tx-tcp-segmentation). Bits have no fixed numbers, so the names are asked for too.
func activeFeatures(fd int, name string) (map[string]bool, error) {
	var info struct {
		cmd, reserved uint32
		mask          uint64
		n             uint32
	}
	info.cmd, info.mask = unix.ETHTOOL_GSSET_INFO, 1<<ethSSFeatures
	if err := ethtool(fd, name, &info); err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %w", err)
	}
	n := min(info.n, maxFeatureBits)

	var strs struct {
		cmd, set, n uint32
		data        [maxFeatureBits][ethGStringLen]byte
	}
	strs.cmd, strs.set, strs.n = unix.ETHTOOL_GSTRINGS, ethSSFeatures, n
	if err := ethtool(fd, name, &strs); err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSTRINGS: %w", err)
	}

	var feat struct {
		cmd, blocks uint32
		block       [maxFeatureBits / 32]struct{ available, requested, active, never uint32 }
	}
	feat.cmd, feat.blocks = unix.ETHTOOL_GFEATURES, (n+31)/32
	if err := ethtool(fd, name, &feat); err != nil {
		return nil, fmt.Errorf("ETHTOOL_GFEATURES: %w", err)
	}

	active := make(map[string]bool)
	for i := range n {
		if feat.block[i/32].active&(1<<(i%32)) != 0 {
			s, _, _ := bytes.Cut(strs.data[i][:], []byte{0})
			active[string(s)] = true
		}
	}
	return active, nil
}
