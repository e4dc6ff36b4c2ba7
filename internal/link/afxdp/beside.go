package afxdp

import (
	"golang.org/x/net/bpf"

	"naru/internal/link"
	"naru/internal/wire"
)

// A Beside is the device that shows what the kernel has too: a tap on the same interface, with BesideFilter.
type Beside interface {
	link.Device
	// Control calls f with the descriptor that becomes readable when a frame arrives.
	Control(f func(fd uintptr)) error
	// Refresh reads again what Info tells.
	Refresh() error
}

// networkOffset is where a filter's loads count from the network header (SKF_NET_OFF of linux/filter.h).
const networkOffset = 0xfff00000

// BesideFilter lets in what naru must see though the kernel has it: ARP, ICMP and ICMPv6, and fragments, which have no
// ports to be told by. What the program takes away for naru does not come to a tap.
func BesideFilter() []bpf.RawInstruction {
	const ipv4, ipv6, accept, reject = 5, 10, 15, 16 // places in the program
	to := func(here, there int) uint8 { return uint8(there - here - 1) }
	prog := []bpf.Instruction{
		0: bpf.LoadExtension{Num: bpf.ExtProto},
		1: bpf.JumpIf{Val: wire.TypeARP, SkipTrue: to(1, accept)},
		2: bpf.JumpIf{Val: wire.TypeIPv4, SkipTrue: to(2, ipv4)},
		3: bpf.JumpIf{Val: wire.TypeIPv6, SkipTrue: to(3, ipv6)},
		4: bpf.Jump{Skip: uint32(to(4, reject))},

		ipv4: bpf.LoadAbsolute{Off: networkOffset + 9, Size: 1},
		6:    bpf.JumpIf{Val: wire.ProtoICMP, SkipTrue: to(6, accept)},
		7:    bpf.LoadAbsolute{Off: networkOffset + 6, Size: 2},
		8:    bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: to(8, accept)}, // more to come, or an offset
		9:    bpf.Jump{Skip: uint32(to(9, reject))},

		ipv6: bpf.LoadAbsolute{Off: networkOffset + 6, Size: 1},
		11:   bpf.JumpIf{Val: wire.ProtoICMPv6, SkipTrue: to(11, accept)},
		12:   bpf.JumpIf{Val: 44, SkipTrue: to(12, accept)}, // a fragment header
		13:   bpf.JumpIf{Val: 0, SkipTrue: to(13, accept)},  // hop-by-hop options: MLD
		14:   bpf.Jump{Skip: uint32(to(14, reject))},

		accept: bpf.RetConstant{Val: 1 << 18},
		reject: bpf.RetConstant{},
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		panic(err) // the program is the same every time
	}
	return raw
}
