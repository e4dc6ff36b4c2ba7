package forwarder_test

import (
	"bytes"
	"net/netip"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// cameTo gives a frame the MAC addresses with which it reaches a leg: those of the suites are not a test of anything, and
// some are group addresses.
func cameTo(leg int, frame []byte) wire.Packet {
	from, to := routerMAC, clientLeg
	if leg == 1 {
		from, to = serverMAC[0], serverLeg
	}
	frame = bytes.Clone(frame)
	copy(frame, append(to[:], from[:]...))
	return wiretest.Packet(frame)
}

// peerConfig is an engine between two legs with no addresses of the example: everything of the backends' networks is
// behind the second leg, on-link.
func peerConfig(backends []netip.Addr, services ...forwarder.Service) forwarder.Config {
	cfg := config()
	cfg.Services, cfg.VIPs = services, nil
	for _, b := range backends {
		cfg.Routes = append(cfg.Routes, forwarder.Route{Prefix: netip.PrefixFrom(b, b.BitLen()), Leg: 1})
		cfg.Neighbors = append(cfg.Neighbors, forwarder.Neighbor{Leg: 1, Addr: b, MAC: serverMAC[0], Static: true})
	}
	seen := map[netip.Addr]bool{}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Timeouts, s.Midstream = timeouts, forwarder.MidstreamPickup // the suites send segments out of nothing
		if !seen[s.VIP] {
			seen[s.VIP] = true
			cfg.VIPs = append(cfg.VIPs, forwarder.VIP{Addr: s.VIP})
		}
	}
	return cfg
}

// onPort is a service with one backend.
func onPort(vip string, port uint16, proto uint8, backend string, backendPort uint16) forwarder.Service {
	return forwarder.Service{Name: vip + string(rune('a'+proto)), VIP: addr(vip), Proto: proto,
		Ports:    []forwarder.PortRange{{Lo: port, Hi: port}},
		Backends: []forwarder.Backend{{Name: "b", Addr: addr(backend), Port: backendPort, Weight: 1}}}
}

// The balancer's own address in front of the tunnels: Katran takes it from 172.16.0.0/16 and 100::/64.
var katranSource = [2]netip.Prefix{netip.MustParsePrefix("172.16.0.0/16"), netip.MustParsePrefix("100::/64")}

// TestKatranPacketsComeOutAsKatranSendsThem puts cases 1, 2, 3, 5, 6, 7 and 10 of Katran's base set through an engine where
// the backend that Katran chose is the only one. All bytes from the outer header on are compared, but these, which are
// choices (an ICMP error and what it quotes travel like any packet):
//   - the outer source: both spread flows over a prefix, each in its own way, so that receive-side scaling works
//   - the outer identification: Katran sends 0 without DF; naru counts, since such packets may be fragmented (RFC 6864 4.1)
//   - the flow label: Katran sends 0, naru the flow's hash (RFC 6438)
//   - the inner TTL: Katran leaves it as a switch would; naru lowers it by one like any router (RFC 2003 3.1, RFC 1812)
func TestKatranPacketsComeOutAsKatranSendsThem(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "katran/katran_ipip_in.pcap", "katran/katran_ipip_out.pcap")
	services := []forwarder.Service{
		onPort("10.200.1.1", 80, wire.ProtoUDP, "10.0.0.3", 0), onPort("10.200.1.1", 80, wire.ProtoTCP, "10.0.0.3", 0),
		onPort("10.200.1.3", 80, wire.ProtoTCP, "fc00::1", 0), onPort("fc00:1::1", 80, wire.ProtoTCP, "fc00::3", 0),
	}
	for i := range services {
		services[i].Mode = forwarder.L3DSR
		services[i].L3DSR = forwarder.L3DSROptions{Encap: forwarder.EncapIPIP, Source4: katranSource[0], Source6: katranSource[1]}
	}
	r := newRig(t, peerConfig([]netip.Addr{addr("10.0.0.3"), addr("fc00::1"), addr("fc00::3")}, services...))
	for i := range in {
		_, why, out := r.put(0, cameTo(0, in[i].Frame))
		if len(out) != 1 {
			t.Fatalf("packet %d: %v, %d frames", i+1, why, len(out))
		}
		if got, want := out[0].bytes[wire.EthernetLen:], wiretest.KatranWithOurChoices(t, want[i].Frame, out[0].bytes, katranSource); !bytes.Equal(got, want) {
			t.Errorf("packet %d:\n%x, Katran's is\n%x", i+1, got, want)
		}
	}
}

// TestCiliumFullNAT puts what Cilium's test of NodePort with SNAT puts in through full NAT with a single local port, so
// that nothing is left to choose: every byte from the IP header on is compared, both ways, and with them the checksums
// that Cilium's test asserts.
func TestCiliumFullNAT(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "cilium/cilium_fullnat_in.pcap", "cilium/cilium_fullnat_out.pcap")
	s := onPort("172.16.10.2", 80, wire.ProtoTCP, "192.168.0.2", 8080)
	s.Locals, s.SourcePorts = []forwarder.Local{{Addr: addr("10.0.10.1")}}, forwarder.PortRange{Lo: 32768, Hi: 32768}
	r := newRig(t, peerConfig([]netip.Addr{addr("192.168.0.2")}, s))
	for i := range in {
		_, why, out := r.put(i, cameTo(i, in[i].Frame))
		if len(out) != 1 || out[0].leg != 1-i {
			t.Fatalf("packet %d: %v, %d frames", i+1, why, len(out))
		}
		if got, want := out[0].bytes[wire.EthernetLen:], want[i].Frame[wire.EthernetLen:]; !bytes.Equal(got, want) {
			t.Errorf("packet %d:\n%x, Cilium's is\n%x", i+1, got, want)
		}
	}
}

// TestCiliumErrorThroughSNAT puts an ICMP error that quotes a translated segment whole through full NAT. Cilium's test
// translates the source alone, so the peer stands here for a backend, and its VIP is another address: that is put in by
// hand, in what goes in and in what is wanted. Cilium's programs do not lower the TTL in this test; naru does.
func TestCiliumErrorThroughSNAT(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "cilium/cilium_icmp_snat_in.pcap", "cilium/cilium_icmp_snat_out.pcap")
	vip, peer := addr("203.0.113.1"), addr("110.0.11.1")
	s := onPort(vip.String(), 22331, wire.ProtoTCP, peer.String(), 22331)
	s.Locals, s.SourcePorts = []forwarder.Local{{Addr: addr("10.0.10.1")}}, forwarder.PortRange{Lo: 33440, Hi: 33440}
	r := newRig(t, peerConfig([]netip.Addr{peer}, s))

	asVIP := func(frame []byte) []byte { return wiretest.Renamed(t, frame, peer, vip) }
	for i, tt := range []struct{ in, want []byte }{
		{asVIP(in[0].Frame), want[0].Frame}, {in[1].Frame, asVIP(want[1].Frame)},
	} {
		_, why, out := r.put(i, cameTo(i, tt.in))
		if len(out) != 1 || out[0].leg != 1-i {
			t.Fatalf("packet %d: %v, %d frames", i+1, why, len(out))
		}
		expected := bytes.Clone(tt.want[wire.EthernetLen:])
		wiretest.LowerTTL(expected)
		if got := out[0].bytes[wire.EthernetLen:]; !bytes.Equal(got, expected) {
			t.Errorf("packet %d:\n%x, Cilium's is\n%x", i+1, got, expected)
		}
	}
}
