package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"naru/forwarder"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// family is what differs between the two families in the tests of ICMP.
type family struct {
	name, client, vip, local, server, router string
	unreachable, tooBig                      []byte // type, code, sum, and the second word
	head                                     int
}

var families = []family{
	{"ipv4", client, vip, local, server1, "10.10.10.99",
		[]byte{wire.ICMPUnreachable, 1, 0, 0, 0, 0, 0, 0}, []byte{wire.ICMPUnreachable, 4, 0, 0, 0, 0, 0x05, 0x78}, 20},
	{"ipv6", client6, vip6, local6, "2001:db8:10::1", "2001:db8:10::99",
		[]byte{wire.ICMPv6Unreachable, 3, 0, 0, 0, 0, 0, 0}, []byte{wire.ICMPv6TooBig, 0, 0, 0, 0, 0, 0x05, 0x78}, 40},
}

func (f *family) at(a string, port uint16) string {
	if f.head == 40 {
		return fmt.Sprintf("[%s]:%d", a, port)
	}
	return fmt.Sprintf("%s:%d", a, port)
}

// TestICMPErrorFromBehindIsTranslated quotes what the backend's side saw, in full and cut to the least that RFC 792 allows.
func TestICMPErrorFromBehindIsTranslated(t *testing.T) {
	for _, fam := range families {
		for _, udp := range []bool{false, true} {
			for _, quote := range []int{1000, 8} {
				t.Run(fmt.Sprintf("%s/udp=%v/%d", fam.name, udp, quote), func(t *testing.T) {
					r := newRig(t, config())
					port := map[bool]uint16{false: 80, true: 53}[udp]
					out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, port), TCP: "S", UDP: udp,
						Payload: []byte("0123456789")})
					before := fromClient(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, port), TCP: "S",
						UDP: udp, TTL: 63, Payload: []byte("0123456789")}).Bytes(t)[14:]
					inner := out.IP()[:min(len(out.IP()), fam.head+quote)]
					errp := fromServer(1, wiretest.Frame{Src: fam.router, Dst: fam.local, ICMP: append(fam.tooBig, inner...)})
					back := r.forwarded(1, errp)
					if got := back.Flow.Src.String() + " > " + back.Flow.Dst.String(); got != fam.vip+" > "+fam.client {
						t.Errorf("outer %s: the router must be hidden behind the VIP", got)
					}
					if back.TTL() != 63 {
						t.Errorf("outer TTL %d", back.TTL())
					}
					// The quote must be byte for byte what the client had sent, TTL lowered by one.
					if got := back.Transport()[8:]; string(got) != string(before[:len(inner)]) {
						t.Errorf("quote\n%x, want\n%x", got, before[:len(inner)])
					}
				})
			}
		}
	}
}

func TestICMPErrorOfTheClientIsTranslated(t *testing.T) {
	for _, fam := range families {
		r := newRig(t, config())
		out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 53), UDP: true})
		localPort := out.Flow.SrcPort
		reply := wiretest.Frame{Src: fam.at(fam.server, 8053), Dst: fam.at(fam.local, localPort), UDP: true, TTL: 63,
			Payload: []byte("answer")}
		arrived := r.server(1, wiretest.Frame{Src: reply.Src, Dst: reply.Dst, UDP: true, Payload: reply.Payload})
		back := r.client(wiretest.Frame{Src: fam.client, Dst: fam.vip, ICMP: append(fam.unreachable, arrived.IP()...)})
		if got := back.Flow.Src.String() + " > " + back.Flow.Dst.String(); got != fam.local+" > "+fam.server {
			t.Errorf("outer %s", got)
		}
		if want := reply.Bytes(t)[14:]; string(back.Transport()[8:]) != string(want) {
			t.Errorf("quote\n%x, want\n%x", back.Transport()[8:], want)
		}
	}
}

