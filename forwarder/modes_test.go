package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// inMode is the classic example in another mode, for both families, TCP and UDP; backends keep the port.
func inMode(mode forwarder.Mode, opt forwarder.L3DSROptions) forwarder.Config {
	cfg := config()
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Mode, s.L3DSR, s.Locals = mode, opt, nil
		if mode == forwarder.NAT {
			continue
		}
		for b := range s.Backends {
			s.Backends[b].Port = 0
		}
	}
	return cfg
}

var (
	byDSCP = forwarder.L3DSROptions{Encap: forwarder.EncapDSCP, DSCP: 28}
	byIPIP = forwarder.L3DSROptions{Encap: forwarder.EncapIPIP}
	byGUE  = forwarder.L3DSROptions{Encap: forwarder.EncapGUE, Port: 6080}
)

// ends are a client's and a VIP's endpoint in each family and protocol.
var ends = []struct {
	name, client, vip, server string
	udp                       bool
}{
	{"tcp4", client + ":51000", vip + ":80", server1, false},
	{"udp4", client + ":51000", vip + ":53", server1, true},
	{"tcp6", "[" + client6 + "]:51000", "[" + vip6 + "]:80", "2001:db8:10::1", false},
	{"udp6", "[" + client6 + "]:51000", "[" + vip6 + "]:53", "2001:db8:10::1", true},
}

func TestNATBothDirections(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t, inMode(forwarder.NAT, forwarder.L3DSROptions{}))
			out := r.client(wiretest.Frame{Src: e.client, Dst: e.vip, TCP: "S", UDP: e.udp, Payload: []byte("hi")})
			server := netip.AddrPortFrom(addr(e.server), netip.MustParseAddrPort(e.vip).Port()+8000).String()
			if want := e.client + " > " + server; flowText(out) != want || out.TTL() != 63 {
				t.Fatalf("to the backend: %s ttl %d, want %s", flowText(out), out.TTL(), want)
			}
			back := r.server(1, wiretest.Frame{Src: server, Dst: e.client, TCP: "SA", UDP: e.udp})
			if want := e.vip + " > " + e.client; flowText(back) != want {
				t.Errorf("to the client: %s, want %s", flowText(back), want)
			}
		})
	}
}

func TestNATRefusesWhatTheBackendCouldNotTellApart(t *testing.T) {
	cfg := inMode(forwarder.NAT, forwarder.L3DSROptions{})
	other := cfg.Services[0]
	other.Name, other.Ports = "other", []forwarder.PortRange{{Lo: 81, Hi: 81}}
	other.Backends, cfg.Services[0].Backends = other.Backends[:1], cfg.Services[0].Backends[:1]
	other.Reject = forwarder.RejectDrop
	cfg.Services = append(cfg.Services, other)
	r := newRig(t, cfg)
	r.client(wiretest.Frame{Src: client + ":51000", Dst: vip + ":80", TCP: "S"})
	r.refused(0, fromClient(wiretest.Frame{Src: client + ":51000", Dst: vip + ":81", TCP: "S"}).Packet(t), wire.TupleClash)
	r.client(wiretest.Frame{Src: client + ":51001", Dst: vip + ":81", TCP: "S"})
}

func TestBackendOfModeNATIsReachedByItsOwnAddress(t *testing.T) {
	cfg := inMode(forwarder.NAT, forwarder.L3DSROptions{})
	cfg.HostAddrs = []netip.Addr{addr("10.10.10.254")}
	r := newRig(t, cfg)
	f := fromServer(1, wiretest.Frame{Src: server1 + ":8080", Dst: "203.0.113.9:4000", TCP: "SA"})
	out := r.forwarded(1, f)
	if flowText(out) != server1+":8080 > 203.0.113.9:4000" || out.TTL() != 63 || r.eng.Counters().ForwardedPlain != 1 {
		t.Errorf("%s ttl %d, %d forwarded plainly", flowText(out), out.TTL(), r.eng.Counters().ForwardedPlain)
	}
	f.Dst = "10.10.10.254:4000"
	r.refused(1, f.Packet(t), wire.NotOurAddress) // the host's own
	f.Src, f.Dst = server1+":22", "203.0.113.9:4000"
	r.refused(1, f.Packet(t), wire.NotOurAddress) // not fenced, so the kernel's
}

