package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// provoke has, for each reason, the packet that ends with it, after what comes before.
var provoke = map[wire.Reason]struct {
	leg    int
	config func(*forwarder.Config)
	before func(*rig)
	packet func(*testing.T, *rig) wire.Packet
}{
	wire.NotOurMAC: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.DstMAC = wire.MAC{2, 9, 9, 9, 9, 9}
		return f.Packet(t)
	}},
	wire.Multicast: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.DstMAC = wire.Broadcast
		return f.Packet(t)
	}},
	wire.NotIP: {packet: func(t *testing.T, _ *rig) wire.Packet { return bytesAt(t, 12, 0x88, 0xcc) }},
	wire.NotOurAddress: {packet: func(t *testing.T, _ *rig) wire.Packet {
		return fromClient(wiretest.Frame{Src: client + ":1", Dst: "200.100.50.2:22", TCP: "S"}).Packet(t)
	}},
	wire.NotOurQuestion: {packet: func(*testing.T, *rig) wire.Packet { return arpQuestion("200.100.50.2") }},
	wire.NotOurPort: {leg: 1, config: func(c *forwarder.Config) { c.Services[0].Locals[0].Kernel = true },
		packet: func(t *testing.T, _ *rig) wire.Packet {
			return fromServer(1, wiretest.Frame{Src: server1 + ":1", Dst: local + ":50000", TCP: "S"}).Packet(t)
		}},

	wire.ARPAnswered: {packet: func(*testing.T, *rig) wire.Packet { return arpQuestion(vip) }},
	wire.NDAnswered:  {packet: func(*testing.T, *rig) wire.Packet { return ndQuestion(vip6) }},
	wire.NeighborLearned: {leg: 1, config: forgetServers, before: func(r *rig) { r.put(0, synFrame().Packet(r.t)) },
		packet: func(*testing.T, *rig) wire.Packet {
			return arpFrame(serverMAC[0], serverLeg, true, server1, "10.10.10.254")
		}},
	wire.EchoAnswered: {packet: func(t *testing.T, _ *rig) wire.Packet { return echoFrame(client, vip).Packet(t) }},
	wire.RejectedRST:  {packet: func(t *testing.T, _ *rig) wire.Packet { return unserved("S").Packet(t) }},
	wire.RejectedICMP: {packet: func(t *testing.T, _ *rig) wire.Packet {
		return fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":9999", UDP: true}).Packet(t)
	}},
	wire.HopLimitAnswered: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.TTL = 1
		return f.Packet(t)
	}},
	wire.TooBigAnswered: {config: func(c *forwarder.Config) { c.Legs[1].MTU = 1400 },
		packet: func(t *testing.T, _ *rig) wire.Packet { return bigFrame(true).Packet(t) }},

	wire.FrameTruncated: {packet: func(*testing.T, *rig) wire.Packet { return wiretest.Packet(make([]byte, 13)) }},
	wire.Loop: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.SrcMAC = clientLeg
		return f.Packet(t)
	}},
	wire.IPMalformed: {packet: func(t *testing.T, _ *rig) wire.Packet { return bytesAt(t, 14, 0x44) }},
	wire.IPChecksum:  {packet: func(t *testing.T, _ *rig) wire.Packet { return bytesAt(t, 24, 0xde, 0xad) }},
	wire.ExtUnsupported: {packet: func(*testing.T, *rig) wire.Packet {
		return ipv6(43, []byte{wire.ProtoTCP, 0, 0, 1, 0, 0, 0, 0}) // a routing header with a segment left
	}},
	wire.Fragment: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := echoFrame(client, vip)
		f.Payload = make([]byte, 100)
		return pieces(t, f, 48)[0]
	}},
	wire.FragmentMalformed: {packet: func(t *testing.T, _ *rig) wire.Packet {
		return fragment(t, 0x2000|8191) // ends beyond 64 KiB
	}},
	wire.FragmentTiny: {packet: func(t *testing.T, _ *rig) wire.Packet { return pieces(t, synFrame(), 8)[0] }},
	wire.FragmentOverlap: {before: func(r *rig) { r.put(0, pieces(r.t, bigDatagram(client+":1"), 512)[0]) },
		packet: func(t *testing.T, _ *rig) wire.Packet { return pieces(t, bigDatagram(client+":1"), 512)[0] }},
	wire.FragmentFlood: {before: func(r *rig) {
		for id := range 300 {
			f := bigDatagram(client + ":1")
			f.ID = uint16(id)
			r.put(0, pieces(r.t, f, 512)[1])
		}
	}, packet: func(t *testing.T, _ *rig) wire.Packet { return pieces(t, bigDatagram(client+":1"), 512)[1] }},
	wire.FragmentLost: {before: func(r *rig) {
		r.put(0, pieces(r.t, bigDatagram(client+":1"), 512)[1])
		r.tick(5e9)
		r.lost = r.eng.Counters().ByReason[wire.FragmentLost]
	}},
	wire.ARPMalformed: {packet: func(*testing.T, *rig) wire.Packet {
		p := arpQuestion(vip)
		p.Bytes()[18] = 5 // length of a hardware address
		return p
	}},
	wire.NDMalformed: {packet: func(*testing.T, *rig) wire.Packet {
		p := ndQuestion(vip6)
		p.Bytes()[21] = 254 // hop limit: it came through a router
		return p
	}},
	wire.TCPMalformed:  {packet: func(t *testing.T, _ *rig) wire.Packet { return bytesAt(t, 46, 0x40) }},
	wire.UDPMalformed:  {packet: func(t *testing.T, _ *rig) wire.Packet { return badUDP(t) }},
	wire.ICMPMalformed: {packet: func(t *testing.T, r *rig) wire.Packet { return errorAbout(t, r, 7) }},
	wire.ICMPChecksum: {packet: func(t *testing.T, _ *rig) wire.Packet {
		p := echoFrame(client, vip).Packet(t)
		p.Bytes()[36] ^= 1
		return p
	}},
	wire.TCPFlags: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.TCP = "SF"
		return f.Packet(t)
	}},
	wire.MartianSource: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.Src = "127.0.0.1:1"
		return f.Packet(t)
	}},
	wire.ProtoUnknown: {packet: func(t *testing.T, _ *rig) wire.Packet {
		p := synFrame().Packet(t)
		p.Bytes()[23] = 132 // SCTP
		fixHeader(p.Bytes()[14:34])
		return p
	}},
	wire.ICMPIgnored: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := echoFrame(client, vip)
		f.ICMP[0] = 13 // timestamp request
		return f.Packet(t)
	}},
	wire.ICMPNoConn: {packet: func(t *testing.T, r *rig) wire.Packet { return errorAbout(t, r, 28) }},
	wire.NoConnection: {leg: 1, packet: func(t *testing.T, _ *rig) wire.Packet {
		return fromServer(1, wiretest.Frame{Src: server1 + ":8080", Dst: local + ":2000", TCP: "A"}).Packet(t)
	}},
	wire.NoService: {config: func(c *forwarder.Config) { c.VIPs[0].Reject = forwarder.RejectDrop },
		packet: func(t *testing.T, _ *rig) wire.Packet { return unserved("S").Packet(t) }},
	wire.MidstreamTCP: {packet: func(t *testing.T, _ *rig) wire.Packet {
		f := synFrame()
		f.TCP = "R"
		return f.Packet(t)
	}},
	wire.BackendDown: {before: func(r *rig) {
		newTCP(r, client+":9").handshake()
		r.cfg.Services[0].Backends[0].State = forwarder.Down
		r.reload()
	}, packet: func(t *testing.T, _ *rig) wire.Packet {
		return fromClient(wiretest.Frame{Src: client + ":9", Dst: vip + ":80", TCP: "A", Seq: 101, Ack: 501}).Packet(t)
	}},
	wire.NoBackend: {config: func(c *forwarder.Config) {
		c.Services[0].Reject, c.Services[0].Backends = forwarder.RejectDrop, nil
	}, packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.BackendFull: {config: func(c *forwarder.Config) {
		s := &c.Services[0]
		s.Reject, s.Backends = forwarder.RejectDrop, s.Backends[:1]
		s.Backends[0].MaxConnections = 1
	}, before: func(r *rig) { r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":80", TCP: "S"}) },
		packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.ServiceFull: {config: func(c *forwarder.Config) {
		c.Services[0].Reject, c.Services[0].MaxConnections = forwarder.RejectDrop, 1
	}, before: func(r *rig) { r.client(wiretest.Frame{Src: client + ":1", Dst: vip + ":80", TCP: "S"}) },
		packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.PortsExhausted: {config: func(c *forwarder.Config) {
		s := &c.Services[0]
		s.Reject, s.SourcePorts, s.Backends = forwarder.RejectDrop, forwarder.PortRange{Lo: 5000, Hi: 5000}, s.Backends[:1]
	}, before: func(r *rig) { newTCP(r, client+":1").handshake() },
		packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.TableFull: {before: func(r *rig) {
		for i := range 64 {
			newTCP(r, fmt.Sprintf("%s:%d", client, 100+i)).handshake()
		}
	}, packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.HopLimit: {before: func(r *rig) { r.useUpErrors(func() wiretest.Frame { f := synFrame(); f.TTL = 1; return f }) },
		packet: func(t *testing.T, _ *rig) wire.Packet {
			f := synFrame()
			f.TTL = 1
			return f.Packet(t)
		}},
	wire.TooBig: {config: func(c *forwarder.Config) {
		*c = inMode(forwarder.L2DSR, forwarder.L3DSROptions{}) // where nothing may be fragmented
		c.Legs[1].MTU = 1400
	},
		packet: func(t *testing.T, _ *rig) wire.Packet { return bigFrame(false).Packet(t) }},
	wire.NoRoute: {config: func(c *forwarder.Config) { c.Routes[0].Leg = -1 },
		packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.NeighUnresolved: {config: forgetServers, before: func(r *rig) {
		r.put(0, synFrame().Packet(r.t))
		for range 5 { // three questions, a second apart, and nobody answers
			r.tick(neigh.Retry)
		}
	}, packet: func(t *testing.T, _ *rig) wire.Packet { return synFrame().Packet(t) }},
	wire.NeighFull: {config: func(c *forwarder.Config) {
		for i := range 256 {
			c.Neighbors = append(c.Neighbors, forwarder.Neighbor{Leg: 0, Static: true, MAC: routerMAC,
				Addr: addr(fmt.Sprintf("100.64.%d.%d", i>>8, i&255))})
		}
		c.Routes = append(c.Routes[:1:1], forwarder.Route{Prefix: c.Routes[2].Prefix, Leg: 0})
		c.Neighbors = append(c.Neighbors[2:], c.Neighbors[0])
	}, before: func(r *rig) { r.put(0, synFrame().Packet(r.t)) }, leg: 1, packet: replyOf},
	wire.RateLimited: {before: func(r *rig) { r.useUpErrors(func() wiretest.Frame { return unserved("S") }) },
		packet: func(t *testing.T, _ *rig) wire.Packet { return unserved("S").Packet(t) }},
	wire.EchoPassed: {config: func(c *forwarder.Config) { c.VIPs[0].Echo = forwarder.EchoPass },
		packet: func(t *testing.T, _ *rig) wire.Packet { return echoFrame(client, vip).Packet(t) }},
	wire.TupleClash: {config: func(c *forwarder.Config) {
		*c = inMode(forwarder.NAT, forwarder.L3DSROptions{})
		other := c.Services[0]
		other.Name, other.Ports, other.Reject = "other", []forwarder.PortRange{{Lo: 81, Hi: 81}}, forwarder.RejectDrop
		c.Services = append(c.Services, other)
	}, before: func(r *rig) { r.put(0, synFrame().Packet(r.t)) },
		packet: func(t *testing.T, _ *rig) wire.Packet { return unserved("S").Packet(t) }},
	wire.Hairpin: {leg: 1, config: func(c *forwarder.Config) { *c = inMode(forwarder.L2DSR, forwarder.L3DSROptions{}) },
		packet: func(t *testing.T, _ *rig) wire.Packet {
			return fromServer(1, wiretest.Frame{Src: server1 + ":5", Dst: vip + ":80", TCP: "S"}).Packet(t)
		}},
	wire.CannotSegment: {config: func(c *forwarder.Config) { *c = inMode(forwarder.L3DSR, byIPIP) },
		packet: func(t *testing.T, _ *rig) wire.Packet {
			p := synFrame().Packet(t)
			p.Offload.GSOType = wire.GSOUDP // to be fragmented: no device makes these any more
			return p
		}},
	wire.HandoverFull: {before: func(r *rig) {
		c := newCrew(r.t, config(), 2)
		r.eng = c.rigs[0].eng
		for i := range 1000 { // nobody takes them
			r.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1+i), Dst: vip + ":80", TCP: "S"}).Packet(r.t))
		}
	}, packet: func(t *testing.T, r *rig) wire.Packet {
		c := newCrew(t, config(), 2)
		for i := 2000; ; i++ {
			p := fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, i), Dst: vip + ":80", TCP: "S"}).Packet(t)
			if c.byRule(p) == 1 {
				return p
			}
		}
	}},
	wire.PathMTULearned: {leg: 1, config: func(c *forwarder.Config) { *c = inMode(forwarder.L3DSR, byIPIP) },
		packet: func(t *testing.T, r *rig) wire.Packet {
			_, _, out := r.put(0, synFrame().Packet(t))
			return fromServer(1, wiretest.Frame{Src: "10.10.10.99", Dst: "10.10.10.254",
				ICMP: append([]byte{wire.ICMPUnreachable, 4, 0, 0, 0, 0, 5, 0}, out[0].bytes[14:]...)}).Packet(t)
		}},
}