func TestICMPErrorWithATinyMTUIsAnAttack(t *testing.T) {
	for _, fam := range families {
		r := newRig(t, config())
		out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 80), TCP: "S"})
		msg := append([]byte{}, fam.tooBig...)
		binary.BigEndian.PutUint16(msg[6:], 300)
		f := fromServer(1, wiretest.Frame{Src: fam.router, Dst: fam.local, ICMP: append(msg, out.IP()...)})
		r.refused(1, f.Packet(t), wire.ICMPIgnored)
	}
}

func TestICMPErrorNeverRefreshesAConnection(t *testing.T) {
	fam := families[0]
	r := newRig(t, config())
	out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 53), UDP: true})
	r.tick(timeouts.UDPUnreplied - 1e9)
	r.server(1, wiretest.Frame{Src: fam.router, Dst: fam.local, ICMP: append(fam.unreachable, out.IP()...)})
	r.tick(2e9)
	if n := r.eng.Counters().Active; n != 0 {
		t.Error("an ICMP error kept the connection")
	}
}

func TestForgedQuoteIsDropped(t *testing.T) {
	fam := families[0]
	r := newRig(t, config())
	out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 80), TCP: "S"})
	// It quotes a packet of the local address, but is sent to the VIP.
	f := fromClient(wiretest.Frame{Src: "203.0.113.9", Dst: vip, ICMP: append(fam.unreachable, out.IP()...)})
	r.refused(0, f.Packet(t), wire.ICMPNoConn)
}

func TestEchoToTheVIPIsAnswered(t *testing.T) {
	for _, fam := range families {
		r := newRig(t, config())
		f := echoFrame(fam.client, fam.vip)
		f.Payload = make([]byte, 1201)
		out := r.refused(0, f.Packet(t), wire.EchoAnswered)
		p := parsed(t, out[0].bytes)
		if err := wiretest.Wrong(out[0].bytes); err != nil {
			t.Error(err)
		}
		if p.Flow.Src.String() != fam.vip || p.Flow.Dst.String() != fam.client || out[0].leg != 0 || p.End-p.L4 != 1211 {
			t.Errorf("answer %s > %s on leg %d, %d bytes", p.Flow.Src, p.Flow.Dst, out[0].leg, p.End-p.L4)
		}
	}
}

func TestErrorsThatNaruSends(t *testing.T) {
	for _, fam := range families {
		for _, tt := range []struct {
			name      string
			frame     wiretest.Frame
			config    func(*forwarder.Config)
			want      wire.Reason
			type4     [2]byte
			type6     [2]byte
			word      uint32
			fromLocal bool
		}{
			{name: "port unreachable", frame: wiretest.Frame{Dst: fam.at(fam.vip, 99), UDP: true}, want: wire.RejectedICMP,
				type4: [2]byte{3, 3}, type6: [2]byte{1, 4}},
			{name: "time exceeded", frame: wiretest.Frame{Dst: fam.at(fam.vip, 80), TCP: "S", TTL: 1},
				want: wire.HopLimitAnswered, type4: [2]byte{11, 0}, type6: [2]byte{3, 0}},
			{name: "too big", frame: wiretest.Frame{Dst: fam.at(fam.vip, 53), UDP: true, DF: true, Payload: make([]byte, 1420)},
				config: func(c *forwarder.Config) { c.Legs[1].MTU = 1400 }, want: wire.TooBigAnswered,
				type4: [2]byte{3, 4}, type6: [2]byte{2, 0}, word: 1400},
		} {
			t.Run(fam.name+"/"+tt.name, func(t *testing.T) {
				cfg := config()
				if tt.config != nil {
					tt.config(&cfg)
				}
				r := newRig(t, cfg)
				f := tt.frame
				f.Src = fam.at(fam.client, 7777)
				f = fromClient(f)
				out := r.refused(0, f.Packet(t), tt.want)
				if len(out) != 1 || out[0].leg != 0 {
					t.Fatalf("%d frames", len(out))
				}
				p := parsed(t, out[0].bytes)
				if err := wiretest.Wrong(out[0].bytes); err != nil {
					t.Error(err)
				}
				want := tt.type4
				if p.Version == 6 {
					want = tt.type6
				}
				m := p.Transport()
				if m[0] != want[0] || m[1] != want[1] || binary.BigEndian.Uint32(m[4:]) != tt.word {
					t.Errorf("message %x", m[:8])
				}
				if p.Flow.Src.String() != fam.vip || p.Flow.Dst.String() != fam.client {
					t.Errorf("%s > %s", p.Flow.Src, p.Flow.Dst)
				}
				sent := f.Bytes(t)[14:]
				if most := map[uint8]int{4: 576, 6: 1280}[p.Version]; p.End-p.L3 > most {
					t.Errorf("%d bytes, at most %d", p.End-p.L3, most)
				}
				if string(m[8:]) != string(sent[:len(m)-8]) || len(m)-8 < min(len(sent), 548) {
					t.Errorf("quotes %d bytes, not what was sent", len(m)-8)
				}
			})
		}
	}
}

