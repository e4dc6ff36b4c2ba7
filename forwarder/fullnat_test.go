package forwarder_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestFullNATBothDirections(t *testing.T) {
	for _, tt := range []struct {
		name, client, vip, local, server string
		udp                              bool
	}{
		{"tcp4", client + ":51000", vip + ":80", local + ":", server1 + ":8080", false},
		{"udp4", client + ":51000", vip + ":53", local + ":", server1 + ":8053", true},
		{"tcp6", "[" + client6 + "]:51000", "[" + vip6 + "]:80", "[" + local6 + "]:", "[2001:db8:10::1]:8080", false},
		{"udp6", "[" + client6 + "]:51000", "[" + vip6 + "]:53", "[" + local6 + "]:", "[2001:db8:10::1]:8053", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, config())
			out := r.client(wiretest.Frame{Src: tt.client, Dst: tt.vip, TCP: "S", UDP: tt.udp, TTL: 61})
			text := flowText(out)
			if !strings.HasPrefix(text, tt.local) || !strings.HasSuffix(text, " > "+tt.server) || out.TTL() != 60 {
				t.Fatalf("to the backend: %s ttl %d", text, out.TTL())
			}
			if d := out.Bytes(); wire.MAC(d[:6]) != serverMAC[0] || wire.MAC(d[6:12]) != serverLeg {
				t.Errorf("MAC addresses %x", d[:12])
			}
			back := r.server(1, wiretest.Frame{Src: tt.server, Dst: strings.Split(text, " ")[0], TCP: "SA", UDP: tt.udp,
				Payload: []byte("x")})
			if want := tt.vip + " > " + tt.client; flowText(back) != want {
				t.Errorf("to the client: %s, want %s", flowText(back), want)
			}
			if d := back.Bytes(); wire.MAC(d[:6]) != routerMAC || wire.MAC(d[6:12]) != clientLeg {
				t.Errorf("MAC addresses %x", d[:12])
			}
		})
	}
}

func TestRoundRobinIsExactAndAConnectionStays(t *testing.T) {
	r := newRig(t, config())
	hits := map[string]int{}
	for i := range 30 {
		src := fmt.Sprintf("%s:%d", client, 40000+i)
		first := r.client(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "S"})
		hits[first.Flow.Dst.String()]++
		for range 3 {
			if again := r.client(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "A"}); again.Flow != first.Flow {
				t.Fatalf("moved from %s to %s", flowText(first), flowText(again))
			}
		}
	}
	for s, n := range hits {
		if n != 10 {
			t.Errorf("%s got %d of 30", s, n)
		}
	}
}

func TestOffloadsSurviveTranslation(t *testing.T) {
	for _, src := range []string{client, client6} {
		dst := map[string]string{client: vip, client6: "[" + vip6 + "]"}[src]
		if src == client6 {
			src = "[" + src + "]"
		}
		for _, udp := range []bool{false, true} {
			r := newRig(t, config())
			port := map[bool]string{false: ":80", true: ":53"}[udp]
			f := fromClient(wiretest.Frame{Src: src + ":4000", Dst: dst + port, TCP: "S", UDP: udp, Payload: []byte("data")})
			p := f.Packet(t)
			wiretest.Unfinish(&p)
			p.Offload.GSOType, p.Offload.GSOSize, p.Offload.HdrLen = wire.GSOTCPv4, 1448, 54
			before := p.Offload
			_, _, out := r.put(0, p)
			if len(out) != 1 || out[0].frame.Offload != before {
				t.Fatalf("%s udp=%v: offload metadata became %+v", src, udp, out)
			}
			out[0].frame.Buf, out[0].frame.Off = out[0].bytes, 0
			wiretest.Finish(&out[0].frame)
			if err := wiretest.Wrong(out[0].bytes); err != nil {
				t.Errorf("%s udp=%v: after the device finished the checksum: %v", src, udp, err)
			}
		}
	}
}

