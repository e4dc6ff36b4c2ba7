package main

import (
	"encoding/binary"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestBusyPollKeepsProcessorsAwake serves without ever sleeping, and looks what delay of a waking processor the kernel
// keeps to meanwhile.
func TestBusyPollKeepsProcessorsAwake(t *testing.T) {
	n := newLiveNet(t)
	n.write(t, strings.Replace(liveConfig, "version: 1", "version: 1\nio: {busy_poll: true}", 1))
	p := n.run(t)
	n.mustServe(t, 80)
	if f, err := os.Open("/dev/cpu_dma_latency"); err == nil { // where the kernel has PM QoS
		var us [4]byte
		_, err := f.Read(us[:])
		f.Close()
		if err != nil || binary.NativeEndian.Uint32(us[:]) != 0 {
			t.Errorf("a waking processor may take %d us, want 0 (%v)", binary.NativeEndian.Uint32(us[:]), err)
		}
	} else {
		p.waitFor(t, "has to wait for it")
	}
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