func TestARPAndNDAnswers(t *testing.T) {
	r := newRig(t, config())
	out := r.refused(0, arpQuestion(vip), wire.ARPAnswered)
	if d := out[0].bytes; wire.MAC(d[:6]) != routerMAC || wire.MAC(d[6:12]) != clientLeg || len(d) != 42 || d[21] != 2 ||
		wire.MAC(d[22:28]) != clientLeg || wire.Addr4(d[28:]).String() != vip || wire.Addr4(d[38:]).String() != "200.100.50.1" {
		t.Errorf("answer %x", d)
	}
	r.refused(1, arpQuestion(vip), wire.NotOurQuestion) // not on the backends' leg
	r.refused(1, arpFrame(serverMAC[0], wire.Broadcast, false, server1, local), wire.ARPAnswered)

	out = r.refused(0, ndQuestion(vip6), wire.NDAnswered)
	p := parsed(t, out[0].bytes)
	if err := wiretest.Wrong(out[0].bytes); err != nil {
		t.Error(err)
	}
	if m := p.Transport(); m[0] != wire.ICMPv6Advertise || m[4] != 0x60 || wire.MAC(m[26:32]) != clientLeg ||
		p.Flow.Src.String() != vip6 || p.TTL() != 255 {
		t.Errorf("advertisement %x", out[0].bytes)
	}

	probe := make([]byte, 14+neigh.NDLen)
	to := wire.AddrFrom(addr(vip6))
	group, mac := neigh.SolicitedNode(to)
	copy(probe, mac[:])
	copy(probe[6:], routerMAC[:])
	probe[12], probe[13] = 0x86, 0xdd
	neigh.PutProbe(probe[14:], group, to)
	out = r.refused(0, wiretest.Packet(probe[:14+neigh.ProbeLen]), wire.NDAnswered)
	p = parsed(t, out[0].bytes)
	if m := p.Transport(); m[4] != 0x20 || p.Flow.Dst.String() != "ff02::1" || wire.MAC(out[0].bytes[:6]) != neigh.AllNodesMAC {
		t.Errorf("a probe must be answered to everybody, not solicited, override: %x", out[0].bytes)
	}
}

func TestAnotherHolderOfTheVIPIsReported(t *testing.T) {
	r := newRig(t, config())
	other := wire.MAC{2, 0xbb, 0, 0, 0, 1}
	r.refused(0, arpFrame(other, wire.Broadcast, false, vip, vip), wire.NotOurQuestion)
	var ev [4]forwarder.Event
	if n := r.eng.Events(ev[:]); n != 1 || ev[0].Addr.String() != vip || ev[0].MAC != other {
		t.Errorf("%d events: %+v", n, ev[0])
	}
}

