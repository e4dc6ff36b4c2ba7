package forwarder_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/sched"
)

// How long to wait for the kernel: long where the engine sent something, since it comes at once and only a busy
// machine is late; short where it did not.
const (
	waitForFrame = 20 * time.Second
	waitForNone  = 15 * time.Millisecond
	maxReports   = 10 // differing packets of one test that are printed
)

// oracleRun puts each packet through the kernel's NAT and through an engine with the same services, and compares.
type oracleRun struct {
	*rig
	oracle *wiretest.Oracle

	// explain returns why a packet may differ, or nothing.
	explain func(o *outcome) string
	// parts are the fragments that the kernel and naru sent, by the side that they left on: each forwards them in its own
	// time, and full NAT with an identification of its own.
	parts     [2][2][][]byte
	fragments bool // some have gone in

	// silent are numbers of packets for which the kernel is known to send nothing, whatever the engine does; with plain it
	// sends on as it is what a backend sends and it does not translate.
	silent []int
	plain  bool

	fates     [numFates]int
	drops     map[wire.Reason]int // of what both dropped, by the engine's reason
	explained map[string]int
}

// fate is what the comparison of one packet said.
type fate int

const (
	equal     fate = iota // the same bytes came out
	dropped               // nothing came out of either
	answered              // both sent an error, the same but for what each host fills in as it likes
	explained             // they differ, and may
	inParts               // a fragment: what they make together is compared at the end
	differs
	numFates
)

func (f fate) String() string {
	return [...]string{"equal", "dropped by both", "answered by both", "explained",
		"fragments", "different"}[f]
}

// outcome is what became of one packet.
type outcome struct {
	number  int
	side    wiretest.Side
	in      []byte
	reason  wire.Reason // of the engine
	kernel  []wiretest.OracleFrame
	naru    []sent
	differs []string // lines of text
}

// newOracleRun makes both, in mode FullNAT or NAT. mtu is that of the clients' and of the backend's side.
func newOracleRun(t *testing.T, mode forwarder.Mode, mtu [2]int, services []wiretest.OracleService) *oracleRun {
	t.Helper()
	make := wiretest.NewOracle
	if mode == forwarder.NAT {
		make = wiretest.NewDNATOracle
	}
	oracle := make(t, mtu, services)
	cfg := oracleConfig(mtu, oracle.MACs(), services)
	for i := range cfg.Services {
		cfg.Services[i].Mode = mode
	}
	if mode == forwarder.NAT { // what naru says of its own comes from the kernel's address
		cfg.Legs[1].Addrs = []netip.Prefix{netip.PrefixFrom(wiretest.OracleIPv4.Local, 24),
			netip.PrefixFrom(wiretest.OracleIPv6.Local, 64)}
	}
	return &oracleRun{rig: newRig(t, cfg), oracle: oracle, plain: mode == forwarder.NAT,
		explain: func(*outcome) string { return "" }, drops: map[wire.Reason]int{}, explained: map[string]int{}}
}

