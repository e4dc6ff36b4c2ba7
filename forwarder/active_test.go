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

// actives are the counts of the backends of the first service.
func actives(r *rig) (counts []int64) {
	for _, l := range r.snap.Loads() {
		if l.Service == r.cfg.Services[0].Name {
			counts = append(counts, l.Active)
		}
	}
	return counts
}

// TestInDSRAConnectionCountsUntilTheClientsFIN: how the backend closes passes us by. The entry stays for late packets.
func TestInDSRAConnectionCountsUntilTheClientsFIN(t *testing.T) {
	cfg := inMode(forwarder.L2DSR, forwarder.L3DSROptions{})
	cfg.Services[0].Scheduler = sched.LC
	r := newRig(t, cfg)
	say := func(port int, flags string, seq uint32) {
		r.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, port), Dst: vip + ":80", TCP: flags, Seq: seq,
			Ack: 500}).Packet(t))
	}
	expect := func(after string, want ...int64) {
		t.Helper()
		if got := actives(r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after %s the backends count %v, want %v", after, got, want)
		}
	}
	for port := range 6 {
		say(5000+port, "S", 100)
		say(5000+port, "A", 101)
	}
	expect("six handshakes", 2, 2, 2)
	say(5000, "FA", 101) // a connection of the first backend
	expect("a FIN", 1, 2, 2)
	say(5000, "FA", 101)
	say(5000, "A", 102)
	say(5000, "R", 102)
	expect("what follows a FIN", 1, 2, 2)
	say(5001, "FA", 0x7fffffff)
	expect("a FIN far outside the window", 1, 2, 2)
	say(5001, "R", 101)
	expect("an RST", 1, 1, 2)
	say(5000, "S", 9000)
	expect("a new connection in place of the closed one", 2, 1, 2)
	say(5002, "FA", 101)
	say(5002, "S", 9000)
	expect("a new connection in place of a closing one", 2, 2, 1)
	r.tick(3 * time.Hour)
	r.tick(3 * time.Hour)
	expect("all idle times", 0, 0, 0)
}

// TestInNATAConnectionCountsUntilBothHaveClosed: there naru sees both ends.
func TestInNATAConnectionCountsUntilBothHaveClosed(t *testing.T) {
	r := newRig(t, config())
	c := newTCP(r, client+":5000")
	c.handshake()
	for _, step := range []struct {
		what string
		do   func() wire.Packet
		want string
	}{
		{"the client's FIN", func() wire.Packet { return c.fromClient("FA", 101, 501) }, "[1 0 0]"},
		{"its acknowledgement", func() wire.Packet { return c.fromServer("A", 501, 102) }, "[1 0 0]"},
		{"the backend's FIN", func() wire.Packet { return c.fromServer("FA", 501, 102) }, "[1 0 0]"},
		{"the last acknowledgement", func() wire.Packet { return c.fromClient("A", 102, 502) }, "[0 0 0]"},
	} {
		step.do()
		if got := fmt.Sprint(actives(r)); got != step.want {
			t.Errorf("after %s the backends count %s, want %s", step.what, got, step.want)
		}
	}
}
