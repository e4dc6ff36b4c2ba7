package pcapfilter

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// proto reads the protocol behind "proto".
func (p *parser) proto(q qualifier, id string) (test, error) {
	if q.direction != "" {
		return nil, fmt.Errorf("a protocol has no direction")
	}
	n, err := strconv.ParseUint(id, 0, 16)
	switch q.protocol {
	case "ether", "link":
		if etherType, ok := etherTypes[id]; ok {
			n, err = uint64(etherType), nil
		}
		if err != nil || n < 0x600 {
			return nil, fmt.Errorf("%q is no EtherType; write ip, ip6, arp, rarp or a number from 0x600 on", id)
		}
		return isType(p.tags, uint32(n)), nil
	case "", "ip", "ip6":
	default:
		return nil, fmt.Errorf("proto goes with ether, ip and ip6, not with %s", q.protocol)
	}
	if x, ok := protocols[id]; ok {
		n, err = uint64(x.number), nil
	}
	if err != nil || n > 255 {
		return nil, fmt.Errorf("%q is no protocol of IP; write a number", id)
	}
	v4, v6 := inIPv4(p.tags, uint32(n)), inIPv6(p.tags, uint32(n))
	switch q.protocol {
	case "ip":
		return v4, nil
	case "ip6":
		return v6, nil
	}
	return or(v4, v6), nil
}

// ports reads a port or a range of them, of TCP, UDP and SCTP.
func (p *parser) ports(q qualifier, id string) (test, error) {
	with := []uint32{6, 17, 132}
	switch x := protocols[q.protocol]; {
	case q.protocol == "":
	case slices.Contains(with, uint32(x.number)):
		with = []uint32{uint32(x.number)}
	default:
		return nil, fmt.Errorf("%s has no ports; write \"%s and port %s\"", q.protocol, q.protocol, id)
	}
	low, err := port(id, q.protocol)
	high := low
	if q.kind == "portrange" && err == nil && p.take("-") != "" {
		high, err = port(p.next(), q.protocol)
	}
	if err != nil {
		return nil, err
	}
	low, high = min(low, high), max(low, high)
	tags := p.tags
	within := func(load func(v *view, at uint32) uint32) test {
		end := func(at uint32) test {
			return func(v *view) bool { n := load(v, at); return n >= low && n <= high }
		}
		return towards(q.direction, end(0), end(2))
	}
	carried := func(at uint32) test {
		return func(v *view) bool {
			proto := v.net(tags, at, 1)
			for _, x := range with {
				if x == proto {
					return true
				}
			}
			return false
		}
	}
	v4 := and(and(isType(tags, typeIPv4), and(carried(9), notLater(tags))),
		within(func(v *view, at uint32) uint32 { return v.transport(tags, at, 2) }))
	v6 := and(and(isType(tags, typeIPv6), carried(6)),
		within(func(v *view, at uint32) uint32 { return v.net(tags, ip6Len+at, 2) }))
	return or(v4, v6), nil
}

// port reads a number, or the name of a well-known one.
func port(id, protocol string) (uint32, error) {
	if n, err := strconv.ParseUint(id, 0, 16); err == nil {
		return uint32(n), nil
	}
	for _, network := range []string{protocol, "tcp", "udp"} {
		if n, err := net.LookupPort(network, id); id != "" && err == nil && network != "" {
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("%q is no port", id)
}

// vlan tests for a tag, with a number perhaps, and shifts all that stands behind it.
func (p *parser) vlan() (test, error) {
	level := p.tags
	p.tags++
	any, id := true, uint64(0)
	if p.named() {
		var err error
		if id, err = strconv.ParseUint(p.next(), 0, 32); err != nil || id > 4095 {
			return nil, fmt.Errorf("vlan takes a number from 0 to 4095")
		}
		any = false
	}
	return func(v *view) bool {
		outside := v.tci != 0 && level == 0
		if outside {
			return any || uint32(v.tci)&0xfff == uint32(id)
		}
		at := typeAt + v.shift(level)
		switch v.load(at, 2) {
		case 0x8100, 0x88a8, 0x9100:
			return any || v.load(at+2, 2)&0xfff == uint32(id)
		}
		return false
	}, nil
}

// many tests for addresses of several.
func (p *parser) many(protocol, what string) (test, error) {
	tags := p.tags
	switch {
	case (protocol == "ether" || protocol == "link") && what == "broadcast":
		return func(v *view) bool { return v.load(0, 4) == 0xffffffff && v.load(4, 2) == 0xffff }, nil
	case protocol == "ether" || protocol == "link":
		return func(v *view) bool { return v.load(0, 1)&1 != 0 }, nil
	case protocol == "ip" && what == "multicast":
		return and(isType(tags, typeIPv4), func(v *view) bool { return v.net(tags, 16, 1) >= 224 }), nil
	case protocol == "ip6" && what == "multicast":
		return and(isType(tags, typeIPv6), func(v *view) bool { return v.net(tags, 24, 1) == 255 }), nil
	}
	return nil, fmt.Errorf("%s %s is not known here; there are ether broadcast, and ether, ip and ip6 multicast", protocol, what)
}

// size tests how long a frame is.
func (p *parser) size(how string) (test, error) {
	w := p.next()
	n, err := strconv.ParseUint(w, 0, 32)
	if err != nil {
		return nil, fmt.Errorf("%s takes a number of bytes, %q is none", how, w)
	}
	if how == "less" {
		return func(v *view) bool { return uint64(v.length) <= n }, nil
	}
	return func(v *view) bool { return uint64(v.length) >= n }, nil
}

// mac tests the addresses of Ethernet.
func (p *parser) mac(q qualifier, id string) (test, error) {
	a, err := net.ParseMAC(strings.ReplaceAll(id, "-", ":"))
	if err != nil || len(a) != 6 {
		return nil, fmt.Errorf("%q is no address of Ethernet, as 02:00:00:00:00:01", id)
	}
	if q.kind != "" && q.kind != "host" {
		return nil, fmt.Errorf("%s goes with host, not with %s", q.protocol, q.kind)
	}
	high := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	low := uint32(a[4])<<8 | uint32(a[5])
	is := func(at uint32) test {
		return func(v *view) bool { return v.load(at+4, 2) == low && v.load(at, 4) == high }
	}
	return towards(q.direction, is(6), is(0)), nil
}
