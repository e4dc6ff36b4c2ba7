package forwarder_test

import (
	"fmt"
	"testing"
	"time"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestANextHopThatDoesNotAnswerLeavesPlacesToOthers(t *testing.T) {
	cfg := config()
	cfg.Neighbors = nil
	cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
	cfg.Services[2].Backends = cfg.Services[2].Backends[1:2] // UDP on 53, of server02
	r := newRig(t, cfg)
	for n := range 200 {
		r.put(0, fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1000+n), Dst: vip + ":80", TCP: "S"}).Packet(t))
	}
	for round := range 100 { // packets for the neighbour that does answer come and go behind those that wait
		r.tick(time.Millisecond)
		p := fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, 1000+round), Dst: vip + ":53", UDP: true}).Packet(t)
		v, why, _ := r.put(0, p)
		if round == 0 {
			if v != wire.Held {
				t.Fatalf("a packet for another next hop: %v %v", v, why)
			}
			r.refused(1, arpFrame(serverMAC[1], serverLeg, true, server2, "10.10.10.254"), wire.NeighborLearned)
		} else if v != wire.Transmit {
			t.Fatalf("packet %d: %v %v", round, v, why)
		}
	}
	for range 20 {
		r.tick(time.Second)
	}
	if c := r.eng.Counters(); c.Held != 0 || !c.Balanced() || c.ByReason[wire.NeighUnresolved] != 200 {
		t.Errorf("held %d, neigh_unresolved %d", c.Held, c.ByReason[wire.NeighUnresolved])
	}
}

func TestHeldPacketsLeaveInTheOrderInWhichTheyCame(t *testing.T) {
	cfg := config()
	cfg.Neighbors = nil
	r := newRig(t, cfg) // three backends in turn, one of which never answers
	want := map[int][]uint16{}
	for n := range 24 {
		port := uint16(2000 + n)
		p := fromClient(wiretest.Frame{Src: fmt.Sprintf("%s:%d", client, port), Dst: vip + ":80", TCP: "S", Seq: uint32(port)})
		if v, why, _ := r.put(0, p.Packet(t)); v != wire.Held {
			t.Fatalf("packet %d: %v %v", n, v, why)
		}
		want[n%3] = append(want[n%3], port)
	}
	for server := range 2 {
		out := r.refused(1, arpFrame(serverMAC[server], serverLeg, true, fmt.Sprintf("10.10.10.%d", server+1),
			"10.10.10.254"), wire.NeighborLearned)
		var got []uint16
		for _, f := range out {
			p := parsed(t, f.bytes)
			seq, _ := p.Seq()
			got = append(got, uint16(seq))
		}
		if fmt.Sprint(got) != fmt.Sprint(want[server]) {
			t.Errorf("server %d got %v, want %v", server+1, got, want[server])
		}
	}
}

func TestAStaticNeighborThatIsTakenAwayIsAskedForAgain(t *testing.T) {
	r := newRig(t, config())
	r.client(synFrame())
	forgetServers(&r.cfg)
	r.reload()
	r.put(0, synFrame().Packet(t))
	r.refused(1, arpFrame(wire.MAC{2, 0, 0, 0, 9, 9}, serverLeg, true, server1, "10.10.10.254"), wire.NeighborLearned)
	_, _, out := r.put(0, synFrame().Packet(t))
	if len(out) != 1 || wire.MAC(out[0].bytes[:6]) != (wire.MAC{2, 0, 0, 0, 9, 9}) {
		t.Error("the static neighbour of before is still used")
	}
}

func TestANewMACAddressOfALegIsAnnounced(t *testing.T) {
	r := newRig(t, config())
	r.tick(0)
	r.tick(10 * time.Second)
	r.tick(10 * time.Second)
	r.cfg.Legs[0].MAC = wire.MAC{2, 0, 0, 0, 7, 7}
	r.reload()
	announced := false
	for _, f := range r.tick(time.Second) {
		if f.leg == 0 && f.bytes[13] == 0x06 && wire.Addr4(f.bytes[28:]).String() == vip {
			announced = wire.MAC(f.bytes[22:]) == r.cfg.Legs[0].MAC
		} else if f.leg == 1 {
			t.Errorf("announced on a leg that did not change: %x", f.bytes)
		}
	}
	if !announced {
		t.Error("nobody was told")
	}
}

func TestAnICMPErrorFromAnAddressThatCannotBeIsDropped(t *testing.T) {
	for _, fam := range families {
		r := newRig(t, config())
		out := r.client(wiretest.Frame{Src: fam.at(fam.client, 51000), Dst: fam.at(fam.vip, 80), TCP: "S"})
		impossible := map[int]string{20: "127.0.0.1", 40: "::1"}[fam.head]
		for _, src := range []string{impossible, fam.vip, fam.local} {
			f := fromServer(1, wiretest.Frame{Src: src, Dst: fam.local, ICMP: append(fam.unreachable, out.IP()...)})
			r.refused(1, f.Packet(t), wire.MartianSource)
		}
	}
}
