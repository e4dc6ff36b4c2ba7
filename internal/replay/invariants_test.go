package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// forwarded compares a packet with what it has become.
func (s *subject) forwarded(r *forwarder.Record) {
	in, ok := parsed(bytes.Clone(r.Frame))
	if !ok || len(r.Sent) == 0 {
		s.wrong("a packet that cannot be parsed went on, or nothing left: %d frames", len(r.Sent))
		return
	}
	var outs [][]byte
	for _, f := range r.Sent {
		outs = append(outs, f.Bytes())
	}
	c := s.byID[r.Flow]
	s.kept(r, c, outs)
	switch mode := r.ModeName(); {
	case mode == "":
		s.same(&in, outs, plain(&in))
	case mode == "l2dsr":
		s.switched(r, &in, outs)
	case c == nil && translates(r):
		s.wrong("translated, and belongs to no connection")
	case mode == "l3dsr/ipip" || mode == "l3dsr/gue":
		s.carried(r, &in, outs, c)
	case isError(&in):
		s.errorTranslated(r, &in, outs, c)
	default:
		s.translated(r, &in, outs, c)
	}
}

// kept keeps a pair for another judge.
func (s *subject) kept(r *forwarder.Record, c *forwarder.Connection, outs [][]byte) {
	if !s.keep || c == nil {
		return
	}
	p := pair{reply: translates(r) && r.Dir == conntrack.Reply, was: s.packet.data, came: bytes.Clone(r.Frame)}
	if r.Late {
		p.was = p.came
	}
	for _, d := range outs {
		p.outs = append(p.outs, bytes.Clone(d))
	}
	s.pairs = append(s.pairs, p)
}

func translates(r *forwarder.Record) bool {
	return r.Mode == forwarder.FullNAT || r.Mode == forwarder.NAT
}

func isError(p *wire.Packet) bool {
	return p.Frag != wire.LaterFragment && (p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6) && p.ICMPError()
}

// switched checks that only the MAC addresses changed, and to those of the backend. A frame that padding makes longer than
// the link carries may lose it.
func (s *subject) switched(r *forwarder.Record, in *wire.Packet, outs [][]byte) {
	bare := in.Len > in.L3+1500 && len(outs[0]) == in.End
	if len(outs) != 1 || len(outs[0]) != in.Len && !bare || !bytes.HasPrefix(r.Frame[12:], outs[0][12:]) {
		s.wrong("l2dsr changed more than MAC addresses")
		return
	}
	mac := wire.MAC(outs[0])
	if owner := s.macs[mac]; r.Backend != "" && owner != "" && owner != r.Backend {
		s.wrong("%s and %s have one MAC address, %x", owner, r.Backend, mac)
	}
	s.macs[mac] = r.Backend
}

// plain is what a router makes of a packet.
func plain(in *wire.Packet) []byte {
	want := bytes.Clone(in.Bytes()[:in.End])
	if ip := want[in.L3:]; in.Version == 4 {
		ip[8]--
		binary.BigEndian.PutUint16(ip[10:], 0)
		head := int(ip[0]&15) * 4
		binary.BigEndian.PutUint16(ip[10:], ^wiretest.SlowChecksum(ip[:head], 0))
	} else {
		ip[7]--
	}
	return want
}

// readdress gives a packet the addresses and ports of a flow; the header checksum of IPv4 is made anew. The transport's is
// left as it is.
func readdress(in *wire.Packet, frame []byte, to wire.Flow) {
	ip := frame[in.L3:in.End]
	if in.Version == 4 {
		copy(ip[12:], to.Src[12:])
		copy(ip[16:], to.Dst[12:])
	} else {
		copy(ip[8:], to.Src[:])
		copy(ip[24:], to.Dst[:])
	}
	if t := frame[in.L4:in.End]; in.Frag != wire.LaterFragment {
		binary.BigEndian.PutUint16(t, to.SrcPort)
		binary.BigEndian.PutUint16(t[2:], to.DstPort)
	}
	reseal(in, frame)
}

// reseal makes the header checksum of IPv4 right.
func reseal(in *wire.Packet, frame []byte) {
	if ip := frame[in.L3:]; in.Version == 4 {
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^wiretest.SlowChecksum(ip[:in.L4-in.L3], 0))
	}
}