func TestUDPChecksumZero(t *testing.T) {
	r := newRig(t, config())
	out := r.client(wiretest.Frame{Src: client + ":9", Dst: vip + ":53", UDP: true, NoSum: true, Payload: []byte("q")})
	if sum := out.Transport()[6:8]; sum[0] != 0 || sum[1] != 0 {
		t.Errorf("no checksum became %x", sum)
	}
}

func TestWrongChecksumStaysWrongByTheSame(t *testing.T) {
	r := newRig(t, config())
	src := client + ":4001"
	right := r.client(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "S"})
	b := fromClient(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "S"}).Bytes(t)
	b[50] ^= 1
	_, _, out := r.put(0, wiretest.Packet(b))
	if len(out) != 1 || out[0].bytes[50]^right.Bytes()[50] != 1 || out[0].bytes[51] != right.Bytes()[51] {
		t.Errorf("checksum %x, right would be %x", out[0].bytes[50:52], right.Bytes()[50:52])
	}
}

func TestSYNOnAClosedConnectionIsANewOne(t *testing.T) {
	r := newRig(t, config())
	c := newTCP(r, client+":5000")
	c.handshake()
	c.close()
	if again := c.syn(9000); again.Flow.Dst.String() != server2 {
		t.Errorf("the second connection went to %s, not to the next backend", again.Flow.Dst)
	}
}

func TestSYNOnALiveConnectionIsTheBackendsBusiness(t *testing.T) {
	r := newRig(t, config())
	c := newTCP(r, client+":5000")
	c.handshake()
	first := c.local
	if p := c.syn(777); p.Flow.Dst.String() != server1 || p.Flow.SrcPort != first.SrcPort {
		t.Fatalf("SYN on a live connection went %s", flowText(p))
	}
	c.fromServer("A", c.serverSeq, c.clientSeq) // the challenge ACK
	c.fromClient("R", c.clientSeq, 0)           // the client has forgotten the connection
	if n := r.eng.Counters().Active; n != 1 {
		t.Errorf("%d entries after the client's RST, want it kept for late packets", n)
	}
	c.fromServer("A", c.serverSeq, c.clientSeq) // late: still finds its way
	if p := c.syn(778); p.Flow.Dst.String() != server2 {
		t.Errorf("the next SYN went to %s, want a new connection", p.Flow.Dst)
	}
}

func TestForgedResetDoesNotEndAConnection(t *testing.T) {
	r := newRig(t, config())
	c := newTCP(r, client+":5000")
	c.handshake()
	c.fromClient("R", c.clientSeq+1000, 0)
	c.fromServer("R", c.serverSeq+1000, 0)
	if p := c.syn(1); p.Flow.Dst.String() != server1 {
		t.Errorf("the connection was ended by an RST that fits nothing")
	}
}

func TestPortIsFreeWhenTheConnectionIs(t *testing.T) {
	cfg := config()
	cfg.Services[0].SourcePorts = forwarder.PortRange{Lo: 1024, Hi: 1025}
	cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
	r := newRig(t, cfg)
	first := newTCP(r, client+":5000")
	first.handshake()
	newTCP(r, client+":5001").handshake()
	third := newTCP(r, client+":5002")
	out := r.refused(0, third.frame("S", 1, 0).Packet(t), wire.PortsExhaustedAnswered)
	if len(out) != 1 || out[0].leg != 0 {
		t.Fatal("a connection without a port was not refused")
	}
	first.close()
	third.handshake() // on the port that has not rested: there is no other
	if c := r.eng.Counters(); c.PortReusedEarly != 1 {
		t.Errorf("port_reused_early %d, want 1", c.PortReusedEarly)
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	for _, tt := range []struct {
		name string
		open func(r *rig)
		idle time.Duration
	}{
		{"syn", func(r *rig) { newTCP(r, client+":1").syn(1) }, timeouts.TCPSyn},
		{"established", func(r *rig) { newTCP(r, client+":1").handshake() }, timeouts.TCPEstablished},
		{"half-closed", func(r *rig) {
			c := newTCP(r, client+":1")
			c.handshake()
			c.fromClient("FA", c.clientSeq, c.serverSeq)
		}, timeouts.TCPEstablished},
		{"unreplied", func(r *rig) {
			r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true})
		}, timeouts.UDPUnreplied},
		{"assured", func(r *rig) {
			p := r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true})
			r.server(1, wiretest.Frame{Src: server1 + ":8053", Dst: strings.Split(flowText(p), " ")[0], UDP: true})
		}, timeouts.UDP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, config())
			tt.open(r)
			r.tick(tt.idle - time.Second)
			if n := r.eng.Counters().Active; n != 1 {
				t.Fatalf("%d connections a second before the idle time is over", n)
			}
			r.tick(2 * time.Second)
			if n := r.eng.Counters().Active; n != 0 {
				t.Errorf("%d connections a second after", n)
			}
		})
	}
}

