package forwarder_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/kernel"
	"naru/internal/wire"
	"naru/internal/wiretest"
	"naru/nat"
)

const benchBatch = 32

// bench is a rig and packets of many connections, in random order of connections.
type bench struct {
	rig    *rig
	batch  []wire.Packet
	bufs   [][]byte
	frame  []byte
	order  []uint32 // of connections
	cursor int
	_      [128]byte // several workers' benches must not share a cache line
}

func newBench(tb testing.TB, conns int) *bench { return newBenchBatch(tb, conns, benchBatch) }

func newBenchBatch(tb testing.TB, conns, batch int) *bench {
	b := &bench{rig: newRigSized(tb, config(), max(1024, conns+conns/8))}
	b.frame = fromClient(wiretest.Frame{Src: "10.0.0.0:1000", Dst: vip + ":53", UDP: true, Payload: make([]byte, 18)}).Bytes(tb)
	for range batch {
		b.bufs = append(b.bufs, make([]byte, wire.Headroom+wire.MinBuffer))
	}
	b.batch = make([]wire.Packet, batch)
	b.order = make([]uint32, conns)
	x := uint64(1)
	for i := range b.order { // shuffled while it is made
		x = x*6364136223846793005 + 1442695040888963407
		j := int(x>>33) % (i + 1)
		b.order[i], b.order[j] = b.order[j], uint32(i)
	}
	return b
}

// tableMemory is what a live worker uses.
func tableMemory(tb testing.TB, connections int) conntrack.Memory {
	pages, err := kernel.HugePages(conntrack.Bytes(connections))
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := conntrack.Place(pages, connections)
	if err != nil {
		tb.Fatal(err)
	}
	return mem
}

// fill puts the next packets into the batch: the client's address and port tell the connection. The checksum of IP is
// made right; that of UDP stays as wrong as it becomes.
func (b *bench) fill() {
	be := binary.BigEndian
	sum := int(be.Uint16(b.frame[24:]))
	for i := range b.batch {
		p := &b.batch[i]
		p.Frame = wire.Frame{Buf: b.bufs[i], Off: wire.Headroom, Len: len(b.frame)}
		d := b.bufs[i][wire.Headroom:]
		copy(d, b.frame)
		n := b.order[b.cursor]
		be.PutUint16(d[28:], uint16(n>>8))
		be.PutUint16(d[34:], 1000+uint16(n&0xff))
		be.PutUint16(d[24:], uint16((sum+0xffff-int(n>>8))%0xffff))
		if b.cursor++; b.cursor == len(b.order) {
			b.cursor = 0
		}
	}
}

func (b *bench) run(tb testing.TB) {
	b.rig.now += 1000
	b.rig.eng.Process(b.rig.now, b.batch, b.rig.out, nil)
	if n := len(b.rig.out.Legs[1]); n != len(b.batch) {
		tb.Fatalf("%d of %d forwarded: %v", n, len(b.batch), b.batch[0].Reason)
	}
	b.rig.out.Reset()
}

// BenchmarkBaseline copies, parses, hashes and rewrites a packet: what every forwarder of this kind does, without a table.
func BenchmarkBaseline(b *testing.B) {
	x := newBench(b, 1000)
	src, dst := wire.AddrFrom(addr(local)), wire.AddrFrom(addr(server1))
	to := nat.Tuple{Src: &src, Dst: &dst, SrcPort: 1024, DstPort: 80}
	var sum uint64
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += benchBatch {
		x.fill()
		for j := range x.batch {
			p := &x.batch[j]
			p.ParseLink()
			p.ParseNetwork()
			le := binary.LittleEndian
			sum ^= (le.Uint64(p.Flow.Src[8:]) ^ le.Uint64(p.Flow.Dst[8:]) ^ uint64(p.Flow.SrcPort)) * 0x9e3779b97f4a7c15
			nat.Translate(p, &to)
		}
	}
	report(b)
	if sum == 1 {
		b.Log(sum)
	}
}

