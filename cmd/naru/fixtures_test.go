package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// fixtureHead begins the configuration of what peers' suites put in, with segments out of nothing.
const fixtureHead = `version: 1
node: {connections: 1024}
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
defaults: {midstream: pickup}
services:
`

// fixtureService is a service with one backend. mode is the rest of the line behind "mode:", with what belongs to it.
func fixtureService(name, vip string, port int, protocol, mode, backend string) string {
	return fmt.Sprintf("  - {name: %s, vip: %q, ports: [%d], protocol: %s, backends: [%s], mode: %s}\n", name, vip, port, protocol,
		backend, mode)
}

// fixture is what a peer's suite puts in, each frame on the side that step names, 0 for clients.
func fixture(t *testing.T, frames [][]byte, sides ...int) *kernelCase {
	t.Helper()
	k := &kernelCase{t: t, mode: "fullnat", gap: 1e8}
	for i, f := range frames {
		side := wiretest.ClientSide
		if i < len(sides) {
			side = wiretest.Side(sides[i])
		}
		k.add(side, "", bytes.Clone(f), nil)
	}
	return k
}

// replay puts the case through naru replay and returns what comes out for each frame.
func (k *kernelCase) replay(config, options string) [][]kernelSent {
	k.t.Helper()
	dir := k.t.TempDir()
	for name, text := range map[string][]byte{"naru.yaml": []byte(config), "in.pcapng": k.capture(nil)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			k.t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out.pcapng")
	line := "replay -q -c " + dir + "/naru.yaml " + dir + "/in.pcapng --out " + out + options
	if code, stdout, stderr := naru("", line); code != 0 || stdout+stderr != "" {
		k.t.Fatalf("exit %d: %s%s\n%s", code, stdout, stderr, config)
	}
	return k.mustRead(out)
}

func framesOf(list []wiretest.Captured) (frames [][]byte) {
	for _, c := range list {
		frames = append(frames, c.Frame)
	}
	return frames
}

// oneEach wants one frame on a side for each that was put in, and returns them from the IP header on.
func oneEach(t *testing.T, out [][]kernelSent, side func(i int) wiretest.Side) (packets [][]byte) {
	t.Helper()
	for i, list := range out {
		if len(list) != 1 || list[0].side != side(i) {
			t.Fatalf("packet %d: %d frames%s", i+1, len(list), hexFrames("naru", list))
		}
		packets = append(packets, list[0].frame[wire.EthernetLen:])
	}
	return packets
}

func toBackend(int) wiretest.Side { return wiretest.BackendSide }
func toClient(int) wiretest.Side  { return wiretest.ClientSide }

// TestReplayOfKatransPackets compares all bytes but those that KatranWithOurChoices names.
func TestReplayOfKatransPackets(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "katran/katran_ipip_in.pcap", "katran/katran_ipip_out.pcap")
	sources := [2]netip.Prefix{netip.MustParsePrefix("172.16.0.0/16"), netip.MustParsePrefix("100::/64")}
	config := fixtureHead
	for i, s := range [][3]string{{"10.200.1.1", "udp", "10.0.0.3"}, {"10.200.1.1", "tcp", "10.0.0.3"}, {"10.200.1.3", "tcp", "fc00::1"},
		{"fc00:1::1", "tcp", "fc00::3"}} {
		source := sources[0]
		if netip.MustParseAddr(s[2]).Is6() {
			source = sources[1]
		}
		mode := fmt.Sprintf(`l3dsr, l3dsr: {encap: ipip, source: %q}`, source)
		config += fixtureService(fmt.Sprintf("s%d", i), s[0], 80, s[1], mode, fmt.Sprintf("{name: b, address: %q}", s[2]))
	}
	for i, got := range oneEach(t, fixture(t, framesOf(in)).replay(config, ""), toBackend) {
		frame := append(make([]byte, wire.EthernetLen), got...)
		if want := wiretest.KatranWithOurChoices(t, want[i].Frame, frame, sources); !bytes.Equal(got, want) {
			t.Errorf("packet %d:\n%x, Katran's is\n%x", i+1, got, want)
		}
	}
}

// drawn replays with one seed after the other until the first packet leaves from a port: that of the peer's test, which is a
// draw.
func drawn(t *testing.T, k *kernelCase, config string, port uint16) [][]kernelSent {
	t.Helper()
	for seed := range 4096 {
		out := k.replay(config, fmt.Sprintf(" --seed %d", seed))
		if len(out[0]) == 1 && binary.BigEndian.Uint16(kernelL4(out[0][0].frame)) == port {
			return out
		}
	}
	t.Fatalf("no seed draws port %d", port)
	return nil
}

