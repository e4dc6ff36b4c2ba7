package forwarder_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// resets parses the RSTs among frames, tunnels taken off, without announcements: "leg flow seq".
func resets(t *testing.T, frames []sent) (all []string) {
	t.Helper()
	for _, f := range frames {
		if err := wiretest.Wrong(f.bytes); err != nil {
			t.Fatalf("%v in %x", err, f.bytes)
		}
		p := wiretest.Packet(f.bytes)
		p.ParseLink()
		p.ParseNetwork()
		if p.Version == 0 || p.Proto == wire.ProtoICMPv6 {
			continue // an announcement
		}
		if p.Proto == 4 || p.Proto == 41 || p.Proto == wire.ProtoUDP { // a tunnel
			if p.Proto == wire.ProtoUDP {
				p.L4 += wire.UDPLen + 4
			}
			inner := append(make([]byte, 14), p.Transport()...)
			kind := uint16(wire.TypeIPv4)
			if inner[14]>>4 == 6 {
				kind = wire.TypeIPv6
			}
			inner[12], inner[13] = byte(kind>>8), byte(kind)
			p = wiretest.Packet(inner)
			p.ParseLink()
			p.ParseNetwork()
		}
		if p.TCPFlags != wire.RST || p.PayloadLen() != 0 {
			t.Fatalf("flags %#x in %x", p.TCPFlags, f.bytes)
		}
		seq, _ := p.Seq()
		all = append(all, fmt.Sprintf("%d %s %d", f.leg, flowText(p), seq))
	}
	slices.Sort(all)
	return all
}

// outOfService gives the first service's backends, but for the third, a state.
func outOfService(r *rig, state forwarder.State) {
	for i := range r.cfg.Services {
		for b := range r.cfg.Services[i].Backends[:2] {
			r.cfg.Services[i].Backends[b].State = state
		}
	}
	r.reload()
}