func TestL2DSRChangesTwelveBytes(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t, inMode(forwarder.L2DSR, forwarder.L3DSROptions{}))
			f := fromClient(wiretest.Frame{Src: e.client, Dst: e.vip, TCP: "S", UDP: e.udp, TTL: 1, TOS: 0xb9, Payload: []byte("x")})
			in := f.Bytes(t)
			_, why, out := r.put(0, f.Packet(t))
			if len(out) != 1 || !bytes.Equal(out[0].bytes[12:], in[12:]) {
				t.Fatalf("%v: more than the MAC addresses changed:\n%x\n%x", why, in, out)
			}
			if d := out[0].bytes; wire.MAC(d[:6]) != serverMAC[0] || wire.MAC(d[6:12]) != serverLeg {
				t.Errorf("MAC addresses %x", d[:12])
			}
		})
	}
}

func TestL2DSRBehindARouterIsRefused(t *testing.T) {
	cfg := inMode(forwarder.L2DSR, forwarder.L3DSROptions{})
	cfg.Routes[0].Gateway = addr("10.10.10.99")
	newRig(t, cfg).refused(0, synFrame().Packet(t), wire.NoRoute)
}

func TestDSCPChangesDestinationAndMarkOnly(t *testing.T) {
	for _, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			r := newRig(t, inMode(forwarder.L3DSR, byDSCP))
			out := r.client(wiretest.Frame{Src: e.client, Dst: e.vip, TCP: "S", UDP: e.udp, TOS: 0x03, Payload: []byte("xyz")})
			src, dst := netip.MustParseAddrPort(e.client), netip.MustParseAddrPort(e.vip)
			if want := src.String() + " > " + netip.AddrPortFrom(addr(e.server), dst.Port()).String(); flowText(out) != want {
				t.Errorf("%s, want %s", flowText(out), want)
			}
			tos := out.IP()[1]
			if out.Version == 6 {
				tos = byte(binary.BigEndian.Uint16(out.IP()) >> 4)
			}
			if tos != 28<<2|3 || out.TTL() != 63 {
				t.Errorf("TOS %#x, TTL %d", tos, out.TTL())
			}
		})
	}
}

func TestTunnelsCarryThePacketWhole(t *testing.T) {
	for _, e := range ends {
		for _, opt := range []forwarder.L3DSROptions{byIPIP, byGUE, {Encap: forwarder.EncapGUE, Port: 6080, Variant: 1}} {
			for _, outer := range []string{"10.10.10.1", "2001:db8:10::1"} {
				t.Run(fmt.Sprintf("%s/%d.%d/%s", e.name, opt.Encap, opt.Variant, outer), func(t *testing.T) {
					cfg := inMode(forwarder.L3DSR, opt)
					for i := range cfg.Services {
						cfg.Services[i].Backends = cfg.Services[i].Backends[:1]
						cfg.Services[i].Backends[0].Addr = addr(outer)
					}
					r := newRig(t, cfg)
					f := fromClient(wiretest.Frame{Src: e.client, Dst: e.vip, TCP: "S", UDP: e.udp, Payload: []byte("abc")})
					lower := f
					lower.TTL = 63
					p := f.Packet(t)
					wiretest.Unfinish(&p) // as on veth: nobody would finish it inside the tunnel
					_, why, out := r.put(0, p)
					if len(out) != 1 {
						t.Fatalf("%v: %d frames", why, len(out))
					}
					if err := wiretest.Wrong(out[0].bytes); err != nil {
						t.Error(err)
					}
					if inner := lower.Bytes(t)[14:]; !bytes.HasSuffix(out[0].bytes, inner) {
						t.Errorf("inner packet\n%x\nnot in\n%x", inner, out[0].bytes)
					}
					q := wiretest.Packet(out[0].bytes)
					q.ParseLink()
					q.ParseNetwork()
					own := map[bool]string{true: "10.10.10.254", false: "2001:db8:10::fe"}[addr(outer).Is4()]
					if q.Flow.Dst.String() != outer || q.Flow.Src.String() != own || q.TTL() != 64 || out[0].frame.Offload != (wire.Offload{}) {
						t.Errorf("outer %s > %s ttl %d, offload %+v", q.Flow.Src, q.Flow.Dst, q.TTL(), out[0].frame.Offload)
					}
				})
			}
		}
	}
}

