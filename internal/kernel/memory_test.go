package kernel

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMemoryIsThereAtOnce: no packet meets a page that has never been touched.
func TestMemoryIsThereAtOnce(t *testing.T) {
	b, err := HugePages(3 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4<<20 {
		t.Errorf("%d bytes", len(b))
	}
	there := make([]byte, len(b)/os.Getpagesize())
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
		uintptr(unsafe.Pointer(&there[0]))); e != 0 {
		t.Fatal(e)
	}
	for i, v := range there {
		if v&1 == 0 {
			t.Fatalf("page %d of %d is not there", i, len(there))
		}
	}
	if _, err := HugePages(1 << 50); err == nil {
		t.Error("a pebibyte was there")
	}
}
