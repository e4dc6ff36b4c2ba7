package dsr_test

import (
	"bytes"
	"testing"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestFinishMakesTheChecksumThatWasMeant(t *testing.T) {
	padded := udp4(31).Bytes(t)
	for _, tc := range []struct {
		name  string
		frame []byte
	}{
		{"TCP", tcp4("A", 77).Bytes(t)},
		{"UDP", udp4(0).Bytes(t)},
		{"TCP over IPv6", tcp6("S", 1).Bytes(t)},
		{"UDP over IPv6", udp6(9).Bytes(t)},
		{"padding is not summed", append(padded[:len(padded):len(padded)], 1, 2, 3)},
		{"a computed zero is sent as ones", zeroSum(t)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := wiretest.Packet(tc.frame)
			wiretest.Unfinish(&p)
			if bytes.Equal(p.Bytes(), tc.frame) {
				t.Fatal("nothing is unfinished")
			}
			dsr.Finish(&p)
			if !bytes.Equal(p.Bytes(), tc.frame) || p.Offload != (wire.Offload{}) {
				t.Errorf("%+v\n%x, want\n%x", p.Offload, p.Bytes(), tc.frame)
			}
		})
	}
}

// zeroSum returns a UDP packet whose checksum is computed to be zero.
func zeroSum(t *testing.T) []byte {
	d := udp4(2).Bytes(t)
	d[42], d[43] = 0, 0
	p := parse(t, d)
	ip := p.IP()
	ip[26], ip[27] = 0, 0
	sum := ^wiretest.SlowChecksum(ip[20:], uint32(wiretest.SlowChecksum(ip[12:20], uint32(len(ip)-20+17))))
	d = bytes.Clone(p.Bytes())
	d[42], d[43], d[40], d[41] = byte(sum>>8), byte(sum), 0xff, 0xff
	return d
}

func TestFinishLeavesAlone(t *testing.T) {
	superFrame := super{Frame: tcp4("A", 3000), size: 1000}
	for _, tc := range []struct {
		name   string
		packet wire.Packet
		change func(*wire.Offload)
		want   bool // the metadata stays
	}{
		{"what is finished", tcp4("A", 9).Packet(t), func(o *wire.Offload) { o.Flags = wire.DataValid }, false},
		{"a super-frame", superFrame.packet(t), func(*wire.Offload) {}, true},
		{"a start behind the end", tcp4("A", 9).Packet(t), func(o *wire.Offload) { o.CsumStart = 65535 }, false},
		{"a field behind the end", tcp4("A", 9).Packet(t), func(o *wire.Offload) { o.CsumOffset = 65535 }, false},
		{"a field half in the packet", tcp4("A", 0).Packet(t), func(o *wire.Offload) { o.CsumOffset = 19 }, false},
		{"a start in the Ethernet header", tcp4("A", 9).Packet(t), func(o *wire.Offload) { o.CsumStart = 2 }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := parse(t, tc.packet.Bytes())
			p.Offload = tc.packet.Offload
			if p.Offload.Flags == 0 {
				p.Offload = wire.Offload{Flags: wire.NeedsCsum, CsumStart: uint16(p.L4), CsumOffset: 16}
			}
			tc.change(&p.Offload)
			offload, before := p.Offload, bytes.Clone(p.Buf)
			dsr.Finish(&p)
			if !bytes.Equal(p.Buf, before) {
				t.Error("the frame changed")
			}
			if !tc.want {
				offload = wire.Offload{}
			}
			if p.Offload != offload {
				t.Errorf("the metadata became %+v", p.Offload)
			}
		})
	}
}

// FuzzFinish: whatever the packet and its metadata, only the two bytes of the field change.
func FuzzFinish(f *testing.F) {
	f.Add(tcp4("A", 9).Bytes(f), uint16(34), uint16(16))
	f.Add(udp6(9).Bytes(f), uint16(54), uint16(6))
	f.Fuzz(func(t *testing.T, frame []byte, start, offset uint16) {
		p := wiretest.Packet(frame)
		if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone {
			return
		}
		p.Offload = wire.Offload{Flags: wire.NeedsCsum, CsumStart: start, CsumOffset: offset}
		before := bytes.Clone(p.Buf)
		dsr.Finish(&p)
		at := p.Off + int(start) + int(offset)
		for i := range before {
			if before[i] != p.Buf[i] && (i < at || i > at+1 || i < p.Off || i >= p.Off+p.End) {
				t.Fatalf("byte %d changed", i-p.Off)
			}
		}
	})
}