func TestSuperFramesAreCutForTunnels(t *testing.T) {
	for _, opt := range []forwarder.L3DSROptions{byIPIP, byGUE} {
		r := newRig(t, inMode(forwarder.L3DSR, opt))
		src := client + ":51000"
		r.put(0, fromClient(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "S", Seq: 99}).Packet(t))
		p := fromClient(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "A", Seq: 100, DF: true, Payload: make([]byte, 14000)}).Packet(t)
		wiretest.Unfinish(&p)
		p.Offload.GSOType, p.Offload.GSOSize, p.Offload.HdrLen = wire.GSOTCPv4, 1400, 54
		v, why, out := r.put(0, p)
		if v != wire.Transmit || len(out) != 10 {
			t.Fatalf("%v %v: %d frames, want 10", v, why, len(out))
		}
		for i, f := range out {
			if err := wiretest.Wrong(f.bytes); err != nil {
				t.Error(err)
			}
			inner := append(bytes.Clone(f.bytes[:14]), f.bytes[len(f.bytes)-1440:]...)
			q := parsed(t, inner)
			if seq, _ := q.Seq(); seq != uint32(100+1400*i) {
				t.Errorf("segment %d has sequence number %d", i, seq)
			}
			if err := wiretest.Wrong(inner); err != nil {
				t.Errorf("segment %d: %v", i, err)
			}
		}
		if c := r.eng.Counters(); c.Transmitted != 2 || c.Sent != 11 {
			t.Errorf("a super-frame is one packet: transmitted %d, sent %d", c.Transmitted, c.Sent)
		}
	}
}

func TestWhatDoesNotFitATunnel(t *testing.T) {
	r := newRig(t, inMode(forwarder.L3DSR, byIPIP))
	big := func(n int, df bool, src, dst string) wire.Packet {
		return fromClient(wiretest.Frame{Src: src, Dst: dst, UDP: true, DF: df, Payload: make([]byte, n)}).Packet(t)
	}
	out := r.refused(0, big(1460, true, client+":1", vip+":53"), wire.TooBigAnswered)
	if m := parsed(t, out[0].bytes); binary.BigEndian.Uint16(m.Transport()[6:]) != 1480 || m.Flow.Src.String() != vip {
		t.Errorf("told %d from %s, want 1480 from the VIP", binary.BigEndian.Uint16(m.Transport()[6:]), m.Flow.Src)
	}
	v, why, out := r.put(0, big(1460, false, client+":1", vip+":53"))
	if v != wire.Transmit || len(out) != 2 {
		t.Fatalf("without DF: %v %v, %d frames, want 2 fragments", v, why, len(out))
	}
	for _, f := range out {
		if err := wiretest.Wrong(f.bytes[:34]); err != nil || len(f.bytes) > 1514 || f.bytes[23] != 4 {
			t.Errorf("%v: %d bytes, protocol %d", err, len(f.bytes), f.bytes[23])
		}
	}
	six := "[" + client6 + "]:1"
	out = r.refused(0, big(1440, false, six, "["+vip6+"]:53"), wire.TooBigAnswered)
	if m := parsed(t, out[0].bytes); binary.BigEndian.Uint32(m.Transport()[4:]) != 1460 {
		t.Errorf("told %d, want 1460", binary.BigEndian.Uint32(m.Transport()[4:]))
	}
	// A link of 1280 bytes leaves 1240 for the inner packet: 1280 must pass all the same, in fragmented outer packets.
	cfg := inMode(forwarder.L3DSR, byIPIP)
	cfg.Legs[1].MTU = 1280
	r = newRig(t, cfg)
	v, why, out = r.put(0, big(1232, false, six, "["+vip6+"]:53"))
	if v != wire.Transmit || len(out) != 2 || out[0].bytes[20] != 44 {
		t.Errorf("%v %v: %d frames, want 2 with fragment headers", v, why, len(out))
	}
	for i := range cfg.Services {
		cfg.Services[i].Backends = cfg.Services[i].Backends[:1]
		cfg.Services[i].Backends[0].Addr = addr(server1)
	}
	r = newRig(t, cfg)
	v, why, out = r.put(0, big(1232, false, six, "["+vip6+"]:53"))
	if v != wire.Transmit || len(out) != 2 || out[0].bytes[20]&0x60 != 0x20 || out[1].bytes[20]&0x60 != 0 {
		t.Errorf("6in4: %v %v: %d frames, want 2 fragments without DF", v, why, len(out))
	}
	out = r.refused(0, big(1300, false, six, "["+vip6+"]:53"), wire.TooBigAnswered)
	if m := parsed(t, out[0].bytes); binary.BigEndian.Uint32(m.Transport()[4:]) != 1280 {
		t.Errorf("told %d, never below 1280", binary.BigEndian.Uint32(m.Transport()[4:]))
	}
}

