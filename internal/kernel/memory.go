package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HugePages maps size bytes of zeroed memory outside the garbage collector's view and asks for huge pages (madvise(2),
// MADV_HUGEPAGE): a table of a million connections misses the TLB on every packet otherwise. Pages are taken as they are
// touched. Where the kernel has no transparent huge pages the memory has small ones. It is never unmapped.
func HugePages(size int) ([]byte, error) {
	const huge = 2 << 20
	b, err := unix.Mmap(-1, 0, (size+huge-1)/huge*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("kernel: mapping %d bytes: %w", size, err)
	}
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // EINVAL without transparent huge pages
	return b, nil
}