func TestEveryReasonCanBeProvoked(t *testing.T) {
	for reason := wire.ReasonNone + 1; reason < wire.NumReasons; reason++ {
		t.Run(reason.String(), func(t *testing.T) {
			how, ok := provoke[reason]
			if !ok {
				t.Fatal("no packet ends with this reason: add one, or delete the reason")
			}
			cfg := config()
			if how.config != nil {
				how.config(&cfg)
			}
			r := newRigSized(t, cfg, 64)
			if how.before != nil {
				how.before(r)
			}
			if how.packet == nil { // it happens to an earlier packet
				if r.lost != 1 {
					t.Fatalf("counted %d times", r.lost)
				}
				return
			}
			r.refused(how.leg, how.packet(t, r), reason)
			if n := r.eng.Counters().ByReason[reason]; n == 0 {
				t.Error("not counted")
			}
		})
	}
}

func TestEveryReasonIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/counters.md")
	if err != nil {
		t.Fatal(err)
	}
	for reason := wire.ReasonNone + 1; reason < wire.NumReasons; reason++ {
		row := fmt.Sprintf("| `%s` | %s | %s | %s |", reason, reason.Verdict(), reason.Advice(), reason.Fix())
		if reason.Verdict() == wire.Drop && reason.Fix() == "" && reason.Advice() != "normal" {
			t.Errorf("nobody says what to do about %s", reason)
		}
		if !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/counters.md lacks the row\n%s", row)
		}
	}
	if n := strings.Count(string(doc), "\n| `"); n != int(wire.NumReasons)-1 {
		t.Errorf("docs/counters.md has %d rows, there are %d reasons", n, wire.NumReasons-1)
	}
}

