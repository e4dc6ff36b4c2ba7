package afxdp

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Keys of the maps. Addresses are 16 bytes, IPv4 mapped into IPv6; ports are in network byte order.
type (
	addrKey   [16]byte
	portKey   [20]byte // the address, the protocol, a zero, the port
	prefixKey [20]byte // the bits as the processor writes a number, the address
)

// Sizes of the maps: our own choices. Memory is taken as entries come.
const (
	maxAddrs    = 65536
	maxPorts    = 1 << 20
	maxPrefixes = 1024
)

// maps hold what naru owns; the programs of all interfaces read them.
type maps struct {
	whole    *ebpf.Map // addrKey: destinations that are naru's
	prefixes *ebpf.Map // prefixKey: likewise
	ports    *ebpf.Map // portKey: destinations
	replies  *ebpf.Map // portKey: sources
	backends *ebpf.Map // addrKey: the addresses of replies
	hosts    *ebpf.Map // addrKey: destinations that replies are not for
}

func newMaps() (m *maps, err error) {
	m = &maps{}
	for _, s := range []struct {
		name string
		to   **ebpf.Map
		spec ebpf.MapSpec
	}{
		{"naru_whole", &m.whole, ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, MaxEntries: maxAddrs}},
		{"naru_prefixes", &m.prefixes, ebpf.MapSpec{Type: ebpf.LPMTrie, KeySize: 20, MaxEntries: maxPrefixes}},
		{"naru_ports", &m.ports, ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, MaxEntries: maxPorts}},
		{"naru_replies", &m.replies, ebpf.MapSpec{Type: ebpf.Hash, KeySize: 20, MaxEntries: maxPorts}},
		{"naru_backends", &m.backends, ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, MaxEntries: maxAddrs}},
		{"naru_hosts", &m.hosts, ebpf.MapSpec{Type: ebpf.Hash, KeySize: 16, MaxEntries: maxAddrs}},
	} {
		s.spec.Name, s.spec.ValueSize, s.spec.Flags = s.name, 1, 1 // BPF_F_NO_PREALLOC
		if *s.to, err = ebpf.NewMap(&s.spec); err != nil {
			m.close()
			return nil, fmt.Errorf("map %s: %w", s.name, err)
		}
	}
	return m, nil
}

func (m *maps) close() {
	for _, x := range []*ebpf.Map{m.whole, m.prefixes, m.ports, m.replies, m.backends, m.hosts} {
		if x != nil {
			x.Close()
		}
	}
}

// Where the program keeps keys on its stack. The destination's and the source's portKey begin with their addresses.
const (
	stackDst    = -24
	stackSrc    = -48
	stackPrefix = -72
	keyProto    = 16
	keyPort     = 18
)

// What XDP programs return.
const (
	xdpDrop = 1
	xdpPass = 2
)

// Registers of the program: what they hold throughout.
const (
	regContext = asm.R6
	regHeader  = asm.R7 // of the network
	regEnd     = asm.R8
	regNext    = asm.R9 // the transport header's place; before it the EtherType
)

// program redirects what is naru's to the sockets in xsks, by queue, and leaves the rest to the kernel. With everything
// it redirects all frames; with replies it also looks at where packets come from.
func program(m *maps, xsks *ebpf.Map, everything, replies bool) (*ebpf.Program, error) {
	var ins asm.Instructions
	ins = append(ins, asm.Mov.Reg(regContext, asm.R1))
	if !everything {
		ins = append(ins, begin()...)
		ins = append(ins, ipv4()...)
		ins = append(ins, ipv6()...)
		ins = append(ins, owned(m)...)
		if replies {
			ins = append(ins, answered(m)...)
		}
		ins = append(ins, asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("pass"), asm.Return())
	}
	ins = append(ins,
		asm.LoadMapPtr(asm.R1, xsks.FD()).WithSymbol("redirect"),
		asm.LoadMem(asm.R2, regContext, 16, asm.Word), // rx_queue_index
		asm.Mov.Imm(asm.R3, xdpDrop),                  // where no socket serves the queue: the kernel would answer
		asm.FnRedirectMap.Call(),
		asm.Return(),
	)
	return ebpf.NewProgram(&ebpf.ProgramSpec{Name: "naru", Type: ebpf.XDP, Instructions: ins, License: "Apache-2.0"})
}

