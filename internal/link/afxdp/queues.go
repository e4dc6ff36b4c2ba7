package afxdp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// queues returns how many receive queues an interface uses (ethtool -l): one, when it does not say.
func (x *Interfaces) queues(name string) int {
	var channels struct {
		cmd                                                      uint32
		maxRx, maxTx, maxOther, maxCombined, rx, tx, other, both uint32
	}
	channels.cmd = unix.ETHTOOL_GCHANNELS
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}{data: unsafe.Pointer(&channels)}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(x.ethtool), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return 1
	}
	return max(1, int(channels.rx+channels.both))
}
