package record

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// Explanation is one decision in full: for naru explain, and for whoever reads its JSON. Keys are stable.
type Explanation struct {
	Kind       string `json:"kind"`       // "Explanation"
	APIVersion string `json:"apiVersion"` // "naru/v1"

	Capture   *Place     `json:"capture,omitempty"` // of a packet of a capture
	Packet    string     `json:"packet"`            // in a line, as it came
	In        string     `json:"in"`                // the leg
	Steps     []Step     `json:"steps"`             // the stages that it went through, in order
	Verdict   string     `json:"verdict"`
	Reason    string     `json:"reason,omitempty"` // which is also the name of its counter
	Meaning   string     `json:"meaning,omitempty"`
	Fix       string     `json:"fix,omitempty"`
	Summary   string     `json:"summary"` // the verdict in a line
	Changes   []Change   `json:"changes,omitempty"`
	Checksums []Checksum `json:"checksums,omitempty"`
	Before    string     `json:"before,omitempty"` // the frame in hexadecimal
	After     []string   `json:"after,omitempty"`  // the frames that left, likewise
	Record    *Line      `json:"record"`

	Dump string `json:"dump,omitempty"` // the bytes, marked, and how the checksums came about
}

// Place says where in a capture a packet is.
type Place struct {
	File       string  `json:"file"`
	Packet     int     `json:"packet"`                // counted from 1
	Seconds    float64 `json:"seconds"`               // after the first packet
	Flow       string  `json:"flow,omitempty"`        // its connection
	FlowNumber int     `json:"flow_number,omitempty"` // in the order in which connections were made, counted from 1
}

func (p *Place) text() string {
	s := fmt.Sprintf("frame    %d of %s, %.6f s after the first", p.Packet, p.File, p.Seconds)
	if p.FlowNumber > 0 {
		s += fmt.Sprintf("   flow %d, %s", p.FlowNumber, p.Flow)
	}
	return s + "\n"
}

// Step is one stage.
type Step struct {
	Number  int      `json:"number"` // from 1
	Stage   string   `json:"stage"`
	Outcome string   `json:"outcome"`
	Details []string `json:"details,omitempty"`
}

// Explain makes an explanation of a record, which is used during the call only. It must have its frames, whole
// (forwarder.Engine.Keep); without them changes and checksums are left out.
func Explain(r *forwarder.Record) *Explanation {
	line := NewLine(r)
	x := &Explanation{Kind: "Explanation", APIVersion: "naru/v1", Packet: line.Before.brief(), In: r.Leg, Record: line,
		Verdict: line.Verdict, Reason: line.Reason, Meaning: line.Advice, Fix: r.Reason.Fix()}
	if b := &r.Before; b.Version == 0 && (b.EtherType == wire.TypeIPv4 || b.EtherType == wire.TypeIPv6) && len(r.Frame) > 0 {
		x.Packet = DescribeFrame(r.Frame) // the engine did not go on reading
	}
	x.Before = hex.EncodeToString(r.Frame[:max(0, len(r.Frame)-r.Offload.MadeUp())])
	madeUp := make([]int, len(r.Sent))
	MadeUp(r, func(i, n int) { madeUp[i] = n })
	for i, f := range r.Sent {
		x.After = append(x.After, hex.EncodeToString(f.Bytes()[:f.Len-madeUp[i]]))
	}
	if p, ok := newPair(r); ok {
		x.Changes, x.Checksums, x.Dump = p.changes(), p.checksums(), p.text()
	}
	for _, s := range r.Stages {
		outcome, details := stages[s](r, x)
		if s == r.Stages[len(r.Stages)-1] && (r.Verdict == wire.Drop || r.Verdict == wire.Pass) {
			outcome = r.Reason.String()
		}
		x.Steps = append(x.Steps, Step{len(x.Steps) + 1, s.String(), outcome, details})
	}
	x.Summary = summary(r)
	return x
}

// brief is Headers.text without MAC addresses.
func (h *Headers) brief() string {
	_, text, _ := strings.Cut(h.text(), "  ")
	return text
}

// stages say what came of each stage: a word or two, and the details.
var stages = map[forwarder.Stage]func(*forwarder.Record, *Explanation) (string, []string){
	forwarder.StageParse:     parsed,
	forwarder.StageLookup:    lookedUp,
	forwarder.StageService:   matched,
	forwarder.StageSchedule:  scheduled,
	forwarder.StageSource:    sourced,
	forwarder.StageRoute:     routed,
	forwarder.StageMTU:       fitted,
	forwarder.StageTranslate: translated,
	forwarder.StageNextHop:   hopped,
	forwarder.StageAnswer:    answered,
}

