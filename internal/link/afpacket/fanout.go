package afpacket

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"naru/internal/link"
)

// Fanout spreads the frames of one interface over several devices, all opened in one network namespace, one after the
// other, with the same Fanout: each frame goes to exactly one of them.
//
// Members are counted from 0 in the order in which they were opened. When one is closed, the last one takes its number;
// so devices are closed together. When the interface goes down all leave the group, and when it comes up again the kernel
// lets them join in the order in which their sockets were made: the numbers stay.
type Fanout struct {
	// Group is the number that the members have in common; it is one name space per network namespace. With 0 the first
	// member asks the kernel for one that nobody uses, and Open writes it here.
	Group uint16

	// Program names the member for a frame: its result modulo the number of members. Offsets count from the network
	// header, not from the Ethernet header. The last program set is the group's (Steer).
	Program []bpf.Instruction
}

// join makes the bound socket a member of the group.
func (f *Fanout) join(fd int) error {
	raw, err := bpf.Assemble(f.Program)
	if err != nil {
		return fmt.Errorf("fanout program: %w", err)
	}
	if len(raw) == 0 {
		return errors.New("fanout program: empty")
	}
	// The group receives through a hook of its own, for which the socket's PACKET_IGNORE_OUTGOING does not count.
	kind := unix.PACKET_FANOUT_CBPF | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if f.Group == 0 {
		kind |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, int(f.Group)|kind<<16); err != nil {
		return fmt.Errorf("PACKET_FANOUT: %w", err)
	}
	if f.Group == 0 {
		got, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return fmt.Errorf("PACKET_FANOUT: %w", err)
		}
		f.Group = uint16(got)
	}
	return setProgram(fd, raw)
}

// setProgram gives the group of a socket its program.
func setProgram(fd int, raw []bpf.RawInstruction) error {
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

// Steer replaces the program of the group that the device is in, for all members at once and without a gap; a device that
// was opened without Fanout is in none. It may be called from any goroutine.
func (d *Device) Steer(program []bpf.RawInstruction) error {
	if d.closed.Load() {
		return link.ErrClosed
	}
	if err := d.rx.sock.control(func(fd int) error { return setProgram(fd, program) }); err != nil {
		return fmt.Errorf("afpacket: %s: %w", d.name, err)
	}
	return nil
}