// TestBothEndsHearThatABackendIsDown has a connection in each mode and family end at a tick, and another one with its next
// packet.
func TestBothEndsHearThatABackendIsDown(t *testing.T) {
	for _, m := range append(floodModes, floodModes[0]) {
		for _, end := range []int{0, 2} {
			for _, lazy := range []bool{false, true} {
				cfg := config()
				if m.mode != forwarder.FullNAT {
					cfg = inMode(m.mode, m.opt)
				}
				r := newRig(t, cfg)
				c := wiretest.Frame{Src: ends[end].client, Dst: ends[end].vip, TCP: "S", Seq: 100}
				out := r.client(c).Flow
				to := ends[end].client
				var back wiretest.Frame
				if m.replies {
					back = wiretest.Frame{Src: endText(out.Dst, out.DstPort), Dst: endText(out.Src, out.SrcPort)}
					back.TCP, back.Seq, back.Ack = "SA", 500, 101
					r.server(1, back)
				}
				c.TCP, c.Seq, c.Ack = "A", 101, 501
				r.client(c)
				c.TCP, c.Payload = "PA", make([]byte, 9)
				r.client(c)
				toClient, toServer := "501", "110"
				want := []string{
					fmt.Sprintf("0 %s > %s %s", ends[end].vip, to, toClient),
					fmt.Sprintf("1 %s > %s %s", endText(out.Src, out.SrcPort), endText(out.Dst, out.DstPort), toServer)}
				if m.mode == forwarder.L2DSR || m.mode == forwarder.L3DSR {
					want[1] = fmt.Sprintf("1 %s > %s %s", to, ends[end].vip, toServer)
				} else { // the server has not acknowledged the nine bytes
					want = append(want, strings.TrimSuffix(want[1], "110")+"101")
				}
				slices.Sort(want)
				outOfService(r, forwarder.Down)
				made := r.eng.Counters().Made
				var got []string
				if lazy {
					got = resets(t, r.refused(0, fromClient(c).Packet(t), wire.BackendDown))
				} else {
					got = resets(t, r.tick(time.Millisecond))
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s, %s: got\n%s\nwant\n%s", m.name, ends[end].name, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				k := r.eng.Counters()
				if k.DownReset != 1 || k.Active != 0 || !k.Balanced() || int(k.Made-made) < len(want) || k.Held != 0 {
					t.Errorf("%s: %+v", m.name, k)
				}
				r.refused(0, fromClient(c).Packet(t), wire.RejectedRST)
				c.TCP, c.Seq, c.Payload = "S", 9000, nil
				if f := r.client(c); m.replies && !strings.HasSuffix(strings.TrimSuffix(endText(f.Flow.Dst, 0), ":0"), "3") &&
					!strings.HasSuffix(endText(f.Flow.Dst, 0), "3]:0") {
					t.Errorf("%s: the next connection goes to %s", m.name, flowText(f))
				}
			}
		}
	}
}

func endText(a wire.Addr, port uint16) string {
	if a.Is4() {
		return fmt.Sprintf("%s:%d", a, port)
	}
	return fmt.Sprintf("[%s]:%d", a, port)
}

// TestFatesOfConnections goes through what on_backend_down and the states say.
func TestFatesOfConnections(t *testing.T) {
	type fate struct{ reset, forgotten, active uint64 }
	for _, tt := range []struct {
		name  string
		state forwarder.State
		tcp   forwarder.OnDownTCP
		udp   forwarder.OnDownUDP
		want  fate        // after a tick, of four TCP connections (one of them a handshake, one closed) and two of UDP
		data  wire.Reason // for the client's next segment and datagram
		dns   wire.Reason
	}{
		{"up", forwarder.Up, forwarder.DownTCPReset, forwarder.DownUDPRehash, fate{0, 0, 6}, wire.ReasonNone, wire.ReasonNone},
		{"draining", forwarder.Draining, forwarder.DownTCPReset, forwarder.DownUDPDrop, fate{0, 0, 6}, wire.ReasonNone, wire.ReasonNone},
		{"rst, rehash", forwarder.Down, forwarder.DownTCPReset, forwarder.DownUDPRehash, fate{2, 3, 0}, wire.RejectedRST, wire.ReasonNone},
		{"keep, drop", forwarder.Down, forwarder.DownTCPKeep, forwarder.DownUDPDrop, fate{0, 0, 6}, wire.ReasonNone, wire.BackendDown},
		{"reschedule", forwarder.Down, forwarder.DownTCPReschedule, forwarder.DownUDPRehash, fate{0, 5, 0}, wire.RejectedRST, wire.ReasonNone},
		{"disabled", forwarder.Disabled, forwarder.DownTCPKeep, forwarder.DownUDPDrop, fate{2, 3, 0}, wire.RejectedRST, wire.ReasonNone},
	} {
		for _, lazy := range []bool{false, true} {
			cfg := config()
			for i := range cfg.Services {
				s := &cfg.Services[i]
				s.OnDownTCP, s.OnDownUDP = tt.tcp, tt.udp
			}
			r := newRig(t, cfg)
			outOfService(r, forwarder.Up)
			r.cfg.Services[0].Backends[2].Weight, r.cfg.Services[2].Backends[2].Weight = 0, 0
			r.reload()
			conns := []*tcp{newTCP(r, client+":1"), newTCP(r, client+":2"), newTCP(r, client+":3")}
			for _, c := range conns {
				c.handshake()
			}
			conns[2].close()
			newTCP(r, client+":4").syn(1)
			talk := func(n int) wiretest.Frame {
				return fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, n), Dst: vip + ":53", UDP: true})
			}
			r.client(talk(1))
			r.client(talk(2))
			r.cfg.Services[0].Backends[2].Weight, r.cfg.Services[2].Backends[2].Weight = 1, 1
			outOfService(r, tt.state)
			if lazy {
				want := tt.data
				if tt.want.reset > 0 { // both ends are told, so the segment needs no answer of its own
					want = wire.BackendDown
				}
				r.refusedOrNot(conns[0].frame("PA", 101, 501), want)
				r.refusedOrNot(conns[0].frame("PA", 101, 501), tt.data)
				r.refusedOrNot(talk(1), tt.dns)
				continue
			}
			r.tick(time.Millisecond)
			c := r.eng.Counters()
			if got := (fate{c.DownReset, c.DownForgotten, c.Active}); got != tt.want {
				t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
			}
			r.refusedOrNot(conns[1].frame("PA", 101, 501), tt.data)
			r.refusedOrNot(talk(2), tt.dns)
			// The SYN that is sent again begins anew where the backend is gone.
			p := r.client(newTCP(r, client+":4").frame("S", 1, 0))
			if moved := p.Flow.Dst.String() == "10.10.10.3"; moved != (tt.want.active == 0) {
				t.Errorf("%s: the handshake goes to %s", tt.name, p.Flow.Dst)
			}
		}
	}
}

func (r *rig) refusedOrNot(f wiretest.Frame, want wire.Reason) {
	r.t.Helper()
	r.refused(0, f.Packet(r.t), want)
}