func parsed(r *forwarder.Record, _ *Explanation) (string, []string) {
	b := &r.Before
	var words []string
	switch {
	case b.EtherType == wire.TypeARP:
		return "ok", []string{"arp"}
	case r.Reason == wire.IPChecksum:
		return "ok", []string{wrongHeader(r)}
	case b.Version == 0:
		return "ok", []string{fmt.Sprintf("ethertype 0x%04x", b.EtherType)}
	case b.Version == 4:
		words = append(words, fmt.Sprintf("ipv4, header checksum 0x%04x good", b.IPSum))
	default:
		words = append(words, "ipv6")
	}
	w := wire.Packet{Frame: wire.Frame{Buf: r.Frame, Len: len(r.Frame), Offload: r.Offload}}
	if len(r.Frame) < r.FrameLen || w.ParseLink() != wire.ReasonNone || w.ParseNetwork() != wire.ReasonNone {
		return "ok", []string{strings.Join(words, ", ")}
	}
	switch w.Frag {
	case wire.FirstFragment:
		words = append(words, "first fragment")
	case wire.LaterFragment:
		words = append(words, "later fragment: the ports are those of the first")
	default:
		if s := transportSum(&w); s != "" {
			words = append(words, s)
		}
	}
	if w.Super() {
		words = append(words, fmt.Sprintf("super-frame, in segments of %d bytes", r.Offload.GSOSize))
	}
	return "ok", []string{strings.Join(words, ", ")}
}

// wrongHeader is about a packet whose IPv4 header has a wrong checksum.
func wrongHeader(r *forwarder.Record) string {
	w := wire.Packet{Frame: wire.Frame{Buf: slices.Clone(r.Frame), Len: len(r.Frame)}}
	if w.ParseLink() != wire.ReasonNone || len(w.Bytes()) < w.L3+wire.IPv4Len {
		return "ipv4"
	}
	ip := w.Bytes()[w.L3:]
	ip = ip[:min(len(ip), int(ip[0]&15)*4)]
	was := binary.BigEndian.Uint16(ip[10:])
	binary.BigEndian.PutUint16(ip[10:], 0)
	text := fmt.Sprintf("ipv4, header checksum 0x%04x wrong, right is 0x%04x", was, ^wire.Fold(wire.Sum(ip, 0)))
	if was == 0 {
		text += "; the sender's own capture has 0 where its device makes it"
	}
	return text
}

// transportSum judges the checksum of TCP and UDP.
func transportSum(w *wire.Packet) string {
	name := protoNames[w.Proto]
	at := map[uint8]int{wire.ProtoTCP: 16, wire.ProtoUDP: 6}[w.Proto]
	t := w.Transport()
	if at == 0 || len(t) < at+2 {
		return ""
	}
	sum := uint16(t[at])<<8 | uint16(t[at+1])
	switch n := w.Offload.MadeUp() - (w.Len - w.End); {
	case n > w.End-w.L4-at-2:
		return name + " checksum not captured"
	case n > 0:
		return fmt.Sprintf("%s checksum 0x%04x, which nobody can judge: %d bytes were not captured", name, sum, n)
	}
	switch right := wire.Fold(wire.Sum(t, wire.PseudoSum(w.IP(), w.Proto, len(t)))) == 0xffff; {
	case w.Unfinished():
		return fmt.Sprintf("%s checksum 0x%04x unfinished: left to the device that sends it", name, sum)
	case w.Proto == wire.ProtoUDP && sum == 0:
		return "udp without a checksum"
	case right:
		return fmt.Sprintf("%s checksum 0x%04x good", name, sum)
	default:
		return fmt.Sprintf("%s checksum 0x%04x wrong: naru leaves it as wrong as it is", name, sum)
	}
}

func lookedUp(r *forwarder.Record, x *Explanation) (string, []string) {
	fill := fmt.Sprintf("%d of %d connections", r.Connections, r.Capacity)
	switch {
	case r.Capacity == 0: // an ICMP error
		return "miss", []string{"what it quotes is of no connection"}
	case r.Conn == conntrack.None || r.NewConn:
		return "miss", []string{r.Flow.String() + " is no connection yet, " + fill}
	}
	details := []string{fmt.Sprintf("%s of %s, %s", x.Record.Direction, r.Flow, owner(r.Service, r.Backend))}
	if x.Record.State != "" {
		details[0] += ", now " + x.Record.State
	}
	return "hit", append(details, fill)
}