// TestReplayOfCiliumsPackets compares every byte from the IP header on, both ways.
func TestReplayOfCiliumsPackets(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "cilium/cilium_fullnat_in.pcap", "cilium/cilium_fullnat_out.pcap")
	config := fixtureHead + fixtureService("web", "172.16.10.2", 80, "tcp",
		"fullnat, nat: {source_pool: [10.0.10.1], source_ports: 32768-32831}", "{name: b, address: 192.168.0.2, port: 8080}")
	out := drawn(t, fixture(t, framesOf(in), 0, 1), config, 32768)
	for i, got := range oneEach(t, out, func(i int) wiretest.Side { return wiretest.Side(1 - i) }) {
		if want := want[i].Frame[wire.EthernetLen:]; !bytes.Equal(got, want) {
			t.Errorf("packet %d:\n%x, Cilium's is\n%x", i+1, got, want)
		}
	}
}

// TestReplayOfCiliumsError compares an ICMP error and what it quotes. Cilium's test translates the source alone, so its peer
// is a backend here, with a VIP of another address; and it does not lower the TTL.
func TestReplayOfCiliumsError(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "cilium/cilium_icmp_snat_in.pcap", "cilium/cilium_icmp_snat_out.pcap")
	vip, peer := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("110.0.11.1")
	config := fixtureHead + fixtureService("ssh", vip.String(), 22331, "tcp",
		"fullnat, nat: {source_pool: [10.0.10.1], source_ports: 33440-33503}", "{name: b, address: 110.0.11.1}")
	k := fixture(t, [][]byte{wiretest.Renamed(t, in[0].Frame, peer, vip), in[1].Frame}, 0, 1)
	expected := [][]byte{want[0].Frame, wiretest.Renamed(t, want[1].Frame, peer, vip)}
	out := drawn(t, k, config, 33440)
	for i, got := range oneEach(t, out, func(i int) wiretest.Side { return wiretest.Side(1 - i) }) {
		want := bytes.Clone(expected[i][wire.EthernetLen:])
		wiretest.LowerTTL(want)
		if !bytes.Equal(got, want) {
			t.Errorf("packet %d:\n%x, Cilium's is\n%x", i+1, got, want)
		}
	}
}

// snabbMode is the tunnel that Snabb's lwAFTR begins, in words of naru.
const snabbMode = `l3dsr, l3dsr: {encap: ipip, source: "8:9:a:b:c:d:e:f"}`

func snabbFixture(t *testing.T, in, out string) (got [][]kernelSent, want []byte) {
	t.Helper()
	frames, expected := wiretest.FixturePairs(t, "snabb/sn-"+in+".pcap", "snabb/sn-"+out+".pcap")
	config := fixtureHead
	for _, port := range []int{80, 2700} {
		config += fixtureService(fmt.Sprintf("s%d", port), "178.79.150.233", port, "tcp", snabbMode,
			`{name: b, address: "127:2:3:4:5:6:7:128", mtu: 1280}`)
	}
	return fixture(t, framesOf(frames)).replay(config, ""), bytes.Clone(expected[0].Frame[wire.EthernetLen:])
}

// TestReplayOfSnabbsPackets compares IPv4 in IPv6: all bytes but the outer hop limit, 255 there and 64 here, and the flow
// label, which is none there.
func TestReplayOfSnabbsPackets(t *testing.T) {
	for in, out := range map[string]string{"tcp-frominet-bound": "tcp-afteraftr-ipv6",
		"tcp-frominet-trafficclass": "tcp-afteraftr-ipv6-trafficclass"} {
		sent, want := snabbFixture(t, in, out)
		got := oneEach(t, sent, toBackend)[0]
		if want[7] != 255 || got[7] != 64 {
			t.Errorf("%s: hop limits %d, %d", in, want[7], got[7])
		}
		want[7], want[1] = 64, want[1]&0xf0|got[1]&0x0f
		copy(want[2:4], got[2:4])
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x, Snabb's is\n%x", in, got, want)
		}
	}
}

