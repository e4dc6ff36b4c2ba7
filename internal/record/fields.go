package record

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"naru/internal/wire"
)

// Field is one header field of a frame, under the name that tshark's display filters have for it. A packet in a tunnel has
// the prefix "inner.", one that an ICMP error quotes "quoted.".
type Field struct {
	Name  string
	At    int // byte offset in the frame
	Len   int // bytes
	Value string
}

// Fields returns the fields of a frame that a person may want to see, as far as the frame goes. gue is the destination
// port of UDP behind which there is another packet, 0 for none.
func Fields(frame []byte, gue uint16) []Field {
	d := dissector{d: frame, gue: gue}
	if len(frame) < wire.EthernetLen {
		return nil
	}
	d.add("eth.dst", 0, 6, net.HardwareAddr(frame[:6]).String())
	d.add("eth.src", 6, 6, net.HardwareAddr(frame[6:12]).String())
	at := 12
	for kind := d.u16(at); (kind == wire.TypeVLAN || kind == wire.TypeQinQ) && at+6 <= len(frame); kind = d.u16(at) {
		d.num("vlan.tci", at+2, 2)
		at += wire.VLANTagLen
	}
	d.add("eth.type", at, 2, fmt.Sprintf("0x%04x", d.u16(at)))
	switch d.u16(at) {
	case wire.TypeIPv4, wire.TypeIPv6:
		d.ip(at+2, "")
	case wire.TypeARP:
		d.arp(at + 2)
	}
	return d.fields
}

type dissector struct {
	d      []byte
	gue    uint16
	fields []Field
}

func (d *dissector) has(at, n int) bool { return at+n <= len(d.d) }

func (d *dissector) u16(at int) uint16 {
	if !d.has(at, 2) {
		return 0
	}
	return binary.BigEndian.Uint16(d.d[at:])
}

func (d *dissector) add(name string, at, n int, value string) {
	if d.has(at, n) {
		d.fields = append(d.fields, Field{name, at, n, value})
	}
}

// num adds a field of 1, 2 or 4 bytes in decimal, hex in hexadecimal.
func (d *dissector) num(name string, at, n int) {
	if d.has(at, n) {
		d.add(name, at, n, fmt.Sprint(d.value(at, n)))
	}
}

func (d *dissector) hex(name string, at, n int) {
	if d.has(at, n) {
		d.add(name, at, n, fmt.Sprintf("0x%0*x", 2*n, d.value(at, n)))
	}
}

func (d *dissector) value(at, n int) (v uint32) {
	for _, b := range d.d[at : at+n] {
		v = v<<8 | uint32(b)
	}
	return v
}

func (d *dissector) addr(name string, at, n int) {
	if d.has(at, n) {
		a, _ := netip.AddrFromSlice(d.d[at : at+n])
		d.add(name, at, n, a.String())
	}
}

func (d *dissector) arp(at int) {
	d.num("arp.opcode", at+6, 2)
	if d.has(at, wire.ARPLen) {
		d.add("arp.src.hw_mac", at+8, 6, net.HardwareAddr(d.d[at+8:at+14]).String())
		d.addr("arp.src.proto_ipv4", at+14, 4)
		d.addr("arp.dst.proto_ipv4", at+24, 4)
	}
}

// ip adds an IP packet and what it carries.
func (d *dissector) ip(at int, prefix string) {
	if !d.has(at, 1) {
		return
	}
	switch d.d[at] >> 4 {
	case 4:
		d.ipv4(at, prefix)
	case 6:
		d.ipv6(at, prefix)
	}
}

func (d *dissector) ipv4(at int, prefix string) {
	if !d.has(at, wire.IPv4Len) {
		return
	}
	p := prefix + "ip."
	d.hex(p+"dsfield", at+1, 1)
	d.num(p+"len", at+2, 2)
	d.hex(p+"id", at+4, 2)
	d.hex(p+"frag", at+6, 2)
	d.num(p+"ttl", at+8, 1)
	d.num(p+"proto", at+9, 1)
	d.hex(p+"checksum", at+10, 2)
	d.addr(p+"src", at+12, 4)
	d.addr(p+"dst", at+16, 4)
	if d.u16(at+6)&0x1fff == 0 {
		d.transport(at+int(d.d[at]&15)*4, d.d[at+9], prefix)
	}
}