func matched(r *forwarder.Record, x *Explanation) (string, []string) {
	b := &x.Record.Before
	to, proto := b.Dst, protoNames[b.Proto]
	if b.ported() {
		to = join(b.Dst, b.DstPort)
	}
	if proto == "" {
		proto = fmt.Sprintf("protocol %d", b.Proto)
	}
	to += "/" + proto
	if r.Service == "" {
		return "none", []string{"no service for " + to}
	}
	return "match " + r.Service, []string{to + ", " + r.ModeName()}
}

func scheduled(r *forwarder.Record, _ *Explanation) (string, []string) {
	chosen := "none"
	details := []string{r.Scheduler}
	if r.Affinity {
		details[0] += ", affinity: a client goes where it went before"
	}
	for i := range r.Candidates {
		c := &r.Candidates[i]
		mark, why := " ", notChosen(r, c)
		if c.Chosen {
			chosen, mark, why = c.Name, "*", "chosen"
		}
		weight := fmt.Sprint(c.Weight)
		if s := share(c); s != "" {
			weight += " (slow start: " + s + ")"
		}
		details = append(details, fmt.Sprintf("%s %s %s  %s  weight %s  active %d  %s",
			mark, c.Name, candidateAddr(c), c.State, weight, c.Active, why))
	}
	return chosen, details
}

func candidateAddr(c *forwarder.Candidate) string {
	if c.Port == 0 {
		return c.Addr.String()
	}
	return join(c.Addr.String(), c.Port)
}

// notChosen says why the scheduler took another one.
func notChosen(r *forwarder.Record, c *forwarder.Candidate) string {
	switch {
	case c.State != forwarder.Up:
		return c.State.String() + ": no new connections"
	case c.Weight == 0:
		return "weight 0: no new connections"
	case c.Max > 0 && c.Active >= c.Max:
		return fmt.Sprintf("full: it may have %d connections", c.Max)
	case c.Backup:
		return "a backup: the others serve"
	case r.Affinity:
		return "another by affinity, or by the scheduler"
	}
	switch r.Scheduler {
	case "rr", "wrr":
		return "not its turn"
	case "lc":
		return "another has as few, or fewer"
	case "wlc", "sed", "nq":
		return "another has as few for its weight, or fewer"
	case "sh", "mh":
		return "the hash is another's"
	case "twos":
		return "not drawn, or more loaded"
	}
	return "not chosen"
}

func sourced(r *forwarder.Record, _ *Explanation) (string, []string) {
	switch {
	case r.PortsAll != 0 && r.After.Version != 0:
		used := r.PortsAll - r.PortsFree
		return join(r.After.Src.String(), r.After.SrcPort), []string{fmt.Sprintf(
			"local address and port, %d of %d ports towards %s used (%.1f%%)", used, r.PortsAll, r.Backend,
			100*float64(used)/float64(r.PortsAll))}
	case r.Mode == forwarder.FullNAT:
		return "none", nil
	}
	return "client's own", []string{"the backend sees " + join(r.Before.Src.String(), r.Before.SrcPort)}
}

func routed(r *forwarder.Record, _ *Explanation) (string, []string) {
	if r.Out == "" {
		return "none", nil
	}
	dst := r.After.Dst
	switch {
	case r.Outer.Version != 0:
		dst = r.Outer.Dst
	case r.Mode == forwarder.L2DSR && r.Service != "":
		dst = r.NextHop
	}
	if dst == r.NextHop {
		return r.Out, []string{r.NextHop.String() + ", on the segment itself"}
	}
	return r.Out, []string{fmt.Sprintf("%s by way of %s", dst, r.NextHop)}
}

func fitted(r *forwarder.Record, _ *Explanation) (string, []string) {
	if r.Longest == 0 {
		return "ok", nil
	}
	room := fmt.Sprintf("%d", r.Room)
	if r.MTU > r.Room {
		room = fmt.Sprintf("%d - %d", r.MTU, r.MTU-r.Room)
	}
	if r.Longest <= r.Room {
		return "ok", []string{fmt.Sprintf("%d <= %s", r.Longest, room)}
	}
	return "too long", []string{fmt.Sprintf("%d > %s", r.Longest, room)}
}

