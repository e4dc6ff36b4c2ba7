package conntrack

import (
	"strings"
	"testing"
	"time"

	"naru/internal/wire"
)

// TestLivesOfConnections plays whole lives in virtual time: segments as in TestTCPStates, "+time" lets time go by, "gone"
// is what is left then, and a state of "new" says that the SYN begins another connection in the old one's place.
func TestLivesOfConnections(t *testing.T) {
	const (
		open   = "> S 100 0 0 syn; < SA 500 101 0 syn; > A 101 501 0 established; "
		half   = open + "> FA 101 501 0 closing; < A 501 102 0 closing; "
		both   = half + "< FA 501 102 0 closing; "
		over   = both + "> A 102 502 0 closed; "
		oneWay = "> S 100 0 0 syn; > A 101 501 0 client only; > A 101 501 9 client only; "
	)
	for _, tt := range []struct {
		name  string
		sided Return
		play  string
	}{
		{"nobody answers the SYN", 0, "> S 100 0 0 syn; +29s; > S 100 0 0 syn; +29s; > S 100 0 0 syn; +31s; gone"},
		{"idle for its time", 0, open + "+59m; < A 501 101 0 established; +61m; gone"},
		{"keepalives for a day", 0, open + strings.Repeat("+55m; > A 100 501 0 established; < A 501 101 0 established; ", 24) + "+61m; gone"},
		{"half-closed for hours, the backend sends", 0, half + strings.Repeat("+50m; < A 501 102 0 closing; ", 9) + "+61m; gone"},
		{"half-closed by the backend, the client sends", 0, open + "< FA 501 101 0 closing; > A 101 502 0 closing; " +
			strings.Repeat("+50m; > A 101 502 0 closing; ", 9) + "> FA 101 502 0 closing; < A 502 102 0 closed; +61s; gone"},
		{"the last acknowledgement is lost", 0, both + "+3m; < FA 501 102 0 closing; +5m; gone"},
		{"a FIN sent again after the end", 0, over + "+50s; < FA 501 102 0 closed; > A 102 502 0 closed; +11s; gone"},
		{"a FIN sent again while half-closed", 0, half + "> FA 101 501 0 closing; < A 501 102 0 closing; < FA 501 102 0 closing; > A 102 502 0 closed"},
		{"both close at once", 0, open + "> FA 101 501 0 closing; < FA 501 101 0 closing; < A 502 102 0 closing; > A 102 502 0 closed"},
		{"the port is used again after the end", 0, over + "+1s; > S 9000 0 0 new"},
		{"… after the end, with a lower number", 0, over + "> S 7 0 0 new"},
		{"… while both close", 0, both + "> S 9000 0 0 new"},
		{"… while the backend is still sending", 0, half + "> S 9000 0 0 new"},
		{"… then with an old number", 0, half + "> S 50 0 0 closing"},
		{"… of a connection that lives", 0, open + "> S 9000 0 0 established; < A 501 101 0 established; > R 101 0 0 closed; > S 9000 0 0 new"},
		{"… of one that is idle for long", 0, open + "+31m; > S 9000 0 0 new"},
		{"… in the handshake: another try", 0, "> S 100 0 0 syn; > S 200000 0 0 new"},
		{"… in the handshake: the same try", 0, "> S 100 0 0 syn; +3s; > S 100 0 0 syn; < SA 500 101 0 syn; > A 101 501 0 established"},
		{"simultaneous open", 0, "> S 100 0 0 syn; < S 500 0 0 syn; > SA 100 501 0 syn; < SA 500 101 0 syn; > A 101 501 0 established"},
		{"the SYN-ACK is lost", 0, "> S 100 0 0 syn; < SA 500 101 0 syn; +1s; > S 100 0 0 syn; < SA 500 101 0 syn; > A 101 501 0 established"},
		{"data on the SYN, taken", 0, "> S 100 0 10 syn; < SA 500 111 20 syn; > A 111 521 0 established"},
		{"data on the SYN, not taken, sent again", 0, "> S 100 0 10 syn; < SA 500 101 0 syn; > A 101 501 10 established; < A 501 111 0 established"},
		{"data on the SYN, then a SYN without", 0, "> S 100 0 10 syn; +1s; > S 100 0 0 syn; < SA 500 101 0 syn; > A 101 501 0 established"},
		{"RST by the client in the handshake", 0, "> S 100 0 0 syn; > R 101 0 0 closed; +61s; gone"},
		{"RST by the backend in the handshake", 0, "> S 100 0 0 syn; < RA 0 101 0 closed"},
		{"RST after the SYN-ACK", 0, "> S 100 0 0 syn; < SA 500 101 0 syn; > R 101 0 0 closed"},
		{"RST in the middle", 0, open + "> A 101 501 50 established; < R 501 0 0 closed"},
		{"RST behind data that is not acknowledged", 0, open + "> A 101 501 50 established; > R 151 0 0 closed"},
		{"RST while half-closed", 0, half + "< R 501 0 0 closed"},
		{"RST of the side that has closed", 0, half + "> R 102 0 0 closed"},
		{"RST while both close", 0, both + "> R 102 0 0 closed"},
		{"RST after the end", 0, over + "> R 102 0 0 closed; +61s; gone"},
		{"RSTs beside the numbers, in every state", 0, "> S 100 0 0 syn; > R 9000 0 0 syn; < RA 0 99 0 syn; < SA 500 101 0 syn; " +
			"< R 9000 0 0 syn; > A 101 501 0 established; > R 102 0 0 established; < R 500 0 0 established; " +
			"> FA 101 501 0 closing; > R 9000 0 0 closing; < A 501 102 0 closing; < R 9000 0 0 closing; " +
			"< FA 501 102 0 closing; < R 9000 0 0 closing; > A 102 502 0 closed"},
		{"a forged segment far away, and RST and FIN behind it", 0, open + "> A 4000101 501 9 established; > R 4000110 0 0 established; " +
			"> FA 4000110 501 0 established; > FA 101 501 0 closing; < A 501 102 0 closing"},
		{"picked up and never answered", 0, "> A 100 500 0 established; +3m; > A 100 500 0 established; +5m; gone"},
		{"picked up, answered, idle", 0, "> A 100 500 0 established; < A 500 100 9 established; +59m; > A 100 509 0 established"},
		{"one-sided: a claim", ReturnNone, "> S 100 0 0 syn; > A 101 501 0 client only; +3m; +2m; gone"},
		{"one-sided: more than a claim", ReturnNone, oneWay + "+59m; > A 110 900 0 client only; +61m; gone"},
		{"one-sided: closed by the client", ReturnNone, oneWay + "> FA 110 501 0 closing; +3m; > A 111 502 0 closing; +5m; gone"},
		{"one-sided: the port is used again", ReturnNone, oneWay + "> FA 110 501 0 closing; > S 9000 0 0 new"},
		{"one-sided: RST", ReturnNone, oneWay + "> R 9000 0 0 client only; > R 110 0 0 closed"},
	} {
		t.Run(tt.name, func(t *testing.T) { live(t, tt.sided, tt.play) })
	}
}

