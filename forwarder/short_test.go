package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// twins are two engines that are given the same. One of them is traced, so that every packet goes the whole way there.
type twins struct {
	t     *testing.T
	rand  *rand.Rand
	rigs  [2]*rig
	flows []wire.Flow // as they went to backends, the latest last
	long  [][]byte    // packets of at least 1200 bytes that went there, from the IP header on, the latest last
	sent  int
	talks int // connections that were given whole
	told  int // errors of routers about them
}

// shortModes are all modes, and tunnels over both families.
var shortModes = map[string]forwarder.Config{
	"fullnat": config(), "nat": inMode(forwarder.NAT, forwarder.L3DSROptions{}),
	"l2dsr": inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), "dscp": inMode(forwarder.L3DSR, byDSCP),
	"ipip": inMode(forwarder.L3DSR, byIPIP), "gue": inMode(forwarder.L3DSR, byGUE), "no outer source": withoutSource(),
}

// withoutSource is a configuration in which a tunnel over IPv6 cannot be made; TCP goes to the same backends without one.
func withoutSource() forwarder.Config {
	cfg := inMode(forwarder.L3DSR, byIPIP)
	cfg.Services[1].Mode, cfg.Services[1].L3DSR = forwarder.L2DSR, forwarder.L3DSROptions{}
	cfg.Legs[1].Addrs = cfg.Legs[1].Addrs[:1]
	return cfg
}

// TestTheShortWayIsTheWholeWay gives thousands of packets of every kind, with reloads, silences, lost neighbours and what
// routers tell, to an engine that may take the short way and to one that may not.
func TestTheShortWayIsTheWholeWay(t *testing.T) {
	for name, cfg := range shortModes {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(3) {
				tw := &twins{t: t, rand: rand.New(rand.NewPCG(seed, 7))}
				for i := range cfg.Neighbors {
					cfg.Neighbors[i].Static = seed > 0 // else they are asked for
				}
				for i := range tw.rigs {
					tw.rigs[i] = newRigSized(t, cfg, []int{64, 64, 12}[seed]) // the last has too little room
				}
				tw.rigs[1].trc = func(*forwarder.Record) {}
				for range 400 {
					tw.step()
				}
				if tw.sent < 300 || tw.told < 10 {
					t.Errorf("seed %d: %d frames sent and %d errors about them tell too little", seed, tw.sent, tw.told)
				}
			}
		})
	}
}

// step gives both a batch, now and then after something else has happened.
func (tw *twins) step() {
	r := tw.rand
	switch n := r.IntN(100); {
	case n == 0:
		tw.reload()
	case n < 4:
		tw.advance(wire.Time(r.Int64N(40e9)))
	case n < 10:
		tw.advance(wire.Time(r.Int64N(2e9)))
	case n < 12:
		tw.talk()
	default:
		tw.advance(wire.Time(r.Int64N(1e6)))
	}
	legs, frames := make([]uint8, 1+r.IntN(8)), []wire.Packet(nil)
	for i := range legs {
		leg, f := tw.packet()
		legs[i] = leg
		p := f.Packet(tw.t)
		tw.damage(&p)
		frames = append(frames, p)
	}
	tw.give(legs, frames)
}

// give gives both a batch.
func (tw *twins) give(legs []uint8, frames []wire.Packet) {
	var results [2]string
	for i, rig := range tw.rigs {
		batch := make([]wire.Packet, len(frames))
		for k := range batch {
			batch[k] = frames[k]
			batch[k].Buf, batch[k].Leg = slices.Clone(frames[k].Buf), legs[k]
		}
		rig.eng.Process(rig.now, batch, rig.out, rig.trc)
		for k := range batch {
			results[i] += fmt.Sprintln(batch[k].Verdict, batch[k].Reason)
		}
		results[i] += tw.output(rig, i == 0)
	}
	tw.compare(results)
}

