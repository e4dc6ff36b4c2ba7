package record

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"naru/forwarder"
	"naru/internal/wire"
)

// ParseExpression reads an expression about the headers of a packet, in words that pcap-filter(7) has as well; it is not
// all of that language. A packet fits if its headers fit as it came or as it left.
//
//	tcp udp icmp icmp6 ip ip6 arp
//	[src|dst] host ADDRESS, [src|dst] net PREFIX, [src|dst] port NUMBER
//	not X, X and Y, X or Y, ( X )
//
// "and" binds closer than "or"; between two terms it may be left out.
func ParseExpression(text string) (func(*forwarder.Record) bool, error) {
	for _, c := range []string{"(", ")", "!"} {
		text = strings.ReplaceAll(text, c, " "+c+" ")
	}
	p := &expression{words: strings.Fields(strings.ToLower(text))}
	t, err := p.or()
	if err == nil && p.at < len(p.words) {
		err = fmt.Errorf("%q stands where the expression ends", p.words[p.at])
	}
	if err != nil {
		return nil, fmt.Errorf("expression: %w", err)
	}
	return func(r *forwarder.Record) bool {
		return t(&r.Before) || r.Out != "" && t(&r.After) || r.Outer.Version != 0 && t(&r.Outer)
	}, nil
}

// term judges headers.
type term func(*forwarder.Headers) bool

type expression struct {
	words []string
	at    int
}

func (p *expression) peek() string {
	if p.at == len(p.words) {
		return ""
	}
	return p.words[p.at]
}

func (p *expression) next() string {
	w := p.peek()
	if w != "" {
		p.at++
	}
	return w
}

func (p *expression) or() (term, error) {
	x, err := p.and()
	for err == nil && (p.peek() == "or" || p.peek() == "||") {
		p.at++
		var y term
		if y, err = p.and(); err == nil {
			a := x
			x = func(h *forwarder.Headers) bool { return a(h) || y(h) }
		}
	}
	return x, err
}

func (p *expression) and() (term, error) {
	x, err := p.not()
	for err == nil {
		switch w := p.peek(); w {
		case "", ")", "or", "||":
			return x, nil
		case "and", "&&":
			p.at++
		}
		var y term
		if y, err = p.not(); err == nil {
			a := x
			x = func(h *forwarder.Headers) bool { return a(h) && y(h) }
		}
	}
	return x, err
}

// deepest is how far parentheses and negations may be nested: our own choice.
const deepest = 200

func (p *expression) not() (term, error) {
	if p.at > deepest {
		return nil, fmt.Errorf("it has more than %d words", deepest)
	}
	switch w := p.next(); w {
	case "not", "!":
		x, err := p.not()
		return func(h *forwarder.Headers) bool { return !x(h) }, err
	case "(":
		x, err := p.or()
		if err == nil && p.next() != ")" {
			err = fmt.Errorf("a ) is missing")
		}
		return x, err
	default:
		return p.primitive(w)
	}
}

var expressionProtocols = map[string]uint8{"tcp": wire.ProtoTCP, "udp": wire.ProtoUDP, "icmp": wire.ProtoICMP,
	"icmp6": wire.ProtoICMPv6}

func (p *expression) primitive(w string) (term, error) {
	if proto, ok := expressionProtocols[w]; ok {
		return func(h *forwarder.Headers) bool { return h.Version != 0 && h.Proto == proto }, nil
	}
	switch w {
	case "ip":
		return func(h *forwarder.Headers) bool { return h.Version == 4 }, nil
	case "ip6":
		return func(h *forwarder.Headers) bool { return h.Version == 6 }, nil
	case "arp":
		return func(h *forwarder.Headers) bool { return h.EtherType == wire.TypeARP }, nil
	}
	src, dst := true, true
	if w == "src" || w == "dst" {
		src, dst = w == "src", w == "dst"
		w = p.next()
	}
	switch w {
	case "host", "net":
		prefix, err := parsePrefix(p.next())
		if err != nil {
			return nil, err
		}
		return ofAddr(prefix, src, dst), nil
	case "port":
		text := p.next()
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is no port", text)
		}
		return ofPort(uint16(n), src, dst), nil
	}
	return nil, fmt.Errorf("%q is not known here; there are tcp, udp, icmp, icmp6, ip, ip6, arp, host, net, port, src, dst, "+
		"not, and, or", w)
}

func ofAddr(prefix netip.Prefix, src, dst bool) term {
	return func(h *forwarder.Headers) bool {
		return h.Version != 0 && (src && prefix.Contains(h.Src.Netip()) || dst && prefix.Contains(h.Dst.Netip()))
	}
}

func ofPort(port uint16, src, dst bool) term {
	return func(h *forwarder.Headers) bool {
		ports := h.Version != 0 && (h.Proto == wire.ProtoTCP || h.Proto == wire.ProtoUDP)
		return ports && (src && h.SrcPort == port || dst && h.DstPort == port)
	}
}