func live(t *testing.T, sided Return, play string) {
	tab := newTable(t, 4)
	path := tab.AddPath(Path{Proto: wire.ProtoTCP, Return: sided}, idle)
	id, now := None, wire.Time(1e9)
	end := func(ended ID) bool { tab.Remove(ended); id = None; return true }
	for step := range strings.SplitSeq(strings.Trim(play, "; "), "; ") {
		f := strings.Fields(step)
		switch {
		case step == "gone":
			if id != None || tab.Len() != 0 {
				t.Fatalf("%q: it is still there, %s", step, tab.Conn(id).State)
			}
			continue
		case f[0][0] == '+':
			d, err := time.ParseDuration(f[0][1:])
			if err != nil {
				t.Fatal(err)
			}
			for until := now.Add(d); now < until; {
				now = min(until, now.Add(20*time.Second))
				tab.Expire(now, 100, end)
			}
			continue
		}
		p := segment(f)
		d := Original
		if f[0] == "<" {
			d = Reply
		}
		if id == None {
			c := Conn{Path: path}
			c.Begin(p)
			id = tab.insert(now, &c)
		}
		tab.Advance(now)
		again := d == Original && tab.Restart(now, tab.Conn(id), p)
		if again != (f[5] == "new") {
			t.Fatalf("%q begins another connection: %v", step, again)
		}
		if again {
			return
		}
		tab.Seen(now, id, d, p)
		if got := tab.Conn(id).State.String(); got != strings.Join(f[5:], " ") {
			t.Fatalf("after %q: %s", step, got)
		}
	}
}

// TestOptionsAreNoData has segments with timestamps, whose header is longer, and a SYN with every common option.
func TestOptionsAreNoData(t *testing.T) {
	stamped := func(text string) *wire.Packet {
		p := segment(append(strings.Fields(text), "12"))
		p.Buf[12] = 8 << 4
		copy(p.Buf[20:], []byte{1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9})
		return p
	}
	tab := newTable(t, 4)
	c := Conn{Path: tab.AddPath(Path{Proto: wire.ProtoTCP}, idle)}
	syn := segment(strings.Fields("> S 100 0 20"))
	syn.Buf[12] = 10 << 4
	copy(syn.Buf[20:], []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 9})
	c.Begin(syn)
	id := tab.insert(0, &c)
	tab.Seen(0, id, Original, syn)
	for _, s := range []string{"< SA 500 101", "> A 101 501", "> FA 101 501", "< FA 501 102"} {
		d := Original
		if s[0] == '<' {
			d = Reply
		}
		tab.Seen(0, id, d, stamped(s))
	}
	got := tab.Conn(id)
	if got.State != TCPClosing || got.end != [2]uint32{102, 502} || shiftOf(syn) != 9 {
		t.Errorf("%v, ends %v, scale %d", got.State, got.end, shiftOf(syn))
	}
	for _, bad := range [][]byte{{3}, {3, 0}, {3, 1, 1}, {2, 40, 1, 1}, {1, 1, 1, 3}, {3, 3}, {0, 3, 3, 7}} {
		p := segment(strings.Fields("> S 100 0 4"))
		p.Buf[12] = 6 << 4
		copy(p.Buf[20:], bad)
		p.Len, p.End = 20+len(bad), 20+len(bad)
		if shiftOf(p) != noShift {
			t.Errorf("% x: a scale of %d", bad, shiftOf(p))
		}
	}
}
