package record

import (
	"naru/forwarder"
	"naru/internal/wire"
)

// MadeUp tells of a packet that was captured in part how many bytes at the end of each frame that left because of it were
// not captured: tell gets the number of the frame in r.Sent, and the bytes. It is not called for frames that have none. The
// record must have its frames.
func MadeUp(r *forwarder.Record, tell func(frame, bytes int)) {
	missing := r.Offload.MadeUp()
	if missing == 0 || len(r.Sent) == 0 {
		return
	}
	missing -= leftBehind(r)
	switch {
	case missing <= 0:
	case r.Verdict == wire.Consume:
		if n := madeUpInAnswer(r, missing); n > 0 {
			tell(0, n)
		}
	case len(r.Sent) == 1:
		tell(0, min(missing, r.Sent[0].Len))
	default: // pieces, in order: what is missing is the end of the last ones
		for i := len(r.Sent) - 1; i >= 0 && missing > 0; i-- {
			n := min(missing, behindHeaders(r, r.Sent[i]))
			if n > 0 {
				tell(i, n)
			}
			missing -= n
		}
	}
}

// leftBehind counts the bytes of padding that did not go along.
func leftBehind(r *forwarder.Record) int {
	p := wire.Packet{Frame: *r.Sent[0]}
	if p.ParseLink() != wire.ReasonNone || !parse(&p) || r.Before.Version == 0 {
		return 0
	}
	return r.FrameLen - p.L3 - r.Before.Length - (p.Len - p.End)
}

// madeUpInAnswer counts the bytes of an answer that repeats the packet: an echo all of it, an ICMP error its beginning.
func madeUpInAnswer(r *forwarder.Record, missing int) int {
	if r.Reason == wire.EchoAnswered {
		return missing
	}
	p := wire.Packet{Frame: *r.Sent[0]}
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Frag != wire.Whole ||
		p.Proto != wire.ProtoICMP && p.Proto != wire.ProtoICMPv6 {
		return 0
	}
	quoted := p.End - p.L4 - wire.ICMPLen
	return max(0, quoted-(r.Before.Length-missing))
}

// behindHeaders counts the bytes of a piece that are its own: behind the headers that all pieces have, of a tunnel too.
func behindHeaders(r *forwarder.Record, f *wire.Frame) int {
	p := wire.Packet{Frame: *f}
	if p.ParseLink() != wire.ReasonNone || !parse(&p) {
		return 0
	}
	if p.Frag == wire.Whole && r.Outer.Version != 0 && !inside(&p) {
		return 0
	}
	switch {
	case p.Frag != wire.Whole:
		return p.End - p.FragmentData()
	case p.Proto == wire.ProtoTCP:
		return p.PayloadLen()
	case p.Proto == wire.ProtoUDP:
		return p.End - p.L4 - wire.UDPLen
	}
	return 0
}

func parse(p *wire.Packet) bool { return p.ParseNetwork() == wire.ReasonNone && p.Version != 0 }

// inside moves on to the packet in a tunnel.
func inside(p *wire.Packet) bool {
	d := p.Bytes()
	p.L3 = p.L4
	if p.Proto == wire.ProtoUDP {
		p.L3 += wire.UDPLen
		if p.L3 < p.End && d[p.L3]>>6 == 0 { // GUE of variant 0 has a header
			p.L3 += 4 + int(d[p.L3]&0x1f)*4
		}
	}
	if p.L3 >= p.End {
		return false
	}
	p.EtherType = wire.TypeIPv4
	if d[p.L3]>>4 == 6 {
		p.EtherType = wire.TypeIPv6
	}
	return parse(p)
}
