package forwarder_test

import (
	"testing"

	"naru/forwarder"
	"naru/internal/wiretest"
)

// usage is what the engine tells of a backend.
func usage(r *rig, service, backend string) (out forwarder.Usage) {
	for _, u := range r.eng.Usage(nil) {
		if u.Service == service && u.Backend == backend {
			return u
		}
	}
	return out
}

func TestUsageCountsWhatABackendCarries(t *testing.T) {
	cfg := config()
	web := cfg.Services[0].Name
	cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
	r := newRig(t, cfg)
	r.tick(0)
	pool := r.eng.Pools(nil)[0]
	if u := usage(r, web, "server01"); u != (forwarder.Usage{Service: web, Backend: "server01"}) || pool.Free != pool.Size {
		t.Fatalf("at first: %+v, %+v", u, pool)
	}
	c := newTCP(r, client+":4000")
	c.handshake()
	// SYN and ACK, SYN-ACK.
	want := forwarder.Usage{Service: web, Backend: "server01", Made: 1, Packets: [2]uint64{2, 1}, Bytes: [2]uint64{80, 40}}
	if u := usage(r, web, "server01"); u != want {
		t.Errorf("a handshake: %+v", u)
	}
	if p := r.eng.Pools(nil)[0]; p.Size-p.Free != 1 || p.Backend != "server01" || p.Local.String() != local {
		t.Errorf("the pool: %+v", p)
	}
	// What was counted stays over reloads, also of who is gone.
	r.cfg.Services[0].Backends = []forwarder.Backend{{Name: "other", Addr: addr(server2), Weight: 1}}
	r.reload()
	c.close()
	for range 400 {
		r.tick(60e9)
	}
	r.forwarded(0, fromClient(wiretest.Frame{Src: client + ":7", Dst: vip + ":80", TCP: "S"}))
	if u := usage(r, web, "server01"); u.Made != 1 || u.Packets[0] < 4 {
		t.Errorf("who is gone: %+v", u)
	}
	if u := usage(r, web, "other"); u.Made != 1 || u.Packets != [2]uint64{1, 0} {
		t.Errorf("the other one: %+v", u)
	}
}

func TestLoadsCountConnectionsOfWhoIsGoneToo(t *testing.T) {
	cfg := config()
	cfg.Services = cfg.Services[:1]
	cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
	r := newRig(t, cfg)
	newTCP(r, client+":4000").handshake()
	r.cfg.Services[0].Backends = []forwarder.Backend{{Name: "other", Addr: addr(server2), Weight: 1}}
	r.reload()
	web := cfg.Services[0].Name
	want := []forwarder.BackendLoad{{Service: web, Backend: "other"}, {Service: web, Backend: "server01", Active: 1, Gone: true}}
	if got := r.snap.Loads(); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v", got)
	}
}
