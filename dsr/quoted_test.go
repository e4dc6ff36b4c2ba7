package dsr_test

import (
	"testing"

	"naru/dsr"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// quoting returns the error of a router that could not send a packet on, with what it quotes of it.
func quoting(t testing.TB, packet []byte) wire.Packet {
	f := wiretest.Frame{Src: "192.0.2.99", Dst: "10.0.0.1", ICMP: []byte{3, 4, 0, 0, 0, 0, 5, 0}, Payload: packet}
	if packet[0]>>4 == 6 {
		f.Src, f.Dst, f.ICMP[0], f.ICMP[1] = "2001:db8:9::9", "2001:db8::1", 2, 0
	}
	return parse(t, f.Bytes(t))
}

func TestTheFlowInAQuotedTunnelPacketIsFound(t *testing.T) {
	for _, tt := range tunnels {
		for _, f := range []wiretest.Frame{tcp4("A", 500), udp6(500)} {
			tun, p := tunnel(t, tt.kind, tt.source, tt.variant), parse(t, f.Bytes(t))
			want, head := p.Flow, p.L4-p.L3
			tun.Wrap(&p.Frame, p.L3, 1, 1)
			packet, least := p.Bytes()[14:], tun.Overhead()+head+4
			for _, quoted := range []int{len(packet), 548, least, least - 1, tun.Overhead(), wire.IPv4Len} {
				e := quoting(t, packet[:quoted])
				var got wire.Flow
				end, ok := dsr.Quoted(&e, &got)
				if ok != (quoted >= least) || ok && (got != want || end != backend(e.Version)) {
					t.Errorf("kind %d variant %d from %s: %d bytes of %s: %v, %v to %v", tt.kind, tt.variant, tt.source, quoted,
						f.Src, ok, got, end)
				}
			}
		}
	}
}

func TestATunnelKnowsWhatItSent(t *testing.T) {
	for _, tt := range tunnels {
		tun, p := tunnel(t, tt.kind, tt.source, tt.variant), parse(t, udp6(500).Bytes(t))
		tun.Wrap(&p.Frame, p.L3, 0x1234567890, 1)
		ip := p.Bytes()[14:]
		if !tun.Sent(ip, 0x1234567890) {
			t.Errorf("kind %d variant %d from %s: not its own", tt.kind, tt.variant, tt.source)
		}
		last := 15
		if ip[0]>>4 == 6 {
			last = 23
		}
		ip[last] ^= 1
		if tun.Sent(ip, 0x1234567890) {
			t.Errorf("kind %d variant %d from %s: sent from another source", tt.kind, tt.variant, tt.source)
		}
		if ip[last] ^= 1; tt.kind == dsr.GUE && tun.Sent(ip, 0x1234567891) {
			t.Errorf("variant %d from %s: sent from another port", tt.variant, tt.source)
		}
	}
	if zero := (dsr.Tunnel{}); zero.Sent(make([]byte, 40), 1) {
		t.Error("the zero tunnel has sent something")
	}
}

func TestAQuotedPacketOfNoTunnelIsNone(t *testing.T) {
	inner := wiretest.Frame{Src: "192.0.2.1", Dst: "198.51.100.1", ICMP: []byte{8, 0, 0, 0, 0, 1, 0, 1}}
	for name, packet := range map[string][]byte{
		"TCP":                     tcp4("A", 100).Bytes(t)[14:],
		"UDP of anything":         udp4(100).Bytes(t)[14:],
		"TCP over IPv6":           tcp6("A", 100).Bytes(t)[14:],
		"a later fragment":        asFragment(wrapped(t, tcp4("A", 100), "10.0.0.1/32"), 0x2005)[14:],
		"a tunnel around an echo": wrapped(t, inner, "10.0.0.1/32")[14:],
	} {
		e := quoting(t, packet)
		var f wire.Flow
		if _, ok := dsr.Quoted(&e, &f); ok {
			t.Errorf("%s: the flow %v", name, f)
		}
	}
}

// FuzzQuoted: whatever is quoted, nothing outside of the packet is read.
func FuzzQuoted(f *testing.F) {
	for _, tt := range tunnels {
		tun, p := tunnel(f, tt.kind, tt.source, tt.variant), tcp4("A", 10).Packet(f)
		tun.Wrap(&p.Frame, 14, 1, 1)
		f.Add(p.Bytes()[14:])
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) == 0 || len(packet) > 1200 {
			return
		}
		e := quoting(t, packet)
		e.Buf = e.Buf[: e.Off+e.End : e.Off+e.End]
		var flow wire.Flow
		if _, ok := dsr.Quoted(&e, &flow); ok && flow.Proto != wire.ProtoTCP && flow.Proto != wire.ProtoUDP {
			t.Errorf("the flow %v", flow)
		}
	})
}
