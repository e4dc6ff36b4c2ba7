package replay

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"naru/internal/link/pcapfile"
	"naru/internal/wire"
)

// maxTargets bounds what Auto counts: our own choice.
const maxTargets = 65536

// target is an address and port that may be the VIP.
type target struct {
	addr  wire.Addr
	port  uint16
	proto uint8
}

// tally counts targets; order breaks ties.
type tally struct {
	count map[target]int
	order []target
}

func (t *tally) add(x target) {
	if t.count == nil {
		t.count = map[target]int{}
	}
	if _, there := t.count[x]; !there {
		if len(t.order) == maxTargets {
			return
		}
		t.order = append(t.order, x)
	}
	t.count[x]++
}

// best returns what was counted most often, of equals the first.
func (t *tally) best() (best target) {
	for _, x := range t.order {
		if t.count[x] > t.count[best] {
			best = x
		}
	}
	return best
}

// AutoModes are the modes that Auto knows.
func AutoModes() []string {
	return []string{"fullnat", "nat", "l2dsr", "l3dsr-dscp", "l3dsr-ipip", "l3dsr-gue"}
}

// anywhere is the VIP of a capture in which nobody can be one: an address for documentation (RFC 5737).
var anywhere = target{wire.AddrFrom(netip.MustParseAddr("192.0.2.25")), 80, wire.ProtoTCP}

// Auto reads a capture to its end and makes a configuration for it: the VIP is where most TCP connections were opened to
// or, without a SYN in the capture, whatever has the lower port of most TCP and UDP packets or, without these, where most
// of the other packets went, port 80. Behind it are three backends of 198.18.0.0/24 or 2001:db8:198::/64.
func Auto(src *Source, mode string) (yaml string, err error) {
	var c census
	buf := make([]byte, room)
	for {
		p, _, err := src.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		c.count(buf, p)
	}
	for i, t := range []*tally{&c.syns, &c.packets, &c.hosts} {
		if vip := t.best(); vip.proto != 0 {
			return autoConfig(vip, mode, autoNotes[i]), nil
		}
	}
	return autoConfig(anywhere, mode, "# nothing in the capture can be a VIP: this one is made up\n"), nil
}

// autoNotes say how the VIP was found, if it is a guess.
var autoNotes = [...]string{"", "", "# no TCP or UDP packet of the capture can be a service's: the VIP is where most others went\n"}

// census is what a capture has, by what makes a good VIP.
type census struct{ syns, packets, hosts tally }

func (c *census) count(buf []byte, captured *pcapfile.Packet) {
	frame, _, part := pcapfile.AppendWhole(buf[:wire.Headroom], captured)
	if part != pcapfile.Whole {
		return
	}
	p := wire.Packet{Frame: wire.Frame{Buf: buf, Off: wire.Headroom, Len: len(frame) - wire.Headroom}}
	if p.ParseLink() != wire.ReasonNone {
		return
	}
	if why := p.ParseNetwork(); why != wire.ReasonNone || p.Frag > wire.FirstFragment ||
		p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		if to := (target{p.Flow.Dst, anywhere.port, anywhere.proto}); p.Version != 0 && usable(to) {
			c.hosts.add(to)
		}
		return
	}
	f := p.Flow
	to := target{f.Dst, f.DstPort, f.Proto}
	if f.SrcPort < f.DstPort {
		to = target{f.Src, f.SrcPort, f.Proto}
	}
	if p.Proto == wire.ProtoTCP && p.TCPFlags&(wire.SYN|wire.ACK) == wire.SYN {
		to = target{f.Dst, f.DstPort, f.Proto}
		if usable(to) {
			c.syns.add(to)
		}
	}
	if usable(to) {
		c.packets.add(to)
	}
}

// usable reports whether a VIP can be there.
func usable(t target) bool {
	a := t.addr.Netip()
	return t.port != 0 && a.IsGlobalUnicast() && !t.addr.Martian(version(a))
}

func version(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

func autoConfig(vip target, mode, note string) string {
	a := vip.addr.Netip()
	prefix, local := "198.18.0.", "198.18.0.254"
	if a.Is6() {
		prefix, local = "2001:db8:198::", "2001:db8:198::fe"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# made by naru replay --vip auto\n%sversion: 1\ninterfaces:\n  - {name: client, side: client}\n"+
		"  - {name: backend, side: backend}\ndefaults: {scheduler: rr, midstream: pickup}\nservices:\n"+
		"  - name: auto\n    vip: %q\n    ports: [%d]\n    protocol: %s\n", note, a, vip.port, protocols[vip.proto])
	name, encap, _ := strings.Cut(mode, "-")
	fmt.Fprintf(&b, "    mode: %s\n", name)
	switch encap {
	case "dscp":
		b.WriteString("    l3dsr: {encap: dscp, dscp: 28}\n")
	case "":
	default:
		fmt.Fprintf(&b, "    l3dsr: {encap: %s}\n", encap)
	}
	if mode == "fullnat" {
		fmt.Fprintf(&b, "    nat: {source_pool: [%q]}\n", local)
	}
	b.WriteString("    backends:\n")
	for i := 1; i <= 3; i++ {
		fmt.Fprintf(&b, "      - {name: b%d, address: %q, port: %d}\n", i, fmt.Sprint(prefix, i), vip.port)
	}
	return b.String()
}