// need leaves to the kernel what has fewer than n bytes at reg.
func need(reg asm.Register, n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R2, reg),
		asm.Add.Imm(asm.R2, n),
		asm.JGT.Reg(asm.R2, regEnd, "pass"),
	}
}

// begin finds the network header behind at most two VLAN tags.
func begin() asm.Instructions {
	ins := asm.Instructions{
		asm.LoadMem(regHeader, regContext, 0, asm.Word),
		asm.LoadMem(regEnd, regContext, 4, asm.Word),
	}
	ins = append(ins, need(regHeader, 14)...)
	ins = append(ins,
		asm.LoadMem(regNext, regHeader, 12, asm.Half),
		asm.HostTo(asm.BE, regNext, asm.Half),
		asm.Add.Imm(regHeader, 14),
	)
	for _, tag := range []string{"tag1", "tag2"} {
		ins = append(ins, asm.JEq.Imm(regNext, 0x8100, tag), asm.JNE.Imm(regNext, 0x88a8, "untagged"))
		first := need(regHeader, 4)
		first[0] = first[0].WithSymbol(tag)
		ins = append(ins, first...)
		ins = append(ins,
			asm.LoadMem(regNext, regHeader, 2, asm.Half),
			asm.HostTo(asm.BE, regNext, asm.Half),
			asm.Add.Imm(regHeader, 4),
		)
	}
	clear := asm.Instructions{asm.Mov.Imm(asm.R1, 0).WithSymbol("untagged")}
	for at := int16(stackDst); at < 0; at += 8 {
		clear = append(clear, asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord))
	}
	for at := int16(stackSrc); at < stackDst; at += 8 {
		clear = append(clear, asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord))
	}
	return append(ins, clear...)
}

// ipv4 fills both keys from an IPv4 header. R1 is the protocol afterwards, R0 1 where the ports can be read.
func ipv4() asm.Instructions {
	ins := asm.Instructions{asm.JNE.Imm(regNext, 0x0800, "ipv6")}
	ins = append(ins, need(regHeader, 20)...)
	for _, a := range []struct{ key, at int16 }{{stackSrc, 12}, {stackDst, 16}} {
		ins = append(ins,
			asm.StoreImm(asm.RFP, a.key+10, 0xffff, asm.Half), // both bytes are the same in any order
			asm.LoadMem(asm.R1, regHeader, a.at, asm.Word),
			asm.StoreMem(asm.RFP, a.key+12, asm.R1, asm.Word),
		)
	}
	return append(ins,
		asm.LoadMem(asm.R3, regHeader, 6, asm.Half), // later fragments have no ports
		asm.HostTo(asm.BE, asm.R3, asm.Half),
		asm.And.Imm(asm.R3, 0x1fff),
		asm.LoadMem(asm.R1, regHeader, 9, asm.Byte),
		asm.LoadMem(asm.R4, regHeader, 0, asm.Byte),
		asm.And.Imm(asm.R4, 0x0f),
		asm.LSh.Imm(asm.R4, 2),
		asm.Mov.Reg(regNext, regHeader),
		asm.Add.Reg(regNext, asm.R4),
		asm.Mov.Imm(asm.R0, 0),
		asm.JNE.Imm(asm.R3, 0, "keys"),
		asm.Mov.Imm(asm.R0, 1),
		asm.Ja.Label("keys"),
	)
}

// ipv6 likewise; extension headers are not walked: what has them is found by its addresses alone.
func ipv6() asm.Instructions {
	ins := asm.Instructions{asm.JNE.Imm(regNext, 0x86dd, "pass").WithSymbol("ipv6")}
	ins = append(ins, need(regHeader, 40)...)
	for _, a := range []struct{ key, at int16 }{{stackSrc, 8}, {stackDst, 24}} {
		for i := int16(0); i < 16; i += 4 {
			ins = append(ins, asm.LoadMem(asm.R1, regHeader, a.at+i, asm.Word), asm.StoreMem(asm.RFP, a.key+i, asm.R1, asm.Word))
		}
	}
	return append(ins,
		asm.LoadMem(asm.R1, regHeader, 6, asm.Byte),
		asm.Mov.Reg(regNext, regHeader),
		asm.Add.Imm(regNext, 40),
		asm.Mov.Imm(asm.R0, 1),
	)
}

