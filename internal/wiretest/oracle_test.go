package wiretest

import (
	"net/netip"
	"testing"
	"time"

	"naru/internal/wire"
)

// TestTheKernelTranslates is a sanity check of the set-up: a SYN reaches the backend from the local address, the
// answer the client from the VIP, and a stray segment nobody.
func TestTheKernelTranslates(t *testing.T) {
	for _, tt := range []struct {
		name, client, vip string
		addrs             *OracleAddrs
	}{
		{"ipv4", "203.0.113.5:51000", "192.0.2.1:80", &OracleIPv4},
		{"ipv6", "[2001:db8:1::5]:51000", "[2001:db8:2::1]:80", &OracleIPv6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			backend := netip.AddrPortFrom(tt.addrs.Backend, 8080)
			o := NewOracle(t, [2]int{1500, 1500}, []OracleService{{netip.MustParseAddrPort(tt.vip), backend, wire.ProtoTCP}})
			local := netip.AddrPortFrom(tt.addrs.Local, 51000)
			step := func(side Side, f Frame, want Side, src, dst string) {
				t.Helper()
				f.SrcMAC, f.DstMAC = OracleNeighbors[side], o.MACs()[side]
				start := time.Now()
				out := o.Step(t, side, f.Bytes(t), time.Second)
				if len(out) != 1 || out[0].Side != want {
					t.Fatalf("%d frames came out: %v", len(out), out)
				}
				if err := Wrong(out[0].Frame); err != nil {
					t.Error(err)
				}
				p := Packet(out[0].Frame)
				p.ParseLink()
				p.ParseNetwork()
				gotSrc := netip.AddrPortFrom(p.Flow.Src.Netip(), p.Flow.SrcPort).String()
				gotDst := netip.AddrPortFrom(p.Flow.Dst.Netip(), p.Flow.DstPort).String()
				if gotSrc != src || gotDst != dst {
					t.Errorf("%s > %s, want %s > %s", gotSrc, gotDst, src, dst)
				}
				t.Logf("%v", time.Since(start))
			}
			step(ClientSide, Frame{Src: tt.client, Dst: tt.vip, TCP: "S"}, BackendSide, local.String(), backend.String())
			step(BackendSide, Frame{Src: backend.String(), Dst: local.String(), TCP: "SA"}, ClientSide, tt.vip, tt.client)
			stray := Frame{Src: backend.String(), Dst: netip.AddrPortFrom(tt.addrs.Local, 1).String(), TCP: "SA",
				SrcMAC: OracleNeighbors[BackendSide], DstMAC: o.MACs()[BackendSide]}
			if out := o.Step(t, BackendSide, stray.Bytes(t), 50*time.Millisecond); len(out) != 0 {
				t.Errorf("a stray segment came out: %v", out)
			}
		})
	}
}
