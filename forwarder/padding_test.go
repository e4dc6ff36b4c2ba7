package forwarder_test

import (
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestPaddingGoesAlongWhereThePacketKeepsItsFrame(t *testing.T) {
	const pad = 6
	for _, tt := range []struct {
		name string
		cfg  forwarder.Config
		pad  int
		add  func(*wire.Packet)
		want int
	}{
		{"l2dsr", inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), pad, nil, pad},
		{"dscp", inMode(forwarder.L3DSR, byDSCP), pad, nil, pad},
		{"a verified checksum", inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), pad,
			func(p *wire.Packet) { p.Offload.Flags = wire.DataValid }, pad},
		{"an unfinished checksum would cover it", inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), pad, wiretest.Unfinish, 0},
		{"more than the leg carries", inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), 1500, nil, 0},
		{"ipip", inMode(forwarder.L3DSR, byIPIP), pad, nil, wire.IPv4Len},
		{"nat", inMode(forwarder.NAT, forwarder.L3DSROptions{}), pad, nil, 0},
		{"fullnat", config(), pad, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := fromClient(wiretest.Frame{Src: client + ":9", Dst: vip + ":80", TCP: "S"}).Bytes(t)
			p := wiretest.Packet(append(b, make([]byte, tt.pad)...))
			if tt.add != nil {
				tt.add(&p)
			}
			_, why, out := newRig(t, tt.cfg).put(0, p)
			if len(out) != 1 || len(out[0].bytes) != len(b)+tt.want {
				t.Errorf("%v: %d bytes became %+v", why, len(b), out)
			}
		})
	}
}

func TestPaddingGoesAlongWithAFrameThatWaits(t *testing.T) {
	cfg := inMode(forwarder.L2DSR, forwarder.L3DSROptions{})
	forgetServers(&cfg)
	r := newRig(t, cfg)
	b := fromClient(wiretest.Frame{Src: client + ":9", Dst: vip + ":80", TCP: "S"}).Bytes(t)
	p := wiretest.Packet(append(b, make([]byte, 6)...))
	if v, why, _ := r.put(0, p); v != wire.Held {
		t.Fatalf("%v %v", v, why)
	}
	out := r.refused(1, arpFrame(serverMAC[0], serverLeg, true, server1, "10.10.10.254"), wire.NeighborLearned)
	if len(out) != 1 || len(out[0].bytes) != len(b)+6 {
		t.Errorf("let go: %+v", out)
	}
}
