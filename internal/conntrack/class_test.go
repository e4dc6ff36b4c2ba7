package conntrack

import (
	"strings"
	"testing"
	"time"

	"naru/internal/wire"
)

// play gives a connection segments, as TestTCPStates writes them, and returns it.
func play(tab *Table, path Path, now wire.Time, port uint16, steps string) ID {
	id := None
	for step := range strings.SplitSeq(steps, "; ") {
		f := append(strings.Fields(step), "0", "0", "0")
		p := segment(f)
		if path.Proto == wire.ProtoUDP {
			p.Proto, p.TCPFlags = wire.ProtoUDP, 0
		}
		if id == None {
			c := Conn{Path: tab.AddPath(path, idle), ClientPort: port, LocalPort: port}
			c.Begin(p)
			id = tab.insert(now, &c)
		}
		d := Original
		if f[0] == "<" {
			d = Reply
		}
		tab.Seen(now, id, d, p)
	}
	return id
}

func TestWhatProvesAConnection(t *testing.T) {
	const tcp, udp = wire.ProtoTCP, wire.ProtoUDP
	for _, tt := range []struct {
		name  string
		path  Path
		steps string
		want  Class
		idle  time.Duration
	}{
		{"SYN", Path{Proto: tcp}, "> S 100", Handshake, idle.TCPSyn},
		{"SYN and answer", Path{Proto: tcp}, "> S 100; < SA 500 101", Handshake, idle.TCPSyn},
		{"a forged end of the handshake", Path{Proto: tcp}, "> S 100; > A 101 77; > A 101 78", Handshake, idle.TCPSyn},
		{"handshake", Path{Proto: tcp}, "> S 100; < SA 500 101; > A 101 501", TCP, idle.TCPEstablished},
		{"half-closed", Path{Proto: tcp}, "> S 100; < SA 500 101; > A 101 501; > FA 101 501", TCP, idle.TCPEstablished},
		{"closing", Path{Proto: tcp}, "> S 100; < SA 500 101; > A 101 501; > FA 101 501; < FA 501 101", TCP, idle.TCPClosing},
		{"closed", Path{Proto: tcp}, "> S 100; < RA 0 101", Closed, ClosedLinger},
		{"picked up", Path{Proto: tcp}, "> A 100 500; > A 100 500", Handshake, idle.TCPClosing},
		{"picked up and answered", Path{Proto: tcp}, "> A 100 500; < A 500 100", TCP, idle.TCPEstablished},
		{"picked up and refused", Path{Proto: tcp}, "> A 100 500; < R 500", Closed, ClosedLinger},
		{"one-sided SYN", Path{Proto: tcp, Return: ReturnNone}, "> S 100", Handshake, idle.TCPSyn},
		{"one-sided handshake", Path{Proto: tcp, Return: ReturnNone}, "> S 100; > A 101 501", Handshake, idle.TCPClosing},
		{"one-sided, confirmed", Path{Proto: tcp, Return: ReturnNone}, "> S 100; > A 101 501; > A 101 501 9", TCP, idle.TCPEstablished},
		{"one-sided, picked up", Path{Proto: tcp, Return: ReturnNone}, "> A 100 500", Handshake, idle.TCPClosing},
		{"one-sided, picked up and confirmed", Path{Proto: tcp, Return: ReturnNone}, "> A 100 500; > A 100 500", TCP, idle.TCPEstablished},
		{"question", Path{Proto: udp}, "> -", Question, idle.UDPUnreplied},
		{"question and answer", Path{Proto: udp}, "> -; < -", Question, idle.UDP},
		{"conversation", Path{Proto: udp}, "> -; < -; > -", UDP, idle.UDP},
		{"three questions", Path{Proto: udp}, "> -; > -; > -", Question, idle.UDPUnreplied},
		{"a stream without answers", Path{Proto: udp}, "> -; > -; > -; > -", UDP, idle.UDPUnreplied},
		{"one-sided stream", Path{Proto: udp, Return: ReturnNone}, "> -; > -; > -; > -", UDP, idle.UDPUnreplied},
	} {
		tab := newTable(t, 4)
		id := play(tab, tt.path, 0, 1, tt.steps)
		c := tab.Conn(id)
		if c.class() != tt.want || tab.Count(tt.want) != 1 || c.Proven() != (tt.want == TCP || tt.want == UDP) {
			t.Errorf("%s: class %d of %v", tt.name, c.class(), tab.counts)
		}
		grain := wire.Time(1) << stampShift
		if tab.Expired(c, wire.Time(tt.idle)-grain) || !tab.Expired(c, wire.Time(tt.idle)+grain) {
			t.Errorf("%s: does not end after %v", tt.name, tt.idle)
		}
	}
}

