package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// bigDatagram is a UDP packet of 2000 bytes to the VIP.
func bigDatagram(src string) wiretest.Frame {
	data := make([]byte, 2000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	return fromClient(wiretest.Frame{Src: src, Dst: vip + ":53", UDP: true, ID: 4711, Payload: data})
}

// pieces cuts a packet into fragments of at most n bytes of data, by hand.
func pieces(t testing.TB, f wiretest.Frame, n int) []wire.Packet { return cutFrame(f.Bytes(t), n) }

func cutFrame(b []byte, n int) (out []wire.Packet) {
	head := 34
	if b[12] == 0x86 {
		head = 54
	}
	data := b[head:]
	for off := 0; off < len(data); off += n {
		part := data[off:min(len(data), off+n)]
		more := off+n < len(data)
		d := append(bytes.Clone(b[:head]), part...)
		if head == 34 {
			frag := uint16(off / 8)
			if more {
				frag |= 0x2000
			}
			binary.BigEndian.PutUint16(d[16:], uint16(len(d)-14))
			binary.BigEndian.PutUint16(d[20:], frag)
			fixHeader(d[14:34])
		} else {
			h := []byte{d[20], 0, 0, 0, 0, 0, 0x12, 0x34}
			binary.BigEndian.PutUint16(h[2:], uint16(off))
			if more {
				h[3] |= 1
			}
			d = append(append(bytes.Clone(b[:54]), h...), part...)
			d[20] = 44
			binary.BigEndian.PutUint16(d[18:], uint16(len(d)-54))
		}
		out = append(out, wiretest.Packet(d))
	}
	return out
}

// joined puts fragments that were sent together again, and checks that they belong together.
func joined(t *testing.T, frames []sent) []byte {
	t.Helper()
	var whole []byte
	data := make([]byte, 70000)
	end, ids := 0, map[uint32]bool{}
	for _, s := range frames {
		p := parsed(t, s.bytes)
		if p.Frag == wire.Whole {
			t.Fatalf("not a fragment: %x", s.bytes)
		}
		id, off, more := p.Fragment()
		ids[id] = true
		n := copy(data[off:], p.Bytes()[p.FragmentData():p.End])
		if !more {
			end = off + n
		}
		if off == 0 {
			whole = bytes.Clone(p.Bytes()[:p.L3+map[uint8]int{4: 20, 6: 40}[p.Version]])
			whole[20] = map[uint8]byte{4: 0, 6: p.Proto}[p.Version]
		}
	}
	if len(ids) != 1 || end == 0 || whole == nil {
		t.Fatalf("%d frames, identifications %v: no datagram", len(frames), ids)
	}
	whole = append(whole, data[:end]...)
	if whole[14]>>4 == 4 {
		whole[21] = 0
		binary.BigEndian.PutUint16(whole[16:], uint16(len(whole)-14))
		fixHeader(whole[14:34])
	} else {
		binary.BigEndian.PutUint16(whole[18:], uint16(len(whole)-54))
	}
	return whole
}

func TestFragmentsFollowTheFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	modes := map[string]forwarder.Config{"fullnat": config(), "nat": inMode(forwarder.NAT, forwarder.L3DSROptions{}),
		"l2dsr": inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), "dscp": inMode(forwarder.L3DSR, byDSCP)}
	for name, cfg := range modes {
		for _, e := range ends {
			if !e.udp {
				continue
			}
			for round := range 6 {
				t.Run(fmt.Sprintf("%s/%s/%d", name, e.name, round), func(t *testing.T) {
					r := newRig(t, cfg)
					f := bigDatagram(e.client)
					f.Dst = e.vip
					all := pieces(t, f, 512)
					rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
					var out []sent
					for _, p := range all {
						v, why, frames := r.put(0, p)
						if v != wire.Transmit && v != wire.Held {
							t.Fatalf("%v %v", v, why)
						}
						out = append(out, frames...)
					}
					if len(out) != len(all) {
						t.Fatalf("%d of %d fragments were sent", len(out), len(all))
					}
					whole := joined(t, out)
					if err := wiretest.Wrong(whole); err != nil {
						t.Error(err)
					}
					if p := parsed(t, whole); !bytes.Equal(p.Transport()[8:], f.Payload) {
						t.Error("the data is not what was sent")
					}
					if c := r.eng.Counters(); c.Held != 0 || c.Transmitted != uint64(len(all)) {
						t.Errorf("held %d, transmitted %d", c.Held, c.Transmitted)
					}
				})
			}
		}
	}
}

func TestDatagramsOfTwoClientsDoNotMeetAtTheBackend(t *testing.T) {
	cfg := config()
	cfg.Services[2].Backends = cfg.Services[2].Backends[:1]
	r := newRig(t, cfg)
	ids := map[uint32]int{}
	for _, src := range []string{client + ":1", "10.20.40.81:1"} { // both use identification 4711
		for _, p := range pieces(t, bigDatagram(src), 512) {
			_, _, out := r.put(0, p)
			q := parsed(t, out[0].bytes)
			id, _, _ := q.Fragment()
			ids[id]++
		}
	}
	if len(ids) != 2 {
		t.Errorf("identifications %v, want two", ids)
	}
}

func TestFragmentsOfARefusedDatagramAreRefused(t *testing.T) {
	r := newRig(t, config())
	f := bigDatagram(client + ":1")
	f.Dst = vip + ":99" // no service
	all := pieces(t, f, 512)
	r.refused(0, all[0], wire.NoService)
	r.refused(0, all[1], wire.Fragment)
}

func TestTunnelsCarryFragments(t *testing.T) {
	r := newRig(t, inMode(forwarder.L3DSR, byIPIP))
	for i, p := range pieces(t, bigDatagram(client+":1"), 512) {
		in := bytes.Clone(p.Bytes()[34:])
		v, why, out := r.put(0, p)
		if v != wire.Transmit || len(out) != 1 || !bytes.HasSuffix(out[0].bytes, in) {
			t.Errorf("fragment %d: %v %v", i, v, why)
		}
	}
}

// TestFragmentsWithMetadataOfSuperFrames: whoever may write offload metadata may write them on anything.
func TestFragmentsWithMetadataOfSuperFrames(t *testing.T) {
	for _, cfg := range []forwarder.Config{config(), inMode(forwarder.NAT, forwarder.L3DSROptions{}),
		inMode(forwarder.L2DSR, forwarder.L3DSROptions{}), inMode(forwarder.L3DSR, byDSCP), inMode(forwarder.L3DSR, byIPIP)} {
		r := newRig(t, cfg)
		f := fromClient(wiretest.Frame{Src: client + ":1", Dst: vip + ":80", TCP: "S", ID: 7, Payload: make([]byte, 20)})
		all := pieces(t, f, 32)
		for i, p := range all {
			if i > 0 {
				p.Offload.GSOType, p.Offload.GSOSize = wire.GSOTCPv4, 1448
				p.Buf = p.Buf[:p.Off+p.Len]
			}
			r.put(0, p)
		}
	}
}
