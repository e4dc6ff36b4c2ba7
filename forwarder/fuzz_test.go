package forwarder_test

import (
	"bytes"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// seeds are frames of every kind that the engine knows.
func seeds(t testing.TB) [][]byte {
	var all [][]byte
	for _, f := range []wiretest.Frame{
		synFrame(), unserved("S"), unserved("A"), echoFrame(client, vip), echoFrame(client6, vip6), bigFrame(true),
		fromClient(wiretest.Frame{Src: "[" + client6 + "]:1", Dst: "[" + vip6 + "]:80", TCP: "S", MSS: 1440}),
		fromClient(wiretest.Frame{Src: "[" + client6 + "]:1", Dst: "[" + vip6 + "]:53", UDP: true, Payload: []byte("x")}),
		fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":53", UDP: true, NoSum: true, VLANs: []uint16{7, 8}}),
		fromServer(1, wiretest.Frame{Src: server1 + ":8080", Dst: local + ":1024", TCP: "SA"}),
	} {
		all = append(all, f.Bytes(t))
	}
	quoted := wiretest.Frame{Src: vip + ":80", Dst: client + ":50000", TCP: "A"}.Bytes(t)[14:]
	all = append(all, fromClient(wiretest.Frame{Src: client, Dst: vip,
		ICMP: append([]byte{wire.ICMPUnreachable, 1, 0, 0, 0, 0, 0, 0}, quoted...)}).Bytes(t))
	arp, nd := arpQuestion(vip), ndQuestion(vip6)
	routing := ipv6(43, []byte{wire.ProtoTCP, 0, 0, 1, 0, 0, 0, 0})
	return append(all, arp.Bytes(), nd.Bytes(), routing.Bytes())
}

// FuzzEngine gives the engine any bytes at any time with any offload metadata on any leg in any mode, before and after
// a connection exists: no panic, everything accounted for, nothing written outside the buffer that the contract allows, and the same
// input gives the same output.
func FuzzEngine(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b, int64(1e9), uint8(0), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
		f.Add(b, int64(1e18), uint8(1), uint8(1), uint8(1), uint16(1448), uint16(34), uint16(16))
		f.Add(b, int64(1e9), uint8(8), uint8(1), uint8(1), uint16(1), uint16(34), uint16(16))
	}
	cfgs := []forwarder.Config{config(), inMode(forwarder.NAT, forwarder.L3DSROptions{}),
		inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), inMode(forwarder.L3DSR, byDSCP), inMode(forwarder.L3DSR, byIPIP)}
	for i := range cfgs[0].Services { // few ports make an engine cheap
		cfgs[0].Services[i].SourcePorts = forwarder.PortRange{Lo: 1024, Hi: 1087}
	}
	f.Fuzz(func(t *testing.T, frame []byte, at int64, leg, flags, gso uint8, size, start, offset uint16) {
		if len(frame) > wire.MaxFrame {
			return
		}
		mode := int(leg/2) % len(cfgs)
		run := func() (out []byte) {
			r := newRigSized(t, cfgs[mode], 64)
			r.put(0, synFrame().Packet(t))
			p := wiretest.Packet(frame)
			p.Offload = wire.Offload{Flags: flags, GSOType: gso, GSOSize: size, CsumStart: start, CsumOffset: offset}
			for i := range p.Buf[:p.Off] {
				p.Buf[i] = 0xa5
			}
			room := max(len(frame), wire.MinBuffer)
			for i := p.Off + room; i < len(p.Buf); i++ {
				p.Buf[i] = 0xa5
			}
			for range 2 {
				r.now = wire.Time(at)
				_, _, frames := r.put(int(leg)%2, p)
				frames = append(frames, r.tick(1e9)...)
				for _, s := range frames {
					out = append(append(out, byte(s.leg)), s.bytes...)
				}
			}
			front := p.Off
			if mode == len(cfgs)-1 {
				front -= wire.IPv6Len // a tunnel's header is put there
			}
			if len(bytes.Trim(p.Buf[:front], "\xa5"))+len(bytes.Trim(p.Buf[p.Off+room:], "\xa5")) > 0 {
				t.Fatal("written outside the frame's room")
			}
			return out
		}
		if a, b := run(), run(); !bytes.Equal(a, b) {
			t.Fatalf("two runs differ:\n%x\n%x", a, b)
		}
	})
}

