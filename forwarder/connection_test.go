package forwarder_test

import (
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestWatchersAreToldOfEachConnectionOnce(t *testing.T) {
	r := newRig(t, config())
	var began, ended []forwarder.Connection
	r.eng.WatchStarts(func(c *forwarder.Connection) { began = append(began, *c) })
	r.eng.WatchEnds(func(c *forwarder.Connection) { ended = append(ended, *c) })
	open := func(port string) {
		r.client(wiretest.Frame{Src: client + ":" + port, Dst: vip + ":80", TCP: "S", Seq: 1})
	}
	start := r.now
	open("51000")
	open("51000") // sent again
	open("51001")
	if len(began) != 2 || len(ended) != 0 {
		t.Fatalf("%d have begun, %d have ended", len(began), len(ended))
	}
	first := began[0]
	if first.Client != wire.AddrFrom(addr(client)) || first.ClientPort != 51000 || first.LocalPort == 0 || first.Service == "" ||
		first.Backend == "" || first.At != start || first.Start > start || start.Sub(first.Start) > 20*time.Millisecond {
		t.Errorf("%+v", first)
	}
	for range 40 {
		r.tick(time.Second)
	}
	if len(began) != 2 || len(ended) != 2 {
		t.Fatalf("%d have begun, %d have ended", len(began), len(ended))
	}
	for _, c := range ended {
		if seen := c.Latest.Sub(start); c.HowEnded() != "idle" || seen < -20*time.Millisecond || seen > 20*time.Millisecond ||
			c.At.Sub(start) < 30*time.Second || c.Packets[0] == 0 {
			t.Errorf("%s: %+v", c.HowEnded(), c)
		}
	}
}

func TestHowAConnectionEnds(t *testing.T) {
	for want, c := range map[string]forwarder.Connection{
		"closed": {State: conntrack.TCPClosed, Doomed: true}, "idle": {State: conntrack.TCPEstablished, Expired: true, Doomed: true}, "backend": {State: conntrack.TCPEstablished, Doomed: true},
		"replaced": {State: conntrack.TCPSyn},
	} {
		if got := c.HowEnded(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