// TestReplayOfSnabbsErrors compares what is said of a packet that is too big for the tunnel and of a spent TTL: who is told,
// type, code, MTU, length and quote. Snabb has lowered the TTL that it quotes, and sends from an address of its own with TTL
// 255 and no DF; naru quotes what came, from the VIP, with TTL 64 and DF.
func TestReplayOfSnabbsErrors(t *testing.T) {
	for in, out := range map[string]string{
		"tcp-frominet-bound1494-DF": "icmpv4-fromlwaftr-replyto-tcp-frominet-bound1494-DF",
		"tcp-frominet-bound-ttl1":   "icmpv4-time-expired"} {
		sent, want := snabbFixture(t, in, out)
		got := oneEach(t, sent, toClient)[0]
		var fields []string
		for _, d := range wiretest.Differences(append([]byte{12: 8, 13: 0}, want...), append([]byte{12: 8, 13: 0}, got...)) {
			fields = append(fields, d.Field)
		}
		if may := []string{"ip flags, fragment offset", "ip ttl", "ip checksum", "ip source", "quoted ip ttl",
			"quoted ip checksum"}; !slices.Equal(fields, may) {
			t.Errorf("%s: %v differ, want %v:\n%x, Snabb's is\n%x", in, fields, may, got, want)
		}
	}
}

// TestReplayOfGLBsPackets wants each of a thousand SYNs of one flow to reach the same proxy inside UDP. GLB's header behind
// it has a list of further proxies, 8 bytes, that naru has no use for.
func TestReplayOfGLBsPackets(t *testing.T) {
	in, err := wiretest.ReadCapture(filepath.Join(wiretest.Captures(t), "fixtures/glb/gl-1k_pkts.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	config := fixtureHead + fixtureService("web", "1.1.1.1", 80, "tcp", `l3dsr, l3dsr: {encap: gue, port: 19523, source: 65.65.65.65}`,
		"{name: b, address: 3.4.5.6}")
	packets := oneEach(t, fixture(t, framesOf(in)).replay(config, ""), toBackend)
	if len(packets) != 1000 {
		t.Fatalf("%d packets", len(packets))
	}
	for i, got := range packets {
		inner := bytes.Clone(in[i].Frame[wire.EthernetLen:][:wire.IPv4Len+wire.TCPLen])
		wiretest.LowerTTL(inner)
		udp := got[wire.IPv4Len:]
		if !bytes.Equal(got[12:20], []byte{65, 65, 65, 65, 3, 4, 5, 6}) || binary.BigEndian.Uint16(udp[2:]) != 19523 ||
			binary.BigEndian.Uint16(udp[4:]) != 52-8+wire.UDPLen || !bytes.Equal(udp[:2], packets[0][wire.IPv4Len:][:2]) ||
			!bytes.Equal(udp[wire.UDPLen+4:], inner) {
			t.Fatalf("packet %d: %x", i+1, got)
		}
	}
}

// TestReplayOfTcprewritesPackets compares requests over IPv4 with those of tcprewrite with --portmap=80:8080. naru changes
// the destination address too, and the TTL: that is put into what is wanted. One request has a wrong checksum, and keeps it.
func TestReplayOfTcprewritesPackets(t *testing.T) {
	in, want := wiretest.FixturePairs(t, "tcpreplay/tr-test.pcap", "tcpreplay/tr-test2.rewrite_portmap.pcap")
	servers := map[netip.Addr]netip.Addr{}
	config := fixtureHead
	var frames, expected [][]byte
	for i := range in {
		f := in[i].Frame
		if binary.BigEndian.Uint16(f[12:]) != wire.TypeIPv4 || f[23] != wire.ProtoTCP || binary.BigEndian.Uint16(kernelL4(f)[2:]) != 80 {
			continue
		}
		vip, _ := netip.AddrFromSlice(f[30:34])
		if !servers[vip].IsValid() {
			n := len(servers) + 1
			servers[vip] = netip.AddrFrom4([4]byte{198, 18, 0, byte(n)})
			config += fixtureService(fmt.Sprintf("s%d", n), vip.String(), 80, "tcp", "nat",
				fmt.Sprintf("{name: b, address: %s, port: 8080}", servers[vip]))
		}
		renamed := wiretest.Renamed(t, want[i].Frame, vip, servers[vip])[wire.EthernetLen:]
		wiretest.LowerTTL(renamed)
		frames, expected = append(frames, f), append(expected, renamed)
	}
	if len(frames) != 45 {
		t.Fatalf("%d requests", len(frames))
	}
	for i, got := range oneEach(t, fixture(t, frames).replay(config, ""), toBackend) {
		if wiretest.Wrong(frames[i]) != nil {
			frame := append([]byte{12: 8, 13: 0}, got...)
			if wiretest.Wrong(frame) == nil {
				t.Errorf("request %d: a wrong checksum was mended", i+1)
			}
			got = wiretest.Renamed(t, frame, netip.IPv4Unspecified(), netip.IPv4Unspecified())[wire.EthernetLen:]
		}
		if !bytes.Equal(got, expected[i]) {
			t.Errorf("request %d:\n%x, tcprewrite's is\n%x", i+1, got, expected[i])
		}
	}
}
