package forwarder_test

import (
	"fmt"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/sched"
)

// knock sends a SYN and returns the last digit of the backend that it went to.
func knock(r *rig, from string) byte {
	r.t.Helper()
	to := flowText(r.client(wiretest.Frame{Src: from, Dst: vip + ":80", TCP: "S"}))
	return to[len(to)-len("1:8080")]
}

// knocks sends one from each of so many ports.
func knocks(r *rig, from string, first, n int) string {
	r.t.Helper()
	to := make([]byte, n)
	for i := range to {
		to[i] = knock(r, fmt.Sprintf("%s:%d", from, first+i))
	}
	return string(to)
}

// turnedAway wants the SYNs of so many ports to be refused for a reason.
func turnedAway(r *rig, from string, first, n int, want wire.Reason) {
	r.t.Helper()
	for i := range n {
		r.refused(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", from, first+i), Dst: vip + ":80", TCP: "S"}).Packet(r.t), want)
	}
}

func newChoiceRig(t *testing.T, change func(*forwarder.Service)) *rig {
	cfg := config()
	cfg.Services[0].Reject = forwarder.RejectDrop
	change(&cfg.Services[0])
	return newRig(t, cfg)
}

func TestAServiceThatIsFullRefusesUntilAConnectionEnds(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) { s.MaxConnections = 4 })
	c := newTCP(r, client+":5000")
	c.handshake()
	if got := knocks(r, client, 6000, 3); got != "231" {
		t.Fatalf("backends %s", got)
	}
	turnedAway(r, client, 7000, 3, wire.ServiceFull)
	r.reload()
	turnedAway(r, client, 7003, 1, wire.ServiceFull)
	c.close()
	knocks(r, client, 7010, 1)
	turnedAway(r, client, 7020, 1, wire.ServiceFull)
	r.cfg.Services[0].MaxConnections = 0
	r.reload()
	knocks(r, client, 7030, 10)
	r.cfg.Services[0].MaxConnections = 14 // those that were made while there was no limit count
	r.reload()
	turnedAway(r, client, 7050, 1, wire.ServiceFull)
}

func TestABackendThatIsFullIsPassedOver(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) {
		s.Backends[0].MaxConnections, s.Backends[1].MaxConnections, s.Backends[2].MaxConnections = 1, 3, 2
	})
	if got := knocks(r, client, 6000, 6); got != "123232" {
		t.Errorf("backends %s, want 123232", got)
	}
	turnedAway(r, client, 7000, 2, wire.BackendFull)
	r.tick(time.Minute)
	if got := knocks(r, client, 8000, 3); len(got) != 3 {
		t.Errorf("after the handshakes were given up: %s", got)
	}
}

func TestABackendThatIsFullMayRefuse(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) {
		s.Scheduler, s.RefuseFull = sched.SH, true
		for i := range s.Backends {
			s.Backends[i].MaxConnections = 2
		}
	})
	first := knock(r, client+":6000")
	if again := knock(r, client+":6001"); again != first {
		t.Fatalf("one client went to %c and %c", first, again)
	}
	turnedAway(r, client, 6002, 2, wire.BackendFull)
	others := 0
	for i := range 50 {
		p := fromClient(wiretest.Frame{Src: fmt.Sprintf("10.20.41.%d:1", i+1), Dst: vip + ":80", TCP: "S"}).Packet(t)
		if v, why, _ := r.put(0, p); v == wire.Transmit {
			others++
		} else if why != wire.BackendFull {
			t.Fatal(why)
		}
	}
	if others != 4 {
		t.Errorf("%d connections of other clients, want those that the two other backends may have", others)
	}
}

func TestBackupsServeWhileNobodyElseCan(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) { s.Backends[0].Backup = true })
	if got := knocks(r, client, 6000, 4); got != "2323" {
		t.Errorf("backends %s, want 2323", got)
	}
	down := func(states ...forwarder.State) {
		for i, s := range states {
			r.cfg.Services[0].Backends[i].State = s
		}
		r.reload()
	}
	down(forwarder.Up, forwarder.Down, forwarder.Draining)
	if got := knocks(r, client, 6010, 3); got != "111" {
		t.Errorf("backends %s with nobody but the backup", got)
	}
	down(forwarder.Up, forwarder.Up, forwarder.Draining)
	if got := knocks(r, client, 6020, 3); got != "222" {
		t.Errorf("backends %s when one is back", got)
	}
	r.cfg.Services[0].Backends[1].MaxConnections = 1
	r.reload()
	if got := knocks(r, client, 6030, 2); got != "11" {
		t.Errorf("backends %s when that is full", got)
	}
	r.cfg.Services[0].RefuseFull = true
	r.reload()
	turnedAway(r, client, 6040, 1, wire.BackendFull)
	down(forwarder.Disabled, forwarder.Down, forwarder.Down)
	turnedAway(r, client, 6050, 1, wire.NoBackend)
}