// oracleConfig is a configuration of the engine that says what the oracle's rules say.
func oracleConfig(mtu [2]int, macs [2]wire.MAC, services []wiretest.OracleService) forwarder.Config {
	a, b := wiretest.OracleIPv4, wiretest.OracleIPv6
	cfg := forwarder.Config{
		Legs: []forwarder.Leg{{Name: "a1", MAC: macs[0], MTU: mtu[0], Client: true},
			{Name: "b0", MAC: macs[1], MTU: mtu[1], Backend: true}},
		Routes: []forwarder.Route{
			{Prefix: netip.PrefixFrom(a.Local, 24), Leg: 1}, {Prefix: netip.PrefixFrom(b.Local, 64), Leg: 1},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Leg: 0, Gateway: addr("198.18.255.2")},
			{Prefix: netip.MustParsePrefix("::/0"), Leg: 0, Gateway: addr("fd00:a::2")},
		},
	}
	for leg, addrs := range [][]netip.Addr{{addr("198.18.255.2"), addr("fd00:a::2")}, {a.Backend, b.Backend}} {
		for _, n := range addrs {
			cfg.Neighbors = append(cfg.Neighbors, forwarder.Neighbor{Leg: leg, Addr: n, MAC: wiretest.OracleNeighbors[leg],
				Static: true})
		}
	}
	for i, s := range services {
		vip := forwarder.VIP{Addr: s.VIP.Addr(), Reject: forwarder.RejectDrop}
		if !slices.Contains(cfg.VIPs, vip) {
			cfg.VIPs = append(cfg.VIPs, vip)
		}
		local := a.Local
		if s.VIP.Addr().Is6() {
			local = b.Local
		}
		cfg.Services = append(cfg.Services, forwarder.Service{Name: fmt.Sprintf("s%d", i), VIP: s.VIP.Addr(), Proto: s.Proto,
			Ports: []forwarder.PortRange{{Lo: s.VIP.Port(), Hi: s.VIP.Port()}}, Scheduler: sched.RR,
			Backends: []forwarder.Backend{{Name: "b", Addr: s.Backend.Addr(), Port: s.Backend.Port(), Weight: 1}},
			Locals:   []forwarder.Local{{Addr: local}}, SourcePorts: forwarder.PortRange{Lo: 1, Hi: 65535},
			KeepClientPort: true, Timeouts: timeouts, Reject: forwarder.RejectDrop, Midstream: forwarder.MidstreamPickup})
	}
	return cfg
}

// step puts a frame through both and returns what the comparison says and what the kernel sent.
func (r *oracleRun) step(number int, side wiretest.Side, frame []byte) (fate, []wiretest.OracleFrame) {
	r.t.Helper()
	r.oracle.Address(side, frame)
	o := outcome{number: number, side: side, in: frame}
	r.now = r.now.Add(time.Millisecond)
	_, o.reason, o.naru = r.put(int(side), wiretest.Packet(frame))
	wait := waitForNone
	if len(o.naru) > 0 && (!slices.Contains(r.silent, number) || r.plain && side == wiretest.BackendSide) {
		wait = waitForFrame
	}
	fragment := wiretest.Fragment(frame)
	if fragment {
		wait, r.fragments = waitForNone, true
	}
	for _, f := range o.naru {
		if fragment && wiretest.Fragment(f.bytes) {
			r.parts[naruParts][f.leg] = append(r.parts[naruParts][f.leg], f.bytes)
		}
	}
	o.kernel = r.whole(r.oracle.Step(r.t, side, frame, wait))
	if fragment {
		r.fates[inParts]++
		return inParts, o.kernel
	}
	for len(o.kernel) == 0 && wait == waitForFrame { // fragments may have come late
		more := r.oracle.Await(r.t, wait)
		if len(more) == 0 {
			break
		}
		o.kernel = r.whole(more)
	}
	f := r.judge(&o)
	r.fates[f]++
	return f, o.kernel
}

// Of oracleRun.parts.
const (
	kernelParts = iota
	naruParts
)

// whole puts aside the fragments among what the kernel sent, once some have gone in.
func (r *oracleRun) whole(frames []wiretest.OracleFrame) []wiretest.OracleFrame {
	if !r.fragments {
		return frames
	}
	return slices.DeleteFunc(frames, func(f wiretest.OracleFrame) bool {
		if !wiretest.Fragment(f.Frame) {
			return false
		}
		r.parts[kernelParts][f.Side] = append(r.parts[kernelParts][f.Side], f.Frame)
		return true
	})
}