// TestManyResetsTakeTheirTime has more connections than one tick may reset, while one more carries data.
func TestManyResetsTakeTheirTime(t *testing.T) {
	r := newRig(t, config())
	byBackend := map[string][]*tcp{}
	for n := range 1500 {
		c := newTCP(r, fmt.Sprintf("%s:%d", client, 1+n))
		c.handshake()
		byBackend[c.local.Dst.String()] = append(byBackend[c.local.Dst.String()], c)
	}
	r.cfg.Services[0].Backends[0].State = forwarder.Down
	r.reload()
	told := map[string]int{}
	ticks := 0
	for ; r.eng.Counters().Active > 1000; ticks++ {
		out := resets(t, r.tick(time.Millisecond))
		if len(out) > 256 {
			t.Fatalf("%d frames in one tick", len(out))
		}
		for _, x := range out {
			told[x]++
		}
		byBackend[server2][ticks%500].fromClient("PA", 101, 501)
		if ticks > 20 {
			t.Fatalf("%d connections are left", r.eng.Counters().Active)
		}
	}
	if len(told) != 1000 || ticks < 4 {
		t.Errorf("%d RSTs in %d ticks", len(told), ticks)
	}
	for _, c := range append(byBackend[server2], byBackend["10.10.10.3"]...) {
		c.fromClient("PA", 101, 501)
	}
	if c := r.eng.Counters(); c.DownReset != 500 || c.Active != 1000 {
		t.Errorf("%+v", c)
	}
}

// TestABackendThatRecoversKeepsWhatIsLeft: what was not met yet lives on.
func TestABackendThatRecoversKeepsWhatIsLeft(t *testing.T) {
	r := newRig(t, config())
	c := newTCP(r, client+":1")
	c.handshake()
	r.cfg.Services[0].Backends[0].State = forwarder.Down
	r.reload()
	r.cfg.Services[0].Backends[0].State = forwarder.Up
	r.reload()
	r.tick(time.Second)
	c.fromClient("PA", 101, 501)
}

// TestEditingAFileMovesNobody reorders, adds, removes and changes backends while connections live.
func TestEditingAFileMovesNobody(t *testing.T) {
	r := newRig(t, config())
	var conns []*tcp
	for n := range 9 {
		c := newTCP(r, fmt.Sprintf("%s:%d", client, 1+n))
		c.handshake()
		conns = append(conns, c)
	}
	first := slices.Clone(r.cfg.Services[0].Backends)
	for name, edit := range map[string]func(b []forwarder.Backend) []forwarder.Backend{
		"reversed": func(b []forwarder.Backend) []forwarder.Backend { slices.Reverse(b); return b },
		"one more in front": func(b []forwarder.Backend) []forwarder.Backend {
			return append([]forwarder.Backend{{Name: "new", Addr: addr("10.10.10.9"), Port: 8080, Weight: 1}}, b...)
		},
		"one removed":        func(b []forwarder.Backend) []forwarder.Backend { return b[1:] },
		"a name for another": func(b []forwarder.Backend) []forwarder.Backend { b[0].Addr = addr("10.10.10.3"); return b },
		"another weight":     func(b []forwarder.Backend) []forwarder.Backend { b[1].Weight = 0; return b },
		"all removed":        func([]forwarder.Backend) []forwarder.Backend { return nil },
		"as it was":          func(b []forwarder.Backend) []forwarder.Backend { return b },
	} {
		r.cfg.Services = slices.Clone(r.cfg.Services)
		r.cfg.Services[0].Backends = edit(slices.Clone(first))
		r.reload()
		r.tick(time.Second)
		for n, c := range conns {
			if p := c.fromClient("PA", 101, 501); p.Flow != c.local {
				t.Errorf("%s: connection %d goes to %s", name, n, flowText(p))
			}
			c.fromServer("PA", 501, 101)
		}
	}
}

// TestIdleConnectionsAreReset has connections of every kind be idle for their time.
func TestIdleConnectionsAreReset(t *testing.T) {
	for _, m := range floodModes {
		for _, onIdle := range []forwarder.OnIdle{forwarder.IdleSilent, forwarder.IdleReset} {
			cfg := config()
			if m.mode != forwarder.FullNAT {
				cfg = inMode(m.mode, m.opt)
			}
			for i := range cfg.Services {
				cfg.Services[i].OnIdle = onIdle
			}
			r := newRig(t, cfg)
			established(r, 300, m.replies)
			newTCP(r, client+":2000").syn(1) // nobody is told of these
			if m.replies {
				closed := newTCP(r, client+":2001")
				closed.handshake()
				closed.close()
			}
			told, most, ticks := 0, 0, 0
			r.tick(timeouts.TCPEstablished - time.Second)
			for ; r.eng.Counters().Active > 0 && ticks < 100; ticks++ {
				n := len(resets(t, r.tick(500*time.Millisecond)))
				told, most = told+n, max(most, n)
			}
			want := uint64(300)
			if onIdle == forwarder.IdleSilent {
				want = 0
			}
			c := r.eng.Counters()
			if c.IdleReset != want || told != 2*int(want) || most > 256 || c.Active != 0 || !c.Balanced() {
				t.Errorf("%s: %d connections reset by %d RSTs, at most %d at once, %d left", m.name, c.IdleReset, told, most, c.Active)
			}
		}
	}
}
