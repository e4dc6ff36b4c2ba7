package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"naru/internal/config"
	"naru/internal/wire"
)

// Packet is a packet as a person describes it.
type Packet struct {
	Proto    uint8 // wire.ProtoTCP, ProtoUDP, ProtoICMP or ProtoICMPv6
	Src, Dst netip.AddrPort
	Leg      string // empty: by the source's route

	Flags    uint8
	Seq, Ack uint32
	Window   uint16
	MSS      uint16 // 0: no option

	TTL, DSCP uint8
	ID        uint16
	DF        bool
	Payload   int // bytes

	ICMPType, ICMPCode uint8
	ICMPMTU            uint32
	Quoted             *Packet // of an ICMP error
}

// Next returns a packet that the client of a connection might send: an acknowledgement, or a datagram without payload.
func Next(f *wire.Flow) *Packet {
	p := &Packet{Proto: f.Proto, Src: netip.AddrPortFrom(f.Src.Netip(), f.SrcPort), TTL: 64, Window: 64240,
		Dst: netip.AddrPortFrom(f.Dst.Netip(), f.DstPort)}
	if f.Proto == wire.ProtoTCP {
		p.Flags, p.DF = wire.ACK, true
	}
	return p
}

// Longest packet that Parse takes; our own choice is IP's own limit.
const maxLength = 65535

// Parse reads a packet in the words of the package comment. The error names the word.
func Parse(text string) (*Packet, error) {
	for _, r := range []string{"[", "]"} {
		text = strings.ReplaceAll(text, " "+r+" ", " "+r)
	}
	words := strings.Fields(strings.ReplaceAll(text, ">", " > "))
	p := &parser{words: words}
	out, err := p.packet()
	if err != nil {
		return nil, fmt.Errorf("packet: %w", err)
	}
	if p.at < len(words) {
		return nil, fmt.Errorf("packet: %w", p.unknown(words[p.at]))
	}
	return out, nil
}

type parser struct {
	words []string
	at    int
	p     *Packet
	total int // of the IP packet, if told
	df    *bool
}

// next returns the next word, or nothing at the end.
func (s *parser) next() string {
	if s.at == len(s.words) {
		return ""
	}
	s.at++
	return s.words[s.at-1]
}

var protocols = map[string]uint8{
	"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP, "icmp": wire.ProtoICMP, "icmp6": wire.ProtoICMPv6,
}

func (s *parser) packet() (*Packet, error) {
	word := s.next()
	proto, known := protocols[strings.ToLower(word)]
	if !known {
		return nil, fmt.Errorf("%q is no protocol; it begins with tcp, udp or icmp, as in "+
			"'tcp 10.20.40.80:51000 > 200.100.50.25:80 syn'", word)
	}
	s.p = &Packet{Proto: proto, TTL: 64, Window: 64240, ICMPType: wire.ICMPEcho}
	if err := s.ends(); err != nil {
		return nil, err
	}
	for s.at < len(s.words) {
		before := s.at
		if err := s.word(strings.ToLower(s.next())); err != nil {
			return nil, err
		}
		if s.at == before { // "about": the rest is another packet
			break
		}
	}
	return s.p, s.settle()
}

func (s *parser) ends() (err error) {
	if s.p.Src, err = s.end("source"); err != nil {
		return err
	}
	if w := s.next(); w != ">" {
		return fmt.Errorf("%q stands where > must be, between source and destination", w)
	}
	if s.p.Dst, err = s.end("destination"); err != nil {
		return err
	}
	if s.p.Src.Addr().Is4() != s.p.Dst.Addr().Is4() {
		return fmt.Errorf("%s and %s are not of one family", s.p.Src.Addr(), s.p.Dst.Addr())
	}
	if s.icmp() {
		s.p.Proto = wire.ProtoICMP
		if s.p.Src.Addr().Is6() {
			s.p.Proto, s.p.ICMPType = wire.ProtoICMPv6, wire.ICMPv6Echo
		}
	}
	return nil
}

