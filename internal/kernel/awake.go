package kernel

import (
	"fmt"
	"os"
)

// latencyFile is where a process says which delay of a waking processor it bears (PM QoS, see the kernel's
// Documentation/power/pm_qos_interface.rst). What is written holds for as long as the file is open.
const latencyFile = "/dev/cpu_dma_latency"

// An Awake keeps the processors of this host from sleeping.
type Awake struct{ f *os.File }

// KeepAwake asks the kernel that idle processors of the whole host wait without halting until Close: whoever is woken on
// one then runs within a microsecond or two, for the price of their power, and in a virtual machine of their time. It
// needs write access to /dev/cpu_dma_latency, root's as a rule.
func KeepAwake() (*Awake, error) {
	f, err := os.OpenFile(latencyFile, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel: keep processors awake: %w", err)
	}
	if _, err := f.Write(make([]byte, 4)); err != nil { // a number of microseconds
		_ = f.Close()
		return nil, fmt.Errorf("kernel: keep processors awake: %w", err)
	}
	return &Awake{f}, nil
}

// Close lets the processors sleep again, unless somebody else keeps them awake.
func (a *Awake) Close() error { return a.f.Close() }
