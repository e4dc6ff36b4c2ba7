package record

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
)

// Traced is a decision record of a running naru, in the stream of GET /v1/trace: a Line with the time of day and, if they
// were asked for, the frames.
type Traced struct {
	Line
	At     time.Time `json:"at"`
	Worker int       `json:"worker"`
	Note   string    `json:"comment"`          // what a capture says about the packet, see Comment
	Hex    string    `json:"hex,omitempty"`    // the bytes, marked, and the checksums
	Missed uint64    `json:"missed,omitempty"` // records that fit and were lost before this one

	Frames *Frames `json:"frames,omitempty"`
}

// Frames are a packet as it came and as it left.
type Frames struct {
	Before    string   `json:"before"`          // base64 of the beginning
	BeforeLen int      `json:"before_len"`      // bytes in all
	After     []string `json:"after,omitempty"` // base64 of the frames that left, by the leg Line.Out
}

// TraceOptions say what a Traced holds besides its Line.
type TraceOptions struct {
	Frames bool
	Hex    bool
}

// NewTraced copies what a record says; at is the time of day of its Time.
func NewTraced(r *forwarder.Record, at time.Time, worker int, opt TraceOptions) *Traced {
	t := &Traced{Line: *NewLine(r), At: at.UTC(), Worker: worker, Note: Comment(r)}
	if opt.Hex {
		if p, ok := newPair(r); ok {
			t.Hex = p.text()
		}
	}
	if opt.Frames {
		t.Frames = &Frames{Before: base64.StdEncoding.EncodeToString(r.Frame), BeforeLen: r.FrameLen}
		for _, f := range r.Sent {
			t.Frames.After = append(t.Frames.After, base64.StdEncoding.EncodeToString(f.Bytes()))
		}
	}
	return t
}

// text is the hexdump and the checksums.
func (p *pair) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bytes    ^^ changed, ++ put in\n%s", p.hexdump())
	for _, c := range p.checksums() {
		b.WriteString(c.text())
	}
	return b.String()
}

// Brief returns the record in one line, as naru trace prints it.
func (t *Traced) Brief() string {
	var b strings.Builder
	legs := t.Leg
	if t.Out != "" {
		legs += ">" + t.Out
	}
	who := "-"
	if t.Service != "" {
		who = owner(t.Service, t.Backend)
	}
	flow := t.Flow
	if flow == "" {
		flow = "-"
	}
	word := ""
	switch {
	case t.Verdict != wire.Transmit.String():
		word = strings.ToUpper(t.Verdict)
	case t.Late:
		word = "LATE"
	case t.NewConnection:
		word = "NEW"
	}
	at := t.At.Local().Format("15:04:05.000000")
	fmt.Fprintf(&b, "%s %-9s %-14s %-10s %-8s %s", at, legs, who, flow, word, t.Before.short())
	switch {
	case t.Reason != "":
		fmt.Fprintf(&b, "  %s", t.Reason)
	case t.Outer != nil:
		fmt.Fprintf(&b, "  => %s > %s (%s)", t.Outer.Src, t.Outer.Dst, t.Mode)
	case t.After != nil && (t.After.Src != t.Before.Src || t.After.Dst != t.Before.Dst):
		fmt.Fprintf(&b, "  => %s", t.After.ends())
	case t.After != nil:
		fmt.Fprintf(&b, "  => %s", t.After.DstMAC)
	}
	return b.String()
}

// short is what a line has room for: protocol, ends and flags.
func (h *Headers) short() string {
	name, known := protoNames[h.Proto]
	switch {
	case h.Src == "" && h.EtherType == wire.TypeARP:
		return "arp"
	case h.Src == "":
		return fmt.Sprintf("ethertype 0x%04x", h.EtherType)
	case !known:
		name = fmt.Sprintf("protocol %d", h.Proto)
	}
	return name + " " + h.ends() + h.kind()
}

// kind is which of its protocol a packet is.
func (h *Headers) kind() string {
	switch {
	case h.Later:
		return " later fragment"
	case h.Flags != "":
		return " [" + h.Flags + "]"
	case h.Proto == wire.ProtoICMP || h.Proto == wire.ProtoICMPv6:
		return fmt.Sprintf(" type %d code %d", h.SrcPort, h.DstPort)
	}
	return ""
}

func (h *Headers) ends() string {
	if h.ported() {
		return join(h.Src, h.SrcPort) + " > " + join(h.Dst, h.DstPort)
	}
	return h.Src + " > " + h.Dst
}

// ported reports whether a packet has ports.
func (h *Headers) ported() bool {
	return !h.Later && (h.Proto == wire.ProtoTCP || h.Proto == wire.ProtoUDP)
}

// Packets returns the frames of a record: the one that came and those that left.
func (t *Traced) Packets() (before []byte, after [][]byte, err error) {
	if t.Frames == nil {
		return nil, nil, fmt.Errorf("record: without frames")
	}
	if before, err = base64.StdEncoding.DecodeString(t.Frames.Before); err != nil {
		return nil, nil, fmt.Errorf("record: %w", err)
	}
	for _, text := range t.Frames.After {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, nil, fmt.Errorf("record: %w", err)
		}
		after = append(after, b)
	}
	return before, after, nil
}

// DescribeFrame says in a line what a frame is, as far as its beginning tells.
func DescribeFrame(frame []byte) string {
	fields := map[string]string{}
	for _, f := range Fields(frame, 0) {
		if _, there := fields[f.Name]; !there {
			fields[f.Name] = f.Value
		}
	}
	src, dst := fields["ip.src"]+fields["ipv6.src"], fields["ip.dst"]+fields["ipv6.dst"]
	ends := func(proto, extra string) string {
		s, errS := netip.ParseAddrPort(hostPort(src, fields[proto+".srcport"]))
		d, errD := netip.ParseAddrPort(hostPort(dst, fields[proto+".dstport"]))
		if errS != nil || errD != nil {
			return fmt.Sprintf("%s %s > %s", proto, src, dst)
		}
		return strings.TrimRight(fmt.Sprintf("%s %s > %s %s", proto, s, d, extra), " ")
	}
	switch {
	case fields["arp.opcode"] != "":
		return fmt.Sprintf("arp %s > %s", fields["arp.src.proto_ipv4"], fields["arp.dst.proto_ipv4"])
	case src == "":
		return "ethertype " + fields["eth.type"]
	case fields["tcp.srcport"] != "":
		return ends("tcp", fields["tcp.flags"])
	case fields["udp.srcport"] != "":
		return ends("udp", "")
	case fields["icmp.type"]+fields["icmpv6.type"] != "":
		return fmt.Sprintf("icmp %s > %s type %s code %s", src, dst, fields["icmp.type"]+fields["icmpv6.type"],
			fields["icmp.code"]+fields["icmpv6.code"])
	}
	return fmt.Sprintf("protocol %s %s > %s", fields["ip.proto"]+fields["ipv6.nxt"], src, dst)
}

func hostPort(addr, port string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + port
	}
	return addr + ":" + port
}