// BenchmarkFullNAT is an established connection's packet through the engine, in random order of connections.
func BenchmarkFullNAT(b *testing.B) {
	for _, conns := range []int{1_000, 80_000, 1_000_000, 10_000_000} {
		var x *bench // made once for all runs of different length
		b.Run(fmt.Sprintf("established/conns=%d", conns), func(b *testing.B) {
			if x == nil {
				x = newBenchPorts(b, conns)
				for i := 0; i < conns; i += benchBatch {
					x.fill()
					x.run(b)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += benchBatch {
				x.fill()
				x.run(b)
			}
			report(b)
		})
	}
}

// BenchmarkBatch is BenchmarkFullNAT with batches of other sizes, with a table in the caches and with one that is not.
func BenchmarkBatch(b *testing.B) {
	for _, conns := range []int{1_000, 80_000} {
		for _, batch := range []int{1, 8, 32, 64, 256} {
			b.Run(fmt.Sprintf("conns=%d/batch=%d", conns, batch), func(b *testing.B) {
				x := newBenchBatch(b, conns, batch)
				for i := 0; i < conns; i += batch {
					x.fill()
					x.run(b)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; i < b.N; i += batch {
					x.fill()
					x.run(b)
				}
				report(b)
			})
		}
	}
}

// newBenchPorts has enough local addresses for so many connections.
func newBenchPorts(b *testing.B, conns int) *bench {
	x := newBench(b, min(conns, 80_000)) // as many as 3 backends have ports for
	if conns <= 80_000 {
		return x
	}
	x = newBench(b, conns)
	cfg := config()
	cfg.Services[2].Locals = nil
	for i := range 2 + conns/90_000 {
		cfg.Services[2].Locals = append(cfg.Services[2].Locals, forwarder.Local{Addr: addr(fmt.Sprintf("10.10.10.%d", 100+i))})
	}
	cfg.Services[2].SourcePorts = forwarder.PortRange{Lo: 1024, Hi: 65535}
	cfg.Services[2].Timeouts.UDPUnreplied = 1 << 50
	x.rig = newRigSized(b, cfg, conns+conns/20)
	return x
}

// BenchmarkNewConnection is the first packet of a connection: schedule, port, insert; the connections before end by
// expiry, which is counted in.
func BenchmarkNewConnection(b *testing.B) {
	x := newBench(b, 50_000)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += benchBatch {
		x.fill()
		x.rig.now = x.rig.now.Add(20_000_000) // an idle time of 30 s later every client is new again
		x.run(b)
		x.rig.eng.Tick(x.rig.now, x.rig.out, nil)
		x.rig.out.Reset()
	}
	report(b)
}

func report(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpps")
}

func TestProcessAllocatesNothing(t *testing.T) {
	x := newBench(t, 4096)
	warm := func() {
		x.fill()
		x.rig.now = x.rig.now.Add(300e6)
		x.run(t)
		x.rig.eng.Tick(x.rig.now, x.rig.out, nil)
		x.rig.out.Reset()
	}
	if n := testing.AllocsPerRun(300, warm); n != 0 {
		t.Errorf("new and old connections and expiry: %v allocations a batch", n)
	}
}

// BenchmarkDSR is an established connection's packet through each of the modes in which the backend answers itself.
func BenchmarkDSR(b *testing.B) {
	for _, m := range []struct {
		name string
		cfg  forwarder.Config
	}{
		{"l2dsr", inMode(forwarder.L2DSR, forwarder.L3DSROptions{})}, {"dscp", inMode(forwarder.L3DSR, byDSCP)},
		{"ipip", inMode(forwarder.L3DSR, byIPIP)}, {"gue", inMode(forwarder.L3DSR, byGUE)},
	} {
		b.Run(m.name+"/conns=1000", func(b *testing.B) {
			x := newBench(b, 1000)
			x.rig = newRigSized(b, m.cfg, 1024)
			for i := 0; i < 1000; i += benchBatch {
				x.fill()
				x.run(b)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += benchBatch {
				x.fill()
				x.run(b)
			}
			report(b)
		})
	}
}

func TestNoModeAllocates(t *testing.T) {
	for name, cfg := range map[string]forwarder.Config{
		"nat": inMode(forwarder.NAT, forwarder.L3DSROptions{}), "l2dsr": inMode(forwarder.L2DSR, forwarder.L3DSROptions{}),
		"dscp": inMode(forwarder.L3DSR, byDSCP), "ipip": inMode(forwarder.L3DSR, byIPIP), "gue": inMode(forwarder.L3DSR, byGUE),
	} {
		r := newRigSized(t, cfg, 4096)
		super := fromClient(wiretest.Frame{Src: client + ":7", Dst: vip + ":80", TCP: "A", DF: true, Payload: make([]byte, 9000)}).Packet(t)
		wiretest.Unfinish(&super)
		super.Offload.GSOType, super.Offload.GSOSize, super.Offload.HdrLen = wire.GSOTCPv4, 1400, 54
		r.put(0, fromClient(wiretest.Frame{Src: client + ":7", Dst: vip + ":80", TCP: "S"}).Packet(t))
		datagram := pieces(t, bigDatagram(client+":8"), 512)
		frames := append([]wire.Packet{super, bigFrameOf(t)}, datagram...)
		clean := make([][]byte, len(frames))
		for i := range frames {
			clean[i] = append([]byte(nil), frames[i].Buf...)
		}
		batch := make([]wire.Packet, len(frames))
		again := func() {
			for i := range frames {
				batch[i] = frames[i]
				copy(batch[i].Buf, clean[i])
			}
			r.now = r.now.Add(20e9) // the datagram is a new one each time
			r.eng.Process(r.now, batch, r.out, nil)
			r.out.Reset()
			r.eng.Tick(r.now, r.out, nil)
			r.out.Reset()
		}
		if n := testing.AllocsPerRun(100, again); n != 0 {
			t.Errorf("%s: %v allocations a batch", name, n)
		}
	}
}

// bigFrameOf is an IPv4 packet without DF that fits no tunnel.
func bigFrameOf(t *testing.T) wire.Packet {
	f := bigFrame(false)
	f.Payload = make([]byte, 1472)
	return f.Packet(t)
}
