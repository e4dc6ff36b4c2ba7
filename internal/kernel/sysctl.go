package kernel

import (
	"fmt"
	"os"
)

// portRangeFile is shown for the network namespace of the thread that opens it.
const portRangeFile = "/proc/sys/net/ipv4/ip_local_port_range"

// LocalPortRange returns the ports, both ends included, that the kernel takes for its own connections, IPv4 and IPv6.
func LocalPortRange() (lo, hi uint16, err error) {
	text, err := os.ReadFile(portRangeFile)
	if err != nil {
		return 0, 0, fmt.Errorf("kernel: %w", err)
	}
	if _, err := fmt.Sscan(string(text), &lo, &hi); err != nil {
		return 0, 0, fmt.Errorf("kernel: %s: %q: %w", portRangeFile, text, err)
	}
	return lo, hi, nil
}