func TestMidstream(t *testing.T) {
	ack := fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":80", TCP: "A", Seq: 7, Ack: 99})
	for _, tt := range []struct {
		policy forwarder.Midstream
		want   wire.Reason
	}{
		{forwarder.MidstreamReject, wire.RejectedRST},
		{forwarder.MidstreamDrop, wire.MidstreamTCP},
		{forwarder.MidstreamPickup, wire.ReasonNone},
	} {
		cfg := config()
		cfg.Services[0].Midstream = tt.policy
		r := newRig(t, cfg)
		out := r.refused(0, ack.Packet(t), tt.want)
		if tt.want == wire.RejectedRST {
			p := parsed(t, out[0].bytes)
			if seq, _ := p.Seq(); p.TCPFlags != wire.RST || seq != 99 || flowText(p) != vip+":80 > "+client+":1" {
				t.Errorf("answer %s flags %#x seq %d", flowText(p), p.TCPFlags, seq)
			}
		}
		rst := ack
		rst.TCP = "R"
		if tt.policy != forwarder.MidstreamPickup {
			r.refused(0, rst.Packet(t), wire.MidstreamTCP)
		}
	}
}

// tcp is one connection as both ends see it.
type tcp struct {
	r                    *rig
	src                  string
	local                wire.Flow // as the backend sees it
	clientSeq, serverSeq uint32
}

func newTCP(r *rig, src string) *tcp { return &tcp{r: r, src: src} }

func (c *tcp) frame(flags string, seq, ack uint32) wiretest.Frame {
	return fromClient(wiretest.Frame{Src: c.src, Dst: vip + ":80", TCP: flags, Seq: seq, Ack: ack})
}

func (c *tcp) syn(seq uint32) wire.Packet {
	c.r.t.Helper()
	return c.r.forwarded(0, c.frame("S", seq, 0))
}

func (c *tcp) fromClient(flags string, seq, ack uint32) wire.Packet {
	c.r.t.Helper()
	return c.r.forwarded(0, c.frame(flags, seq, ack))
}

func (c *tcp) fromServer(flags string, seq, ack uint32) wire.Packet {
	c.r.t.Helper()
	n := int(c.local.Dst[15])
	return c.r.server(n, wiretest.Frame{Src: fmt.Sprintf("%s:%d", c.local.Dst, c.local.DstPort),
		Dst: fmt.Sprintf("%s:%d", c.local.Src, c.local.SrcPort), TCP: flags, Seq: seq, Ack: ack})
}

func (c *tcp) handshake() {
	c.r.t.Helper()
	c.local = c.syn(100).Flow
	c.clientSeq, c.serverSeq = 101, 501
	c.fromServer("SA", 500, 101)
	c.fromClient("A", 101, 501)
}

func (c *tcp) close() {
	c.r.t.Helper()
	c.fromClient("FA", c.clientSeq, c.serverSeq)
	c.fromServer("FA", c.serverSeq, c.clientSeq+1)
	c.fromClient("A", c.clientSeq+1, c.serverSeq+1)
}