// translated checks a packet of which the mode has changed addresses, ports or the DSCP.
func (s *subject) translated(r *forwarder.Record, in *wire.Packet, outs [][]byte, c *forwarder.Connection) {
	want := plain(in)
	switch {
	case c == nil: // direct server return may go on without an entry
		to := in.Flow
		to.Dst = s.backendOf(r.Backend)
		readdress(in, want, to)
		s.mark(in, want)
	case !translates(r):
		s.belongs(in, request(c))
		to := request(c)
		to.Dst = c.Address
		readdress(in, want, to)
		s.mark(in, want)
	case in.Flow.Src == c.Address && in.Flow.Dst == answer(c).Dst:
		s.belongs(in, answer(c))
		to := request(c)
		readdress(in, want, to.Reverse())
		s.thereAndBack(in, want, c)
	default:
		s.belongs(in, request(c))
		to := answer(c)
		readdress(in, want, to.Reverse())
	}
	s.same(in, outs, want)
}

// belongs checks that a packet is of a flow.
func (s *subject) belongs(in *wire.Packet, f wire.Flow) {
	if in.Frag == wire.LaterFragment {
		f.SrcPort, f.DstPort = 0, 0
	}
	if in.Flow != f {
		s.wrong("%v was taken for one of %v", in.Flow, f)
	}
}

func (s *subject) backendOf(name string) wire.Addr {
	for _, b := range s.cfg.Services[0].Backends {
		if b.Name == name {
			return wire.AddrFrom(b.Address)
		}
	}
	s.wrong("backend %q is unknown", name)
	return wire.Addr{}
}

// mark sets the DSCP; the two bits of ECN stay.
func (s *subject) mark(in *wire.Packet, frame []byte) {
	dscp := byte(s.cfg.Services[0].L3DSR.DSCP)
	if ip := frame[in.L3:]; in.Version == 4 {
		ip[1] = dscp<<2 | ip[1]&3
	} else {
		w := binary.BigEndian.Uint16(ip)
		binary.BigEndian.PutUint16(ip, w&0xf03f|uint16(dscp)<<6)
	}
	reseal(in, frame)
}

// same compares what left with what should have: the MAC addresses apart, the identification of a fragment in the modes that
// choose a new one, and the transport checksum, which must be as right or wrong as it was.
func (s *subject) same(in *wire.Packet, outs [][]byte, want []byte) {
	frame, err := join(outs)
	if err != nil {
		s.wrong("%v", err)
		return
	}
	out, ok := parsed(frame)
	if !ok || out.L3 != in.L3 || out.L4 != in.L4 || out.End != in.End || len(frame) > in.Len {
		s.wrong("the packet has other headers or another length: %x", frame)
		return
	}
	copy(want, frame[:12])
	if s.cfg.Services[0].Mode == "fullnat" || s.cfg.Services[0].Mode == "nat" || len(outs) > 1 {
		s.renumbered(in, frame, want, len(outs))
	}
	if at := checksumAt(in); at > 0 {
		if a, b := residue(in), residue(&out); a != b {
			s.wrong("the checksum was wrong by %#04x and is by %#04x", a, b)
		}
		copy(want[at:at+2], frame[at:])
	}
	if !bytes.Equal(frame[:out.End], want) {
		s.wrong("%s", difference(frame[:out.End], want))
	}
}

// renumbered takes the identification from the frame where naru chooses it: of fragments, those that it has made too.
func (s *subject) renumbered(in *wire.Packet, frame, want []byte, frames int) {
	switch {
	case in.Frag == wire.Whole && frames == 1:
	case in.Version == 4:
		copy(want[in.L3+4:in.L3+6], frame[in.L3+4:])
		reseal(in, want)
	default:
		at := in.FragmentData() - 4
		copy(want[at:at+4], frame[at:])
	}
}

// checksumAt is where a packet keeps the checksum of TCP or UDP, 0 if it has none.
func checksumAt(p *wire.Packet) int {
	if p.Frag == wire.LaterFragment {
		return 0
	}
	switch p.Proto {
	case wire.ProtoTCP:
		return p.L4 + 16
	case wire.ProtoUDP:
		return p.L4 + 6
	}
	return 0
}

// transportSum is the sum of a packet's transport header, payload and pseudo header, 0xffff if the checksum is right.
func transportSum(p *wire.Packet) uint16 {
	ip, t := p.IP(), p.Transport()
	addrs := ip[12:20]
	if p.Version == 6 {
		addrs = ip[8:40]
	}
	pseudo := wiretest.SlowChecksum(addrs, uint32(p.Proto)+uint32(len(t)>>16)+uint32(len(t)&0xffff))
	return wiretest.SlowChecksum(t, uint32(pseudo))
}

