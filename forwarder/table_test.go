package forwarder_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// TestSYNsAnHourApart replays a capture of SYNs an hour apart, in the capture's time: ten of one client to 10.0.0.2, and
// between them, ten seconds before the next, ten of that to 10.0.0.3. Each is a connection of its own, scheduled in its turn,
// and gone before the next.
func TestSYNsAnHourApart(t *testing.T) {
	packets, err := wiretest.ReadCapture(filepath.Join(wiretest.Captures(t), "flows", "zk-rotation.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	for _, vip := range []string{"10.0.0.2", "10.0.0.3"} {
		cfg := config()
		cfg.VIPs = []forwarder.VIP{{Addr: addr(vip)}}
		cfg.Services = cfg.Services[:1]
		cfg.Services[0].VIP, cfg.Services[0].Ports = addr(vip), []forwarder.PortRange{{Lo: 0, Hi: 65535}}
		r := newRig(t, cfg)
		var to []string
		active := map[uint64]int{}
		for _, p := range packets {
			for at := wire.Time(1e9).Add(p.At); r.now < at; {
				r.tick(min(500*time.Millisecond, at.Sub(r.now)))
			}
			q := wiretest.Packet(p.Frame)
			copy(q.Bytes()[:6], clientLeg[:])
			copy(q.Bytes()[6:12], routerMAC[:])
			v, why, out := r.put(0, q)
			if why == wire.NotOurAddress {
				continue // the other half of the capture
			}
			if v != wire.Transmit {
				t.Fatalf("%v: %v %v", p.At, v, why)
			}
			to = append(to, parsed(t, out[0].bytes).Flow.Dst.String())
			active[r.eng.Counters().Active]++
		}
		turn := slices.Repeat([]string{server1, server2, "10.10.10.3"}, 4)[:10]
		if !slices.Equal(to, turn) || len(active) != 1 || active[1] != 10 {
			t.Errorf("%s: sent to %v, connections at a time %v", vip, to, active)
		}
	}
}

// TestFewPlacesManyFlows goes through what Click's rewriters do in a table of three or ten places (their tests of capacity):
// new flows find a place, the oldest unproven gives way, what is proven stays, and what was not carried is counted.
func TestFewPlacesManyFlows(t *testing.T) {
	for _, places := range []int{3, 10} {
		r := newRigSized(t, config(), places)
		talk := func(n int) wiretest.Frame {
			return fromClient(wiretest.Frame{Src: fmt.Sprintf("10.1.0.%d:7", n), Dst: vip + ":53", UDP: true})
		}
		kept := talk(0)
		for range 4 {
			r.client(kept)
		}
		flows := map[int]wire.Flow{}
		for n := 1; n <= 3*places; n++ {
			flows[n] = r.client(talk(n)).Flow
			r.now = r.now.Add(300 * time.Millisecond) // an order of time finer than the table's has no meaning
			r.tick(0)
		}
		answer := func(n int) (wire.Verdict, wire.Reason) {
			f := flows[n]
			v, why, _ := r.put(1, fromServer(int(f.Dst[15]), wiretest.Frame{Src: fmt.Sprintf("%s:%d", f.Dst, f.DstPort),
				Dst: fmt.Sprintf("%s:%d", f.Src, f.SrcPort), UDP: true}).Packet(t))
			return v, why
		}
		for n := 1; n <= 3*places; n++ { // all but one place went round
			v, why := answer(n)
			if there := n > 3*places-(places-1); there != (v == wire.Transmit) || !there && why != wire.NoConnection {
				t.Errorf("%d places: the answer to flow %d of %d: %v %v", places, n, 3*places, v, why)
			}
		}
		for n := 2*places + 2; n <= 3*places; n++ { // now they talk, and stay
			r.client(talk(n))
		}
		r.refused(0, talk(200).Packet(t), wire.TableFull)
		r.client(kept)
		c := r.eng.Counters()
		if int(c.EvictedQuestions) != 2*places+1 || int(c.Active) != places || c.ByReason[wire.TableFull] != 1 {
			t.Errorf("%d places: %d gave way, %d connections, %d refused", places, c.EvictedQuestions, c.Active, c.ByReason[wire.TableFull])
		}
		r.tick(timeouts.UDP + time.Second)
		r.client(talk(200))
	}
}
