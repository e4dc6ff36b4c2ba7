package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// segment is the network that the doctor asks on: a packet socket on one interface.
type segment struct {
	ctx  context.Context // ends every wait
	conn *packet.Conn
	name string
	mac  wire.MAC
	mtu  int
	buf  []byte
}

func openSegment(ctx context.Context, l netlink.Link) (*segment, error) {
	attrs := l.Attrs()
	if len(attrs.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet interface", attrs.Name)
	}
	ifi := &net.Interface{Index: attrs.Index, Name: attrs.Name, HardwareAddr: attrs.HardwareAddr, MTU: attrs.MTU}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return nil, fmt.Errorf("packet socket on %s: %w", attrs.Name, err)
	}
	s := &segment{ctx: ctx, conn: conn, name: attrs.Name, mac: wire.MAC(attrs.HardwareAddr), mtu: attrs.MTU,
		buf: make([]byte, 1<<16)}
	if err := s.ignoreOutgoing(); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *segment) ignoreOutgoing() error {
	rc, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	})
	return errors.Join(cerr, err)
}

// listen lets only frames through that can be an answer: ARP, what is to one of the addresses, and over IPv6 all ICMP. A
// director sees far more than the doctor could read.
func (s *segment) listen(addrs ...netip.Addr) error {
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: wire.TypeARP, SkipTrue: 1}, bpf.RetConstant{Val: 1 << 16}}
	for _, a := range addrs {
		etherType, at := uint32(wire.TypeIPv4), uint32(wire.EthernetLen+16)
		if a.Is6() {
			etherType, at = wire.TypeIPv6, wire.EthernetLen+24
		}
		b := a.AsSlice()
		words := len(b) / 4
		prog = append(prog, bpf.LoadAbsolute{Off: 12, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherType, SkipTrue: uint8(2*words + 1)})
		for i := range words {
			prog = append(prog, bpf.LoadAbsolute{Off: at + uint32(4*i), Size: 4}, bpf.JumpIf{Cond: bpf.JumpNotEqual,
				Val: binary.BigEndian.Uint32(b[4*i:]), SkipTrue: uint8(2*(words-1-i) + 1)})
		}
		prog = append(prog, bpf.RetConstant{Val: 1 << 16})
	}
	raw, err := bpf.Assemble(append(prog, bpf.RetConstant{}))
	if err != nil {
		return err
	}
	return s.conn.SetBPF(raw)
}

func (s *segment) close() { _ = s.conn.Close() }

// send sends a packet in a frame of its own.
func (s *segment) send(dst wire.MAC, b []byte) error {
	etherType := uint16(wire.TypeARP)
	switch b[0] >> 4 {
	case 4:
		etherType = wire.TypeIPv4
	case 6:
		etherType = wire.TypeIPv6
	}
	frame := append(append(append([]byte{}, dst[:]...), s.mac[:]...), byte(etherType>>8), byte(etherType))
	_, err := s.conn.WriteTo(append(frame, b...), &packet.Addr{HardwareAddr: dst[:]})
	if err != nil {
		return fmt.Errorf("backend: send on %s: %w", s.name, err)
	}
	return nil
}

// tries is how often a question is asked before silence is believed.
const tries = 2

// ask sends and reads until take is content with an answer or the time is over, twice at most. It returns nil for
// silence.
func (s *segment) ask(timeout time.Duration, send func() error, take func(*answer) bool) (*answer, error) {
	for range tries {
		if err := send(); err != nil {
			return nil, err
		}
		if a, err := s.read(timeout/tries, take); a != nil || err != nil {
			return a, err
		}
	}
	return nil, nil
}

// read reads frames until take is content or the time is over.
func (s *segment) read(timeout time.Duration, take func(*answer) bool) (*answer, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(s.ctx, func() { _ = s.conn.SetReadDeadline(time.Now()) })
	defer stop()
	for {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		n, _, err := s.conn.ReadFrom(s.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, s.ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("backend: receive on %s: %w", s.name, err)
		}
		if a := parseAnswer(s.buf[:n]); a != nil && a.mac != s.mac && take(a) {
			return a, nil
		}
	}
}

// reservation keeps a port of this host for the doctor, so that nobody else gets it and this kernel does not answer for it.
type reservation struct {
	fds   []int
	table *nftables.Table // nil: no rule
	port  uint16
}

// reserve takes a port on an address of this host, TCP and UDP. Replies to it reach the packet socket; a rule keeps them
// from this kernel, which would reset them. A table that a killed doctor left is taken away. A kernel without nftables
// resets: then only the traces at the backend are untidier.
func reserve(addr netip.Addr) (*reservation, error) {
	var err error
	for range 16 {
		r := &reservation{}
		if err = r.bind(addr); err == nil {
			r.fence(addr)
			return r, nil
		}
		r.release()
	}
	return nil, fmt.Errorf("backend: no free port on %s: %w", addr, err)
}

func (r *reservation) bind(addr netip.Addr) error {
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		family := unix.AF_INET
		var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(r.port), Addr: [4]byte(addr.AsSlice()[:4])}
		if addr.Is6() {
			family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(r.port), Addr: addr.As16()}
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		r.fds = append(r.fds, fd)
		if err := unix.Bind(fd, sa); err != nil {
			return err
		}
		got, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		switch got := got.(type) {
		case *unix.SockaddrInet4:
			r.port = uint16(got.Port)
		case *unix.SockaddrInet6:
			r.port = uint16(got.Port)
		}
	}
	return nil
}

// doctorTable begins the names of the doctor's tables.
const doctorTable = "naru-doctor-"

func (r *reservation) fence(addr netip.Addr) {
	conn, err := nftables.New()
	if err != nil {
		return
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return
	}
	for _, t := range tables {
		if strings.HasPrefix(t.Name, doctorTable) {
			conn.DelTable(t)
		}
	}
	t := conn.AddTable(&nftables.Table{Name: fmt.Sprint(doctorTable, r.port), Family: nftables.TableFamilyINet})
	// Not in prerouting: with br_netfilter a bridge runs that hook before the packet socket on it sees the frame.
	chain := conn.AddChain(&nftables.Chain{Name: "replies", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRaw})
	n := networkOf(addr, 0)
	rule := append(n.family(), n.address(n.dst, addr)...)
	conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(rule,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.port)},
		&expr.Verdict{Kind: expr.VerdictDrop})})
	if conn.Flush() == nil { // without the rule the kernel resets, see reserve
		r.table = t
	}
}

func (r *reservation) release() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	if r.table == nil {
		return
	}
	if conn, err := nftables.New(); err == nil {
		conn.DelTable(r.table)
		_ = conn.Flush() // another doctor may have been faster
	}
}