func TestAffinity(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) {
		s.Affinity = forwarder.Affinity{Timeout: 10 * time.Minute, Prefix4: 24, Prefix6: 64, Clients: 100}
	})
	const neighbor, stranger = "10.20.40.9", "10.20.41.80"
	if got := knocks(r, client, 6000, 3) + knocks(r, neighbor, 6000, 2); got != "11111" {
		t.Errorf("backends %s of one /24, want 11111", got)
	}
	if got := knocks(r, stranger, 6000, 2); got != "22" {
		t.Errorf("backends %s of another /24, want 22", got)
	}
	r.now = r.now.Add(9 * time.Minute)
	if got := knocks(r, client, 6100, 1); got != "1" {
		t.Errorf("backend %s after 9m", got)
	}
	r.now = r.now.Add(9 * time.Minute)
	r.reload()
	if got := knocks(r, client, 6200, 1) + knocks(r, stranger, 6200, 1); got != "13" {
		t.Errorf("backends %s: the first client came 9m ago, the other 18m", got)
	}

	// A drain, a death and a reload that removes the backend end it; what was given instead stays.
	r.cfg.Services[0].Backends[0].State = forwarder.Draining
	r.reload()
	instead := knocks(r, client, 6300, 3)
	if instead[0] == '1' || instead[1] != instead[0] || instead[2] != instead[0] {
		t.Errorf("backends %s while the first is drained", instead)
	}
	r.cfg.Services[0].Backends[0].State = forwarder.Up
	r.reload()
	if got := knocks(r, client, 6400, 2); got != instead[:2] {
		t.Errorf("backends %s when the first is back, want %s", got, instead[:2])
	}
	gone := int(instead[0] - '1')
	r.cfg.Services[0].Backends = append(r.cfg.Services[0].Backends[:gone:gone], r.cfg.Services[0].Backends[gone+1:]...)
	r.reload()
	if got := knocks(r, client, 6500, 1); got == instead[:1] {
		t.Errorf("backend %s is gone", got)
	}
}

func TestAffinityDoesNotHoldAClientAtABackupOrAFullBackend(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) {
		s.Affinity = forwarder.Affinity{Timeout: time.Hour, Prefix4: 32, Prefix6: 128}
		s.Backends[2].Backup = true
		s.Backends[0].State, s.Backends[1].State = forwarder.Down, forwarder.Down
	})
	if got := knocks(r, client, 6000, 2); got != "33" {
		t.Fatalf("backends %s", got)
	}
	r.cfg.Services[0].Backends[0].State = forwarder.Up
	r.cfg.Services[0].Backends[0].MaxConnections = 2
	r.reload()
	if got := knocks(r, client, 6010, 2); got != "11" {
		t.Errorf("backends %s when a primary is back", got)
	}
	r.cfg.Services[0].Backends[1].State = forwarder.Up
	r.reload()
	if got := knocks(r, client, 6020, 1); got != "2" {
		t.Errorf("backend %s when the client's own is full", got)
	}
	r.cfg.Services[0].RefuseFull = true
	r.reload()
	turnedAway(r, client, 6030, 1, wire.BackendFull)
}

// spread returns where many connections go: of how many clients, and from which ports.
func spread(t *testing.T, key *[16]byte, seed byte, choice forwarder.Choice, from func(i int) string) string {
	cfg := config()
	cfg.HashKey = key
	cfg.Services[0].Scheduler, cfg.Services[0].Choice = sched.MH, choice
	snap, err := forwarder.Compile(cfg, 1, forwarder.Seed{seed}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, cfg)
	r.snap, r.eng = snap, nil
	if r.eng, err = forwarder.New(forwarder.Options{Seed: forwarder.Seed{seed}, Workers: 1, Connections: 4096, Neighbors: 256}, snap); err != nil {
		t.Fatal(err)
	}
	out := ""
	for i := range 60 {
		out += string(knock(r, from(i)))
	}
	return out
}