func synFrame() wiretest.Frame {
	return fromClient(wiretest.Frame{Src: client + ":50000", Dst: vip + ":80", TCP: "S"})
}

func unserved(flags string) wiretest.Frame {
	return fromClient(wiretest.Frame{Src: client + ":50000", Dst: vip + ":81", TCP: flags})
}

func echoFrame(src, dst string) wiretest.Frame {
	kind := byte(wire.ICMPEcho)
	if strings.Contains(src, ":") {
		kind = wire.ICMPv6Echo
	}
	return fromClient(wiretest.Frame{Src: src, Dst: dst, ICMP: []byte{kind, 0, 0, 0, 1, 2, 0, 3, 'h', 'i'}})
}

func bigFrame(df bool) wiretest.Frame {
	return fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true, DF: df, Payload: make([]byte, 1450)})
}

// bytesAt is a SYN with some bytes overwritten.
func bytesAt(t *testing.T, at int, b ...byte) wire.Packet {
	p := synFrame().Packet(t)
	copy(p.Bytes()[at:], b)
	return p
}

func badUDP(t *testing.T) wire.Packet {
	p := fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true}).Packet(t)
	binary.BigEndian.PutUint16(p.Bytes()[38:], 9)
	return p
}

func fragment(t *testing.T, frag uint16) wire.Packet {
	p := fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true, Payload: make([]byte, 100)}).Packet(t)
	binary.BigEndian.PutUint16(p.Bytes()[20:], frag)
	fixHeader(p.Bytes()[14:34])
	return p
}

