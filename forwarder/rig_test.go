package forwarder_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/sched"
)

// The classic example: client — router — [client leg] naru [backend leg] — server01-03.
var (
	routerMAC = wire.MAC{2, 0, 0, 0, 0, 1}
	clientLeg = wire.MAC{2, 0, 0, 0, 0, 2}
	serverLeg = wire.MAC{2, 0, 0, 0, 0, 3}
	serverMAC = [3]wire.MAC{{2, 0, 0, 0, 1, 1}, {2, 0, 0, 0, 1, 2}, {2, 0, 0, 0, 1, 3}}
)

const (
	client  = "10.20.40.80"
	vip     = "200.100.50.25"
	local   = "10.10.10.200"
	server1 = "10.10.10.1"
	server2 = "10.10.10.2"

	client6 = "2001:db8:20::80"
	vip6    = "2001:db8:50::25"
	local6  = "2001:db8:10::c8"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var timeouts = forwarder.Timeouts{TCPSyn: 30 * time.Second, TCPEstablished: 2*time.Hour + 4*time.Minute,
	TCPClosing: 4 * time.Minute, UDP: 5 * time.Minute, UDPUnreplied: 30 * time.Second}

// config is the classic example for both families, TCP on 80 and UDP on 53, as a starting point.
func config() forwarder.Config {
	cfg := forwarder.Config{
		Legs: []forwarder.Leg{
			{Name: "eth0", MAC: clientLeg, MTU: 1500, Client: true,
				Addrs: []netip.Prefix{netip.MustParsePrefix("200.100.50.2/24"), netip.MustParsePrefix("2001:db8:50::2/64")}},
			{Name: "eth1", MAC: serverLeg, MTU: 1500, Backend: true,
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.10.10.254/24"), netip.MustParsePrefix("2001:db8:10::fe/64")}},
		},
		VIPs: []forwarder.VIP{{Addr: addr(vip)}, {Addr: addr(vip6)}},
		Routes: []forwarder.Route{
			{Prefix: netip.MustParsePrefix("10.10.10.0/24"), Leg: 1},
			{Prefix: netip.MustParsePrefix("200.100.50.0/24"), Leg: 0},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Leg: 0, Gateway: addr("200.100.50.1")},
			{Prefix: netip.MustParsePrefix("2001:db8:10::/64"), Leg: 1},
			{Prefix: netip.MustParsePrefix("2001:db8:50::/64"), Leg: 0},
			{Prefix: netip.MustParsePrefix("::/0"), Leg: 0, Gateway: addr("2001:db8:50::1")},
		},
		Neighbors: []forwarder.Neighbor{
			{Leg: 0, Addr: addr("200.100.50.1"), MAC: routerMAC, Static: true},
			{Leg: 0, Addr: addr("2001:db8:50::1"), MAC: routerMAC, Static: true},
		},
	}
	for i, mac := range serverMAC {
		for _, prefix := range []string{"10.10.10.", "2001:db8:10::"} {
			cfg.Neighbors = append(cfg.Neighbors, forwarder.Neighbor{Leg: 1, Addr: addr(prefix + string(rune('1'+i))),
				MAC: mac, Static: true})
		}
	}
	for _, proto := range []uint8{wire.ProtoTCP, wire.ProtoUDP} {
		cfg.Services = append(cfg.Services, service("web", vip, local, "10.10.10.", proto),
			service("web6", vip6, local6, "2001:db8:10::", proto))
	}
	return cfg
}

func service(name, vip, local, prefix string, proto uint8) forwarder.Service {
	port := uint16(80)
	if proto == wire.ProtoUDP {
		name, port = name+"-udp", 53
	}
	s := forwarder.Service{Name: name, VIP: addr(vip), Proto: proto, Ports: []forwarder.PortRange{{Lo: port, Hi: port}},
		Scheduler: sched.RR, Locals: []forwarder.Local{{Addr: addr(local)}},
		SourcePorts: forwarder.PortRange{Lo: 1024, Hi: 32767}, PortRest: time.Minute, Timeouts: timeouts}
	for i := range serverMAC {
		n := string(rune('1' + i))
		s.Backends = append(s.Backends, forwarder.Backend{Name: "server0" + n, Addr: addr(prefix + n), Port: port + 8000,
			Weight: 1})
	}
	return s
}

// rig is an engine with a clock, and what it sent last.
type rig struct {
	t    testing.TB
	eng  *forwarder.Engine
	cfg  forwarder.Config
	snap *forwarder.Snapshot
	now  wire.Time
	out  *forwarder.Output
	trc  forwarder.Trace
	lost uint64
}

func newRig(t testing.TB, cfg forwarder.Config) *rig { return newRigSized(t, cfg, 4096) }

func newRigSized(t testing.TB, cfg forwarder.Config, connections int) *rig {
	t.Helper()
	r := &rig{t: t, cfg: cfg, now: 1e9, out: forwarder.NewOutput(len(cfg.Legs))}
	r.snap = r.compile(nil)
	var mem conntrack.Memory
	if connections > 100_000 {
		mem = tableMemory(t, connections)
	}
	eng, err := forwarder.New(forwarder.Options{Seed: forwarder.Seed{1}, Workers: 1, Connections: connections,
		Neighbors: 256, Memory: mem}, r.snap)
	if err != nil {
		t.Fatal(err)
	}
	r.eng = eng
	return r
}

func (r *rig) compile(prev *forwarder.Snapshot) *forwarder.Snapshot {
	r.t.Helper()
	snap, err := forwarder.Compile(r.cfg, 1, forwarder.Seed{1}, prev)
	if err != nil {
		r.t.Fatal(err)
	}
	return snap
}

// reload compiles r.cfg anew and hands it to the engine.
func (r *rig) reload() {
	r.t.Helper()
	r.snap = r.compile(r.snap)
	r.eng.Swap(r.snap)
}

// sent is a frame that left.
type sent struct {
	leg   int
	bytes []byte
	frame wire.Frame
}

func (r *rig) collect() (frames []sent) {
	for leg, fs := range r.out.Legs {
		for _, f := range fs {
			frames = append(frames, sent{leg, bytes.Clone(f.Bytes()), *f})
		}
	}
	r.out.Reset()
	return frames
}

// put gives the engine one packet on a leg and returns its verdict and reason and what was sent.
func (r *rig) put(leg int, p wire.Packet) (wire.Verdict, wire.Reason, []sent) {
	r.t.Helper()
	p.Leg = uint8(leg)
	batch := []wire.Packet{p}
	r.eng.Process(r.now, batch, r.out, r.trc)
	out := r.collect()
	if c := r.eng.Counters(); !c.Balanced() {
		r.t.Fatalf("counters do not balance: %+v", c)
	}
	return batch[0].Verdict, batch[0].Reason, out
}

func (r *rig) tick(d time.Duration) []sent {
	r.now = r.now.Add(d)
	r.eng.Tick(r.now, r.out, r.trc)
	return r.collect()
}

// fromClient and fromServer fill in the MAC addresses of a frame that arrives.
func fromClient(f wiretest.Frame) wiretest.Frame {
	f.SrcMAC, f.DstMAC = routerMAC, clientLeg
	return f
}

func fromServer(n int, f wiretest.Frame) wiretest.Frame {
	f.SrcMAC, f.DstMAC = serverMAC[n-1], serverLeg
	return f
}

// client and server put a frame and want it transmitted as one frame, which is returned parsed.
func (r *rig) client(f wiretest.Frame) wire.Packet { return r.forwarded(0, fromClient(f)) }

func (r *rig) server(n int, f wiretest.Frame) wire.Packet { return r.forwarded(1, fromServer(n, f)) }

func (r *rig) forwarded(leg int, f wiretest.Frame) wire.Packet {
	r.t.Helper()
	v, why, out := r.put(leg, f.Packet(r.t))
	if v != wire.Transmit || len(out) != 1 {
		r.t.Fatalf("%+v: %v %v, %d frames sent; want one transmitted", f, v, why, len(out))
	}
	if err := wiretest.Wrong(out[0].bytes); err != nil {
		r.t.Fatalf("%+v: %v", f, err)
	}
	return parsed(r.t, out[0].bytes)
}

// refused puts a frame and wants it to end with a reason; what was sent for it is returned.
func (r *rig) refused(leg int, p wire.Packet, want wire.Reason) []sent {
	r.t.Helper()
	v, why, out := r.put(leg, p)
	if why != want || v != want.Verdict() {
		r.t.Fatalf("%v %v; want %v %v", v, why, want.Verdict(), want)
	}
	return out
}

func parsed(t testing.TB, b []byte) wire.Packet {
	t.Helper()
	p := wiretest.Packet(b)
	if why := p.ParseLink(); why != wire.ReasonNone {
		t.Fatal(why)
	}
	if why := p.ParseNetwork(); why != wire.ReasonNone {
		t.Fatalf("%v in %x", why, b)
	}
	return p
}

// flowText is "10.0.0.1:1 > 10.0.0.2:2".
func flowText(p wire.Packet) string {
	return netip.AddrPortFrom(p.Flow.Src.Netip(), p.Flow.SrcPort).String() + " > " +
		netip.AddrPortFrom(p.Flow.Dst.Netip(), p.Flow.DstPort).String()
}