// talk gives both all packets of a connection that ends well, one by one, and a late one.
func (tw *twins) talk() {
	tw.talks++
	n := tw.rand.IntN(2)
	end, at := ends[2*n], (&families[n]).at // TCP
	f := fromClient(wiretest.Frame{Src: strings.Replace(end.client, "51000", fmt.Sprint(52000+tw.talks), 1), Dst: end.vip})
	back, before := fromServer(1, wiretest.Frame{}), len(tw.flows)
	for i, step := range []struct {
		leg      uint8
		flags    string
		seq, ack uint32
		size     int
	}{
		{0, "S", 100, 0, 0}, {1, "SA", 300, 101, 0}, {0, "A", 101, 301, 0}, {0, "PA", 101, 301, 3}, {1, "A", 301, 104, 0},
		{0, "FA", 104, 301, 0}, {1, "FA", 301, 105, 0}, {0, "A", 105, 302, 0}, {0, "A", 105, 302, 0},
	} {
		g := [2]wiretest.Frame{f, back}[step.leg]
		g.TCP, g.Seq, g.Ack, g.Payload = step.flags, step.seq, step.ack, make([]byte, step.size)
		tw.give([]uint8{step.leg}, []wire.Packet{g.Packet(tw.t)})
		if i == 0 && len(tw.flows) == before {
			return // refused, or inside a tunnel
		}
		flow := tw.flows[before]
		back.Src, back.Dst = at(flow.Dst.String(), flow.DstPort), at(flow.Src.String(), flow.SrcPort)
	}
}

// output tells what an engine sends and what it has counted.
func (tw *twins) output(rig *rig, learn bool) (s string) {
	for _, f := range rig.collect() {
		s += fmt.Sprintf("%d %x %+v\n", f.leg, f.bytes, f.frame.Offload)
		if p := wiretest.Packet(f.bytes); learn && f.leg == 1 && p.ParseLink() == wire.ReasonNone &&
			p.ParseNetwork() == wire.ReasonNone && p.Flow.DstPort != 0 {
			tw.flows = append(tw.flows, p.Flow)
		}
		if ip := f.bytes[min(len(f.bytes), wire.EthernetLen):]; learn && f.leg == 1 && len(ip) >= 1200 {
			tw.long = append(tw.long, ip)
		}
		if learn {
			tw.sent++
		}
	}
	return s + fmt.Sprintf("%+v %+v %+v", rig.eng.Counters(), rig.eng.Usage(nil), rig.snap.Loads())
}

func (tw *twins) compare(results [2]string) {
	tw.t.Helper()
	var conns [2]map[forwarder.Connection]int
	for i, rig := range tw.rigs {
		conns[i] = map[forwarder.Connection]int{}
		rig.eng.Connections(func(c *forwarder.Connection) { conns[i][*c]++ })
	}
	if results[0] != results[1] || !reflect.DeepEqual(conns[0], conns[1]) {
		tw.t.Fatalf("the short way:\n%s\n%+v\nthe whole way:\n%s\n%+v", results[0], conns[0], results[1], conns[1])
	}
}

// advance lets time pass. Without a Tick, packets meet what has ended meanwhile.
func (tw *twins) advance(d wire.Time) {
	var results [2]string
	tick := tw.rand.IntN(3) == 0
	for i, rig := range tw.rigs {
		rig.now += d
		if tick {
			rig.eng.Tick(rig.now, rig.out, rig.trc)
		}
		results[i] = tw.output(rig, false)
	}
	tw.compare(results)
}

