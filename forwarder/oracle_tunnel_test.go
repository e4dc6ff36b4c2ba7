package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/ip4defrag"
	"github.com/google/gopacket/layers"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// tunnelCase is one tunnel around one family of packets.
type tunnelCase struct {
	name  string
	opt   forwarder.L3DSROptions
	outer bool // over IPv6
	inner bool // around IPv6
}

func tunnelCases() (list []tunnelCase) {
	for _, opt := range []forwarder.L3DSROptions{byIPIP, byGUE, {Encap: forwarder.EncapGUE, Port: 6080, Variant: 1}} {
		for _, outer := range []bool{false, true} {
			for _, inner := range []bool{false, true} {
				family := map[bool]int{false: 4, true: 6}
				list = append(list, tunnelCase{fmt.Sprintf("%din%d kind %d variant %d", family[inner], family[outer], opt.Encap,
					opt.Variant), opt, outer, inner})
			}
		}
	}
	return list
}

// Where tunnels begin and end.
var (
	tunnelFrom = map[bool]string{false: "10.10.10.254", true: "2001:db8:10::fe"}
	tunnelTo   = map[bool]string{false: server1, true: "2001:db8:10::1"}
)

// rig is an engine in which every service has one backend at the end of the tunnel; any segment begins a connection.
func (c *tunnelCase) rig(t *testing.T, backendMTU int) *rig {
	cfg := inMode(forwarder.L3DSR, c.opt)
	cfg.Legs[0].MTU, cfg.Legs[1].MTU = 9000, backendMTU
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Midstream = forwarder.MidstreamPickup
		s.Backends = s.Backends[:1]
		s.Backends[0].Addr = addr(tunnelTo[c.outer])
	}
	return newRig(t, cfg)
}

// overhead is what the tunnel adds.
func (c *tunnelCase) overhead() int {
	n := map[bool]int{false: wire.IPv4Len, true: wire.IPv6Len}[c.outer]
	if c.opt.Encap == forwarder.EncapGUE {
		n += wire.UDPLen + 4*int(1-c.opt.Variant)
	}
	return n
}

// free are the fields of the outer header that are naru's own to choose; what may be in them is checked by check.
type free struct {
	id    uint16 // IPv4 without DF
	label uint32 // IPv6
	port  uint16 // source port of GUE
}

func (c *tunnelCase) free(frame []byte) (f free) {
	be, at := binary.BigEndian, wire.EthernetLen+wire.IPv4Len
	if c.outer {
		f.label, at = be.Uint32(frame[wire.EthernetLen:])&0xfffff, wire.EthernetLen+wire.IPv6Len
	} else {
		f.id = be.Uint16(frame[wire.EthernetLen+4:])
	}
	if c.opt.Encap == forwarder.EncapGUE {
		f.port = be.Uint16(frame[at:])
	}
	return f
}

// check holds the free fields: a flow keeps its label and port, the label is there, the port is a dynamic one, and an
// identification belongs to one packet, or is zero where the packet cannot be fragmented (RFC 6437, 6335, 6864).
func (c *tunnelCase) check(t *testing.T, now, before free, known, df bool) {
	t.Helper()
	if known && (now.label != before.label || now.port != before.port) {
		t.Errorf("a flow has %+v and then %+v", before, now)
	}
	if c.outer && now.label == 0 || c.opt.Encap == forwarder.EncapGUE && now.port < 49152 {
		t.Errorf("chosen: %+v", now)
	}
	if !c.outer && df != (now.id == 0) {
		t.Errorf("identification %d with DF %v", now.id, df)
	}
}