// TestWindow tries a segment, and an RST behind it, that lie so far from what is acknowledged, of which the first is
// believed only inside the widest window. The handshake offers scales.
func TestWindow(t *testing.T) {
	scaled := func(flags, seq, ack string, shift int) *wire.Packet {
		p := segment([]string{">", flags, seq, ack, "4"})
		if shift >= 0 {
			copy(p.Buf[20:], []byte{optNop, optScale, 3, byte(shift)})
		}
		p.Buf[12] = 6 << 4
		return p
	}
	for _, tt := range []struct {
		client, server int // the scales that they offer; -1: none
		far            uint32
		inside         bool
	}{
		{-1, -1, 0xffff, true}, {-1, -1, 0x10001, false}, {7, -1, 0x10001, false}, {-1, 7, 0x10001, false},
		{2, 7, 0x10001, true}, {2, 7, 0x10000 << 7, true}, {2, 7, 0x10000<<7 + 1, false}, {2, 0, 0x10001, false},
		{2, 14, 1 << 30, true}, {2, 14, 1<<30 + 1, false}, {2, 15, 1 << 30, true}, // more than 14 is 14
		{7, 7, 1 << 31, false}, {7, 7, ^uint32(0xffff), true}, {7, 7, ^uint32(1 << 24), false},
	} {
		tab := newTable(t, 4)
		c := Conn{Path: tab.AddPath(Path{Proto: wire.ProtoTCP}, idle)}
		syn := scaled("S", "100", "0", tt.client)
		c.Begin(syn)
		id := tab.insert(0, &c)
		tab.Seen(0, id, Original, syn)
		tab.Seen(0, id, Reply, scaled("SA", "500", "101", tt.server))
		tab.Seen(0, id, Original, segment([]string{">", "A", "101", "501", "0"}))
		seg := func(flags string, seq uint32) *wire.Packet {
			p := segment([]string{">", flags, "0", "501", "0"})
			p.Buf[4], p.Buf[5], p.Buf[6], p.Buf[7] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
			return p
		}
		tab.Seen(0, id, Original, seg("A", 101+tt.far))
		tab.Seen(0, id, Original, seg("R", 101+tt.far))
		before := int32(tt.far) < 0 // what lies before changes nothing, wherever
		if got := tab.Conn(id).State == TCPClosed; got != (tt.inside && !before) {
			t.Errorf("scales %d and %d, %#x away: closed %v", tt.client, tt.server, tt.far, got)
		}
		tab.Seen(0, id, Original, seg("R", 101))
		if tab.Conn(id).State != TCPClosed && !tt.inside {
			t.Errorf("scales %d and %d, %#x away: what lay outside was believed", tt.client, tt.server, tt.far)
		}
	}
}

func TestOldestGoesFirst(t *testing.T) {
	tab := newTable(t, 64)
	path := Path{Proto: wire.ProtoTCP}
	var ids []ID
	for n := range 20 {
		ids = append(ids, play(tab, path, wire.Time(n)*1e9, uint16(n), "> S 100"))
	}
	now := wire.Time(20e9)
	for n := range 5 { // these are heard of again
		tab.Seen(now, ids[n], Original, segment([]string{">", "S", "100", "0", "0"}))
	}
	odd := func(c *Conn) bool { return c.ClientPort%2 == 1 }
	if got := tab.Oldest(Handshake, 32, odd); got != ids[5] {
		t.Errorf("the oldest of odd port is %d, want %d", got, ids[5])
	}
	if got := tab.Oldest(Handshake, 32, func(*Conn) bool { return false }); got != None {
		t.Errorf("got %d, want none", got)
	}
	for n := range 20 {
		want := ids[(n+5)%20]
		if got := tab.Oldest(Handshake, 32, nil); got != want {
			t.Fatalf("number %d to go is %d, want %d", n, got, want)
		}
		tab.Remove(want)
	}
	if got := tab.Oldest(Handshake, 32, nil); got != None || tab.Count(Handshake) != 0 {
		t.Errorf("%d is left", got)
	}
	if tab.Oldest(Question, 32, nil) != None || tab.Oldest(Closed, 1, nil) != None {
		t.Error("there is none of another class")
	}
}

// TestSweepMeetsEveryDoomedConnection sweeps in small steps while connections come, go, expire and move.
func TestSweepMeetsEveryDoomedConnection(t *testing.T) {
	tab := newTable(t, 4000)
	ids := paths3(tab)
	now := wire.Time(1e9)
	for n := range 3000 {
		c := udp(ids[n%3], n)
		tab.insert(now.Add(time.Duration(n)*10*time.Millisecond), &c)
	}
	now = now.Add(30 * time.Second)
	tab.Doom(ids[1], true)
	tab.StartSweep()
	ended, refuse := 0, 0
	end := func(id ID) bool {
		if refuse++; refuse%10 == 0 {
			return false
		}
		if tab.Conn(id).Path == ids[1] {
			ended++
		}
		tab.Remove(id)
		return true
	}
	steps, rng := 0, 0
	for ; tab.Sweeping(); steps++ {
		before := ended
		tab.Sweep(50, end)
		if ended-before > 50 {
			t.Fatalf("%d connections in one step", ended-before)
		}
		now = now.Add(200 * time.Millisecond)
		tab.Expire(now, 20, end)
		c := udp(ids[0], 5000+steps)
		tab.insert(now, &c)
		rng = (rng*31 + 7) % 3000
		c = udp(ids[rng%3], rng)
		f := c.flow(tab.Path(c.Path), Original)
		if id, _ := tab.Lookup(&f, tab.Hash(&f)); id != None && !tab.Doomed(c.Path) {
			tab.Seen(now, id, Reply, &wire.Packet{Proto: wire.ProtoUDP, End: 100})
		}
	}
	left := 0
	tab.Each(func(c *Conn) {
		if c.Path == ids[1] {
			left++
		}
	})
	if left != 0 || ended != 1000 {
		t.Errorf("%d ended, %d left after %d steps", ended, left, steps)
	}
}