func TestWhatIsHashed(t *testing.T) {
	one := func(i int) string { return fmt.Sprintf("%s:%d", client, 6000+i) }
	many := func(i int) string { return fmt.Sprintf("10.20.40.%d:6000", i+1) }
	key := &[16]byte{1, 2, 3}
	for _, c := range []struct {
		hash      forwarder.Hash
		one, many bool // spread over backends
	}{
		{hash: forwarder.HashSource, many: true},
		{hash: forwarder.HashTuple, one: true, many: true},
		{hash: forwarder.HashSourcePort, one: true, many: true},
		{hash: forwarder.HashDest},
	} {
		choice := forwarder.Choice{Hash: c.hash, TableSize: 251}
		for _, from := range []struct {
			clients func(int) string
			want    bool
		}{{one, c.one}, {many, c.many}} {
			to := spread(t, key, 1, choice, from.clients)
			seen := map[rune]bool{}
			for _, b := range to {
				seen[b] = true
			}
			if (len(seen) == 3) != from.want || (len(seen) == 1) == from.want {
				t.Errorf("hash %d: %s", c.hash, to)
			}
			if other := spread(t, key, 2, choice, from.clients); other != to {
				t.Errorf("hash %d: another seed with the same key: %s, was %s", c.hash, other, to)
			}
		}
	}
	same := spread(t, nil, 1, forwarder.Choice{}, many)
	if spread(t, nil, 1, forwarder.Choice{}, many) != same || spread(t, nil, 2, forwarder.Choice{}, many) == same {
		t.Error("without a key the seed is the key")
	}
	if spread(t, &[16]byte{9}, 1, forwarder.Choice{}, many) == spread(t, key, 1, forwarder.Choice{}, many) {
		t.Error("another key, the same choices")
	}
}

func TestBoundedLoadOfAService(t *testing.T) {
	r := newChoiceRig(t, func(s *forwarder.Service) {
		s.Scheduler, s.Bounded = sched.MH, sched.ShareAll*5/4
	})
	count := map[byte]int{}
	for i := range 120 {
		count[knock(r, fmt.Sprintf("%s:%d", client, 6000+i))]++
	}
	for b, n := range count {
		if n > 51 {
			t.Errorf("backend %c has %d of 120 connections of one client", b, n)
		}
	}
	if len(count) != 3 {
		t.Errorf("%v", count)
	}
}

func TestAnyPartOfAConnectionThatIsNotMadeIsGivenBack(t *testing.T) {
	cfg := config()
	s := &cfg.Services[0]
	s.Reject, s.MaxConnections = forwarder.RejectDrop, 5
	s.SourcePorts = forwarder.PortRange{Lo: 5000, Hi: 5000} // one connection a backend
	r := newRig(t, cfg)
	for n := range 3 {
		newTCP(r, fmt.Sprintf("%s:%d", client, 6000+n)).handshake()
	}
	turnedAway(r, client, 6010, 20, wire.PortsExhausted)
	b := map[string]int64{}
	r.trc = func(rec *forwarder.Record) {
		for _, c := range rec.Candidates {
			b[c.Name] = c.Active
		}
	}
	turnedAway(r, client, 6040, 1, wire.PortsExhausted)
	for name, n := range b {
		if n != 1 {
			t.Errorf("%s has %d connections, want 1", name, n)
		}
	}
}

// A backend in slow start gets its share, with every scheduler.
func TestSlowStartThroughSnapshots(t *testing.T) {
	for _, name := range sched.Names() {
		kind, _ := sched.Parse(name)
		r := newChoiceRig(t, func(s *forwarder.Service) { s.Scheduler = kind })
		got, from := map[byte]int{}, 0
		for step := range 20 {
			r.cfg.Services[0].Backends[2].Share = uint32(forwarder.FullShare * (step + 1) / 20)
			r.reload()
			for range 30 {
				got[knock(r, fmt.Sprintf("10.20.%d.%d:6000", 50+from/250, from%250+1))]++
				from++
			}
			if most := (step+1)*max(got['1'], got['2'])/20 + 2; got['3'] > most && !kind.Hashes() {
				t.Errorf("%s: step %d: the new backend has %d connections, more than its share (%v)", name, step, got['3'], got)
			}
		}
		if n := got['3']; n < 80 || n > 201 { // by turn and by hash it is 600 * (1 - 2 ln 1.5) = 114
			t.Errorf("%s: the new backend got %d of 600 connections while its share grew evenly (%v)", name, n, got)
		}
	}
}