func (d *dissector) ipv6(at int, prefix string) {
	if !d.has(at, wire.IPv6Len) {
		return
	}
	p := prefix + "ipv6."
	d.add(p+"tclass", at, 2, fmt.Sprintf("0x%02x", d.u16(at)>>4&0xff))
	d.num(p+"plen", at+4, 2)
	d.num(p+"nxt", at+6, 1)
	d.num(p+"hlim", at+7, 1)
	d.addr(p+"src", at+8, 16)
	d.addr(p+"dst", at+24, 16)
	const fragmentHeader = 44
	next, at := d.d[at+6], at+wire.IPv6Len
	for next == 0 || next == 43 || next == 60 || next == fragmentHeader {
		if !d.has(at, 8) {
			return
		}
		size := 8
		if next == fragmentHeader {
			d.hex(p+"fraghdr.offset", at+2, 2)
			d.hex(p+"fraghdr.ident", at+4, 4)
			if d.u16(at+2)&0xfff8 != 0 {
				return
			}
		} else {
			size += int(d.d[at+1]) * 8
		}
		next, at = d.d[at], at+size
	}
	d.transport(at, next, prefix)
}

func (d *dissector) transport(at int, proto uint8, prefix string) {
	switch proto {
	case wire.ProtoTCP:
		d.tcp(at, prefix+"tcp.")
	case wire.ProtoUDP:
		p := prefix + "udp."
		d.num(p+"srcport", at, 2)
		d.num(p+"dstport", at+2, 2)
		d.num(p+"length", at+4, 2)
		d.hex(p+"checksum", at+6, 2)
		if d.gue != 0 && prefix == "" && d.u16(at+2) == d.gue && d.has(at+8, 1) {
			inner := at + 8
			if d.d[inner]>>6 == 0 { // variant 0 has a header of its own, variant 1 is the IP packet itself
				inner += 4 + int(d.d[inner]&31)*4
			}
			d.ip(inner, "inner.")
		}
	case wire.ProtoICMP, wire.ProtoICMPv6:
		d.icmp(at, proto, prefix)
	case 4, 41: // an IP packet in another (RFC 2003, RFC 2473)
		if prefix == "" {
			d.ip(at, "inner.")
		}
	}
}

func (d *dissector) tcp(at int, p string) {
	d.num(p+"srcport", at, 2)
	d.num(p+"dstport", at+2, 2)
	d.num(p+"seq", at+4, 4)
	d.num(p+"ack", at+8, 4)
	if d.has(at, wire.TCPLen) {
		d.add(p+"flags", at+13, 1, "["+flags(d.d[at+13]&0x3f)+"]")
	}
	d.num(p+"window", at+14, 2)
	d.hex(p+"checksum", at+16, 2)
	if !d.has(at, wire.TCPLen) {
		return
	}
	for o, end := at+wire.TCPLen, at+int(d.d[at+12]>>4)*4; o+1 < end && d.has(o, 2); {
		switch kind, size := d.d[o], int(d.d[o+1]); {
		case kind == 0:
			return
		case kind == 1:
			o++
		case size < 2:
			return
		default:
			if kind == 2 && size == 4 {
				d.num(p+"options.mss_val", o+2, 2)
			}
			o += size
		}
	}
}

func (d *dissector) icmp(at int, proto uint8, prefix string) {
	p, quotes := prefix+"icmp.", []byte{3, 4, 5, 11, 12}
	if proto == wire.ProtoICMPv6 {
		p, quotes = prefix+"icmpv6.", []byte{1, 2, 3, 4}
	}
	d.num(p+"type", at, 1)
	d.num(p+"code", at+1, 1)
	d.hex(p+"checksum", at+2, 2)
	if !d.has(at, wire.ICMPLen) {
		return
	}
	switch kind := d.d[at]; {
	case proto == wire.ProtoICMP && kind == wire.ICMPUnreachable && d.d[at+1] == 4:
		d.num(p+"mtu", at+6, 2)
	case proto == wire.ProtoICMPv6 && kind == wire.ICMPv6TooBig:
		d.num(p+"mtu", at+4, 4)
	}
	for _, kind := range quotes {
		if kind == d.d[at] && prefix != "quoted." {
			d.ip(at+wire.ICMPLen, "quoted.")
		}
	}
}
