package nat_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/nat"
)

// FuzzTranslateThereAndBack translates any TCP or UDP packet, finished or not, to other ends and back: the same bytes, but
// for the TTL. In ones' complement 0 and 0xffff are one number, so sums are compared as numbers.
func FuzzTranslateThereAndBack(f *testing.F) {
	for _, fr := range []wiretest.Frame{
		{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "S"},
		{Src: "192.0.2.1:1000", Dst: "198.51.100.1:53", UDP: true, Payload: []byte("odd")},
		{Src: "192.0.2.1:1000", Dst: "198.51.100.1:53", UDP: true, NoSum: true},
		{Src: "[2001:db8::1]:1000", Dst: "[2001:db8::2]:80", TCP: "A", Payload: []byte("x")},
		{Src: "[2001:db8::1]:1000", Dst: "[2001:db8::2]:53", UDP: true},
	} {
		f.Add(fr.Bytes(f), uint64(1), uint64(2), uint16(3), uint16(4), false)
		f.Add(fr.Bytes(f), ^uint64(0), uint64(0), uint16(0xffff), uint16(0), true)
	}
	f.Fuzz(func(t *testing.T, frame []byte, a, b uint64, sport, dport uint16, unfinished bool) {
		p := wiretest.Packet(frame)
		if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Frag != wire.Whole ||
			p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP || p.Version == 0 {
			return
		}
		if unfinished {
			wiretest.Unfinish(&p)
		}
		before := bytes.Clone(p.Bytes())
		there := nat.Tuple{Src: new(address(a, p.Version)), Dst: new(address(b, p.Version)), SrcPort: sport, DstPort: dport}
		nat.Translate(&p, &there)
		back := nat.Tuple{Src: new(p.Flow.Src), Dst: new(p.Flow.Dst), SrcPort: p.Flow.SrcPort, DstPort: p.Flow.DstPort}
		if why := p.ParseNetwork(); why != wire.ReasonNone {
			t.Fatalf("translated packet: %v", why)
		}
		if want := (wire.Flow{Src: *there.Src, Dst: *there.Dst, SrcPort: sport, DstPort: dport, Proto: p.Proto}); p.Flow != want {
			t.Fatalf("flow %v, want %v", p.Flow, want)
		}
		nat.Translate(&p, &back)
		after := p.Bytes()
		for _, d := range [][]byte{before, after} {
			normalize(d, &p)
		}
		if !bytes.Equal(before, after) {
			t.Errorf("there and back:\n%x\n%x", before, after)
		}
	})
}

func address(v uint64, version uint8) (a wire.Addr) {
	if version == 4 {
		return wire.Addr4(binary.BigEndian.AppendUint32(nil, uint32(v)))
	}
	binary.BigEndian.PutUint64(a[:], v)
	binary.BigEndian.PutUint64(a[8:], v*0x9e3779b97f4a7c15)
	return a
}

// normalize takes out what is not the translation's: the TTL, the two zeros of the sums.
func normalize(d []byte, p *wire.Packet) {
	if p.Version == 4 {
		d[p.L3+8], d[p.L3+10], d[p.L3+11] = 0, 0, 0 // the header sum is checked by parsing
	} else {
		d[p.L3+7] = 0
	}
	at := p.L4 + 16
	if p.Proto == wire.ProtoUDP {
		at = p.L4 + 6
	}
	if d[at] == 0xff && d[at+1] == 0xff {
		d[at], d[at+1] = 0, 0
	}
}

func TestComputedZeroOfUDPIsSentAsOnes(t *testing.T) {
	to := nat.Tuple{Src: new(address(0x0a000001, 4)), Dst: new(address(0x0a000002, 4)), SrcPort: 1024, DstPort: 53}
	p := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:53", UDP: true,
		Payload: binary.BigEndian.AppendUint16(nil, hit(t, &to))}.Packet(t)
	p.ParseLink()
	p.ParseNetwork()
	nat.Translate(&p, &to)
	if sum := binary.BigEndian.Uint16(p.Transport()[6:]); sum != 0xffff {
		t.Errorf("sum %04x, want ffff", sum)
	}
	if err := wiretest.Wrong(p.Bytes()); err != nil {
		t.Error(err)
	}
}

// hit returns the payload word whose translated packet has the sum zero.
func hit(t *testing.T, to *nat.Tuple) uint16 {
	p := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:53", UDP: true, Payload: []byte{0, 0}}.Packet(t)
	p.ParseLink()
	p.ParseNetwork()
	nat.Translate(&p, to)
	return binary.BigEndian.Uint16(p.Transport()[6:])
}

