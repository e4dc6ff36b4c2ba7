package lab

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of the ethtool ioctl, linux/ethtool.h. Each takes a struct ethtool_value.
const (
	ethtoolSetTX  = 0x17 // ETHTOOL_STXCSUM
	ethtoolSetTSO = 0x1f // ETHTOOL_STSO
	ethtoolSetGSO = 0x24 // ETHTOOL_SGSO
)

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ command, data uint32 }

// ifreqData is struct ifreq with the pointer member of its union.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// segmentationOff does what `ethtool -K NAME tso off gso off` does, in the calling thread's namespace.
func segmentationOff(name string) error { return turnOff(name, ethtoolSetTSO, ethtoolSetGSO) }

// checksumOff does what `ethtool -K NAME tx off` does, in the calling thread's namespace.
func checksumOff(name string) error { return turnOff(name, ethtoolSetTX) }

func turnOff(name string, commands ...uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lab: ethtool: %w", err)
	}
	defer unix.Close(fd)
	for _, command := range commands {
		value := &ethtoolValue{command: command}
		req := &ifreqData{data: unsafe.Pointer(value)}
		copy(req.name[:unix.IFNAMSIZ-1], name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(req)))
		runtime.KeepAlive(value)
		if errno != 0 {
			return fmt.Errorf("lab: ethtool: %s: %w", name, errno)
		}
	}
	return nil
}