func (s *parser) icmp() bool { return s.p.Proto == wire.ProtoICMP || s.p.Proto == wire.ProtoICMPv6 }

func (s *parser) end(what string) (netip.AddrPort, error) {
	w := s.next()
	if s.icmp() {
		a, err := netip.ParseAddr(strings.Trim(w, "[]"))
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return netip.AddrPort{}, fmt.Errorf("%s %q is no IP address", what, w)
		}
		return netip.AddrPortFrom(a, 0), nil
	}
	a, err := netip.ParseAddrPort(w)
	if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() {
		return a, fmt.Errorf("%s %q is no ADDRESS:PORT, as 10.20.40.80:51000 or [2001:db8::1]:51000", what, w)
	}
	return a, nil
}

// number reads the number behind a word.
func (s *parser) number(word string, low, high uint64) (uint64, error) {
	w := s.next()
	n, err := strconv.ParseUint(w, 0, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s %q is no number from %d to %d", word, w, low, high)
	}
	return n, nil
}

// set reads a number into a field.
func set[T uint8 | uint16 | uint32 | int](s *parser, to *T, word string, high uint64) error {
	n, err := s.number(word, 0, high)
	*to = T(n)
	return err
}

func (s *parser) word(w string) error {
	p := s.p
	switch w {
	case "ttl":
		return set(s, &p.TTL, w, 255)
	case "dscp":
		return set(s, &p.DSCP, w, 63)
	case "id":
		return set(s, &p.ID, w, 65535)
	case "payload":
		return set(s, &p.Payload, w, maxLength)
	case "len":
		return set(s, &s.total, w, maxLength)
	case "df", "nodf":
		df := w == "df"
		s.df = &df
		return nil
	case "in":
		if p.Leg = s.next(); p.Leg == "" {
			return fmt.Errorf("the name of an interface is missing behind in")
		}
		return nil
	}
	switch {
	case p.Proto == wire.ProtoTCP:
		return s.tcpWord(w)
	case s.icmp():
		return s.icmpWord(w)
	}
	return s.unknown(w)
}

var flagWords = []struct {
	word string
	dump byte // as tcpdump writes it
	flag uint8
}{
	{"syn", 'S', wire.SYN}, {"ack", '.', wire.ACK}, {"fin", 'F', wire.FIN}, {"rst", 'R', wire.RST}, {"psh", 'P', wire.PSH},
	{"urg", 'U', wire.URG},
}

func (s *parser) tcpWord(w string) error {
	p := s.p
	switch w {
	case "seq":
		return set(s, &p.Seq, w, 1<<32-1)
	case "window":
		return set(s, &p.Window, w, 65535)
	case "mss":
		return set(s, &p.MSS, w, 65535)
	case "ack":
		p.Flags |= wire.ACK
		if s.at < len(s.words) && s.words[s.at][0] >= '0' && s.words[s.at][0] <= '9' {
			return set(s, &p.Ack, w, 1<<32-1)
		}
		return nil
	}
	if dump := strings.TrimSuffix(strings.TrimPrefix(w, "["), "]"); len(dump) == len(w)-2 && dump != "" {
		for _, c := range []byte(strings.ToUpper(dump)) {
			i := slices.IndexFunc(flagWords[:], func(f struct {
				word string
				dump byte
				flag uint8
			}) bool {
				return f.dump == c
			})
			if i < 0 {
				return fmt.Errorf("%q in %s is no flag of TCP", c, w)
			}
			p.Flags |= flagWords[i].flag
		}
		return nil
	}
	for _, part := range strings.FieldsFunc(w, func(r rune) bool { return r == '-' || r == '+' || r == ',' }) {
		found := false
		for _, f := range flagWords {
			if f.word == part {
				p.Flags, found = p.Flags|f.flag, true
			}
		}
		if !found {
			return s.unknown(w)
		}
	}
	return nil
}

