package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// webFrame returns a SYN to the VIP's web service in a frame, behind outer headers if there are any.
func webFrame(t *testing.T, outer ...gopacket.SerializableLayer) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 63, TOS: labDSCP << 2, Protocol: layers.IPProtocolTCP,
		SrcIP: netip.MustParseAddr("10.20.40.80").AsSlice(), DstIP: vip4.AsSlice()}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 7, SYN: true}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	ether := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	if len(outer) > 0 && outer[0].LayerType() == layers.LayerTypeIPv6 {
		ether.EthernetType = layers.EthernetTypeIPv6
	}
	all := append([]gopacket.SerializableLayer{ether}, outer...)
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, opts, append(all, ip, tcp)...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestASightingIsThatOfTheInnerPacket(t *testing.T) {
	v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolIPv4,
		SrcIP: netip.MustParseAddr("200.100.50.2").AsSlice(), DstIP: netip.MustParseAddr("10.10.10.2").AsSlice()}
	v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolIPv4,
		SrcIP: netip.MustParseAddr("2001:db8:50::2").AsSlice(), DstIP: netip.MustParseAddr("2001:db8:10::2").AsSlice()}
	udp4 := *v4
	udp4.Protocol = layers.IPProtocolUDP
	udp := &layers.UDP{SrcPort: 50000, DstPort: guePort}
	if err := udp.SetNetworkLayerForChecksum(&udp4); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		frame []byte
		outer string
	}{
		{"a packet by itself", webFrame(t), ""},
		{"IPv4 in IPv4", webFrame(t, v4), "IPIP 200.100.50.2 > 10.10.10.2"},
		{"IPv4 in IPv6", webFrame(t, v6), "IPIP 2001:db8:50::2 > 2001:db8:10::2"},
		{"GUE with a header", webFrame(t, &udp4, udp, gopacket.Payload{0, 4, 0, 0}),
			"GUE 200.100.50.2:50000 > 10.10.10.2:6080"},
		{"GUE without", webFrame(t, &udp4, udp), "GUE 200.100.50.2:50000 > 10.10.10.2:6080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, ok := parseSighting(time.Time{}, tt.frame)
			if !ok {
				t.Fatal("not recognized")
			}
			outer := ""
			if s.outer != nil {
				outer = s.outer.String()
			}
			if outer != tt.outer || s.dst != netip.AddrPortFrom(vip4, 80) || s.kind != "SYN" || s.ttl != 63 ||
				s.dscp != labDSCP || s.seq != 7 || !s.request() {
				t.Errorf("outer %q, %+v", outer, s)
			}
			if got := checksums(&s); got != finished {
				t.Errorf("the checksums are %s", got)
			}
			for n := range len(tt.frame) { // a cut frame is never read beyond its end
				parseSighting(time.Time{}, tt.frame[:n])
			}
		})
	}
}

func TestChecksumsAreJudged(t *testing.T) {
	right, ok := parseSighting(time.Time{}, webFrame(t))
	if !ok {
		t.Fatal("not recognized")
	}
	change := func(f func(frame []byte)) *sighting {
		s := right
		s.frame = slices.Clone(right.frame)
		f(s.frame)
		return &s
	}
	h, _ := readIP(right.frame[right.inner:])
	pseudo := sum(uint32(h.proto)+20, append(h.src.AsSlice(), h.dst.AsSlice()...))
	for name, tt := range map[string]struct {
		s    *sighting
		want string
	}{
		"as they were":            {change(func([]byte) {}), finished},
		"the pseudo-header's sum": {change(func(b []byte) { b[50], b[51] = byte(pseudo>>8), byte(pseudo) }), unfinished},
		"a flipped bit":           {change(func(b []byte) { b[40] ^= 1 }), wrong},
		"a flipped bit in IP":     {change(func(b []byte) { b[22] ^= 1 }), wrong},
	} {
		if got := checksums(tt.s); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestWhatARouterOrNATMayChangeIsWiped(t *testing.T) {
	a, _ := parseSighting(time.Time{}, webFrame(t))
	routed, marked, broken := a, a, a
	for _, s := range []*sighting{&routed, &marked, &broken} {
		s.frame = slices.Clone(a.frame)
	}
	routed.frame[22], routed.ttl = 62, 62     // TTL
	marked.frame[15], marked.frame[33] = 0, 9 // DSCP, destination
	broken.frame[46] = 0x40                   // data offset
	if err := sameButTTL(&a, &routed); err != nil {
		t.Error(err)
	}
	if err := sameButTTL(&a, &marked); err == nil {
		t.Error("a changed destination passed for a router's work")
	}
	if err := same(wiped(&a, true), wiped(&marked, true)); err != nil {
		t.Error(err)
	}
	if err := same(wiped(&a, true), wiped(&broken, true)); err == nil {
		t.Error("a changed header passed for NAT")
	}
}

func TestGraphsNameEveryNode(t *testing.T) {
	for _, s := range Scenarios() {
		for _, format := range GraphFormats() {
			text, err := Graph(s, Options{}, format)
			if err != nil {
				t.Fatal(err)
			}
			topology := s.Topology(Options{})
			for _, n := range topology.Nodes {
				if !n.Switch && !strings.Contains(text, n.Name) {
					t.Errorf("%s as %s: no %s", s.Name, format, n.Name)
				}
			}
			if cables := strings.Count(text, " -- ") + strings.Count(text, " --- "); format != "ascii" &&
				cables != len(topology.Links) {
				t.Errorf("%s as %s: %d cables of %d", s.Name, format, cables, len(topology.Links))
			}
		}
	}
	if _, err := Graph(fullNAT(), Options{}, "png"); err == nil || !strings.Contains(err.Error(), "ascii, dot, mermaid") {
		t.Error(err)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1048576: "1,048,576"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
