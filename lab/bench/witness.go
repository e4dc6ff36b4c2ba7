package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// watchedFlows is the share of a flood's flows that are numbered by the sender and looked at by a witness.
const watchedFlows = 64

// Where a datagram of a flood holds what, from the beginning of the frame.
const (
	flowAt = frameHead     // the flow's number, and behind it its complement
	seqAt  = frameHead + 8 // how often the flow has been sent, in flows that are watched
)

// Witnesses look at the watched flows where they arrive: is each packet whole, are they in order, does a flow stay with
// one server.
type witnesses struct {
	mu      sync.Mutex
	at      map[uint32]int    // by flow: the server
	last    map[uint32]uint32 // by flow: the last number
	seen    atomic.Uint64
	corrupt atomic.Uint64 // wrong checksum or content
	strays  atomic.Uint64 // at another server than the flow's first packet
	late    atomic.Uint64 // behind one that was sent later
}

// open opens a tap in the calling thread's namespace, that of a server, before the sink.
func (w *witnesses) open(server int, c *crew) error {
	leg, err := net.InterfaceByName(endLeg)
	if err != nil {
		return fmt.Errorf("bench: witness: %w", err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bench: witness: %w", err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("bench: witness: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	if err = attach(fd); err == nil {
		err = watch(epoll, fd, unix.EPOLLIN)
	}
	if err == nil {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: leg.Index})
	}
	if err != nil {
		unix.Close(fd)
		unix.Close(epoll)
		return fmt.Errorf("bench: witness: %w", err)
	}
	c.run(anyCPU, func() {
		defer unix.Close(epoll)
		defer unix.Close(fd)
		frame := make([]byte, 2048)
		c.events(epoll, func(int, uint32) {
			for {
				n, e := readNow(fd, frame)
				if e != 0 {
					return
				}
				w.look(server, frame[:n])
			}
		})
	})
	return nil
}

// attach lets only packets of watched flows through.
func attach(fd int) error {
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 23, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 36, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: floodPort, SkipTrue: 3},
		bpf.LoadAbsolute{Off: flowAt, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: watchedFlows - 1, SkipTrue: 1},
		bpf.RetConstant{Val: 2048},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		program[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))})
}

// look judges one frame.
func (w *witnesses) look(server int, b []byte) {
	w.seen.Add(1)
	if len(b) < seqAt+4 || !whole(b[14:]) {
		w.corrupt.Add(1)
		return
	}
	flow, seq := binary.BigEndian.Uint32(b[flowAt:]), binary.BigEndian.Uint32(b[seqAt:])
	if binary.BigEndian.Uint32(b[flowAt+4:]) != ^flow {
		w.corrupt.Add(1)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known := w.at[flow]
	switch {
	case !known:
		w.at[flow] = server
	case at != server:
		w.strays.Add(1)
	}
	if known && int32(seq-w.last[flow]) <= 0 {
		w.late.Add(1)
	}
	w.last[flow] = seq
}

// whole reports whether the checksums of an IPv4 packet with UDP are right, or that of UDP is one that a proxy's kernel has
// left for the hardware to finish, which on these cables is nobody: then it is the pseudo header's.
func whole(ip []byte) bool {
	length := int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0] != 0x45 || length < 28 || length > len(ip) || checksum(ip[:20], 0) != 0 {
		return false
	}
	udp := ip[20:length]
	pseudo := pseudoHeader(ip, len(udp))
	return checksum(udp, pseudo) == 0 || binary.BigEndian.Uint16(udp[6:]) == ^checksum(nil, pseudo)
}

// number gives the watched flows of a batch their next number.
func (f *flood) number(from, n int) {
	first := (from + watchedFlows - 1) / watchedFlows * watchedFlows
	for flow := first; flow < from+n; flow += watchedFlows {
		b := unsafe.Slice(f.iovs[flow].Base, f.size)
		binary.BigEndian.PutUint32(b[seqAt:], binary.BigEndian.Uint32(b[seqAt:])+1)
		finishUDP(b[14:])
	}
}

func newWitnesses() *witnesses { return &witnesses{at: map[uint32]int{}, last: map[uint32]uint32{}} }

// verdict says what was wrong, nil if nothing was.
func (w *witnesses) verdict() error {
	seen, corrupt, strays, late := w.seen.Load(), w.corrupt.Load(), w.strays.Load(), w.late.Load()
	switch {
	case seen == 0:
		return fmt.Errorf("no packet of a watched flow arrived")
	case corrupt+strays+late > 0:
		return fmt.Errorf("of %d packets looked at %d were damaged, %d at a wrong server, %d out of order", seen, corrupt,
			strays, late)
	}
	return nil
}
