package pcapfilter

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	typeIPv4, typeIPv6 = 0x0800, 0x86dd
	typeARP, typeRARP  = 0x0806, 0x8035
	protoFragment      = 44
	protoICMPv6        = 58
	ip6Len             = 40
)

var etherTypes = map[string]uint32{"ip": typeIPv4, "ip6": typeIPv6, "arp": typeARP, "rarp": typeRARP}

// protocols are those that IP carries.
var protocols = map[string]struct {
	number uint8
	v4, v6 bool // where the name alone looks for it
}{
	"icmp": {1, true, false}, "igmp": {2, true, false}, "tcp": {6, true, true}, "udp": {17, true, true},
	"esp": {50, true, true}, "ah": {51, true, true}, "icmp6": {protoICMPv6, false, true}, "pim": {103, true, true},
	"vrrp": {112, true, false}, "carp": {112, true, false}, "sctp": {132, true, true},
}

// qualifier is what stands in front of a name: PROTOCOL DIRECTION TYPE, each of which may be missing.
type qualifier struct{ protocol, direction, kind string }

var kinds = []string{"host", "net", "port", "portrange", "proto"}

// refused are words of pcap-filter(7) that are not known here.
var refused = []string{"gateway", "protochain", "mpls", "pppoed", "pppoes", "geneve", "vxlan", "llc", "wlan", "fddi", "tr",
	"atalk", "aarp", "decnet", "iso", "stp", "ipx", "netbeui", "ifname", "inbound", "outbound", "radio", "ppp", "slip"}

func (p *parser) primitive() (test, error) {
	switch w := p.peek(); {
	case w == "":
		return nil, fmt.Errorf("something is missing at the end")
	case slices.Contains(refused, w):
		return nil, fmt.Errorf("%q is not known here", w)
	case w == "vlan":
		p.at++
		return p.vlan()
	case w == "broadcast", w == "multicast":
		p.at++
		return p.many("ether", w)
	case w == "less", w == "greater":
		p.at++
		return p.size(w)
	}
	q := qualifier{}
	first := p.peek()
	_, carried := protocols[first]
	if _, known := etherTypes[first]; known || carried || first == "ether" || first == "link" {
		q.protocol = p.next()
	}
	if w := p.take("broadcast", "multicast"); w != "" {
		return p.many(q.protocol, w)
	}
	q.direction = p.direction()
	q.kind = p.take(kinds...)
	switch {
	case q.protocol != "" && q.direction == "" && q.kind == "" && !p.named():
		p.last = q
		return p.protocol(q.protocol)
	case q == qualifier{}:
		q = p.last
	}
	p.last = q
	if p.take("(") != "" { // port (80 or 443)
		x, err := p.expression()
		if err == nil && p.take(")") == "" {
			err = fmt.Errorf("a ) is missing%s", before(p.peek()))
		}
		return x, err
	}
	return p.identified(q)
}

// named reports whether a name or number follows rather than a joining word or the end.
func (p *parser) named() bool {
	w := p.peek()
	return w != "" && (w[0] >= '0' && w[0] <= '9' || strings.Contains(w, ":") && len(w) > 1)
}

// direction reads src, dst, and both joined.
func (p *parser) direction() string {
	w := p.take("src", "dst")
	if w == "" || p.at+1 >= len(p.words) {
		return w
	}
	other := map[string]string{"src": "dst", "dst": "src"}[w]
	if how := p.peek(); p.words[p.at+1] == other && slices.Contains([]string{"or", "||", "and", "&&"}, how) {
		p.at += 2
		if how == "and" || how == "&&" {
			return "both"
		}
		return "either"
	}
	return w
}

// identified reads the name or number that a qualifier is about.
func (p *parser) identified(q qualifier) (test, error) {
	id := strings.TrimPrefix(p.next(), "\\")
	switch q.kind {
	case "port", "portrange":
		return p.ports(q, id)
	case "proto":
		return p.proto(q, id)
	}
	if id == "" {
		return nil, fmt.Errorf("an address is missing at the end")
	}
	if q.protocol == "ether" || q.protocol == "link" {
		return p.mac(q, id)
	}
	if q.protocol != "" && etherTypes[q.protocol] == 0 {
		return nil, fmt.Errorf("%s has no addresses; write \"%s and host %s\"", q.protocol, q.protocol, id)
	}
	prefix, err := p.prefix(q, id)
	if err != nil {
		return nil, err
	}
	return p.address(q, prefix)
}

