package wiretest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Checksumming switches on or off whether the interface computes checksums of what it sends. Off, the kernel does it
// before, and cuts every super-frame, of UDP too.
func (n *NS) Checksumming(t testing.TB, name string, on bool) {
	t.Helper()
	n.Do(t, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("wiretest: %s: socket: %v", n, err)
		}
		defer unix.Close(fd)
		if err := ethtoolSet(fd, name, unix.ETHTOOL_STXCSUM, on); err != nil {
			t.Fatalf("wiretest: %s/%s: switch checksums: %v", n, name, err)
		}
	})
}
