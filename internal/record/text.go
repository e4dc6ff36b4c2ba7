package record

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"naru/internal/wire"
)

var protoNames = map[uint8]string{
	wire.ProtoTCP: "tcp", wire.ProtoUDP: "udp", wire.ProtoICMP: "icmp", wire.ProtoICMPv6: "icmp6",
}

// Text returns the record as a block of lines, with an empty one at its end.
func (l *Line) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.6f %s", l.Time, l.Leg)
	if l.Out != "" {
		fmt.Fprintf(&b, " -> %s", l.Out)
	}
	fmt.Fprintf(&b, "  %s", l.Verdict)
	if l.Reason != "" {
		fmt.Fprintf(&b, " %s (%s)", l.Reason, l.Advice)
	}
	b.WriteByte('\n')
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s"+format+"\n", append([]any{name}, args...)...)
	}
	line("before", "%s", l.Before.text())
	if l.After != nil {
		line("after", "%s", l.After.text())
	}
	if l.Direction != "" {
		line("flow", "%s", l.flow())
	}
	if l.Scheduler != "" {
		line("schedule", "%s: %s", l.Scheduler, l.candidates())
	}
	if l.NextHop != "" {
		line("next hop", "%s, mtu %d", l.NextHop, l.MTU)
	}
	line("stages", "%s", strings.Join(l.Stages, ", "))
	b.WriteByte('\n')
	return b.String()
}

func (l *Line) flow() string {
	s := fmt.Sprintf("%s of %s, backend %s", l.Direction, l.Service, l.Backend)
	if l.State != "" {
		s += ", " + l.State
	}
	if l.NewConnection {
		s += fmt.Sprintf(", new (%d of %d local ports free)", l.PortsFree, l.PortsAll)
	}
	return s
}

func (l *Line) candidates() string {
	var list []string
	for _, c := range l.Candidates {
		mark := ""
		if c.Chosen {
			mark = "*"
		}
		list = append(list, fmt.Sprintf("%s%s w %d active %d", mark, c.Name, c.Weight, c.Active))
	}
	return strings.Join(list, " | ")
}

func (h *Headers) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s > %s  ", h.SrcMAC, h.DstMAC)
	name, known := protoNames[h.Proto]
	switch {
	case h.Src == "" && h.EtherType == wire.TypeARP:
		b.WriteString("arp")
		return b.String()
	case h.Src == "":
		fmt.Fprintf(&b, "ethertype %#04x", h.EtherType)
		return b.String()
	case !known:
		name = fmt.Sprintf("protocol %d", h.Proto)
	}
	b.WriteString(name + " " + h.ends() + h.kind())
	fmt.Fprintf(&b, " ttl %d len %d", h.TTL, h.Length)
	if h.GSOSize != 0 {
		fmt.Fprintf(&b, " in segments of %d", h.GSOSize)
	}
	return b.String()
}

func join(addr string, port uint16) string { return net.JoinHostPort(addr, strconv.Itoa(int(port))) }
