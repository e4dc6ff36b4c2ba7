package forwarder_test

import (
	"fmt"
	"testing"

	"naru/forwarder"
	"naru/internal/wiretest"
)

// usage sums up what the engine tells of a backend.
func usage(r *rig, service, backend string) (sum forwarder.Usage, paths int) {
	for _, u := range r.eng.Usage(nil) {
		if u.Service == service && u.Backend == backend {
			for d := range u.Packets {
				sum.Packets[d] += u.Packets[d]
				sum.Bytes[d] += u.Bytes[d]
			}
			sum.Made += u.Made
			sum.Active, sum.Gone = u.Active, u.Gone
			sum.Ports, sum.Free = u.Ports, u.Free
			paths++
		}
	}
	return sum, paths
}

func TestUsageCountsWhatABackendCarries(t *testing.T) {
	cfg := config()
	cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
	r := newRig(t, cfg)
	r.tick(0)
	before, paths := usage(r, cfg.Services[0].Name, "server01")
	if paths == 0 || before.Made != 0 || before.Packets != [2]uint64{} || before.Free != before.Ports || before.Ports == 0 {
		t.Fatalf("at first: %+v in %d paths", before, paths)
	}
	c := newTCP(r, client+":4000")
	c.handshake()
	u, _ := usage(r, cfg.Services[0].Name, "server01")
	// SYN and ACK, SYN-ACK.
	if u.Made != 1 || u.Active != 1 || u.Packets != [2]uint64{2, 1} || u.Bytes != [2]uint64{80, 40} || u.Ports-u.Free != 1 {
		t.Errorf("a handshake: %+v", u)
	}
	// What was counted stays over a reload, and goes with the last connection.
	r.cfg.Services[0].Backends = []forwarder.Backend{{Name: "other", Addr: addr(server2), Weight: 1}}
	r.reload()
	r.tick(0)
	if u, paths := usage(r, cfg.Services[0].Name, "server01"); paths == 0 || !u.Gone || u.Made != 1 || u.Active != 1 {
		t.Errorf("after it was removed: %+v in %d paths", u, paths)
	}
	c.close()
	for range 400 {
		r.tick(60e9)
	}
	if u, paths := usage(r, cfg.Services[0].Name, "server01"); paths != 0 {
		t.Errorf("after its end: %+v", u)
	}
	r.forwarded(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 7), Dst: vip + ":80", TCP: "S"}))
	if u, _ := usage(r, cfg.Services[0].Name, "other"); u.Made != 1 || u.Packets != [2]uint64{1, 0} {
		t.Errorf("the other one: %+v", u)
	}
	dst := make([]forwarder.Usage, 0, 64)
	if n := testing.AllocsPerRun(10, func() { dst = r.eng.Usage(dst[:0]) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
