package dsr_test

import (
	"encoding/binary"
	"testing"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// Flags of a TCP header that wiretest.Frame has no letters for.
const (
	ece = 0x40
	cwr = 0x80
)

// super describes a super-frame.
type super struct {
	wiretest.Frame
	flags   uint8  // besides those of the frame
	options []byte // of TCP, a multiple of 4 bytes
	hop     []byte // an IPv6 hop-by-hop header without its first byte
	label   uint32 // IPv6 flow label
	size    int    // payload of a segment
	ecn     bool   // say in the metadata that the segments carry CWR
	sum     bool   // a finished checksum
}

// payload returns n bytes that differ from their neighbours.
func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// packet returns the super-frame as a device hands it out.
func (s super) packet(t testing.TB) wire.Packet {
	t.Helper()
	p := wiretest.Packet(s.extend(s.Bytes(t)))
	wiretest.Unfinish(&p)
	o := &p.Offload
	o.GSOSize, o.HdrLen = uint16(s.size), uint16(p.L4+wire.UDPLen)
	switch {
	case s.UDP:
		o.GSOType = wire.GSOUDPL4
	case p.Version == 4:
		o.GSOType = wire.GSOTCPv4
	default:
		o.GSOType = wire.GSOTCPv6
	}
	if !s.UDP {
		o.HdrLen = uint16(p.L4) + uint16(p.Transport()[12]>>4)*4
	}
	if s.ecn {
		o.GSOType |= wire.GSOECNBit
	}
	if s.sum {
		wiretest.Finish(&p.Frame)
		o.CsumStart, o.CsumOffset = 0, 0
	}
	return p
}

// extend puts in what wiretest.Frame cannot.
func (s super) extend(d []byte) []byte {
	be := binary.BigEndian
	at := wire.EthernetLen + 4*len(s.VLANs)
	v4, l4 := d[at]>>4 == 4, at+wire.IPv6Len
	if !v4 {
		be.PutUint32(d[at:], be.Uint32(d[at:])|s.label)
	} else {
		l4 = at + int(d[at]&0xf)*4
	}
	if !s.UDP {
		d[l4+13] |= s.flags
		d[l4+12] += uint8(len(s.options) / 4 << 4)
		d = insert(d, l4+wire.TCPLen, s.options)
	}
	if s.hop != nil {
		d = insert(d, l4, append([]byte{d[at+6]}, s.hop...))
		d[at+6] = 0
	}
	if v4 {
		be.PutUint16(d[at+2:], uint16(len(d)-at))
		resum(d[at:])
	} else {
		be.PutUint16(d[at+4:], uint16(len(d)-at-wire.IPv6Len))
	}
	return d
}

func insert(d []byte, at int, b []byte) []byte {
	return append(append(append([]byte(nil), d[:at]...), b...), d[at:]...)
}

// resum makes an IPv4 header's checksum right.
func resum(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^wiretest.SlowChecksum(ip[:int(ip[0]&0xf)*4], 0))
}

// parse parses a frame that must be right.
func parse(t testing.TB, frame []byte) wire.Packet {
	t.Helper()
	p := wiretest.Packet(frame)
	if why := p.ParseLink(); why != wire.ReasonNone {
		t.Fatalf("%v in %x", why, frame)
	}
	if why := p.ParseNetwork(); why != wire.ReasonNone {
		t.Fatalf("%v in %x", why, frame)
	}
	return p
}
