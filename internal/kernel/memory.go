package kernel

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// HugePages maps size bytes of zeroed memory outside the garbage collector's view and asks for huge pages (madvise(2),
// MADV_HUGEPAGE): a table of a million connections misses the TLB on every packet otherwise. All of it is taken now,
// huge or not: the first touch of a huge page takes as long as thousands of packets, and the first hundred connections
// would meet one each. Where there is not so much memory the error says so. It is never unmapped.
func HugePages(size int) ([]byte, error) {
	const huge = 2 << 20
	b, err := unix.Mmap(-1, 0, (size+huge-1)/huge*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("kernel: mapping %d bytes: %w", size, err)
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // EINVAL without transparent huge pages
	switch err = unix.Madvise(b, unix.MADV_POPULATE_WRITE); {
	case errors.Is(err, unix.EINVAL): // before Linux 5.14
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 0
		}
	case err != nil:
		_ = unix.Munmap(b)
		return nil, fmt.Errorf("kernel: taking %d bytes of memory: %w", size, err)
	}
	return b, nil
}