func TestNATModesFragmentBetweenLegsOfDifferentMTU(t *testing.T) {
	cfg := config()
	cfg.Legs[1].MTU = 1400
	r := newRig(t, cfg)
	f := fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true, ID: 77, Payload: make([]byte, 1460)})
	p := f.Packet(t)
	wiretest.Unfinish(&p)
	v, why, out := r.put(0, p)
	if v != wire.Transmit || len(out) != 2 {
		t.Fatalf("%v %v: %d frames, want 2 fragments", v, why, len(out))
	}
	var payload []byte
	for _, s := range out {
		q := wiretest.Packet(s.bytes)
		q.ParseLink()
		if why := q.ParseNetwork(); why != wire.ReasonNone || q.End-q.L3 > 1400 {
			t.Errorf("%v, %d bytes", why, q.End-q.L3)
		}
		payload = append(payload, q.Bytes()[q.L3+20:q.End]...)
	}
	whole := append(bytes.Clone(out[0].bytes[:34]), payload...)
	binary.BigEndian.PutUint16(whole[16:], uint16(len(whole)-14))
	whole[20], whole[21], whole[24], whole[25] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(whole[24:], ^wiretest.SlowChecksum(whole[14:34], 0))
	if err := wiretest.Wrong(whole); err != nil {
		t.Errorf("put together again: %v", err)
	}
	out2 := r.client(wiretest.Frame{Src: client + ":2", Dst: vip + ":80", TCP: "S", MSS: 1460})
	if mss := binary.BigEndian.Uint16(out2.Transport()[22:]); mss != 1360 {
		t.Errorf("MSS %d, want 1360", mss)
	}
}

func TestDSCPFragmentsWhatDoesNotFit(t *testing.T) {
	legs, backends := inMode(forwarder.L3DSR, byDSCP), inMode(forwarder.L3DSR, byDSCP)
	legs.Legs[1].MTU = 1400
	for i := range backends.Services {
		for b := range backends.Services[i].Backends {
			backends.Services[i].Backends[b].MTU = 1400
		}
	}
	for _, cfg := range []forwarder.Config{legs, backends} {
		r := newRig(t, cfg)
		v, why, out := r.put(0, bigFrame(false).Packet(t))
		if v != wire.Transmit || len(out) != 2 || len(out[0].bytes) > 1414 {
			t.Fatalf("%v %v: %d frames, want 2 fragments", v, why, len(out))
		}
		if err := wiretest.Wrong(joined(t, out)); err != nil {
			t.Error(err)
		}
		r.refused(0, bigFrame(true).Packet(t), wire.TooBigAnswered)
	}
}

func TestABackendsMTUHoldsForLivingConnections(t *testing.T) {
	r := newRig(t, inMode(forwarder.L3DSR, byDSCP))
	if v, why, _ := r.put(0, bigFrame(true).Packet(t)); v != wire.Transmit {
		t.Fatalf("%v %v", v, why)
	}
	for i := range r.cfg.Services {
		for b := range r.cfg.Services[i].Backends {
			r.cfg.Services[i].Backends[b].MTU = 1400
		}
	}
	r.reload()
	out := r.refused(0, bigFrame(true).Packet(t), wire.TooBigAnswered)
	if m := parsed(t, out[0].bytes); binary.BigEndian.Uint16(m.Transport()[6:]) != 1400 {
		t.Errorf("told %d", binary.BigEndian.Uint16(m.Transport()[6:]))
	}
}

