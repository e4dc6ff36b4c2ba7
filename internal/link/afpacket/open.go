package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"unsafe"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// lookup finds the interface and says what is wrong with it in words that an operator can act on.
func lookup(name string) (*net.Interface, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("afpacket: %s: no such interface (there are: %s): %w", name, strings.Join(names(), ", "),
			err)
	}
	switch {
	case ifi.Flags&net.FlagLoopback != 0 || len(ifi.HardwareAddr) != 6:
		return nil, fmt.Errorf("afpacket: %s: not an Ethernet interface", name)
	case ifi.Flags&net.FlagUp == 0:
		return nil, fmt.Errorf("afpacket: %s: interface is down; set it up first (ip link set %s up)", name, name)
	}
	return ifi, nil
}

// names lists the interfaces there are; a failure only makes the message poorer.
func names() []string {
	ifis, err := net.Interfaces()
	if err != nil {
		return []string{"unknown"}
	}
	var list []string
	for _, ifi := range ifis {
		list = append(list, ifi.Name)
	}
	return list
}

// listen makes a packet socket that receives nothing: protocol 0, and a filter that drops all. What setup does on it
// is in force before anything can arrive.
func listen(ifi *net.Interface, setup func(fd int) error) (*sock, error) {
	drop, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return nil, fmt.Errorf("afpacket: %s: %w", ifi.Name, err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, 0, &packet.Config{Filter: drop})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("afpacket: %s: packet socket needs CAP_NET_RAW (and CAP_NET_ADMIN): %w", ifi.Name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("afpacket: %s: %w", ifi.Name, err)
	}
	s, err := detach(conn, "packet:"+ifi.Name)
	if err != nil {
		return nil, fmt.Errorf("afpacket: %s: %w", ifi.Name, err)
	}
	if err := s.control(setup); err != nil {
		s.close()
		return nil, fmt.Errorf("afpacket: %s: %w", ifi.Name, err)
	}
	return s, nil
}

// listenRx opens the receiving socket. The order is the point: the options first, then bind, then the fanout group
// (which only a bound socket may join), and the filter is lifted last.
func listenRx(ifi *net.Interface, opt *Options) (s *sock, r *ring, err error) {
	s, err = listen(ifi, func(fd int) (err error) {
		if err := checkEthernet(fd); err != nil {
			return err
		}
		for _, o := range []option{
			{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1},
			{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1},
			{"PACKET_AUXDATA", unix.PACKET_AUXDATA, 1},
		} {
			if err := o.set(fd); err != nil {
				return err
			}
		}
		setBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, opt.RecvBuffer)
		if opt.Driver == Ring {
			if r, err = newRing(fd, opt.Slots, ifi.MTU, opt.Batch); err != nil {
				return err
			}
		}
		// Not ETH_P_IP: such a socket comes after nftables ingress and would see nothing behind the fence.
		sa := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifi.Index}
		if err := unix.Bind(fd, &sa); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		if opt.Fanout != nil {
			if err := opt.Fanout.join(fd); err != nil {
				return err
			}
		}
		return letIn(fd, opt.Filter)
	})
	if err != nil && r != nil {
		r.close()
	}
	return s, r, err
}

// letIn puts the filter in place of the one that has let nothing in, or no filter at all.
func letIn(fd int, filter []bpf.RawInstruction) error {
	if filter == nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
			return fmt.Errorf("lift filter: %w", err)
		}
		return nil
	}
	var prog []unix.SockFilter
	for _, i := range filter {
		prog = append(prog, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
		return fmt.Errorf("set filter: %w", err)
	}
	return nil
}

// listenTx opens a sending socket. It stays bound with protocol 0 and receives nothing.
func listenTx(ifi *net.Interface, opt *Options, bypass bool) (*sock, error) {
	return listen(ifi, func(fd int) error {
		if err := (option{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1}).set(fd); err != nil {
			return err
		}
		setBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, opt.SendBuffer)
		if !bypass {
			return nil
		}
		return option{"PACKET_QDISC_BYPASS", unix.PACKET_QDISC_BYPASS, 1}.set(fd)
	})
}

// An option is one integer option of a packet socket.
type option struct {
	name  string
	opt   int
	value int
}

func (o option) set(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o.opt, o.value); err != nil {
		return fmt.Errorf("%s: %w", o.name, err)
	}
	return nil
}

// setBuffer asks for a buffer beyond the system's limit and, without CAP_NET_ADMIN, for as much as the limit allows:
// a smaller buffer drops sooner, and drops are counted.
func setBuffer(fd, force, plain, bytes int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bytes)
	}
}

// checkEthernet refuses link types that have six-byte addresses but other headers (monitor mode, for one).
func checkEthernet(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	if ll, ok := sa.(*unix.SockaddrLinklayer); !ok || ll.Hatype != unix.ARPHRD_ETHER {
		return errors.New("not an Ethernet interface")
	}
	return nil
}

// htons returns v as the kernel wants it in sll_protocol: network byte order.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
