package forwarder_test

import (
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// In mode NAT backends speak with the clients' addresses: an error about what they send must not come from a client.
func TestErrorsToBackendsOfModeNATAreOurOwn(t *testing.T) {
	for _, tt := range []struct {
		name, server, client, own, vip string
	}{
		{"ipv4", server1, client, "10.10.10.254", vip}, {"ipv6", "2001:db8:10::1", client6, "2001:db8:10::fe", vip6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := inMode(forwarder.NAT, forwarder.L3DSROptions{})
			cfg.Legs[0].MTU = 1400
			r := newRig(t, cfg)
			at := func(a string, port string) string {
				if addr(a).Is6() {
					return "[" + a + "]:" + port
				}
				return a + ":" + port
			}
			r.client(wiretest.Frame{Src: at(tt.client, "51000"), Dst: at(tt.vip, "80"), TCP: "S"})
			reply := fromServer(1, wiretest.Frame{Src: at(tt.server, "8080"), Dst: at(tt.client, "51000"), TCP: "SA", DF: true})
			for _, step := range []struct {
				ttl   uint8
				bytes int
				port  string // of the client; another is of no connection
				want  wire.Reason
			}{
				{1, 0, "51000", wire.HopLimitAnswered}, {9, 1380, "51000", wire.TooBigAnswered},
				{1, 0, "9", wire.HopLimitAnswered}, {9, 1380, "9", wire.TooBigAnswered},
			} {
				f := reply
				f.Dst, f.TTL, f.Payload = at(tt.client, step.port), step.ttl, make([]byte, step.bytes)
				out := r.refused(1, f.Packet(t), step.want)
				if len(out) != 1 || out[0].leg != 1 || wiretest.Wrong(out[0].bytes) != nil {
					t.Fatalf("%+v: %+v", step, out)
				}
				if p := parsed(t, out[0].bytes); p.Flow.Src.String() != tt.own || p.Flow.Dst.String() != tt.server {
					t.Errorf("%+v: from %s to %s, want from %s", step, p.Flow.Src, p.Flow.Dst, tt.own)
				}
			}
		})
	}
}

func TestNoErrorToABackendWithoutAnAddressOfOurOwn(t *testing.T) {
	cfg := inMode(forwarder.NAT, forwarder.L3DSROptions{})
	cfg.Legs[1].Addrs = nil
	r := newRig(t, cfg)
	f := fromServer(1, wiretest.Frame{Src: server1 + ":8080", Dst: client + ":51000", TCP: "SA", TTL: 1})
	if out := r.refused(1, f.Packet(t), wire.HopLimit); len(out) != 0 {
		t.Errorf("%d frames", len(out))
	}
}