// prefix reads an address or a network, with what stands behind it.
func (p *parser) prefix(q qualifier, id string) (none netip.Prefix, err error) {
	bits := -1
	a, err := netip.ParseAddr(id)
	if dots := strings.Count(id, "."); err != nil && dots < 3 { // 10.1 means 10.1.0.0/16
		a, err = netip.ParseAddr(id + strings.Repeat(".0", 3-dots))
		bits = 8 * (dots + 1)
		if dots == 0 && q.kind != "net" {
			err = fmt.Errorf("a number")
		}
	}
	if err != nil || a.Zone() != "" {
		return none, fmt.Errorf("%q is no address, and names are not looked up", id)
	}
	if bits < 0 {
		bits = a.BitLen()
	}
	switch {
	case p.take("/") != "":
		w := p.next()
		if bits, err = strconv.Atoi(w); err != nil || bits < 0 || bits > a.BitLen() {
			return none, fmt.Errorf("%q is no length of a prefix of %s", w, a)
		}
		q.kind = "net"
	case q.kind == "net" && p.take("mask") != "":
		w := p.next()
		if bits, err = maskBits(w); err != nil || !a.Is4() {
			return none, fmt.Errorf("%q is no mask of %s, as 255.255.255.0", w, a)
		}
	}
	prefix := netip.PrefixFrom(a, bits)
	if prefix.Masked() != prefix {
		return none, fmt.Errorf("%s has bits behind its prefix; write %s", prefix, prefix.Masked())
	}
	return prefix, nil
}

func maskBits(text string) (int, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("no mask")
	}
	b := a.As4()
	bits, _ := net.IPMask(b[:]).Size()
	if bits == 0 && b != [4]byte{} {
		return 0, fmt.Errorf("no mask")
	}
	return bits, nil
}

// address tests the addresses of IP, and for IPv4 those that ARP is about.
func (p *parser) address(q qualifier, prefix netip.Prefix) (test, error) {
	tags := p.tags
	at := func(etherType, src, dst uint32) test {
		return and(isType(tags, etherType), towards(q.direction, within(tags, src, prefix), within(tags, dst, prefix)))
	}
	v6 := prefix.Addr().Is6()
	switch {
	case v6 && (q.protocol == "" || q.protocol == "ip6"):
		return at(typeIPv6, 8, 24), nil
	case v6 || q.protocol == "ip6":
		return nil, fmt.Errorf("%s cannot be an address of %s", prefix.Addr(), q.protocol)
	case q.protocol == "ip":
		return at(typeIPv4, 12, 16), nil
	case q.protocol != "":
		return at(etherTypes[q.protocol], 14, 24), nil
	}
	return or(at(typeIPv4, 12, 16), or(at(typeARP, 14, 24), at(typeRARP, 14, 24))), nil
}

// within tests whether an address is in a prefix, word by word, and needs all of it.
func within(tags, at uint32, prefix netip.Prefix) test {
	t := test(func(*view) bool { return true })
	b := prefix.Addr().AsSlice()
	for k := len(b)/4 - 1; k >= 0; k-- {
		want := uint32(b[4*k])<<24 | uint32(b[4*k+1])<<16 | uint32(b[4*k+2])<<8 | uint32(b[4*k+3])
		mask := ^uint32(0) << max(0, 32*(k+1)-prefix.Bits()) // 0 behind the prefix
		word, rest := at+uint32(4*k), t
		t = func(v *view) bool { return v.net(tags, word, 4)&mask == want && rest(v) }
	}
	return t
}

// towards joins the tests of both ends.
func towards(direction string, src, dst test) test {
	switch direction {
	case "src":
		return src
	case "dst":
		return dst
	case "both":
		return and(src, dst)
	}
	return or(src, dst)
}

func isType(tags, etherType uint32) test {
	return func(v *view) bool { return v.etherType(tags) == etherType }
}

func inIPv4(tags, proto uint32) test {
	return and(isType(tags, typeIPv4), func(v *view) bool { return v.net(tags, 9, 1) == proto })
}

// inIPv6 looks behind a fragment header too.
func inIPv6(tags, proto uint32) test {
	return and(isType(tags, typeIPv6), func(v *view) bool {
		next := v.net(tags, 6, 1)
		return next == proto || next == protoFragment && v.net(tags, ip6Len, 1) == proto
	})
}

// notLater leaves out fragments of IPv4 behind the first one.
func notLater(tags uint32) test {
	return func(v *view) bool { return v.net(tags, 6, 2)&0x1fff == 0 }
}

// protocol tests for a protocol by its name.
func (p *parser) protocol(name string) (test, error) {
	if name == "ether" || name == "link" {
		return nil, fmt.Errorf("%s needs host, proto, broadcast or multicast behind it", name)
	}
	if etherType, ok := etherTypes[name]; ok {
		return isType(p.tags, etherType), nil
	}
	x := protocols[name]
	v4, v6 := inIPv4(p.tags, uint32(x.number)), inIPv6(p.tags, uint32(x.number))
	switch {
	case !x.v6:
		return v4, nil
	case !x.v4:
		return v6, nil
	}
	return or(v4, v6), nil
}