func (s *parser) icmpWord(w string) error {
	p := s.p
	v6 := p.Proto == wire.ProtoICMPv6
	put := func(type4, code4, type6, code6 uint8) {
		if p.ICMPType, p.ICMPCode = type4, code4; v6 {
			p.ICMPType, p.ICMPCode = type6, code6
		}
	}
	switch w {
	case "echo":
		put(wire.ICMPEcho, 0, wire.ICMPv6Echo, 0)
	case "reply":
		put(wire.ICMPEchoReply, 0, wire.ICMPv6EchoReply, 0)
	case "ttl-exceeded":
		put(wire.ICMPTimeExceeded, 0, wire.ICMPv6TimeExceeded, 0)
	case "too-big":
		put(wire.ICMPUnreachable, 4, wire.ICMPv6TooBig, 0)
		return set(s, &p.ICMPMTU, w, 65535)
	case "unreachable":
		codes := map[string][2]uint8{"net": {0, 0}, "host": {1, 3}, "port": {3, 4}}
		what := strings.ToLower(s.next())
		code, known := codes[what]
		if !known {
			return fmt.Errorf("unreachable %q is not known; there are net, host and port", what)
		}
		put(wire.ICMPUnreachable, code[0], wire.ICMPv6Unreachable, code[1])
	case "about":
		inner := &parser{words: s.words, at: s.at}
		quoted, err := inner.packet()
		if err != nil {
			return fmt.Errorf("about: %w", err)
		}
		if quoted.Src.Addr().Is4() != p.Src.Addr().Is4() || quoted.Quoted != nil {
			return fmt.Errorf("about: an error quotes a packet of its own family that is no error")
		}
		p.Quoted, s.at = quoted, inner.at
	default:
		return s.unknown(w)
	}
	return nil
}

// settle fills in what follows from the rest, and refuses what does not fit together.
func (s *parser) settle() error {
	p := s.p
	if p.Proto == wire.ProtoTCP && p.Flags == 0 {
		p.Flags = wire.SYN
	}
	p.DF = p.Proto == wire.ProtoTCP
	if s.df != nil {
		p.DF = *s.df
	}
	if isError := s.icmp() && (p.ICMPType != wire.ICMPEcho && p.ICMPType != wire.ICMPEchoReply &&
		p.ICMPType != wire.ICMPv6Echo && p.ICMPType != wire.ICMPv6EchoReply); isError != (p.Quoted != nil) {
		if isError {
			return fmt.Errorf("an ICMP error quotes a packet: about tcp 200.100.50.25:80 > 10.20.40.80:51000")
		}
		return fmt.Errorf("about belongs to an ICMP error: unreachable port, ttl-exceeded, too-big 1400")
	}
	head := p.headers()
	if s.total != 0 {
		if s.total < head {
			return fmt.Errorf("len %d is less than the headers, which have %d bytes", s.total, head)
		}
		p.Payload = s.total - head
	}
	if head+p.Payload > maxLength {
		return fmt.Errorf("payload %d is too long: a packet has at most %d bytes", p.Payload, maxLength)
	}
	return nil
}

// unknown says what may stand there.
func (s *parser) unknown(w string) error {
	known := []string{"ttl", "dscp", "id", "df", "nodf", "payload", "len", "in"}
	switch {
	case s.p == nil:
	case s.p.Proto == wire.ProtoTCP:
		known = append(known, "seq", "window", "mss")
		for _, f := range flagWords {
			known = append(known, f.word)
		}
	case s.icmp():
		known = append(known, "echo", "reply", "unreachable", "ttl-exceeded", "too-big", "about")
	}
	if near := config.Suggest(w, known); near != "" {
		return fmt.Errorf("%q is not known here; did you mean %q?", w, near)
	}
	return fmt.Errorf("%q is not known here; there are %s", w, strings.Join(known, ", "))
}