func fixHeader(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^wiretest.SlowChecksum(ip, 0))
}

// ipv6 is a packet to the VIP with an extension header and 20 bytes behind it.
func ipv6(next byte, ext []byte) wire.Packet {
	b := make([]byte, 14+40+len(ext)+20)
	copy(b, clientLeg[:])
	copy(b[6:], routerMAC[:])
	b[12], b[13], b[14] = 0x86, 0xdd, 0x60
	binary.BigEndian.PutUint16(b[18:], uint16(len(ext)+20))
	b[20], b[21] = next, 64
	src, dst := wire.AddrFrom(addr(client6)), wire.AddrFrom(addr(vip6))
	copy(b[22:], src[:])
	copy(b[38:], dst[:])
	copy(b[54:], ext)
	b[54+len(ext)+12] = 0x50
	return wiretest.Packet(b)
}

func arpQuestion(target string) wire.Packet {
	return arpFrame(routerMAC, wire.Broadcast, false, "200.100.50.1", target)
}

func arpFrame(src, dst wire.MAC, reply bool, sender, target string) wire.Packet {
	b := make([]byte, 60)
	copy(b, dst[:])
	copy(b[6:], src[:])
	b[12], b[13] = 0x08, 0x06
	neigh.PutARP(b[14:], reply, src, wire.AddrFrom(addr(sender)), wire.MAC{}, wire.AddrFrom(addr(target)))
	return wiretest.Packet(b)
}

