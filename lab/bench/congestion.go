package bench

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// controlDir is where the kernel tells its congestion controls, in the calling process's network namespace.
const controlDir = "/proc/sys/net/ipv4/"

// setCongestion gives a TCP socket a congestion control; "" leaves it the kernel's.
func setCongestion(fd int, control string) error {
	if control == "" {
		return nil
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, control); err != nil {
		return fmt.Errorf("congestion control %q: %w", control, err)
	}
	return nil
}

// CheckCongestion says whether the kernel has a congestion control, which as root it may load for it. The error names
// those that are there.
func CheckCongestion(control string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer unix.Close(fd)
	if err := setCongestion(fd, control); err != nil {
		return fmt.Errorf("bench: %w; there are: %s", err, readWords("tcp_available_congestion_control"))
	}
	return nil
}

// usedCongestion returns the congestion control of bulk streams for which none is chosen, "" if the kernel does not tell.
func usedCongestion(control string) string {
	if control != "" {
		return control
	}
	return readWords("tcp_congestion_control")
}

func readWords(name string) string {
	b, _ := os.ReadFile(controlDir + name) // "" then
	return strings.TrimSpace(string(b))
}
