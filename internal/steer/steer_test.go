package steer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// machine runs a program as the kernel does: on what stands behind the Ethernet header, whose EtherType it also knows.
type machine struct{ vm *bpf.VM }

func newMachine(t testing.TB, p *Plan) machine {
	t.Helper()
	code, err := p.Program()
	if err != nil {
		t.Fatal(err)
	}
	var program []bpf.Instruction
	for _, in := range code {
		// The interpreter does not know the EtherType: it stands in front of the bytes.
		switch in := bpf.RawInstruction(in).Disassemble().(type) {
		case bpf.LoadExtension:
			program = append(program, bpf.LoadAbsolute{Off: 0, Size: 2})
		case bpf.LoadIndirect:
			program = append(program, bpf.LoadIndirect{Off: in.Off + 2, Size: in.Size})
		case bpf.RawInstruction:
			t.Fatalf("%+v is no instruction", in)
		default:
			program = append(program, in)
		}
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

func (m machine) run(t testing.TB, frame []byte) int {
	t.Helper()
	n, err := m.vm.Run(frame[12:])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// maker makes packets of a few addresses and any ports, in both families.
type maker struct {
	*rand.Rand
	addrs [2][]wire.Addr // IPv4, IPv6
}

func (m *maker) addr(v6 bool) wire.Addr {
	list := m.addrs[0]
	if v6 {
		list = m.addrs[1]
	}
	return list[m.IntN(len(list))]
}

func (m *maker) plan(workers int) *Plan {
	var lists [3][]wire.Addr // no address is in two, but backends may be anything else
	for _, family := range m.addrs {
		for i, a := range family {
			if k := (i + m.IntN(2)) % 5; k < 3 {
				lists[k] = append(lists[k], a)
			}
		}
	}
	return New(Options{Workers: workers, Key: m.Uint64(), ByPort: m.IntN(4) == 0, Locals: lists[0], VIPs: lists[1],
		Routed: lists[2]})
}

func newMaker(seed uint64) *maker {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range 24 {
		m.addrs[0] = append(m.addrs[0], wire.Addr4([]byte{10, byte(m.IntN(2)), 7, byte(i)}))
		a := wire.Addr{0x20, 1, 0xd, 0xb8, 15: byte(i), 9: byte(m.IntN(3))}
		m.addrs[1] = append(m.addrs[1], a)
	}
	return m
}

// ip makes an IP packet around a payload, with options, and in IPv6 with the extension headers given.
func (m *maker) ip(src, dst wire.Addr, proto uint8, frag uint16, ext []uint8, payload []byte) []byte {
	be := binary.BigEndian
	if src.Is4() {
		options := 4 * m.IntN(11)
		b := make([]byte, 20+options, 20+options+len(payload))
		b[0], b[8], b[9] = byte(0x45+options/4), 64, proto
		be.PutUint16(b[2:], uint16(len(b)+len(payload)))
		be.PutUint16(b[6:], frag)
		copy(b[12:], src[12:])
		copy(b[16:], dst[12:])
		for i := range options {
			b[20+i] = 1
		}
		be.PutUint16(b[10:], ^wiretest.SlowChecksum(b, 0))
		return append(b, payload...)
	}
	b := make([]byte, 40)
	b[0], b[7] = 0x60, 64
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	next := 6
	for _, e := range ext {
		b[next] = e
		next = len(b)
		h := make([]byte, 8)
		if e == extFragment {
			be.PutUint16(h[2:], frag)
		}
		b = append(b, h...)
	}
	b[next] = proto
	be.PutUint16(b[4:], uint16(len(b)-40+len(payload)))
	return append(b, payload...)
}

// transport makes a TCP or UDP header.
func (m *maker) transport() (proto uint8, b []byte) {
	proto, b = wire.ProtoUDP, make([]byte, 28)
	if m.IntN(2) == 0 {
		proto = wire.ProtoTCP
		b[12] = 0x50
	} else {
		b[5] = 28
	}
	binary.BigEndian.PutUint16(b, uint16(m.Uint32()))
	binary.BigEndian.PutUint16(b[2:], uint16(m.Uint32()))
	return proto, b
}

// ethernet puts a frame around an IP packet, with up to two tags in its bytes.
func (m *maker) ethernet(ip []byte) []byte {
	b := make([]byte, 12, 64+len(ip))
	for range max(0, m.IntN(6)-3) {
		b = append(b, 0x81, 0, 0, 7)
	}
	if ip[0]>>4 == 4 {
		b = append(b, 0x08, 0x00)
	} else {
		b = append(b, 0x86, 0xdd)
	}
	return append(b, ip...)
}

func parsed(t *testing.T, frame []byte) wire.Packet {
	t.Helper()
	p := wiretest.Packet(frame)
	if why := p.ParseLink(); why != wire.ReasonNone {
		t.Fatalf("%v: %x", why, frame)
	}
	if why := p.ParseNetwork(); why != wire.ReasonNone {
		t.Fatalf("%v: %x", why, frame)
	}
	return p
}

// random makes a packet of any kind and says whose it is by what the engine would read in it.
func (m *maker) random(t *testing.T, p *Plan) (kind string, frame []byte, want int) {
	v6 := m.IntN(2) == 0
	src, dst := m.addr(v6), m.addr(v6)
	proto, inner := m.transport()
	switch m.IntN(5) {
	case 0:
		frame = m.ethernet(m.ip(src, dst, proto, 0, nil, inner))
		q := parsed(t, frame)
		return "whole", frame, p.Owner(&q.Flow)
	case 1:
		icmp, kinds := uint8(wire.ProtoICMP), []byte{wire.ICMPUnreachable, wire.ICMPTimeExceeded, wire.ICMPParameter}
		if v6 {
			icmp, kinds = wire.ProtoICMPv6, []byte{1, 2, 3, 4}
		}
		quoted := m.ip(m.addr(v6), src, proto, 0, nil, inner)
		// Cut anywhere behind the ports and the four bytes after them.
		quoted = quoted[:len(quoted)-m.IntN(len(inner)-8+1)]
		frame = m.ethernet(m.ip(m.addr(v6), dst, icmp, 0, nil, append([]byte{kinds[m.IntN(len(kinds))], 7: 0}, quoted...)))
		var q wire.Quote
		if e := parsed(t, frame); !e.ICMPError() || !e.ParseQuote(&q) {
			t.Fatalf("no error that quotes: %x", frame)
		}
		f := q.Flow.Reverse()
		return "icmp error", frame, p.Owner(&f)
	case 2:
		frag, ext := []uint16{0x2000, 0x2000 | 5, 5}[m.IntN(3)], []uint8{extFragment}
		if v6 {
			frag = []uint16{1, 40 | 1, 40}[m.IntN(3)]
			if m.IntN(2) == 0 {
				ext = []uint8{extDest, extFragment}
			}
		}
		frame = m.ethernet(m.ip(src, dst, proto, frag, ext, inner[:24]))
		if q := parsed(t, frame); q.Frag == wire.Whole {
			t.Fatalf("no fragment: %x", frame)
		}
		return "fragment", frame, p.Pair(src, dst)
	case 3:
		if !v6 {
			return "another protocol", m.ethernet(m.ip(src, dst, 132, 0, nil, inner)), 0
		}
		return "extension header", m.ethernet(m.ip(src, dst, proto, 0, []uint8{extHopByHop}, inner)), p.Pair(src, dst)
	default:
		if v6 { // a neighbour solicitation
			return "discovery", m.ethernet(m.ip(src, dst, wire.ProtoICMPv6, 0, nil, append([]byte{135}, make([]byte, 23)...))), 0
		}
		return "echo", m.ethernet(m.ip(src, dst, wire.ProtoICMP, 0, nil, []byte{8, 0, 0, 0, 0, 1, 0, 2})), 0
	}
}

func TestTheProgramNamesTheOwner(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 7, 16, 64} {
		m := newMaker(uint64(workers))
		seen, busy := map[string]int{}, make([]int, workers)
		for range 8 {
			p := m.plan(workers)
			vm := newMachine(t, p)
			for range 1500 {
				kind, frame, want := m.random(t, p)
				if workers == 1 {
					want = 0
				}
				if got := vm.run(t, frame); got != want {
					t.Fatalf("%d workers: %s: the program names %d, want %d: %x", workers, kind, got, want, frame)
				}
				seen[kind]++
				busy[want]++
			}
		}
		if len(seen) != 7 {
			t.Errorf("only these kinds came: %v", seen)
		}
		for w, n := range busy {
			if n == 0 {
				t.Errorf("%d workers: worker %d gets nothing", workers, w)
			}
		}
	}
}

func TestWhatIsCutGoesToTheFirstWorker(t *testing.T) {
	m := newMaker(5)
	p := m.plan(4)
	vm := newMachine(t, p)
	src, dst := m.addr(false), m.addr(false)
	_, inner := m.transport()
	whole := m.ethernet(m.ip(src, dst, wire.ProtoTCP, 0, nil, inner))
	if got := vm.run(t, whole[:len(whole)-27]); got != 0 {
		t.Errorf("without ports: worker %d", got)
	}
	if got := vm.run(t, []byte{12: 8, 13: 6, 27: 0}); got != 0 {
		t.Errorf("ARP: worker %d", got)
	}
}

// Both directions of a connection, and errors about them, must meet at one worker, in every mode.
func TestAConnectionHasOneOwner(t *testing.T) {
	a := func(last byte) wire.Addr { return wire.Addr4([]byte{10, 0, 0, last}) }
	client, vip, local, backend, routed, vip2 := a(1), a(2), a(3), a(4), a(5), a(6)
	for _, byPort := range []bool{false, true} {
		p := New(Options{Workers: 5, Key: 0x123456789abcdef1, ByPort: byPort, Locals: []wire.Addr{local},
			VIPs: []wire.Addr{vip, vip2}, Routed: []wire.Addr{routed}})
		for port := range uint16(2000) {
			request := wire.Flow{Src: client, Dst: vip, SrcPort: port, DstPort: 80, Proto: wire.ProtoTCP}
			owner := p.Owner(&request)
			for name, reply := range map[string]wire.Flow{
				"nat": {Src: routed, Dst: client, SrcPort: 8080, DstPort: port, Proto: wire.ProtoTCP},
				// The pool of a worker has the ports that are its own by remainder.
				"full NAT": {Src: backend, Dst: local, SrcPort: 8080, DstPort: 5*(port/5) + uint16(owner), Proto: wire.ProtoTCP},
			} {
				if got := p.Owner(&reply); got != owner {
					t.Fatalf("%s: port %d: request to %d, reply to %d", name, port, owner, got)
				}
			}
			if kept := (wire.Flow{Src: backend, Dst: local, SrcPort: 80, DstPort: port}); byPort && p.Owner(&kept) != owner {
				t.Fatalf("the client's port %d belongs to another worker", port)
			}
			// A backend of mode nat that is the client of another service.
			asks := wire.Flow{Src: routed, Dst: vip2, SrcPort: port, DstPort: 81, Proto: wire.ProtoTCP}
			answer := wire.Flow{Src: backend, Dst: routed, SrcPort: 81, DstPort: port, Proto: wire.ProtoTCP}
			both := New(Options{Workers: 5, Key: 1 << 40, ByPort: byPort, VIPs: []wire.Addr{vip2}, Routed: []wire.Addr{routed, backend}})
			if x, y := both.Owner(&asks), both.Owner(&answer); x != y {
				t.Fatalf("between two backends of mode nat: %d and %d", x, y)
			}
		}
	}
}

// Clients that count their ports up, in twos as Linux does, must not all meet at one worker.
func TestClientsAreSpreadEvenly(t *testing.T) {
	for _, workers := range []int{2, 4, 6, 16} {
		for _, key := range []uint64{0, 1, 0xfedcba9876543210} {
			p := New(Options{Workers: workers, Key: key * 0x9e3779b97f4a7c15})
			for name, next := range map[string]func(i int) wire.Flow{
				"ports of one client": func(i int) wire.Flow {
					return wire.Flow{Src: wire.Addr4([]byte{10, 20, 40, 80}), SrcPort: uint16(32768 + 2*i)}
				},
				"clients with one port": func(i int) wire.Flow {
					return wire.Flow{Src: wire.Addr4([]byte{10, 20, byte(i >> 8), byte(i)}), SrcPort: 5060}
				},
				"clients of IPv6": func(i int) wire.Flow {
					return wire.Flow{Src: wire.Addr{0x20, 1, 6: byte(i >> 8), 7: byte(i)}, SrcPort: 443}
				},
			} {
				const n = 12000
				got := make([]int, workers)
				for i := range n {
					f := next(i)
					got[p.Owner(&f)]++
				}
				for w, k := range got {
					if k < n/workers*7/10 || k > n/workers*13/10 {
						t.Errorf("%s, %d workers, key %x: worker %d gets %d of %d", name, workers, key, w, k, n)
					}
				}
			}
		}
	}
}

func TestTooManyAddressesAreRefused(t *testing.T) {
	var many []wire.Addr
	for i := range 5000 {
		many = append(many, wire.Addr4([]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	p := New(Options{Workers: 2, Locals: many})
	if _, err := p.Program(); err == nil || !strings.Contains(err.Error(), "5000 local addresses") {
		t.Errorf("got %v", err)
	}
	p = New(Options{Workers: 2, Locals: many[:1000]})
	if code, err := p.Program(); err != nil || len(code) > maxProgram {
		t.Errorf("1000 addresses: %d instructions, %v", len(code), err)
	}
	if o := p.Options(); fmt.Sprint(o.Workers, len(o.Locals)) != "2 1000" {
		t.Errorf("options %v", o)
	}
}

// TestTheKernelTakesTheProgram: its checker follows every path and wants each place in scratch memory written before it is
// read, which an interpreter does not tell.
func TestTheKernelTakesTheProgram(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	for _, workers := range []int{1, 2, 64} {
		m := newMaker(uint64(workers))
		plans := []*Plan{New(Options{Workers: workers})}
		for range 8 {
			plans = append(plans, m.plan(workers))
		}
		for _, p := range plans {
			code, err := p.Program()
			if err != nil {
				t.Fatal(err)
			}
			filter := make([]unix.SockFilter, len(code))
			for i, in := range code {
				filter[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
			}
			prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
			if err := unix.SetsockoptSockFprog(fds[0], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
				t.Fatalf("%+v: %v", p.Options(), err)
			}
		}
	}
}
