package wiretest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"naru/internal/wire"
)

// Difference is a field in which two packets differ, in text.
type Difference struct {
	Field string // "ip ttl"; a field of the packet that an ICMP error quotes starts with "quoted"
	A, B  string // "-" where the packet has no such field
}

// Differences compares two frames from the IP header to the end that its length tells, field by field. No difference
// means that these bytes are the same.
func Differences(a, b []byte) (diffs []Difference) {
	fa, fb := fields(untagged(a)), fields(untagged(b))
	for i := 0; i < max(len(fa), len(fb)); i++ {
		d := Difference{A: "-", B: "-"}
		if i < len(fb) {
			d.Field, d.B = fb[i].Field, fb[i].A
		}
		if i < len(fa) {
			d.Field, d.A = fa[i].Field, fa[i].A
		}
		if d.A != d.B {
			diffs = append(diffs, d)
		}
	}
	return diffs
}

// untagged returns what an Ethernet frame carries, behind all tags; nil when that is no IP packet.
func untagged(frame []byte) []byte {
	at := 12
	for len(frame) > at+6 {
		switch binary.BigEndian.Uint16(frame[at:]) {
		case wire.TypeVLAN, wire.TypeQinQ:
			at += wire.VLANTagLen
		case wire.TypeIPv4, wire.TypeIPv6:
			return frame[at+2:]
		default:
			return nil
		}
	}
	return nil
}

// fieldList collects the fields of a packet; B stays empty.
type fieldList struct {
	prefix string
	list   []Difference
}

func (l *fieldList) add(name string, b []byte) {
	l.list = append(l.list, Difference{Field: l.prefix + name, A: fmt.Sprintf("%x", b)})
}

func (l *fieldList) addr(name string, b []byte) {
	a, _ := netip.AddrFromSlice(b)
	l.list = append(l.list, Difference{Field: l.prefix + name, A: a.String()})
}

// fields takes a packet apart so that all its bytes are in exactly one field.
func fields(ip []byte) []Difference {
	var l fieldList
	l.packet(ip)
	return l.list
}

// packet adds an IP packet, which may be cut anywhere when it is a quote.
func (l *fieldList) packet(ip []byte) {
	v, ok := viewIP(ip)
	if !ok {
		l.add("bytes", ip)
		return
	}
	ip = ip[:min(len(ip), v.end)]
	if v.v4 {
		l.add("ip version, header length", ip[:1])
		l.add("ip tos", ip[1:2])
		l.add("ip length", ip[2:4])
		l.add("ip id", ip[4:6])
		l.add("ip flags, fragment offset", ip[6:8])
		l.add("ip ttl", ip[8:9])
		l.add("ip protocol", ip[9:10])
		l.add("ip checksum", ip[10:12])
		l.addr("ip source", ip[12:16])
		l.addr("ip destination", ip[16:20])
		l.add("ip options", ip[20:v.l4])
	} else {
		l.add("ip version, class, flow label", ip[:4])
		l.add("ip payload length", ip[4:6])
		l.add("ip next header", ip[6:7])
		l.add("ip hop limit", ip[7:8])
		l.addr("ip source", ip[8:24])
		l.addr("ip destination", ip[24:40])
		l.add("ip extension headers", ip[40:v.l4])
	}
	l.transport(&v, ip[v.l4:])
}

func (l *fieldList) transport(v *ipView, t []byte) {
	switch {
	case v.later:
		l.add("payload", t)
	case v.proto == wire.ProtoTCP:
		l.cut("tcp ", t, []fieldSpec{{"source port", 2}, {"destination port", 2}, {"sequence number", 4},
			{"acknowledgement number", 4}, {"offset, flags", 2}, {"window", 2}, {"checksum", 2}, {"urgent pointer", 2},
			{"options, payload", len(t)}})
	case v.proto == wire.ProtoUDP:
		l.cut("udp ", t, []fieldSpec{{"source port", 2}, {"destination port", 2}, {"length", 2}, {"checksum", 2},
			{"payload", len(t)}})
	case v.proto == wire.ProtoICMP || v.proto == wire.ProtoICMPv6:
		rest := l.cut("icmp ", t, []fieldSpec{{"type", 1}, {"code", 1}, {"checksum", 2}, {"second word", 4}})
		if v.icmpError(t) && l.prefix == "" {
			l.prefix = "quoted "
			l.packet(rest)
			return
		}
		l.add("icmp payload", rest)
	default:
		l.add("payload", t)
	}
}

