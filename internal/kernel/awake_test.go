package kernel

import (
	"encoding/binary"
	"os"
	"testing"

	"naru/internal/wiretest"
)

// allowed returns what delay the kernel keeps to, in microseconds.
func allowed(t *testing.T) uint32 {
	t.Helper()
	f, err := os.Open(latencyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint32(b[:])
}

func TestProcessorsStayAwakeUntilClose(t *testing.T) {
	wiretest.Root(t)
	if _, err := os.Stat(latencyFile); err != nil {
		t.Skipf("this kernel has no PM QoS: %v", err)
	}
	before := allowed(t)
	a, err := KeepAwake()
	if err != nil {
		t.Fatal(err)
	}
	if us := allowed(t); us != 0 {
		t.Errorf("a waking processor may take %d us, want 0", us)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if us := allowed(t); us == 0 && before != 0 {
		t.Error("processors are kept awake after Close")
	}
}