func TestPoolGivesTheLongestFreePort(t *testing.T) {
	p := nat.NewPool(1000, 1003, 0, 1, time.Minute, 7)
	now := wire.Time(0)
	var order []uint16
	for range 4 {
		port, early, ok := p.Get(now)
		if !ok || early {
			t.Fatal("a fresh port is refused or said to be early")
		}
		order = append(order, port)
	}
	if _, _, ok := p.Get(now); ok || p.Free() != 0 {
		t.Fatal("five ports out of four")
	}
	for _, port := range order {
		p.Put(port, now)
		p.Put(port, now) // twice changes nothing
		now = now.Add(time.Second)
	}
	for i, want := range order {
		now = wire.Time(0).Add(time.Duration(i)*time.Second + 61*time.Second)
		if i == 3 {
			now = wire.Time(0).Add(10 * time.Second)
		}
		if port, early, _ := p.Get(now); port != want || early != (i == 3) {
			t.Errorf("got port %d early=%v, want %d", port, early, want)
		}
	}
}

func TestPoolIsSharedOutAmongWorkers(t *testing.T) {
	seen := map[uint16]int{}
	for w := range 3 {
		p := nat.NewPool(1001, 1100, w, 3, time.Minute, 7)
		for {
			port, _, ok := p.Get(0)
			if !ok {
				break
			}
			if int(port)%3 != w {
				t.Errorf("worker %d got port %d", w, port)
			}
			seen[port]++
		}
	}
	for port := uint16(1001); port <= 1100; port++ {
		if seen[port] != 1 {
			t.Errorf("port %d is in %d pools", port, seen[port])
		}
	}
}

func TestPoolOfAllPorts(t *testing.T) {
	p := nat.NewPool(1, 65535, 0, 1, 0, 1)
	n := 0
	for _, _, ok := p.Get(0); ok; _, _, ok = p.Get(0) {
		n++
	}
	if n != 65535 {
		t.Errorf("%d ports", n)
	}
}

func TestGetPort(t *testing.T) {
	p := nat.NewPool(1000, 1010, 0, 1, time.Minute, 7)
	if !p.GetPort(1005, 0) || p.GetPort(1005, 0) || p.GetPort(999, 0) || p.GetPort(1011, 0) {
		t.Error("a port is given once, and only the pool's own")
	}
	p.Put(1005, 0)
	if p.GetPort(1005, 0) {
		t.Error("a port that has not rested is not given by name")
	}
	for range 10 {
		if port, _, _ := p.Get(0); port == 1005 {
			t.Error("taken before ports that have rested")
		}
	}
}

func TestPortOrderIsNotPredictable(t *testing.T) {
	p, q := nat.NewPool(1024, 65535, 0, 1, 0, 1), nat.NewPool(1024, 65535, 0, 1, 0, 2)
	sequential, same, last := 0, 0, uint16(0)
	for range 1000 {
		a, _, _ := p.Get(0)
		b, _, _ := q.Get(0)
		if a == last+1 {
			sequential++
		}
		if a == b {
			same++
		}
		last = a
	}
	if sequential > 5 || same > 5 {
		t.Errorf("of 1000 ports %d follow the one before, %d are the same under another seed", sequential, same)
	}
}

func TestClampMSS(t *testing.T) {
	for _, tt := range []struct {
		offered, limit, want uint16
		unfinished           bool
		nops                 int
	}{
		{1460, 1360, 1360, false, 0}, {1300, 1360, 1300, false, 0}, {1460, 1360, 1360, true, 0}, {1460, 1360, 1360, false, 1},
		{9000, 536, 536, false, 3}, {0, 1360, 0, false, 0},
	} {
		b := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "S", MSS: tt.offered}.Bytes(t)
		if tt.nops > 0 { // move the option behind NOPs and mend lengths and sums by the plain way
			opt := bytes.Clone(b[54:])
			b = append(b[:54], bytes.Repeat([]byte{1}, tt.nops)...)
			b = append(append(b, opt...), make([]byte, 4-tt.nops)...)
			b[46] = 7 << 4
			binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
			b[24], b[25], b[50], b[51] = 0, 0, 0, 0
			binary.BigEndian.PutUint16(b[24:], ^wiretest.SlowChecksum(b[14:34], 0))
			start := uint32(wiretest.SlowChecksum(b[26:34], uint32(len(b)-34+wire.ProtoTCP)))
			binary.BigEndian.PutUint16(b[50:], ^wiretest.SlowChecksum(b[34:], start))
		}
		p := wiretest.Packet(b)
		if tt.unfinished {
			wiretest.Unfinish(&p)
		}
		if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone {
			t.Fatal("cannot parse")
		}
		nat.ClampMSS(&p, tt.limit)
		wiretest.Finish(&p.Frame)
		if err := wiretest.Wrong(p.Bytes()); err != nil {
			t.Errorf("%+v: %v", tt, err)
		}
		if tt.offered == 0 {
			continue
		}
		if got := binary.BigEndian.Uint16(p.Bytes()[54+tt.nops+2:]); got != tt.want {
			t.Errorf("%+v: MSS %d", tt, got)
		}
	}
}