// residue is by how much the transport checksum of a packet is wrong, 0 if it is right; of UDP without one, and of a first
// fragment, it means nothing but that it must stay.
func residue(p *wire.Packet) uint16 {
	if t := p.Transport(); p.Proto == wire.ProtoUDP && t[6] == 0 && t[7] == 0 {
		return 0xffff
	}
	if sum := transportSum(p); sum != 0 {
		return ^sum
	}
	return 0
}

// difference names the first byte that differs.
func difference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d is %#02x, want %#02x\ngot  %x\nwant %x", i, got[i], want[i], got, want)
		}
	}
	return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
}

// thereAndBack checks that what the VIP sent in the capture, made the backend's by the replay and the VIP's again by the
// engine, is what it was.
func (s *subject) thereAndBack(in *wire.Packet, want []byte, c *forwarder.Connection) {
	was, ok := parsed(s.packet.data)
	back := request(c)
	if !ok || in.Frag != wire.Whole || was.Flow != back.Reverse() {
		return
	}
	got, router := want[in.L3:], plain(&was)[was.L3:] // one router less on the way back, as behind any
	at := checksumAt(&was) - was.L3
	copy(router[at:at+2], got[at:])
	if a, b := residue(&was), residue(in); a != b || !bytes.Equal(got, router) {
		s.wrong("there and back is not the same, checksum off by %#04x and %#04x: %s", a, b, difference(got, router))
	}
}

// answered checks what naru itself says because of a packet.
func (s *subject) answered(r *forwarder.Record) {
	in, ok := parsed(r.Frame)
	for _, f := range r.Sent {
		d := f.Bytes()
		if s.keep {
			s.answers = append(s.answers, bytes.Clone(d))
		}
		if err := wiretest.Wrong(d); err != nil {
			s.wrong("answered with a frame that is wrong: %v", err)
		}
		if out, is := parsed(d); ok && is {
			s.mayAnswer(&in)
			s.reply(&in, &out)
		}
	}
}

// mayAnswer checks that a packet is none that nobody may answer with an error (RFC 1122 3.2.2, RFC 4443 2.4).
func (s *subject) mayAnswer(in *wire.Packet) {
	solicits := in.Proto == wire.ProtoICMPv6 && in.Transport()[0] == wire.ICMPv6Solicit
	switch d := in.Bytes(); {
	case solicits:
	case d[0]&1 != 0:
		s.wrong("a frame to many was answered")
	case in.Frag == wire.LaterFragment:
		s.wrong("a later fragment was answered")
	case isError(in):
		s.wrong("an ICMP error was answered")
	case in.Proto == wire.ProtoTCP && in.TCPFlags&wire.RST != 0:
		s.wrong("an RST was answered")
	case in.Flow.Src.Martian(in.Version):
		s.wrong("a source that cannot be was answered")
	}
}

// reply checks an answer against the packet that it answers.
func (s *subject) reply(in, out *wire.Packet) {
	t := out.Transport()
	switch {
	case out.Flow.Dst != in.Flow.Src:
		s.wrong("the answer goes to %v, not to %v", out.Flow.Dst, in.Flow.Src)
	case out.Proto == wire.ProtoTCP:
		if out.Flow != in.Flow.Reverse() || out.TCPFlags&wire.RST == 0 || out.PayloadLen() != 0 {
			s.wrong("this is no RST for %v: %x", in.Flow, out.IP())
		}
	case isError(out):
		if quote := t[wire.ICMPLen:]; !bytes.HasPrefix(in.IP(), quote) || len(quote) < min(in.End-in.L3, 500) {
			s.wrong("the error does not quote the packet: %x", quote)
		}
		if most := map[uint8]int{4: 576, 6: 1280}[out.Version]; out.End-out.L3 > most {
			s.wrong("an error of %d bytes", out.End-out.L3)
		}
	case out.Proto == wire.ProtoICMP || t[0] == wire.ICMPv6EchoReply:
		if !bytes.Equal(t[4:], in.Transport()[4:]) || out.Flow.Src != in.Flow.Dst {
			s.wrong("an echo that is none")
		}
	}
}
