package conntrack

import (
	"strings"
	"testing"
	"time"

	"naru/internal/wire"
)

// TestTCPStates plays segments, written as "direction flags seq ack length", and compares the state after each.
func TestTCPStates(t *testing.T) {
	const handshake = "> S 100 0 0 syn; < SA 500 101 0 syn; > A 101 501 0 established; "
	for _, tt := range []struct{ name, play string }{
		{"handshake", handshake},
		{"sequence numbers in the upper half", "> S 3000000000 0 0 syn; < SA 4000000000 3000000001 0 syn; " +
			"> A 3000000001 4000000001 0 established; < A 4000000001 3000000001 9 established"},
		{"data on the SYN-ACK", "> S 100 0 0 syn; < SA 500 101 10 syn; > A 101 501 0 established"},
		{"close by the client", handshake +
			"> FA 101 501 0 closing; < A 501 102 0 closing; < FA 501 102 0 closing; > A 102 502 0 closed"},
		{"close by both at once", handshake +
			"> FA 101 501 0 closing; < FA 501 101 0 closing; > A 102 502 0 closing; < A 502 102 0 closed"},
		{"a retransmitted FIN changes nothing", handshake + "> FA 101 501 0 closing; > FA 101 501 0 closing; < A 501 102 0 closing"},
		{"data after a half-close", handshake + "> FA 101 501 0 closing; < A 501 102 1000 closing; > A 102 1501 0 closing"},
		{"data on the SYN", "> S 100 0 10 syn; < SA 500 111 0 syn; > A 111 501 0 established"},
		{"data on the SYN that is not accepted", "> S 100 0 10 syn; < SA 500 101 0 syn; > A 101 501 10 established"},
		{"simultaneous open", "> S 100 0 0 syn; < S 500 0 0 syn; > SA 100 501 0 syn; < SA 500 101 0 syn; > A 101 501 0 established"},
		{"refused", "> S 100 0 0 syn; < RA 0 101 0 closed"},
		{"a forged refusal", "> S 100 0 0 syn; < RA 0 999 0 syn"},
		{"an ACK that acknowledges nothing sent", "> S 100 0 0 syn; > A 101 501 0 syn"},
		{"RST in place, from the client", handshake + "> R 101 0 0 closed"},
		{"RST in place, from the backend", handshake + "< R 501 0 0 closed"},
		{"RST out of place", handshake + "> R 5101 0 0 established; < R 5501 0 0 established"},
		{"RST after the FIN", handshake + "> FA 101 501 0 closing; < R 501 0 0 closed"},
		{"SYN on a live connection", handshake + "> S 9000 0 0 established; < A 501 101 0 established"},
		{"late segments do not revive", handshake + "> R 101 0 0 closed; < A 501 101 5 closed; > A 101 506 0 closed"},
		{"picked up in the middle", "> A 100 500 20 established; < A 500 120 5 established; < FA 505 120 0 closing"},
		{"a forged FIN is no handshake", "> S 100 0 0 syn; > FA 101 7 0 syn; > A 102 8 0 syn"},
		{"a forged FIN after the SYN-ACK neither", "> S 100 0 0 syn; < SA 500 101 0 syn; > FA 101 7 0 syn"},
		{"a FIN with the end of the handshake", "> S 100 0 0 syn; < SA 500 101 0 syn; > FA 101 501 0 closing"},
		{"a backend that answers and closes at once", "> S 100 0 5 syn; < SA 500 106 0 syn; < FA 501 106 9 syn; " +
			"> A 106 511 0 closing; > FA 106 511 0 closing; < A 511 107 0 closed"},
		{"a FIN with a hole before it is not the end", handshake + "< A 501 101 100 established; < FA 501 101 50 established"},
		{"sequence numbers wrap", "> S 4294967290 0 0 syn; < SA 4294967295 4294967291 0 syn; " +
			"> A 4294967291 0 100 established; < FA 0 95 0 closing; > FA 95 1 0 closing; < A 1 96 0 closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tab := newTable(t, 4)
			path := tab.AddPath(Path{Proto: wire.ProtoTCP}, idle)
			id := None
			for step := range strings.SplitSeq(strings.Trim(tt.play, "; "), "; ") {
				f := strings.Fields(step)
				p := segment(f)
				if id == None {
					c := Conn{Path: path}
					c.Begin(p)
					id = tab.insert(0, &c)
				}
				d := Original
				if f[0] == "<" {
					d = Reply
				}
				tab.Seen(0, id, d, p)
				if got := tab.Conn(id).State.String(); got != f[5] {
					t.Fatalf("after %q: %s", step, got)
				}
			}
		})
	}
}