// fieldSpec is a field of so many bytes.
type fieldSpec struct {
	name string
	size int
}

// cut adds the fields that b has and returns what is behind them.
func (l *fieldList) cut(proto string, b []byte, specs []fieldSpec) []byte {
	for _, s := range specs {
		n := min(s.size, len(b))
		l.add(proto+s.name, b[:n])
		b = b[n:]
	}
	return b
}

// ipView is where the parts of an IP packet are, read leniently: a broken packet is to be compared as well.
type ipView struct {
	ip       []byte
	v4       bool
	l4, end  int // end: as the header tells, perhaps beyond ip
	proto    uint8
	first    bool // a first fragment
	later    bool // a later one
	src, dst netip.AddrPort
	ported   bool // TCP or UDP, and the ports are there
}

// viewIP reads the IP header and the ports behind it; false means that there is no IP header.
func viewIP(ip []byte) (v ipView, ok bool) {
	v.ip = ip
	switch {
	case len(ip) >= wire.IPv4Len && ip[0]>>4 == 4:
		v.v4, v.proto, v.l4 = true, ip[9], int(ip[0]&0xf)*4
		v.end = int(binary.BigEndian.Uint16(ip[2:]))
		frag := binary.BigEndian.Uint16(ip[6:])
		v.later, v.first = frag&0x1fff != 0, frag&0x3fff == 0x2000
	case len(ip) >= wire.IPv6Len && ip[0]>>4 == 6:
		v.end = wire.IPv6Len + int(binary.BigEndian.Uint16(ip[4:]))
		v.extensions()
	default:
		return v, false
	}
	if v.l4 < wire.IPv4Len || v.l4 > len(ip) {
		return v, false
	}
	at, size := 8, 16
	if v.v4 {
		at, size = 12, 4
	}
	src, dst := ip[at:at+size], ip[at+size:at+2*size]
	srcAddr, _ := netip.AddrFromSlice(src)
	dstAddr, _ := netip.AddrFromSlice(dst)
	var srcPort, dstPort uint16
	if !v.later && (v.proto == wire.ProtoTCP || v.proto == wire.ProtoUDP) && len(ip) >= v.l4+4 {
		srcPort, dstPort = binary.BigEndian.Uint16(ip[v.l4:]), binary.BigEndian.Uint16(ip[v.l4+2:])
		v.ported = true
	}
	v.src, v.dst = netip.AddrPortFrom(srcAddr, srcPort), netip.AddrPortFrom(dstAddr, dstPort)
	return v, true
}

// extensions walks the extension headers of an IPv6 packet to the first other header (RFC 8200 4).
func (v *ipView) extensions() {
	v.proto, v.l4 = v.ip[6], wire.IPv6Len
	for range 8 {
		h := v.ip[min(v.l4, len(v.ip)):]
		if len(h) < 8 {
			return
		}
		switch v.proto {
		case 0, 43, 60: // hop-by-hop, routing, destination options
			v.proto, v.l4 = h[0], v.l4+8+8*int(h[1])
		case 44: // fragment
			at := binary.BigEndian.Uint16(h[2:])
			v.later, v.first = at&0xfff8 != 0, at&0xfff9 == 1
			v.proto, v.l4 = h[0], v.l4+8
			if v.later {
				return
			}
		default:
			return
		}
	}
}

// icmpError reports whether t is an ICMP error with a quote.
func (v *ipView) icmpError(t []byte) bool {
	if v.later || len(t) < wire.ICMPLen {
		return false
	}
	if v.v4 {
		return v.proto == wire.ProtoICMP && (t[0] == 3 || t[0] == 11 || t[0] == 12)
	}
	return v.proto == wire.ProtoICMPv6 && t[0] < 128
}