// owned redirects what is to an address or a port of naru's.
func owned(m *maps) asm.Instructions {
	ins := asm.Instructions{
		asm.StoreMem(asm.RFP, stackDst+keyProto, asm.R1, asm.Byte).WithSymbol("keys"),
		asm.StoreMem(asm.RFP, stackSrc+keyProto, asm.R1, asm.Byte),
		asm.JEq.Imm(asm.R0, 0, "portless"),
		asm.JEq.Imm(asm.R1, 6, "ports"),
		asm.JNE.Imm(asm.R1, 17, "portless"),
		asm.Mov.Reg(asm.R2, regNext).WithSymbol("ports"),
		asm.Add.Imm(asm.R2, 4),
		asm.JGT.Reg(asm.R2, regEnd, "portless"),
		asm.LoadMem(asm.R1, regNext, 0, asm.Half),
		asm.StoreMem(asm.RFP, stackSrc+keyPort, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, regNext, 2, asm.Half),
		asm.StoreMem(asm.RFP, stackDst+keyPort, asm.R1, asm.Half),
		asm.StoreImm(asm.RFP, stackPrefix, 128, asm.Word).WithSymbol("portless"),
	}
	for i := int16(0); i < 16; i += 4 {
		ins = append(ins, asm.LoadMem(asm.R1, asm.RFP, stackDst+i, asm.Word),
			asm.StoreMem(asm.RFP, stackPrefix+4+i, asm.R1, asm.Word))
	}
	ins = append(ins, lookup(m.whole, stackDst, "redirect")...)
	ins = append(ins, lookup(m.ports, stackDst, "redirect")...)
	return append(ins, lookup(m.prefixes, stackPrefix, "redirect")...)
}

// answered redirects what comes from a backend that answers through naru, unless it is for this host or for many: by its
// port, and fragments and ICMP errors by its address.
func answered(m *maps) asm.Instructions {
	ins := asm.Instructions{
		asm.LoadMem(asm.R1, regContext, 0, asm.Word),
		asm.LoadMem(asm.R2, regContext, 4, asm.Word),
		asm.Mov.Reg(asm.R3, asm.R1),
		asm.Add.Imm(asm.R3, 14),
		asm.JGT.Reg(asm.R3, asm.R2, "pass"),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Byte),
		asm.And.Imm(asm.R3, 1), // a group's MAC address
		asm.JNE.Imm(asm.R3, 0, "pass"),
	}
	ins = append(ins, lookup(m.hosts, stackDst, "pass")...)
	ins = append(ins, lookup(m.replies, stackSrc, "redirect")...)
	ins = append(ins,
		asm.LoadMem(asm.R1, asm.RFP, stackSrc+keyProto, asm.Byte),
		asm.LoadMem(asm.R3, asm.RFP, stackSrc+keyPort, asm.Half),
		asm.JEq.Imm(asm.R1, 1, "error"),
		asm.JEq.Imm(asm.R1, 58, "error"),
		asm.JEq.Imm(asm.R1, 44, "backend"), // an IPv6 fragment
		asm.JNE.Imm(asm.R3, 0, "pass"),     // it had a port, which is no service's
		asm.JEq.Imm(asm.R1, 6, "backend"),  // a later IPv4 fragment
		asm.JEq.Imm(asm.R1, 17, "backend"),
		asm.Ja.Label("pass"),
		asm.Mov.Reg(asm.R2, regNext).WithSymbol("error"),
		asm.Add.Imm(asm.R2, 1),
		asm.JGT.Reg(asm.R2, regEnd, "pass"),
		asm.LoadMem(asm.R2, regNext, 0, asm.Byte),
		asm.JEq.Imm(asm.R1, 58, "error6"),
		asm.JEq.Imm(asm.R2, 3, "backend"), // RFC 792: unreachable, time exceeded, parameter problem
		asm.JEq.Imm(asm.R2, 11, "backend"),
		asm.JEq.Imm(asm.R2, 12, "backend"),
		asm.Ja.Label("pass"),
		asm.JGT.Imm(asm.R2, 127, "pass").WithSymbol("error6"), // RFC 4443 2.1
	)
	from := lookup(m.backends, stackSrc, "redirect")
	from[0] = from[0].WithSymbol("backend")
	return append(ins, from...)
}

// lookup goes to a label when a map has a key.
func lookup(m *ebpf.Map, key int32, label string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, key),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, label),
	}
}
