package afpacket

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Fanout spreads the frames of one interface over several devices, all opened in one network namespace with the same
// Group and Program: each frame goes to exactly one of them.
type Fanout struct {
	// Group is the number that the members have in common; it is one name space per network namespace.
	Group uint16

	// Program names the member for a frame: its result modulo the number of members, members counted from 0 in the
	// order in which they were opened. Offsets count from the network header, not from the Ethernet header. The last
	// program set is the group's.
	Program []bpf.Instruction
}

// join makes the bound socket a member of the group.
func (f *Fanout) join(fd int) error {
	raw, err := bpf.Assemble(f.Program)
	if err != nil {
		return fmt.Errorf("fanout program: %w", err)
	}
	if len(raw) == 0 {
		return fmt.Errorf("fanout program: empty")
	}
	// The group receives through a hook of its own, for which the socket's PACKET_IGNORE_OUTGOING does not count.
	arg := int(f.Group) | (unix.PACKET_FANOUT_CBPF|unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING)<<16
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, arg); err != nil {
		return fmt.Errorf("PACKET_FANOUT: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, &prog); err != nil {
		return fmt.Errorf("PACKET_FANOUT_DATA: %w", err)
	}
	return nil
}
