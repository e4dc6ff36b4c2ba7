package pcapfilter

import (
	"fmt"
	"strconv"
)

// number is a part of an arithmetic expression.
type number struct {
	get   value
	guard test   // what must hold before it is asked for; nil: nothing
	fixed bool   // it is a constant
	n     uint32 // which one
}

func fixed(n uint32) number { return number{get: constant(n), fixed: true, n: n} }

// relations are the comparisons, of numbers without a sign.
var relations = map[string]func(a, b uint32) bool{
	"<": func(a, b uint32) bool { return a < b }, ">": func(a, b uint32) bool { return a > b },
	"<=": func(a, b uint32) bool { return a <= b }, ">=": func(a, b uint32) bool { return a >= b },
	"=": func(a, b uint32) bool { return a == b }, "==": func(a, b uint32) bool { return a == b },
	"!=": func(a, b uint32) bool { return a != b },
}

// relation reads two numbers and how they compare.
func (p *parser) relation() (test, error) {
	a, err := p.number(0)
	if err != nil {
		return nil, err
	}
	w := p.next()
	holds := relations[w]
	if holds == nil {
		return nil, fmt.Errorf("%q stands where a comparison is expected", w)
	}
	b, err := p.number(0)
	if err != nil {
		return nil, err
	}
	t := test(func(v *view) bool { return holds(a.get(v), b.get(v)) })
	if b.guard != nil {
		t = and(b.guard, t)
	}
	if a.guard != nil {
		t = and(a.guard, t)
	}
	return t, nil
}

// levels are the operators by how closely they bind, the loosest first.
var levels = [][]string{{"|", "^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}

func (p *parser) number(level int) (number, error) {
	if level == len(levels) {
		return p.operand()
	}
	a, err := p.number(level + 1)
	for err == nil {
		how := p.take(levels[level]...)
		if how == "" {
			return a, nil
		}
		var b number
		if b, err = p.number(level + 1); err == nil {
			a, err = join(a, b, how)
		}
	}
	return a, err
}

// join applies an operator.
func join(a, b number, how string) (number, error) {
	if b.fixed && b.n == 0 && (how == "/" || how == "%") {
		return a, fmt.Errorf("a division by 0")
	}
	out := number{guard: a.guard}
	switch {
	case a.guard == nil:
		out.guard = b.guard
	case b.guard != nil:
		out.guard = and(a.guard, b.guard)
	}
	x, y := a.get, b.get
	switch how {
	case "|":
		out.get = func(v *view) uint32 { return x(v) | y(v) }
	case "^":
		out.get = func(v *view) uint32 { return x(v) ^ y(v) }
	case "&":
		out.get = func(v *view) uint32 { return x(v) & y(v) }
	case "<<":
		out.get = func(v *view) uint32 { return x(v) << y(v) }
	case ">>":
		out.get = func(v *view) uint32 { return x(v) >> y(v) }
	case "+":
		out.get = func(v *view) uint32 { return x(v) + y(v) }
	case "-":
		out.get = func(v *view) uint32 { return x(v) - y(v) }
	case "*":
		out.get = func(v *view) uint32 { return x(v) * y(v) }
	case "/":
		out.get = func(v *view) uint32 { return x(v) / v.divisor(y) }
	case "%":
		out.get = func(v *view) uint32 { return x(v) % v.divisor(y) }
	}
	if a.fixed && b.fixed {
		return fixed(out.get(&view{})), nil
	}
	return out, nil
}

// divisor returns a number that is not 0: a frame that makes it 0 does not fit.
func (v *view) divisor(get value) uint32 {
	n := get(v)
	if n == 0 {
		v.short = true
		return 1
	}
	return n
}

func (p *parser) operand() (number, error) {
	w := p.next()
	switch w {
	case "":
		return number{}, fmt.Errorf("a number is missing at the end")
	case "(":
		x, err := p.number(0)
		if err == nil && p.take(")") == "" {
			err = fmt.Errorf("a ) is missing%s", before(p.peek()))
		}
		return x, err
	case "-":
		x, err := p.operand()
		if err != nil {
			return x, err
		}
		return join(fixed(0), x, "-")
	case "len":
		return number{get: func(v *view) uint32 { return v.length }}, nil
	}
	if n, ok := constants[w]; ok {
		return fixed(n), nil
	}
	if n, err := strconv.ParseUint(w, 0, 32); err == nil {
		return fixed(uint32(n)), nil
	}
	if p.take("[") != "" {
		return p.bytes(w)
	}
	return number{}, fmt.Errorf("%q is no number, and no PROTOCOL[OFFSET:SIZE]", w)
}

// bytes reads what is between the brackets of PROTOCOL[OFFSET:SIZE].
func (p *parser) bytes(protocol string) (number, error) {
	at, err := p.number(0)
	if err != nil {
		return at, err
	}
	size := uint32(1)
	if p.take(":") != "" {
		w := p.next()
		n, err := strconv.ParseUint(w, 0, 32)
		if err != nil || n != 1 && n != 2 && n != 4 {
			return at, fmt.Errorf("%q is no size of bytes; there are 1, 2 and 4", w)
		}
		size = uint32(n)
	}
	if p.take("]") == "" {
		return at, fmt.Errorf("a ] is missing%s", before(p.peek()))
	}
	const known = 20 // bytes of a header that Filter.Bytes has
	if !at.fixed || at.n > known-size {
		p.any = true
	}
	x := number{}
	if x.get, x.guard, err = p.header(protocol, at.get, size); err != nil {
		return x, err
	}
	if at.guard != nil {
		x.guard = and(at.guard, x.guard)
	}
	return x, nil
}

// header returns how bytes of a protocol's header are loaded, and of which frames they can be.
func (p *parser) header(protocol string, at value, size uint32) (value, test, error) {
	tags := p.tags
	if protocol == "ether" || protocol == "link" {
		return func(v *view) uint32 { return v.load(at(v), size) }, func(*view) bool { return true }, nil
	}
	if etherType, ok := etherTypes[protocol]; ok {
		return func(v *view) uint32 { return v.net(tags, at(v), size) }, isType(tags, etherType), nil
	}
	if protocol == "icmp6" {
		is := and(isType(tags, typeIPv6), func(v *view) bool { return v.net(tags, 6, 1) == protoICMPv6 })
		return func(v *view) uint32 { return v.net(tags, ip6Len+at(v), size) }, is, nil
	}
	proto, ok := protocols[protocol]
	if !ok {
		return nil, nil, fmt.Errorf("%q has no bytes to ask about; there are ether, ip, ip6, arp, rarp, tcp, udp, icmp, icmp6, "+
			"sctp, igmp", protocol)
	}
	is := and(inIPv4(tags, uint32(proto.number)), notLater(tags))
	return func(v *view) uint32 { return v.transport(tags, at(v), size) }, is, nil
}

// constants are the names of numbers.
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64,
	"tcp-cwr": 128,

	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,

	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
}