// around builds with gopacket what a tunnel makes of an IP packet: this is naru's policy, written a second time.
//   - TTL or hop limit 64, whatever the packet's is
//   - DSCP and ECN are the packet's, in IPv6 as traffic class (RFC 2983 uniform model, RFC 6040 normal mode)
//   - DF is the packet's, and set around IPv6 (RFC 2003 3.1, RFC 4213 3.2)
//   - UDP has a checksum over IPv6 and none over IPv4 (RFC 6935, RFC 768)
func (c *tunnelCase) around(t *testing.T, packet []byte, f free) []byte {
	t.Helper()
	proto, tos, df := layers.IPProtocolIPv4, packet[1], packet[6]&0x40 != 0
	if c.inner {
		proto, tos, df = layers.IPProtocolIPv6, packet[0]<<4|packet[1]>>4, true
	}
	payload := gopacket.Payload(packet)
	if c.opt.Encap == forwarder.EncapGUE && c.opt.Variant == 0 {
		payload = append([]byte{0, byte(proto), 0, 0}, packet...)
	}
	eth := &layers.Ethernet{SrcMAC: serverLeg[:], DstMAC: serverMAC[0][:], EthernetType: layers.EthernetTypeIPv4}
	src, dst := net.IP(addr(tunnelFrom[c.outer]).AsSlice()), net.IP(addr(tunnelTo[c.outer]).AsSlice())
	ip4 := &layers.IPv4{Version: 4, TOS: tos, TTL: 64, Id: f.id, Protocol: proto, SrcIP: src, DstIP: dst}
	if df {
		ip4.Flags = layers.IPv4DontFragment
	}
	ip6 := &layers.IPv6{Version: 6, TrafficClass: tos, FlowLabel: f.label, HopLimit: 64, NextHeader: proto, SrcIP: src, DstIP: dst}
	udp := &layers.UDP{SrcPort: layers.UDPPort(f.port), DstPort: layers.UDPPort(c.opt.Port)}
	udp.SetNetworkLayerForChecksum(ip6)
	buf := gopacket.NewSerializeBuffer()
	put := func(sums bool, ls ...gopacket.SerializableLayer) {
		for _, l := range slices.Backward(ls) {
			if err := l.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: sums}); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(false, payload)
	if c.opt.Encap == forwarder.EncapGUE {
		ip4.Protocol, ip6.NextHeader = layers.IPProtocolUDP, layers.IPProtocolUDP
		put(c.outer, udp)
	}
	if c.outer {
		eth.EthernetType = layers.EthernetTypeIPv6
		put(true, eth, ip6)
	} else {
		put(true, eth, ip4)
	}
	b := buf.Bytes()
	if at := wire.EthernetLen + wire.IPv6Len + 6; c.outer && udp.SrcPort != 0 && b[at] == 0 && b[at+1] == 0 {
		b[at], b[at+1] = 0xff, 0xff
	}
	return b
}

// random is any packet of a client that fits.
func (c *tunnelCase) random(rng *rand.Rand, most int) (f wiretest.Frame, extended bool) {
	e := ends[rng.IntN(2)]
	if c.inner {
		e = ends[2+rng.IntN(2)]
	}
	src := netip.MustParseAddrPort(e.client)
	f = fromClient(wiretest.Frame{Src: netip.AddrPortFrom(src.Addr(), uint16(2000+rng.IntN(6))).String(), Dst: e.vip, UDP: e.udp,
		TTL: uint8(2 + rng.IntN(254)), TOS: uint8(rng.Uint32()), ID: uint16(rng.Uint32()), DF: rng.IntN(2) == 0,
		TCP: []string{"S", "A", "PA", "FA"}[rng.IntN(4)], Seq: rng.Uint32(), Ack: rng.Uint32(),
		NoSum: e.udp && !c.inner && rng.IntN(4) == 0, Payload: payload(rng.IntN(most - 100))})
	if !c.inner && rng.IntN(3) == 0 {
		f.Options = []layers.IPv4Option{{OptionType: 1, OptionLength: 1}, {OptionType: 7, OptionLength: 7,
			OptionData: []byte{4, byte(rng.Uint32()), 0, 0, 0}}}
	}
	return f, c.inner && rng.IntN(3) == 0
}

// build returns the IP packet of a frame with a hop limit.
func build(t *testing.T, f wiretest.Frame, extended bool, ttl uint8) []byte {
	f.TTL = ttl
	b := f.Bytes(t)
	if extended {
		b = withHopByHop(b)
	}
	return b
}

func TestTunnelPacketsAreWhatGopacketBuilds(t *testing.T) {
	const mtu, packets = 1500, 400
	for _, c := range tunnelCases() {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, 12))
			r, flows := c.rig(t, mtu), map[string]free{}
			for n := range packets {
				f, extended := c.random(rng, mtu-c.overhead())
				p := wiretest.Packet(build(t, f, extended, f.TTL))
				if n%3 == 0 && !f.NoSum {
					wiretest.Unfinish(&p)
				}
				_, why, out := r.put(0, p)
				if len(out) != 1 || out[0].leg != 1 {
					t.Fatalf("%+v: %v, %d frames", f, why, len(out))
				}
				got := out[0].bytes
				chosen, flow := c.free(got), fmt.Sprint(f.Src, f.UDP)
				before, known := flows[flow]
				c.check(t, chosen, before, known, f.DF || c.inner)
				flows[flow] = chosen
				want := c.around(t, build(t, f, extended, f.TTL-1)[wire.EthernetLen:], chosen)
				if !bytes.Equal(got, want) {
					t.Fatalf("packet %d, %+v:\n%x, want\n%x", n, f, got, want)
				}
			}
			if len(flows) < 10 {
				t.Errorf("only %d flows", len(flows))
			}
		})
	}
}

