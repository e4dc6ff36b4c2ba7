package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// steer makes all CPUs but the first, where floods are sent from, take packets that an interface of a node receives:
// receive packet steering.
func (n *network) steer(node, leg string) error {
	err := n.Do(node, func() error {
		runtime.LockOSThread() // once more than Do: the thread, which gets mounts of its own, ends
		return inOwnMounts(func() error {
			return os.WriteFile("/sys/class/net/"+leg+"/queues/rx-0/rps_cpus", []byte(otherCPUs(runtime.NumCPU())), 0)
		})
	})
	if err != nil {
		return fmt.Errorf("receive packet steering on %s: %w", leg, err)
	}
	return nil
}

// inOwnMounts gives the calling thread mounts in which /sys shows its network namespace, and runs f.
func inOwnMounts(f func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mounts: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mounts: sysfs: %w", err)
	}
	return f()
}

// otherCPUs returns all of n CPUs but the first as the kernel writes a set: words of 32 bits in hexadecimal, the
// highest first. With one CPU it is that one.
func otherCPUs(n int) string {
	words := make([]uint32, (n+31)/32)
	for i := 1; i < n; i++ {
		words[i/32] |= 1 << (i % 32)
	}
	if n == 1 {
		words[0] = 1
	}
	var text []string
	for _, w := range words {
		text = append([]string{fmt.Sprintf("%08x", w)}, text...)
	}
	return strings.Join(text, ",")
}