func TestAFirstPacketWaitsForTheNextHop(t *testing.T) {
	cfg := config()
	forgetServers(&cfg)
	r := newRig(t, cfg)
	r.tick(0) // announcements
	v, _, out := r.put(0, synFrame().Packet(t))
	if v != wire.Held || len(out) != 1 || out[0].leg != 1 || out[0].bytes[13] != 0x06 {
		t.Fatalf("%v, %d frames: want held and an ARP request", v, len(out))
	}
	if who := wire.Addr4(out[0].bytes[28:]); who.String() != "10.10.10.254" {
		t.Errorf("asked in the name of %s", who)
	}
	if n := r.eng.Counters().Held; n != 1 {
		t.Errorf("held %d", n)
	}
	out = r.refused(1, arpFrame(serverMAC[0], serverLeg, true, server1, "10.10.10.254"), wire.NeighborLearned)
	if len(out) != 1 || wire.MAC(out[0].bytes[:6]) != serverMAC[0] {
		t.Fatalf("%d frames after the answer", len(out))
	}
	if err := wiretest.Wrong(out[0].bytes); err != nil {
		t.Error(err)
	}
	if c := r.eng.Counters(); c.Held != 0 || c.Transmitted != 1 || !c.Balanced() {
		t.Errorf("counters %+v", c)
	}
}

func TestNobodyAnswersForTheNextHop(t *testing.T) {
	cfg := config()
	forgetServers(&cfg)
	r := newRig(t, cfg)
	questions := 0
	r.put(0, synFrame().Packet(t))
	for range 40 {
		for _, f := range r.tick(neigh.Retry / 4) {
			if f.leg == 1 && f.bytes[12] == 0x08 && f.bytes[13] == 0x06 && wire.Addr4(f.bytes[38:]).String() == server1 {
				questions++
			}
		}
	}
	if c := r.eng.Counters(); c.Held != 0 || c.ByReason[wire.NeighUnresolved] != 1 || questions != neigh.MaxTries-1 ||
		!c.Balanced() {
		t.Errorf("%d further questions, held %d, neigh_unresolved %d", questions, c.Held, c.ByReason[wire.NeighUnresolved])
	}
}

func TestAnnouncements(t *testing.T) {
	r := newRig(t, config())
	seen := map[string]int{}
	for range 50 {
		for _, f := range r.tick(100e6) {
			if f.bytes[13] == 0x06 && wire.Addr4(f.bytes[28:]) == wire.Addr4(f.bytes[38:]) {
				seen[fmt.Sprintf("%d arp %s", f.leg, wire.Addr4(f.bytes[28:]))]++
			}
			if f.bytes[12] == 0x86 {
				p := parsed(t, f.bytes)
				if err := wiretest.Wrong(f.bytes); err != nil && p.L4 == 54 {
					t.Error(err)
				}
				seen[fmt.Sprintf("%d type %d", f.leg, p.Transport()[0])]++
			}
		}
	}
	for want, n := range map[string]int{
		"0 arp " + vip: 2, "1 arp " + local: 2, "0 type 136": 2, "0 type 143": 2, "0 type 135": 1,
	} {
		if seen[want] != n {
			t.Errorf("%s: %d times, want %d (%v)", want, seen[want], n, seen)
		}
	}
}

func TestMetadataAboutAnotherPlaceExcusesNoWrongICMPChecksum(t *testing.T) {
	for _, c := range []struct {
		start uint16
		want  wire.Reason
	}{{34, wire.EchoAnswered}, {24, wire.ICMPChecksum}} { // behind Ethernet and IPv4; within IPv4
		r := newRig(t, config())
		p := echoFrame(client, vip).Packet(t)
		p.Bytes()[36] ^= 1
		p.Offload = wire.Offload{Flags: wire.NeedsCsum, CsumStart: c.start, CsumOffset: 2}
		r.refused(0, p, c.want)
	}
}
