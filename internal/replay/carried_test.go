package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// join puts fragments of an IPv4 packet together again, which may be a fragment itself; one frame alone stays as it is.
func join(frames [][]byte) ([]byte, error) {
	if len(frames) == 1 {
		return bytes.Clone(frames[0]), nil
	}
	var whole []byte
	var head, base int
	for i, f := range frames {
		p, ok := parsed(f)
		if !ok || p.Frag == wire.Whole {
			return nil, fmt.Errorf("frame %d of %d is no fragment: %x", i+1, len(frames), f)
		}
		_, at, more := p.Fragment()
		if i == 0 {
			head, base = p.FragmentData(), at
			whole = bytes.Clone(p.Bytes()[:head])
			if p.Version == 6 {
				return nil, fmt.Errorf("an IPv6 packet was fragmented")
			}
		}
		if at != base+len(whole)-head || !more && i < len(frames)-1 {
			return nil, fmt.Errorf("fragment %d of %d is at %d, behind %d bytes", i+1, len(frames), at, base+len(whole)-head)
		}
		if !more {
			whole[p.L3+6] &^= 0x20
		}
		whole = append(whole, p.Bytes()[p.FragmentData():p.End]...)
	}
	p, _ := parsed(frames[0])
	ip := whole[p.L3:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	reseal(&p, whole)
	return whole, nil
}

// carried checks that a tunnelled packet is in what left as it was, but for TTL and IPv4 header checksum.
func (s *subject) carried(r *forwarder.Record, in *wire.Packet, outs [][]byte, c *forwarder.Connection) {
	inner, err := s.unwrap(outs, s.backendOf(r.Backend))
	if err != nil {
		s.wrong("%v", err)
		return
	}
	if c != nil && c.Address != s.backendOf(r.Backend) {
		s.wrong("it went to %s, the connection is to %s", r.Backend, c.Backend)
	}
	if r.Before.GSOSize > 0 {
		s.segments(in, inner)
		return
	}
	want := plain(in)[in.L3:]
	whole, err := join(inner)
	if err != nil {
		s.wrong("%v", err)
		return
	}
	if len(inner) > 1 && len(whole) > 20 { // naru's own fragments have an identification of its own
		copy(want[4:6], whole[wire.EthernetLen+4:])
		q := wire.Packet{Version: 4, L4: in.L4 - in.L3}
		reseal(&q, want)
	}
	if got := whole[wire.EthernetLen:]; !bytes.Equal(got, want) {
		s.wrong("the packet in the tunnel is not what it was: %s", difference(got, want))
	}
}

// unwrap takes packets out of a tunnel to a backend, as Ethernet frames, and checks what was around them.
func (s *subject) unwrap(outs [][]byte, to wire.Addr) (inner [][]byte, err error) {
	var pieces [][]byte
	for _, f := range outs {
		p, ok := parsed(f)
		if !ok || p.Flow.Dst != to {
			return nil, fmt.Errorf("a frame to %v instead of one to %v", p.Flow.Dst, to)
		}
		whole := f
		if p.Frag != wire.Whole {
			pieces = append(pieces, f)
			if _, _, more := p.Fragment(); more {
				continue
			}
			if whole, err = joinOuter(pieces); err != nil {
				return nil, err
			}
			pieces = nil
		}
		packet, err := s.payload(whole)
		if err != nil {
			return nil, err
		}
		inner = append(inner, packet)
	}
	if len(pieces) > 0 {
		return nil, fmt.Errorf("%d fragments without a last one", len(pieces))
	}
	return inner, nil
}

// joinOuter is join for fragments of an outer packet, of either family.
func joinOuter(pieces [][]byte) ([]byte, error) {
	p, _ := parsed(pieces[0])
	if p.Version == 4 {
		return join(pieces)
	}
	at := p.FragmentData()
	head := bytes.Clone(p.Bytes()[:at-8])
	head[p.L3+6] = p.Bytes()[at-8] // the fragment header is the only one
	var body []byte
	for _, f := range pieces {
		p, ok := parsed(f)
		if !ok || p.Frag == wire.Whole {
			return nil, fmt.Errorf("an outer fragment that is none: %x", f)
		}
		if _, off, _ := p.Fragment(); off != len(body) {
			return nil, fmt.Errorf("an outer fragment at %d behind %d bytes", off, len(body))
		}
		body = append(body, p.Bytes()[p.FragmentData():p.End]...)
	}
	binary.BigEndian.PutUint16(head[p.L3+4:], uint16(len(body)))
	return append(head, body...), nil
}

// payload returns what is in a tunnel's packet, behind an Ethernet header.
func (s *subject) payload(frame []byte) ([]byte, error) {
	if err := wiretest.Wrong(frame); err != nil {
		return nil, fmt.Errorf("the outer packet: %w", err)
	}
	p, ok := parsed(frame)
	if !ok || p.TTL() != 64 {
		return nil, fmt.Errorf("the outer packet: %x", frame)
	}
	t := p.Transport()
	next := p.Proto
	if s.cfg.Services[0].L3DSR.Encap == "gue" {
		if p.Proto != wire.ProtoUDP || p.Flow.DstPort != 6080 || int(binary.BigEndian.Uint16(t[4:])) != len(t) || t[8] != 0 {
			return nil, fmt.Errorf("no GUE: %x", t[:12])
		}
		next, t = t[9], t[12:]
	}
	etherType := map[uint8]uint16{4: wire.TypeIPv4, 41: wire.TypeIPv6}[next]
	if etherType == 0 || t[0]>>4 != map[uint8]byte{4: 4, 41: 6}[next] {
		return nil, fmt.Errorf("no packet of protocol %d: %x", next, t[:1])
	}
	if outer, in := trafficClass(p.IP()), trafficClass(t); outer>>2 != in>>2 {
		return nil, fmt.Errorf("outer DSCP %d, inner %d", outer>>2, in>>2)
	}
	head := append(make([]byte, 12, wire.EthernetLen+len(t)), byte(etherType>>8), byte(etherType))
	return append(head, t...), nil
}

func trafficClass(ip []byte) byte {
	if ip[0]>>4 == 4 {
		return ip[1]
	}
	return ip[0]<<4 | ip[1]>>4
}

// segments checks that a super-frame was cut into segments that are the same bytes, with right checksums if it had one.
func (s *subject) segments(in *wire.Packet, segments [][]byte) {
	seq, _ := in.Seq()
	data := in.Transport()
	data = data[int(data[12]>>4)*4:]
	right := residue(in) == 0
	var got []byte
	for i, f := range segments {
		p, ok := parsed(f)
		if !ok || p.Flow != in.Flow || p.TTL() != in.TTL()-1 {
			s.wrong("segment %d of %v is %v", i, in.Flow, p.Flow)
			return
		}
		if n, _ := p.Seq(); n != seq+uint32(len(got)) {
			s.wrong("segment %d has sequence number %d, want %d", i, n, seq+uint32(len(got)))
		}
		if right && residue(&p) != 0 {
			s.wrong("the checksum of segment %d is wrong", i)
		}
		t := p.Transport()
		got = append(got, t[int(t[12]>>4)*4:]...)
	}
	if !bytes.Equal(got, data) {
		s.wrong("the segments of a super-frame are other bytes")
	}
}

// errorTranslated checks an ICMP error that was carried to the other end of the connection that it quotes.
func (s *subject) errorTranslated(r *forwarder.Record, in *wire.Packet, outs [][]byte, c *forwarder.Connection) {
	out, ok := parsed(outs[0])
	if len(outs) != 1 || !ok || wiretest.Wrong(outs[0]) != nil || out.End-out.L3 != in.End-in.L3 {
		s.wrong("an ICMP error became %x", outs[0])
		return
	}
	if !translates(r) {
		return // the quote stays, and says what the backend has sent
	}
	var a, b wire.Quote
	if !in.ParseQuote(&a) || !out.ParseQuote(&b) {
		s.wrong("an ICMP error without a quote was carried on")
		return
	}
	inside, back := answer(c), request(c)
	var want wire.Flow
	switch a.Flow {
	case inside.Reverse():
		want = back
	case back.Reverse():
		want = inside
	}
	if b.Flow != want {
		s.wrong("the quote of %v became %v, want %v", a.Flow, b.Flow, want)
	}
	s.quoted(in, &out, &a, &b)
}

// quoted compares a quote with the one that it became: addresses and ports, and checksums as right or wrong as they were.
func (s *subject) quoted(in, out *wire.Packet, a, b *wire.Quote) {
	was, is := quoteOf(in, a), quoteOf(out, b)
	want := bytes.Clone(was.Bytes())
	readdress(&was, want, b.Flow)
	if ip := was.IP(); in.Version == 4 && wiretest.SlowChecksum(ip[:was.L4], 0) != 0xffff {
		copy(want[10:12], is.IP()[10:]) // of a quote that has a wrong one
	}
	if at := checksumAt(&was); at+2 <= was.End {
		if a, b := residue(&was), residue(&is); a != b {
			s.wrong("the quoted checksum was off by %#04x and is by %#04x", a, b)
		}
		copy(want[at:at+2], is.Bytes()[at:])
	}
	if !bytes.Equal(is.Bytes(), want) {
		s.wrong("the quote: %s", difference(is.Bytes(), want))
	}
}

// quoteOf makes a packet of a quote, which may end anywhere.
func quoteOf(p *wire.Packet, q *wire.Quote) wire.Packet {
	d := p.Bytes()[q.L3:q.End]
	return wire.Packet{Frame: wire.Frame{Buf: d, Len: len(d)}, Version: q.Version, Proto: q.Flow.Proto, Flow: q.Flow,
		L4: q.L4 - q.L3, End: len(d)}
}