func TestDSRIsClientOnly(t *testing.T) {
	r := newRig(t, inMode(forwarder.L2DSR, forwarder.L3DSROptions{}))
	var state string
	r.trc = func(rec *forwarder.Record) { state = rec.State.String() }
	for _, step := range []struct {
		flags string
		seq   uint32
		want  string
	}{{"S", 100, "syn"}, {"A", 101, "client only"}, {"FA", 101, "closing"}, {"A", 102, "closing"}, {"R", 102, "closed"}} {
		r.put(0, fromClient(wiretest.Frame{Src: client + ":9", Dst: vip + ":80", TCP: step.flags, Seq: step.seq, Ack: 500}).Packet(t))
		if state != step.want {
			t.Errorf("after %s: %q, want %q", step.flags, state, step.want)
		}
	}
}

func TestHairpinInDSR(t *testing.T) {
	for _, cfg := range []forwarder.Config{inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), inMode(forwarder.L3DSR, byDSCP)} {
		r := newRig(t, cfg)
		r.refused(1, fromServer(1, wiretest.Frame{Src: server1 + ":5", Dst: vip + ":80", TCP: "S"}).Packet(t), wire.Hairpin)
		// A backend without the VIP routes the client's packet back to us.
		r.refused(1, fromServer(1, wiretest.Frame{Src: client + ":5", Dst: vip + ":80", TCP: "S"}).Packet(t), wire.Hairpin)
	}
}

// TestOneRouterForBothWays: the client's packets come from the router that leads to the backends too.
func TestOneRouterForBothWays(t *testing.T) {
	cfg := inMode(forwarder.L3DSR, byDSCP)
	cfg.Routes[0] = forwarder.Route{Prefix: netip.MustParsePrefix("10.10.10.0/24"), Leg: 0, Gateway: addr("200.100.50.1")}
	r := newRig(t, cfg)
	for range 3 {
		r.client(wiretest.Frame{Src: client + ":5", Dst: vip + ":80", TCP: "S"})
	}
}

func TestHairpinInFullNAT(t *testing.T) {
	r := newRig(t, config())
	out := r.forwarded(1, fromServer(1, wiretest.Frame{Src: server1 + ":5", Dst: vip + ":80", TCP: "S"}))
	back := r.server(1, wiretest.Frame{Src: server1 + ":8080", Dst: strings.Split(flowText(out), " ")[0], TCP: "SA"})
	if want := vip + ":80 > " + server1 + ":5"; flowText(back) != want {
		t.Errorf("%s, want %s", flowText(back), want)
	}
}

func TestICMPErrorOfTheClientReachesTheBackendInEveryMode(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  forwarder.Config
	}{
		{"nat", inMode(forwarder.NAT, forwarder.L3DSROptions{})}, {"l2dsr", inMode(forwarder.L2DSR, forwarder.L3DSROptions{})},
		{"dscp", inMode(forwarder.L3DSR, byDSCP)}, {"ipip", inMode(forwarder.L3DSR, byIPIP)}, {"gue", inMode(forwarder.L3DSR, byGUE)},
	} {
		for _, fam := range families {
			t.Run(tt.name+"/"+fam.name, func(t *testing.T) {
				r := newRig(t, tt.cfg)
				r.put(0, fromClient(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 53), UDP: true}).Packet(t))
				quoted := wiretest.Frame{Src: fam.at(fam.vip, 53), Dst: fam.at(fam.client, 51000), UDP: true}.Bytes(t)[14:]
				f := fromClient(wiretest.Frame{Src: "203.0.113.7", Dst: fam.vip, ICMP: append(fam.unreachable, quoted...)})
				if fam.head == 40 {
					f.Src = "2001:db8:99::7"
				}
				v, why, out := r.put(0, f.Packet(t))
				if v != wire.Transmit || len(out) != 1 || wire.MAC(out[0].bytes[:6]) != serverMAC[0] {
					t.Fatalf("%v %v: %d frames", v, why, len(out))
				}
				if err := wiretest.Wrong(out[0].bytes); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestICMPErrorFromBehindInModeNAT(t *testing.T) {
	for _, fam := range families {
		r := newRig(t, inMode(forwarder.NAT, forwarder.L3DSROptions{}))
		out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 53), UDP: true, Payload: []byte("q")})
		back := r.forwarded(1, fromServer(1, wiretest.Frame{Src: fam.router, Dst: fam.client, ICMP: append(fam.tooBig, out.IP()...)}))
		want := wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 53), UDP: true, TTL: 63, Payload: []byte("q")}.Bytes(t)
		if back.Flow.Src.String() != fam.vip || back.Flow.Dst.String() != fam.client || !bytes.Equal(back.Transport()[8:], want[14:]) {
			t.Errorf("%s > %s quotes %x", back.Flow.Src, back.Flow.Dst, back.Transport()[8:])
		}
	}
}