// reload gives a backend another state or another MTU on its way, or a leg another MTU.
func (tw *twins) reload() {
	service, backend := tw.rand.IntN(4), tw.rand.IntN(3)
	state := []forwarder.State{forwarder.Up, forwarder.Up, forwarder.Down, forwarder.Disabled}[tw.rand.IntN(4)]
	mtu, leg := []int{0, 1280, 1400}[tw.rand.IntN(3)], []int{1500, 1500, 1400}[tw.rand.IntN(3)]
	for _, rig := range tw.rigs {
		rig.cfg.Legs = slices.Clone(rig.cfg.Legs)
		rig.cfg.Legs[1].MTU = leg
		rig.cfg.Services = slices.Clone(rig.cfg.Services)
		s := &rig.cfg.Services[service]
		s.Backends = slices.Clone(s.Backends)
		s.Backends[backend].State, s.Backends[backend].MTU = state, mtu
		rig.reload()
	}
}

// packet is one of few clients', or an answer to what went to a backend, or an error of a router about it.
func (tw *twins) packet() (leg uint8, f wiretest.Frame) {
	r := tw.rand
	f = wiretest.Frame{TTL: []uint8{64, 64, 64, 64, 64, 2, 1}[r.IntN(7)], DF: r.IntN(2) == 0, TOS: uint8(r.IntN(2) * 0xb9),
		Seq: uint32(r.IntN(4)), Ack: uint32(r.IntN(4)), NoSum: r.IntN(8) == 0, MSS: uint16(r.IntN(2) * 1460),
		TCP: []string{"A", "A", "A", "PA", "S", "SA", "FA", "FA", "R", "AU", "P", "SF"}[r.IntN(12)]}
	size := r.IntN(3)
	if r.IntN(6) == 0 {
		size = 1200 + r.IntN(300)
	}
	f.Payload = make([]byte, size)
	end := ends[r.IntN(len(ends))]
	f.Src, f.Dst, f.UDP = end.client[:len(end.client)-1]+fmt.Sprint(r.IntN(6)), end.vip, end.udp
	f = fromClient(f)
	switch n := r.IntN(24); {
	case n == 0 && len(tw.long) > 0:
		return 1, tw.tooBig()
	case n < 16 || len(tw.flows) == 0:
		return 0, f
	}
	flow := tw.flows[max(0, len(tw.flows)-1-r.IntN(20))]
	at := families[0].at
	if !flow.Src.Is4() {
		at = families[1].at
	}
	f.Src, f.Dst = at(flow.Dst.String(), flow.DstPort), at(flow.Src.String(), flow.SrcPort)
	f.UDP = flow.Proto == wire.ProtoUDP
	return 1, fromServer(1+r.IntN(3), f)
}

// tooBig is the error of a router that could not pass on one of the latest long packets.
func (tw *twins) tooBig() wiretest.Frame {
	tw.told++
	quoted := tw.long[max(0, len(tw.long)-1-tw.rand.IntN(3))]
	fam, source := &families[0], quoted[12:16]
	if quoted[0]>>4 == 6 {
		fam, source = &families[1], quoted[8:24]
	}
	to, _ := netip.AddrFromSlice(source)
	message := slices.Clone(fam.tooBig)
	binary.BigEndian.PutUint16(message[6:], uint16(1280+20*tw.rand.IntN(8)))
	return fromServer(1+tw.rand.IntN(3), wiretest.Frame{Src: fam.router, Dst: to.String(), ICMP: append(message, quoted[:200]...)})
}

// damage gives a packet padding, another destination or source MAC address, or metadata of offloads.
func (tw *twins) damage(p *wire.Packet) {
	switch tw.rand.IntN(12) {
	case 0:
		p.Len += 1 + tw.rand.IntN(300)
	case 1:
		copy(p.Bytes()[6:12], serverMAC[tw.rand.IntN(3)][:])
	case 2:
		wiretest.Unfinish(p)
	case 3:
		wiretest.Unfinish(p)
		p.Offload.GSOType, p.Offload.GSOSize = []uint8{wire.GSOTCPv4, wire.GSOUDPL4}[tw.rand.IntN(2)], uint16(20+tw.rand.IntN(1400))
	case 4:
		p.Offload.Flags = wire.DataValid
	case 5:
		p.TPID, p.TCI = wire.TypeVLAN, 5
	}
}
