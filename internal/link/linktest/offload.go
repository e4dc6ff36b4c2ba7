package linktest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"naru/internal/wire"
)

// An offload is one kind of unfinished frame.
type offload struct {
	name    string
	v6, udp bool
	payload int
	gsoType uint8
	gsoSize uint16
}

var offloads = []offload{
	{name: "unfinished checksum, TCP over IPv4", payload: 100},
	{name: "unfinished checksum, UDP over IPv6", v6: true, udp: true, payload: 100},
	{name: "super-frame, UDP over IPv4", udp: true, payload: 9000, gsoType: wire.GSOUDPL4, gsoSize: 1400},
	{name: "super-frame, TCP over IPv6", v6: true, payload: 20000, gsoType: wire.GSOTCPv6, gsoSize: 1428},
	{name: "super-frame, TCP over IPv4 with CWR", payload: 20000, gsoType: wire.GSOTCPv4 | wire.GSOECNBit,
		gsoSize: 1448},
	{name: "super-frame, TCP over IPv4, as long as Linux makes them", payload: 65535 - 54 - 4, gsoType: wire.GSOTCPv4,
		gsoSize: 1448},
	{name: "super-frame, TCP over IPv4", payload: 20000, gsoType: wire.GSOTCPv4, gsoSize: 1448},
}

// offloads are the kinds that the driver carries.
func (p *pair) offloads() []offload {
	if p.plain {
		return nil
	}
	return offloads
}

// other makes a frame that leaves by other ways than ordinary ones do, if there are such ways.
func (p *pair) other() *wire.Frame {
	if p.plain {
		return p.frame(3, 700)
	}
	return p.offloaded(offloads[len(offloads)-1])
}

// echoes makes frames of all kinds.
func (p *pair) echoes() (fs []*wire.Frame) {
	for _, o := range p.offloads() {
		fs = append(fs, p.offloaded(o))
	}
	return append(fs, p.frames(8)...)
}

// testFinished is for drivers that carry no offload metadata: what is unfinished is finished when it arrives, and a
// super-frame is counted as dropped.
func testFinished(t *testing.T, p *pair) {
	dropped := uint64(0)
	for _, tagged := range []bool{false, true} {
		for _, o := range offloads {
			f := p.offloaded(o)
			if tagged {
				f.TPID, f.TCI = 0x8100, 42
			}
			p.send(t, f)
			if o.gsoType != 0 {
				dropped++
				continue
			}
			got := p.receive(t, 1)
			want := *f
			want.Buf, want.Offload = bytes.Clone(f.Buf), wire.Offload{}
			b := want.Bytes()
			sum := ^wire.Fold(wire.Sum(b[f.Offload.CsumStart:], 0))
			binary.BigEndian.PutUint16(b[f.Offload.CsumStart+f.Offload.CsumOffset:], sum)
			same(t, o.name+", finished", &got[0], &want)
		}
	}
	if s := p.a.Stats(); s.TxDropped != dropped {
		t.Errorf("Stats() = %+v with %d super-frames that it cannot send", s, dropped)
	}
}

// offloaded makes a frame of that kind. Its IP header is right; the transport checksum holds something that must
// arrive untouched.
func (p *pair) offloaded(o offload) *wire.Frame {
	l3, l4, csum := 20, 20, uint16(16)
	if o.v6 {
		l3 = 40
	}
	if o.udp {
		l4, csum = 8, 6
	}
	head := wire.EthernetLen + l3 + l4
	f := p.frame(o.payload, head+o.payload)
	b := f.Bytes()
	ip, tr := b[14:], b[14+l3:]
	clear(b[12:head])
	proto := byte(6)
	if o.udp {
		proto = 17
		binary.BigEndian.PutUint16(tr[4:], uint16(l4+o.payload))
	} else {
		tr[12], tr[13] = 5<<4, 0x10
	}
	binary.BigEndian.PutUint16(tr, 40000)
	binary.BigEndian.PutUint16(tr[2:], 80)
	binary.BigEndian.PutUint16(tr[csum:], 0x1234)
	if o.v6 {
		putIPv6(b, ip, proto, l4+o.payload)
	} else {
		putIPv4(b, ip, proto, l4+o.payload)
	}
	f.Offload = wire.Offload{Flags: wire.NeedsCsum, CsumStart: uint16(14 + l3), CsumOffset: csum}
	if o.gsoType != 0 {
		f.Offload.GSOType, f.Offload.GSOSize, f.Offload.HdrLen = o.gsoType, o.gsoSize, uint16(head)
	}
	return f
}

func putIPv4(b, ip []byte, proto byte, payload int) {
	b[12], b[13] = 0x08, 0x00
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+payload))
	copy(ip[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
}

func putIPv6(b, ip []byte, proto byte, payload int) {
	b[12], b[13] = 0x86, 0xdd
	ip[0], ip[6], ip[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(payload))
	ip[8], ip[9], ip[23] = 0x20, 0x01, 1
	ip[24], ip[25], ip[39] = 0x20, 0x01, 2
}