// TestRepliesComeBackAsTheyWere sends every seed that is forwarded through the engine and its mirror image back: the flow
// that returns is the reverse of the one that came.
func TestRepliesComeBackAsTheyWere(t *testing.T) {
	forwardedOnes := 0
	for _, b := range seeds(t) {
		r := newRig(t, config())
		p := wiretest.Packet(b)
		v, _, out := r.put(0, p)
		in := wiretest.Packet(b)
		if v != wire.Transmit || in.ParseLink() != wire.ReasonNone || in.ParseNetwork() != wire.ReasonNone || in.Hash != 0 {
			continue
		}
		forwardedOnes++
		back := wiretest.Packet(mirror(t, out[0].bytes))
		if v, why, out := r.put(1, back); v != wire.Transmit {
			t.Errorf("the reply of %s: %v %v", flowText(in), v, why)
		} else if q := parsed(t, out[0].bytes); q.Flow.Reverse() != in.Flow {
			t.Errorf("%s came back as %s", flowText(in), flowText(q))
		}
	}
	if forwardedOnes < 4 {
		t.Errorf("only %d seeds were forwarded", forwardedOnes)
	}
}

// mirror exchanges both ends of a frame, by the foreign builder.
func mirror(t *testing.T, b []byte) []byte {
	p := parsed(t, b)
	ends := [2]string{}
	for i, s := range []struct {
		a wire.Addr
		p uint16
	}{{p.Flow.Dst, p.Flow.DstPort}, {p.Flow.Src, p.Flow.SrcPort}} {
		ends[i] = families[0].at(s.a.String(), s.p)
		if p.Version == 6 {
			ends[i] = families[1].at(s.a.String(), s.p)
		}
	}
	return fromServer(1, wiretest.Frame{Src: ends[0], Dst: ends[1], UDP: p.Proto == wire.ProtoUDP, TCP: "SA"}).Bytes(t)
}

// TestManyPacketsTwiceTheSame runs thousands of packets with expiry, reloads and answers twice and compares every byte.
func TestManyPacketsTwiceTheSame(t *testing.T) {
	run := func() (out []byte, c forwarder.Counters) {
		r := newRigSized(t, config(), 512)
		all := seeds(t)
		x := uint64(42)
		for n := range 5000 {
			x = x*6364136223846793005 + 1442695040888963407
			b := bytes.Clone(all[int(x>>33)%len(all)])
			if x>>60 < 12 { // mostly new clients
				b[34+int(x>>40)%2] ^= byte(x >> 20)
			} else {
				b[int(x>>24)%len(b)] ^= byte(x >> 16)
			}
			if n%1000 == 999 {
				r.reload()
			}
			r.now = r.now.Add(50e6)
			_, _, frames := r.put(int(x>>50)%2, wiretest.Packet(b))
			if n%10 == 0 {
				frames = append(frames, r.tick(0)...)
			}
			for _, s := range frames {
				out = append(append(out, byte(s.leg)), s.bytes...)
			}
		}
		return out, r.eng.Counters()
	}
	a, ca := run()
	b, cb := run()
	if !bytes.Equal(a, b) || ca != cb {
		t.Errorf("two runs differ: %d and %d bytes\n%+v\n%+v", len(a), len(b), ca, cb)
	}
	if ca.Transmitted < 500 || ca.Ended < 100 {
		t.Errorf("the run shows too little: %+v", ca)
	}
}
