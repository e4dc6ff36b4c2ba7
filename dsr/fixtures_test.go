package dsr_test

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"testing"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// likePeer wraps a packet in a tunnel with the source, destination and TTL of the peer's outer packet, and with its flow
// label, since those are its choices.
func likePeer(t *testing.T, in, want []byte, lower bool) []byte {
	t.Helper()
	c := dsr.TunnelConfig{Source: netip.PrefixFrom(netip.AddrFrom4([4]byte(want[26:30])), 32),
		Dst: netip.AddrFrom4([4]byte(want[30:34]))}
	if want[14]>>4 == 6 {
		c = dsr.TunnelConfig{Source: netip.PrefixFrom(netip.AddrFrom16([16]byte(want[22:38])), 128),
			Dst: netip.AddrFrom16([16]byte(want[38:54]))}
	}
	tun, err := dsr.NewTunnel(c)
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, in)
	if lower {
		p.LowerTTL()
	}
	if !tun.Wrap(&p.Frame, p.L3, 0, 0) {
		t.Fatal("it is not wrapped")
	}
	src, dst := wire.MAC(want[6:12]), wire.MAC(want[:6])
	dsr.Redirect(&p.Frame, &src, &dst)
	got := p.Bytes()
	if got[14]>>4 == 6 {
		if got[21] != 64 {
			t.Errorf("hop limit %d", got[21])
		}
		got[15], got[16], got[17] = got[15]&0xf0, 0, 0
		got[21] = want[21]
	}
	return got
}

func TestTunnelPacketsAreThoseOfKatran(t *testing.T) {
	in, out := wiretest.FixturePairs(t, "katran/katran_ipip_in.pcap", "katran/katran_ipip_out.pcap")
	for i := range in {
		if got := likePeer(t, in[i].Frame, out[i].Frame, false); !bytes.Equal(got, out[i].Frame) {
			t.Errorf("packet %d:\n%x, Katran's is\n%x", i+1, got, out[i].Frame)
		}
	}
}

func TestTunnelPacketsAreThoseOfSnabb(t *testing.T) {
	for _, pair := range [][2]string{
		{"tcp-frominet-bound", "tcp-afteraftr-ipv6"}, {"tcp-frominet-trafficclass", "tcp-afteraftr-ipv6-trafficclass"},
	} {
		in, out := wiretest.FixturePairs(t, "snabb/sn-"+pair[0]+".pcap", "snabb/sn-"+pair[1]+".pcap")
		for i := range in {
			if got := likePeer(t, in[i].Frame, out[i].Frame, true); !bytes.Equal(got, out[i].Frame) {
				t.Errorf("%s:\n%x, Snabb's is\n%x", pair[0], got, out[i].Frame)
			}
		}
	}
}

func TestEveryCapturedPacketIsTheSameBehindEveryTunnel(t *testing.T) {
	dir := wiretest.Captures(t)
	n := 0
	for _, folder := range []string{"tcp4", "tcp6", "dns", "frag", "icmp", "vlan", "malformed", "big", "tunnel"} {
		for _, file := range wiretest.CaptureFiles(t, dir, folder) {
			packets, _ := wiretest.ReadCapture(filepath.Join(dir, file)) // a broken file has what came before
			for _, c := range packets {
				p := wiretest.Packet(c.Frame)
				if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Version == 0 {
					continue
				}
				n++
				tt := tunnels[n%len(tunnels)]
				tun := tunnel(t, tt.kind, tt.source, tt.variant)
				packet := bytes.Clone(p.IP())
				if tun.Wrap(&p.Frame, p.L3, uint64(n), 1) && !bytes.Equal(unwrap(t, p.Bytes()).body, packet) {
					t.Errorf("%s packet %d is another behind the tunnel", file, c.Number)
				}
			}
		}
	}
	if n < 1000 {
		t.Errorf("only %d packets", n)
	}
}