// joinParts wants the datagrams that the fragments make to be the same, and returns how many there are and how many more
// the kernel has: what naru refused by name.
func (r *oracleRun) joinParts() (same, more int) {
	r.t.Helper()
	r.whole(r.oracle.Await(r.t, waitForNone))
	for side := range 2 {
		kernel, _ := wiretest.Datagrams(r.parts[kernelParts][side])
		naru, left := wiretest.Datagrams(r.parts[naruParts][side])
		for _, d := range kernel {
			if slices.ContainsFunc(naru, func(n []byte) bool { return bytes.Equal(n, d) }) {
				same++
			} else {
				more++
			}
		}
		for _, d := range naru {
			if !slices.ContainsFunc(kernel, func(k []byte) bool { return bytes.Equal(k, d) }) {
				r.t.Errorf("side %d: the kernel has no such datagram: %d bytes %x", side, len(d), d[:min(len(d), 120)])
			}
		}
		if left > 0 {
			r.t.Logf("side %d: naru forwarded %d incomplete datagrams", side, left)
		}
	}
	return same, more
}

// judge compares.
func (r *oracleRun) judge(o *outcome) fate {
	r.t.Helper()
	o.compare()
	switch {
	case len(o.differs) > 0:
		if why := r.explain(o); why != "" {
			r.explained[why]++
			return explained
		}
		if r.fates[differs] < maxReports {
			r.t.Errorf("packet %d from side %d, %s\n\t%s", o.number, o.side, o.summary(), strings.Join(o.differs, "\n\t"))
		}
		return differs
	case len(o.kernel) == 0:
		r.drops[o.reason]++
		return dropped
	case o.answer():
		return answered
	}
	return equal
}

// answer reports whether what came out is an error about what went in, rather than the packet.
func (o *outcome) answer() bool {
	return len(o.kernel) == 1 && len(o.naru) == 1 && o.kernel[0].Side == o.side && o.naru[0].leg == int(o.side)
}

func (o *outcome) summary() string {
	return fmt.Sprintf("the engine says %v; kernel %d, naru %d frames; in %x", o.reason, len(o.kernel), len(o.naru),
		o.in[:min(len(o.in), 120)])
}

func (o *outcome) compare() {
	if len(o.kernel) != len(o.naru) {
		o.differs = append(o.differs, fmt.Sprintf("frames out: kernel %d, naru %d", len(o.kernel), len(o.naru)))
		for _, f := range o.kernel {
			o.differs = append(o.differs, fmt.Sprintf("kernel on side %d: %x", f.Side, f.Frame[:min(len(f.Frame), 120)]))
		}
		return
	}
	for i := range o.kernel {
		k, n := o.kernel[i], o.naru[i]
		if int(k.Side) != n.leg {
			o.differs = append(o.differs, fmt.Sprintf("out on side: kernel %d, naru %d", k.Side, n.leg))
		}
		diffs := wiretest.Differences(k.Frame, n.bytes)
		if o.answer() {
			diffs = ofOurChoice(diffs)
		}
		for _, d := range diffs {
			o.differs = append(o.differs, fmt.Sprintf("%s: kernel %s, naru %s", d.Field, d.A, d.B))
		}
	}
}

// ofOurChoice leaves out the fields of an ICMP error that each host fills in as it likes. The kernel's errors have class
// selector 6, an id and no DF, or a flow label; naru's have class 0, DF and no id, and no label.
func ofOurChoice(diffs []wiretest.Difference) []wiretest.Difference {
	choice := []string{"ip tos", "ip id", "ip flags, fragment offset", "ip checksum", "ip version, class, flow label"}
	return slices.DeleteFunc(diffs, func(d wiretest.Difference) bool { return slices.Contains(choice, d.Field) })
}

// report logs the counts.
func (r *oracleRun) report() {
	r.t.Helper()
	var text []string
	for f, n := range r.fates {
		text = append(text, fmt.Sprintf("%d %v", n, fate(f)))
	}
	for why, n := range r.explained {
		text = append(text, fmt.Sprintf("%d: %s", n, why))
	}
	r.t.Logf("%s; drops %v", strings.Join(text, ", "), r.drops)
}