// TestECNOfTunnels is the table of RFC 6040 4.1 for the normal mode of an ingress: the outer field is a copy.
func TestECNOfTunnels(t *testing.T) {
	for _, c := range tunnelCases() {
		t.Run(c.name, func(t *testing.T) {
			r := c.rig(t, 1500)
			for _, ecn := range []struct {
				name         string
				inner, outer uint8
			}{{"Not-ECT", 0, 0}, {"ECT(0)", 2, 2}, {"ECT(1)", 1, 1}, {"CE", 3, 3}} {
				f, _ := c.random(rand.New(rand.NewPCG(1, 1)), 500)
				f.TOS = 0xb8 | ecn.inner
				_, _, out := r.put(0, f.Packet(t))
				ip := out[0].bytes[wire.EthernetLen:]
				tos := ip[1]
				if c.outer {
					tos = ip[0]<<4 | ip[1]>>4
				}
				if tos != 0xb8|ecn.outer {
					t.Errorf("around %s: %#x", ecn.name, tos)
				}
			}
		})
	}
}

// unwrapped takes the outer headers off, with gopacket, and returns the packet inside.
func (c *tunnelCase) unwrapped(t *testing.T, frame []byte) []byte {
	t.Helper()
	if err := wiretest.Wrong(frame); err != nil {
		t.Error(err)
	}
	pkt := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	b := pkt.NetworkLayer().LayerPayload()
	if c.opt.Encap != forwarder.EncapGUE {
		return b
	}
	udp := pkt.Layer(layers.LayerTypeUDP)
	if udp == nil {
		t.Fatalf("no UDP in %x", frame)
	}
	return udp.LayerPayload()[4*(1-c.opt.Variant):]
}

// TestWhatDoesNotFitComesTogetherAgain: an IPv4 packet without DF is cut before it is wrapped, an IPv6 packet that every
// link must carry after it; foreign code puts both together again.
func TestWhatDoesNotFitComesTogetherAgain(t *testing.T) {
	for _, c := range tunnelCases() {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			for range 15 {
				if c.inner {
					c.outerFragments(t, rng)
				} else {
					c.innerFragments(t, rng)
				}
			}
		})
	}
}

func (c *tunnelCase) innerFragments(t *testing.T, rng *rand.Rand) {
	t.Helper()
	mtu := 600 + rng.IntN(900)
	f, _ := c.random(rng, 8000)
	f.DF, f.Options, f.Payload = false, nil, payload(mtu+rng.IntN(5000))
	_, why, out := c.rig(t, mtu).put(0, f.Packet(t))
	if len(out) < 2 {
		t.Fatalf("%d bytes over %d: %v, %d frames", len(f.Payload), mtu, why, len(out))
	}
	defrag := ip4defrag.NewIPv4Defragmenter()
	for i, o := range out {
		inner := c.unwrapped(t, o.bytes)
		if len(o.bytes)-wire.EthernetLen > mtu {
			t.Errorf("fragment %d: %d bytes over %d", i, len(o.bytes)-wire.EthernetLen, mtu)
		}
		if sum := wiretest.SlowChecksum(inner[:wire.IPv4Len], 0); sum != 0xffff {
			t.Errorf("fragment %d: the header's sum is %#x", i, sum)
		}
		ip := &layers.IPv4{}
		if err := ip.DecodeFromBytes(inner, gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
		whole, err := defrag.DefragIPv4(ip)
		if err != nil {
			t.Fatal(err)
		}
		if whole == nil {
			continue
		}
		want := build(t, f, false, f.TTL-1)[wire.EthernetLen:]
		if i != len(out)-1 || !bytes.Equal(whole.Payload, want[wire.IPv4Len:]) || whole.Id != f.ID || whole.TTL != f.TTL-1 {
			t.Errorf("after fragment %d of %d: %+v", i, len(out), whole)
		}
		return
	}
	t.Errorf("%d fragments make no packet", len(out))
}

func (c *tunnelCase) outerFragments(t *testing.T, rng *rand.Rand) {
	t.Helper()
	f, extended := c.random(rng, 1300)
	least := len(build(t, wiretest.Frame{Src: f.Src, Dst: f.Dst, UDP: f.UDP, TCP: "A"}, extended, 9)) - wire.EthernetLen
	f.Payload = payload(1280 - least)
	_, why, out := c.rig(t, 1280).put(0, wiretest.Packet(build(t, f, extended, f.TTL)))
	if len(out) < 2 {
		t.Fatalf("%v: %d frames", why, len(out))
	}
	want := build(t, f, extended, f.TTL-1)[wire.EthernetLen:]
	if got := c.unwrapped(t, joined(t, out)); !bytes.Equal(got, want) {
		t.Errorf("%d fragments make\n%x, want\n%x", len(out), got, want)
	}
}