func TestPathMTUOfATunnel(t *testing.T) {
	cfg := inMode(forwarder.L3DSR, byIPIP)
	r := newRig(t, cfg)
	_, _, out := r.put(0, fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true, DF: true,
		Payload: make([]byte, 1300)}).Packet(t))
	quoted := out[0].bytes[14:]
	tell := func(mtu uint16, quote []byte) wire.Packet {
		msg := []byte{wire.ICMPUnreachable, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}
		return fromServer(1, wiretest.Frame{Src: "10.10.10.99", Dst: "10.10.10.254", ICMP: append(msg, quote...)}).Packet(t)
	}
	big := func() wire.Packet {
		return fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true, DF: true, Payload: make([]byte, 1300)}).Packet(t)
	}
	forged := bytes.Clone(quoted)
	forged[15]++ // another outer source... and another inner client
	forged[20+15]++
	if v, _, _ := r.put(1, tell(600, forged)); v == wire.Consume {
		t.Error("a forged quote was believed")
	}
	elsewhere := bytes.Clone(quoted)
	elsewhere[15]++ // not where our packets come from
	fixHeader(elsewhere[:20])
	if v, _, _ := r.put(1, tell(600, elsewhere)); v == wire.Consume {
		t.Error("a quote of a packet that naru does not send was believed")
	}
	r.refused(1, tell(1300, quoted), wire.PathMTULearned)
	r.refused(1, tell(1400, quoted), wire.PathMTULearned) // never raises what holds
	out = r.refused(0, big(), wire.TooBigAnswered)
	if m := parsed(t, out[0].bytes); binary.BigEndian.Uint16(m.Transport()[6:]) != 1280 {
		t.Errorf("told %d, want 1300 less the outer header", binary.BigEndian.Uint16(m.Transport()[6:]))
	}
	r.tick(11 * 60e9)
	if v, why, _ := r.put(0, big()); v != wire.Transmit {
		t.Errorf("after ten minutes: %v %v", v, why)
	}
}

func TestEchoPolicy(t *testing.T) {
	for echo, want := range map[forwarder.Echo]wire.Reason{forwarder.EchoAnswer: wire.EchoAnswered,
		forwarder.EchoPass: wire.EchoPassed, forwarder.EchoDrop: wire.ICMPIgnored} {
		cfg := config()
		cfg.VIPs[0].Echo = echo
		newRig(t, cfg).refused(0, echoFrame(client, vip).Packet(t), want)
	}
}

func TestSourcesOfTunnelsAreAnsweredFor(t *testing.T) {
	opt := byIPIP
	opt.Source4, opt.Source6 = netip.MustParsePrefix("10.10.10.64/28"), netip.MustParsePrefix("2001:db8:10::ee/128")
	cfg := inMode(forwarder.L3DSR, opt)
	cfg.HostAddrs = []netip.Addr{addr("10.10.10.70")}
	r := newRig(t, cfg)
	ask := func(target string) wire.Packet {
		return arpFrame(serverMAC[0], wire.Broadcast, false, server1, target)
	}
	r.refused(1, ask("10.10.10.66"), wire.ARPAnswered)
	r.refused(1, ask("10.10.10.70"), wire.NotOurQuestion) // the kernel's
	r.refused(1, ask("10.10.10.80"), wire.NotOurQuestion)
	r.refused(0, ask("10.10.10.66"), wire.NotOurQuestion)
	r.refused(1, ndQuestion("2001:db8:10::ee"), wire.NDAnswered)
	sources := map[string]bool{}
	for port := range 64 {
		_, _, out := r.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1000+port), Dst: vip + ":80", TCP: "S"}).Packet(t))
		p := parsed(t, out[0].bytes)
		sources[p.Flow.Src.String()] = true
		if !opt.Source4.Contains(p.Flow.Src.Netip()) {
			t.Fatalf("outer source %s", p.Flow.Src)
		}
	}
	if len(sources) < 8 {
		t.Errorf("64 flows come from %d sources of %s", len(sources), opt.Source4)
	}
}

