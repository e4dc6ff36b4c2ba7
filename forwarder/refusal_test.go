package forwarder_test

import (
	"fmt"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// refusals pairs the reasons why a new connection is refused with what counts when its client is told.
var refusals = map[wire.Reason]wire.Reason{
	wire.TupleClash: wire.TupleClashAnswered, wire.NoBackend: wire.NoBackendAnswered,
	wire.BackendFull: wire.BackendFullAnswered, wire.ServiceFull: wire.ServiceFullAnswered,
	wire.PortsExhausted: wire.PortsExhaustedAnswered,
}

// What is dropped with reject: drop is answered with reject: rst.
func init() {
	for drop, told := range refusals {
		how := provoke[drop]
		silent := how.config
		how.config = func(c *forwarder.Config) {
			silent(c)
			for i := range c.Services {
				c.Services[i].Reject = forwarder.RejectRST
			}
		}
		provoke[told] = how
	}
}

// TestARefusalSaysWhyHoweverItIsTold: by an RST, by an ICMP error, and when no more answers may be sent.
func TestARefusalSaysWhyHoweverItIsTold(t *testing.T) {
	for _, tt := range []struct {
		how  forwarder.Reject
		proc uint8
	}{{forwarder.RejectRST, wire.ProtoTCP}, {forwarder.RejectICMP, wire.ProtoICMP}} {
		r := newChoiceRig(t, func(s *forwarder.Service) { s.Reject, s.MaxConnections = tt.how, 1 })
		knocks(r, client, 1000, 1)
		limited := false
		for port := 2000; port < 2100; port++ {
			_, reason, out := r.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, port), Dst: vip + ":80",
				TCP: "S"}).Packet(t))
			if limited = limited || len(out) == 0; limited {
				if reason != wire.ServiceFull || len(out) != 0 {
					t.Fatalf("without an answer: %v", reason)
				}
			} else if p := parsed(t, out[0].bytes); reason != wire.ServiceFullAnswered || p.Proto != tt.proc {
				t.Fatalf("%v, answered by protocol %d", reason, p.Proto)
			}
		}
		if !limited {
			t.Error("there is no limit to answers")
		}
	}
}