func ndQuestion(target string) wire.Packet {
	to := wire.AddrFrom(addr(target))
	group, mac := neigh.SolicitedNode(to)
	b := make([]byte, 14+neigh.NDLen)
	copy(b, mac[:])
	copy(b[6:], routerMAC[:])
	b[12], b[13] = 0x86, 0xdd
	neigh.PutSolicit(b[14:], wire.AddrFrom(addr("2001:db8:50::1")), routerMAC, group, to)
	return wiretest.Packet(b)
}

// errorAbout is an ICMP error to the VIP that quotes a packet of no connection, cut to n bytes.
func errorAbout(t *testing.T, _ *rig, n int) wire.Packet {
	quoted := wiretest.Frame{Src: vip + ":80", Dst: client + ":1", TCP: "A"}.Bytes(t)[14:]
	return fromClient(wiretest.Frame{Src: client, Dst: vip,
		ICMP: append([]byte{wire.ICMPUnreachable, 1, 0, 0, 0, 0, 0, 0}, quoted[:n]...)}).Packet(t)
}

func forgetServers(c *forwarder.Config) { c.Neighbors = c.Neighbors[:2] }

// useUpErrors sends packets that are answered with an error until no more is.
func (r *rig) useUpErrors(f func() wiretest.Frame) {
	for range 1000 {
		if v, _, _ := r.put(0, f().Packet(r.t)); v == wire.Drop {
			return
		}
	}
	r.t.Fatal("errors are not limited")
}

// replyOf is the answer of server01 to the first connection; its local port is found by trying.
func replyOf(t *testing.T, r *rig) wire.Packet {
	for port := 1024; port < 32768; port++ {
		f := fromServer(1, wiretest.Frame{Src: server1 + ":8080", Dst: fmt.Sprintf("%s:%d", local, port), TCP: "SA"})
		if _, why, _ := r.put(1, f.Packet(t)); why != wire.NoConnection {
			return f.Packet(t)
		}
	}
	t.Fatal("no connection found")
	return wire.Packet{}
}