// TestWhatTheFenceTakesFromABackendOfModeNATIsRoutedOn: later fragments and ICMP errors do not tell whose they are.
func TestWhatTheFenceTakesFromABackendOfModeNATIsRoutedOn(t *testing.T) {
	cfg := inMode(forwarder.NAT, forwarder.L3DSROptions{})
	cfg.HostAddrs = []netip.Addr{addr("10.10.10.254")}
	r := newRig(t, cfg)
	datagram := fromServer(1, wiretest.Frame{Src: server1 + ":5353", Dst: "203.0.113.9:99", UDP: true, ID: 9, Payload: make([]byte, 900)})
	parts := pieces(t, datagram, 512)
	r.refused(1, parts[0], wire.NotOurAddress) // the kernel forwards the first: no port of a service
	if v, why, out := r.put(1, parts[1]); v != wire.Transmit || len(out) != 1 {
		t.Errorf("its later fragment: %v %v", v, why)
	}
	quoted := wiretest.Frame{Src: "203.0.113.9:99", Dst: server1 + ":5353", UDP: true}.Bytes(t)[14:]
	icmp := fromServer(1, wiretest.Frame{Src: server1, Dst: "203.0.113.9",
		ICMP: append([]byte{wire.ICMPUnreachable, 3, 0, 0, 0, 0, 0, 0}, quoted...)})
	if out := r.forwarded(1, icmp); string(out.Transport()[8:]) != string(quoted) {
		t.Error("an ICMP error about something else was changed")
	}
	icmp.Dst = "10.10.10.254"
	r.refused(1, icmp.Packet(t), wire.NotOurAddress)
}

// TestAHostileSuperFrameLeavesRoomForTheOthers: metadata may tell segments of one byte.
func TestAHostileSuperFrameLeavesRoomForTheOthers(t *testing.T) {
	r := newRig(t, inMode(forwarder.L3DSR, byIPIP))
	src := client + ":51000"
	r.put(0, fromClient(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "S", Seq: 99}).Packet(t))
	super := func(size uint16) wire.Packet {
		p := fromClient(wiretest.Frame{Src: src, Dst: vip + ":80", TCP: "A", Seq: 100, DF: true, Payload: make([]byte, 60000)}).Packet(t)
		wiretest.Unfinish(&p)
		p.Offload.GSOType, p.Offload.GSOSize = wire.GSOTCPv4, size
		return p
	}
	var batch []wire.Packet
	for range 63 {
		batch = append(batch, super(18), super(1))
	}
	batch = append(batch, super(1400))
	for i := range batch {
		batch[i].Leg = 0
	}
	r.eng.Process(r.now, batch, r.out, nil)
	if p := batch[len(batch)-1]; p.Verdict != wire.Transmit || len(r.collect()) != 43 {
		t.Errorf("after hostile super-frames: %v %v", p.Verdict, p.Reason)
	}
}

func TestRoutingOnAnswersNoICMPError(t *testing.T) {
	r := newRig(t, inMode(forwarder.NAT, forwarder.L3DSROptions{}))
	quoted := wiretest.Frame{Src: "203.0.113.9:4000", Dst: server1 + ":99", UDP: true}.Bytes(t)[14:]
	f := fromServer(1, wiretest.Frame{Src: server1, Dst: "203.0.113.9", TTL: 1,
		ICMP: append([]byte{wire.ICMPUnreachable, 3, 0, 0, 0, 0, 0, 0}, quoted...)})
	if out := r.refused(1, f.Packet(t), wire.HopLimit); len(out) != 0 {
		t.Errorf("%d answers to an error", len(out))
	}
}