func translated(r *forwarder.Record, x *Explanation) (string, []string) {
	if len(x.Changes) == 0 {
		return "as it is", nil
	}
	var details []string
	for _, c := range x.Changes {
		if !strings.HasPrefix(c.Field, "eth.") {
			details = append(details, c.text(x))
		}
	}
	if n := len(r.Sent); n > 1 {
		details = append(details, fmt.Sprintf("it leaves as %d frames; this is the first", n))
	}
	if r.Outer.Version != 0 {
		return "tunnel", details
	}
	if details == nil {
		return "MAC address", []string{"nothing above the Ethernet header changes"}
	}
	return "headers", details
}

// text is one changed field; of a checksum also how it came about.
func (c *Change) text(x *Explanation) string {
	s := fmt.Sprintf("%s %s -> %s", c.Field, c.Before, c.After)
	if c.Before == "" {
		s = fmt.Sprintf("%s %s", c.Field, c.After)
	}
	for _, sum := range x.Checksums {
		if strings.TrimPrefix(sum.Field, "inner.") == strings.TrimPrefix(c.Field, "inner.") && sum.Before == c.Before {
			s += " (" + sum.How + ")"
		}
	}
	return s
}

func hopped(r *forwarder.Record, x *Explanation) (string, []string) {
	mac := x.Record.After
	if x.Record.Outer != nil {
		mac = x.Record.Outer
	}
	switch {
	case r.Verdict == wire.Transmit && mac != nil:
		return mac.DstMAC, []string{fmt.Sprintf("of %s, by %s", r.NextHop, r.Out)}
	case r.Verdict == wire.Held:
		return "asked for", []string{fmt.Sprintf("nobody has said yet who is %s on %s; the packet waits", r.NextHop, r.Out)}
	}
	return "unknown", nil
}

func answered(_ *forwarder.Record, x *Explanation) (string, []string) {
	if x.Record.After == nil {
		return "none", nil
	}
	return x.Reason, []string{x.Record.After.brief()}
}

// summary is the verdict in a line.
func summary(r *forwarder.Record) string {
	word := strings.ToUpper(r.Verdict.String())
	switch {
	case r.Verdict == wire.Transmit && r.Service == "":
		return fmt.Sprintf("%s via %s, as a router does", word, r.Out)
	case r.Verdict == wire.Transmit:
		to := owner(r.Service, r.Backend)
		if r.Conn != conntrack.None && r.Dir == conntrack.Reply {
			return fmt.Sprintf("%s to the client of %s via %s", word, to, r.Out)
		}
		return fmt.Sprintf("%s to %s via %s     reply path: %s (%s)", word, to, r.Out, replyPaths[r.Mode], r.ModeName())
	case r.Reason == wire.ReasonNone:
		return word
	}
	return fmt.Sprintf("%s %s (%s)", word, r.Reason, r.Reason.Advice())
}

var replyPaths = map[forwarder.Mode]string{
	forwarder.FullNAT: "through naru",
	forwarder.NAT:     "through naru, which must be the backend's way to the client",
	forwarder.L2DSR:   "past naru, straight to the client",
	forwarder.L3DSR:   "past naru, straight to the client",
}

// Text returns the explanation for people; with bytes also the bytes that changed, and where each checksum comes from.
func (x *Explanation) Text(bytes bool) string {
	var b strings.Builder
	if x.Capture != nil {
		b.WriteString(x.Capture.text())
	}
	fmt.Fprintf(&b, "packet   %s   in %s\n", x.Packet, x.In)
	for _, s := range x.Steps {
		details := s.Details
		if len(details) == 0 {
			details = []string{""}
		}
		line := fmt.Sprintf("%2d %-10s %-20s %s", s.Number, s.Stage, s.Outcome, details[0])
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		for _, d := range details[1:] {
			fmt.Fprintf(&b, "%34s %s\n", "", d)
		}
	}
	fmt.Fprintf(&b, "verdict  %s\n", x.Summary)
	if x.Reason != "" && x.Verdict != wire.Pass.String() {
		fmt.Fprintf(&b, "counter  %s     naru drops %s\n", x.Reason, x.Reason)
	}
	if x.Fix != "" {
		fmt.Fprintf(&b, "fix      %s\n", x.Fix)
	}
	if bytes && x.Dump != "" {
		b.WriteString("\n" + x.Dump)
	}
	return b.String()
}

func (c *Checksum) text() string {
	var b strings.Builder
	change := c.After
	if c.Before != "" {
		change = c.Before + " -> " + c.After
	}
	fmt.Fprintf(&b, "\n%s %s, %s\n", c.Field, change, c.How)
	for _, w := range c.Words {
		fmt.Fprintf(&b, "    %s\n", w)
	}
	if !c.Agrees {
		b.WriteString("    which is not what the frame has\n")
	}
	return b.String()
}
