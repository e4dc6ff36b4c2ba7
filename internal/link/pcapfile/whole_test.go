package pcapfile_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"naru/internal/link/pcapfile"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// udp6 is a datagram behind a hop-by-hop header.
func udp6(t *testing.T) []byte {
	b := wiretest.Frame{Src: "[2001:db8::1]:53", Dst: "[2001:db8::2]:53", UDP: true, Payload: make([]byte, 100)}.Bytes(t)
	ext := []byte{17, 0, 5, 2, 0, 0, 1, 0}
	b = append(b[:54:54], append(ext, b[54:]...)...)
	b[20] = 0
	binary.BigEndian.PutUint16(b[18:], binary.BigEndian.Uint16(b[18:])+8)
	return b
}

func TestAPacketThatWasCapturedInPartIsCompleted(t *testing.T) {
	text := []byte(strings.Repeat("a whole sentence. ", 40))
	tcp := wiretest.Frame{Src: "10.20.40.80:4000", Dst: "200.100.50.25:80", TCP: "PA", Payload: text}
	quote := tcp.Bytes(t)[14:600]
	message := func(kind, code byte, rest []byte) []byte {
		return append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, rest...)
	}
	arp := append(append(bytes.Repeat([]byte{0xff}, 6), 2, 0, 0, 0, 0, 1, 8, 6), make([]byte, 28)...)
	type tcpFrame = wiretest.Frame
	for name, c := range map[string]struct {
		whole []byte
		least int // bytes without which it is cut short
	}{
		"TCP":           {tcp.Bytes(t), 14 + 20 + 14},
		"TCP, odd":      {tcpFrame{Src: tcp.Src, Dst: tcp.Dst, TCP: "A", Payload: text[:99]}.Bytes(t), 48},
		"TCP over IPv6": {tcpFrame{Src: "[2001:db8::1]:4000", Dst: "[2001:db8::2]:80", TCP: "A", Payload: text}.Bytes(t), 68},
		"tagged twice":  {tcpFrame{VLANs: []uint16{5, 6}, Src: tcp.Src, Dst: tcp.Dst, TCP: "A", Payload: text}.Bytes(t), 56},
		"UDP":           {tcpFrame{Src: "10.1.1.1:53", Dst: "10.1.1.2:53", UDP: true, Payload: text}.Bytes(t), 42},
		"UDP, ext":      {udp6(t), 14 + 40 + 8 + 8},
		"echo":          {tcpFrame{Src: "10.1.1.1", Dst: "10.1.1.2", ICMP: message(8, 0, text)}.Bytes(t), 42},
		"error":         {tcpFrame{Src: "10.1.1.1", Dst: "10.1.1.2", ICMP: message(3, 4, quote)}.Bytes(t), 42 + 28},
		"solicitation":  {tcpFrame{Src: "fe80::1", Dst: "fe80::2", ICMP: message(135, 0, make([]byte, 24))}.Bytes(t), 86},
		"ARP":           {arp, 42},
	} {
		for n := range len(c.whole) {
			p := pcapfile.Packet{Link: pcapfile.LinkEthernet, Length: len(c.whole), Data: c.whole[:n:n]}
			frame, missing, part := pcapfile.AppendWhole([]byte("ahead"), &p)
			frame = frame[len("ahead"):]
			if want := map[bool]pcapfile.Part{true: pcapfile.CutShort, false: pcapfile.Whole}[n < c.least]; part != want {
				t.Fatalf("%s: with %d bytes of %d: %d, want %d", name, n, len(c.whole), part, want)
			}
			if part == pcapfile.CutShort {
				if !bytes.Equal(frame, c.whole[:n]) || missing != 0 {
					t.Fatalf("%s: with %d bytes it is cut short, and %d bytes longer", name, n, missing)
				}
				continue
			}
			if len(frame) != len(c.whole) || missing != len(c.whole)-n || !bytes.Equal(frame[:n], c.whole[:n]) {
				t.Fatalf("%s: %d bytes of %d became %d, with %d missing", name, n, len(c.whole), len(frame), missing)
			}
			if err := wiretest.Wrong(frame); err != nil {
				t.Fatalf("%s: with %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestWhatCannotBeCompletedStaysAsItIs(t *testing.T) {
	tcp := wiretest.Frame{Src: "10.20.40.80:4000", Dst: "200.100.50.25:80", TCP: "PA", Payload: make([]byte, 400)}.Bytes(t)
	with := func(at int, v ...byte) []byte { b := bytes.Clone(tcp); copy(b[at:], v); return b }
	for name, c := range map[string]struct {
		p    pcapfile.Packet
		want int // bytes, all of them
		part pcapfile.Part
	}{
		"captured whole":        {pcapfile.Packet{Link: 1, Length: len(tcp), Data: tcp}, len(tcp), pcapfile.Whole},
		"longer than its frame": {pcapfile.Packet{Link: 1, Length: 200, Data: tcp[:100]}, 100, pcapfile.Whole},
		"no IP":                 {pcapfile.Packet{Link: 1, Length: 400, Data: with(12, 0x88, 0xcc)[:60]}, 60, pcapfile.Whole},
		"no version 4":          {pcapfile.Packet{Link: 1, Length: 400, Data: with(14, 0x55)[:60]}, 60, pcapfile.Whole},
		"shorter than itself":   {pcapfile.Packet{Link: 1, Length: 400, Data: with(16, 0, 9)[:60]}, 60, pcapfile.Whole},
		"a length that lies":    {pcapfile.Packet{Link: 1, Length: 4e9, Data: tcp[:100]}, len(tcp) + 64, pcapfile.Whole},
		"padding":               {pcapfile.Packet{Link: 1, Length: len(tcp) + 9, Data: tcp}, len(tcp) + 9, pcapfile.Whole},
		"nothing":               {pcapfile.Packet{Link: 1, Length: 400}, 0, pcapfile.CutShort},
		"nothing of a header":   {pcapfile.Packet{Link: pcapfile.LinkSLL, Length: 400, Data: tcp[:3]}, 0, pcapfile.CutShort},
		"an unknown link":       {pcapfile.Packet{Link: 105, Length: 400, Data: tcp[:60]}, 0, pcapfile.UnknownLink},
		"raw":                   {pcapfile.Packet{Link: pcapfile.LinkRaw, Length: 440, Data: tcp[14:80]}, len(tcp), pcapfile.Whole},
	} {
		frame, missing, part := pcapfile.AppendWhole(nil, &c.p)
		if len(frame) != c.want || part != c.part || len(c.p.Data) > 0 && c.p.Link == 1 && len(frame)-missing != len(c.p.Data) {
			t.Errorf("%s: %d bytes, %d of them made up, %d; want %d, %d", name, len(frame), missing, part, c.want, c.part)
		}
	}
}

func TestAChecksumThatWasWrongStaysWrong(t *testing.T) {
	whole := wiretest.Frame{Src: "10.1.1.1", Dst: "10.1.1.2", ICMP: make([]byte, 64)}.Bytes(t)
	whole[14+20] = 8
	p := pcapfile.Packet{Link: pcapfile.LinkEthernet, Length: len(whole), Data: whole[:len(whole)-1]}
	for _, right := range []bool{false, true} { // one byte is missing, which cannot make up for another type
		frame, _, _ := pcapfile.AppendWhole(nil, &p)
		if w := wiretest.Packet(frame); w.ParseLink() != wire.ReasonNone || w.ParseNetwork() != wire.ReasonNone || w.ICMPRight() != right {
			t.Errorf("with one byte missing the checksum is right: %v, want %v", !right, right)
		}
		p.Data = p.Data[:len(p.Data)-1]
	}
	plain := wiretest.Frame{Src: "10.1.1.1:5", Dst: "10.1.1.2:6", UDP: true, NoSum: true, Payload: []byte("hello")}.Bytes(t)
	p = pcapfile.Packet{Link: pcapfile.LinkEthernet, Length: len(plain), Data: plain[:len(plain)-3]}
	if frame, _, _ := pcapfile.AppendWhole(nil, &p); !bytes.Equal(frame, append(plain[:len(plain)-3:len(plain)-3], 0, 0, 0)) {
		t.Errorf("a datagram without a checksum became %x", frame)
	}
}