// TestWhatNobodyMaySendShorterPassesATunnel: who was told the least MTU keeps to it, also in super-frames.
func TestWhatNobodyMaySendShorterPassesATunnel(t *testing.T) {
	for _, tt := range []struct {
		name, src, dst string
		mtu, least     int
		gso            uint8
	}{
		{"IPv4", client + ":1", vip + ":80", 576, 576, wire.GSOTCPv4},
		{"IPv6", "[" + client6 + "]:1", "[" + vip6 + "]:80", 1280, 1280, wire.GSOTCPv6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := inMode(forwarder.L3DSR, byIPIP)
			cfg.Legs[1].MTU = tt.mtu
			r := newRig(t, cfg)
			f := fromClient(wiretest.Frame{Src: tt.src, Dst: tt.dst, TCP: "S", Seq: 99, DF: true})
			r.put(0, f.Packet(t))
			f.TCP, f.Seq = "A", 100
			head := len(f.Bytes(t)) - 14
			size := tt.least - head
			f.Payload = make([]byte, size)
			if v, why, out := r.put(0, f.Packet(t)); v != wire.Transmit || len(out) != 2 {
				t.Errorf("one packet: %v %v, %d frames; want 2 fragments", v, why, len(out))
			}
			f.Payload = make([]byte, 3*size+8)
			p := f.Packet(t)
			wiretest.Unfinish(&p)
			p.Offload.GSOType, p.Offload.GSOSize = tt.gso, uint16(size)
			v, why, out := r.put(0, p)
			if v != wire.Transmit || len(out) != 7 {
				t.Fatalf("a super-frame: %v %v, %d frames; want 3 times 2 and 1", v, why, len(out))
			}
			for i := 0; i < 6; i += 2 {
				inner := parsed(t, joined(t, out[i:i+2]))
				d := append(bytes.Clone(inner.Bytes()[:14]), inner.Bytes()[inner.L4:inner.End]...)
				if err := wiretest.Wrong(d); err != nil || len(d) != 14+tt.least {
					t.Errorf("segment %d: %d bytes, %v", i/2, len(d), err)
				}
			}
			for _, s := range out {
				if len(s.bytes) > 14+tt.mtu {
					t.Errorf("a frame of %d bytes", len(s.bytes))
				}
			}
		})
	}
}

func TestRoutingOnFragmentsAsARouterDoes(t *testing.T) {
	cfg := inMode(forwarder.NAT, forwarder.L3DSROptions{})
	cfg.Legs[0].MTU = 1400
	r := newRig(t, cfg)
	f := fromServer(1, wiretest.Frame{Src: server1 + ":8053", Dst: "203.0.113.9:4000", UDP: true, ID: 7, Payload: make([]byte, 1460)})
	v, why, out := r.put(1, f.Packet(t))
	if v != wire.Transmit || len(out) != 2 {
		t.Fatalf("%v %v: %d frames, want 2 fragments", v, why, len(out))
	}
	if err := wiretest.Wrong(joined(t, out)); err != nil {
		t.Error(err)
	}
	f.DF = true
	r.refused(1, f.Packet(t), wire.TooBigAnswered)
}

func TestTheRecordTellsWhatWentOutAlsoOfPieces(t *testing.T) {
	for name, put := range map[string]func(*wire.Packet){
		"whole":      func(*wire.Packet) {},
		"superframe": func(p *wire.Packet) { p.Offload.GSOType, p.Offload.GSOSize = wire.GSOTCPv4, 500 },
	} {
		r := newRig(t, inMode(forwarder.L3DSR, byIPIP))
		f := fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":80", TCP: "S", Seq: 99})
		r.put(0, f.Packet(t))
		var got forwarder.Record
		r.trc = func(rec *forwarder.Record) { got = *rec }
		f.TCP, f.Seq, f.Payload = "A", 100, make([]byte, 1200)
		p := f.Packet(t)
		wiretest.Unfinish(&p)
		put(&p)
		r.put(0, p)
		if got.Outer.Dst.String() != server1 || got.After.Dst.String() != vip || got.Outer.DstMAC != serverMAC[0] ||
			got.After.DstMAC != serverMAC[0] || got.After.SrcMAC != serverLeg || got.After.TTL != 63 {
			t.Errorf("%s: outer %+v, after %+v", name, got.Outer, got.After)
		}
	}
}