func segment(f []string) *wire.Packet {
	num := func(s string) (n uint32) {
		for _, c := range s {
			n = n*10 + uint32(c-'0')
		}
		return n
	}
	seq, ack, length := num(f[2]), num(f[3]), int(num(f[4]))
	p := &wire.Packet{Proto: wire.ProtoTCP, End: wire.TCPLen + length}
	p.Buf, p.Len = make([]byte, p.End), p.End
	for i, v := range []uint32{seq, ack} {
		p.Buf[4+4*i], p.Buf[5+4*i], p.Buf[6+4*i], p.Buf[7+4*i] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	}
	p.Buf[12] = 5 << 4
	for _, c := range f[1] {
		p.TCPFlags |= map[rune]uint8{'S': wire.SYN, 'A': wire.ACK, 'F': wire.FIN, 'R': wire.RST}[c]
	}
	return p
}

func TestRestart(t *testing.T) {
	syn := func(seq string) *wire.Packet { return segment([]string{">", "S", seq, "0", "0"}) }
	for _, tt := range []struct {
		name  string
		state State
		flags uint8
		after time.Duration
		seq   string
		want  bool
	}{
		{"closed", TCPClosed, 0, 0, "7", true},
		{"closing on both sides", TCPClosing, finOriginal | finReply, 0, "7", true},
		{"half-closed", TCPClosing, finOriginal, 0, "7", false},
		{"established", TCPEstablished, 0, 0, "7", false},
		{"established and idle for long", TCPEstablished, 0, 31 * time.Minute, "7", true},
		{"the same SYN again", TCPSyn, 0, 0, "100", false},
		{"the same SYN without its data", TCPSyn, 0, 0, "90", false},
		{"another SYN", TCPSyn, 0, 0, "3000000", true},
	} {
		tab := newTable(t, 4)
		c := Conn{Path: tab.AddPath(Path{Proto: wire.ProtoTCP}, idle)}
		c.Begin(syn("100"))
		c.State, c.Flags = tt.state, tt.flags
		id := tab.insert(0, &c)
		if got := tab.Restart(wire.Time(tt.after), tab.Conn(id), syn(tt.seq)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestClosedConnectionsGoOldestFirst(t *testing.T) {
	tab := newTable(t, 8)
	path := tab.AddPath(Path{Proto: wire.ProtoTCP}, idle)
	var ids []ID
	for n := range 3 {
		c := Conn{Path: path, ClientPort: uint16(n), LocalPort: uint16(n)}
		c.Begin(segment([]string{">", "S", "100", "0", "0"}))
		ids = append(ids, tab.insert(0, &c))
	}
	for i, n := range []int{1, 2, 0} {
		tab.Seen(wire.Time(i)*1e9, ids[n], Reply, segment([]string{"<", "RA", "0", "101", "0"}))
	}
	if got := tab.Oldest(Closed, 1, nil); got != ids[1] {
		t.Errorf("oldest is %d, want %d", got, ids[1])
	}
	var order []ID
	tab.Expire(wire.Time(ClosedLinger)+10e9, 100, func(id ID) bool { order = append(order, id); tab.Remove(id); return true })
	if len(order) != 3 || order[0] != ids[1] || order[1] != ids[2] || order[2] != ids[0] {
		t.Errorf("ended in the order %v", order)
	}
}
