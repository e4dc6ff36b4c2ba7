package forwarder

import (
	"encoding/binary"

	"naru/internal/wire"
)

// The lengths in bytes that an ICMP error may have in all: RFC 1812 4.3.2.3, RFC 4443 2.4 (c).
const (
	errorMax4 = 576
	errorMax6 = 1280
)

// ourTTL is the TTL of what naru originates (RFC 1700 recommends 64).
const ourTTL = 64

// icmpError is a type and code in each family, and the second word of the message.
type icmpError struct {
	type4, code4, type6, code6 uint8
	word                       uint32
}

var (
	portUnreachable = icmpError{wire.ICMPUnreachable, 3, wire.ICMPv6Unreachable, 4, 0}
	timeExceeded    = icmpError{wire.ICMPTimeExceeded, 0, wire.ICMPv6TimeExceeded, 0, 0}
)

// tooBigError tells the next MTU (RFC 1191 4, RFC 8201).
func tooBigError(mtu int) icmpError {
	return icmpError{wire.ICMPUnreachable, 4, wire.ICMPv6TooBig, 0, uint32(mtu)}
}

// refusals says what counts when the refusal of a new connection was answered: why, which is more than that it was.
var refusals = [wire.NumReasons]wire.Reason{
	wire.TupleClash: wire.TupleClashAnswered, wire.NoBackend: wire.NoBackendAnswered,
	wire.BackendFull: wire.BackendFullAnswered, wire.ServiceFull: wire.ServiceFullAnswered,
	wire.PortsExhausted: wire.PortsExhaustedAnswered,
}

// reject answers a packet that nobody serves as configured; reason is what counts when no answer is sent.
func (e *Engine) reject(p *wire.Packet, how Reject, reason wire.Reason) {
	switch {
	case how == RejectDrop, p.Frag != wire.Whole, p.Proto == wire.ProtoTCP && p.TCPFlags&wire.RST != 0:
		e.done(p, reason) // an RST never answers an RST
	case how == RejectRST && p.Proto == wire.ProtoTCP:
		sent, limited := told(reason, wire.RejectedRST)
		e.refuseTCP(p, sent, limited)
	default:
		sent, limited := told(reason, wire.RejectedICMP)
		e.sendError(p, &portUnreachable, sent, limited)
	}
}

// told returns what counts when an answer is sent, and when it would be one too many.
func told(reason, by wire.Reason) (sent, limited wire.Reason) {
	if r := refusals[reason]; r != wire.ReasonNone {
		return r, reason
	}
	return by, wire.RateLimited
}

// hopLimit answers a packet whose TTL or hop limit is used up.
func (e *Engine) hopLimit(p *wire.Packet) {
	if p.Proto == wire.ProtoTCP && p.TCPFlags&wire.RST != 0 {
		e.done(p, wire.HopLimit)
		return
	}
	e.sendError(p, &timeExceeded, wire.HopLimitAnswered, wire.HopLimit)
}

// tooBig answers a packet that the next link cannot carry and that must not be fragmented.
func (e *Engine) tooBig(p *wire.Packet, mtu int) {
	if e.trace != nil {
		e.rec.tooBig(p, mtu)
	}
	if !p.DontFragment() {
		e.done(p, wire.TooBig)
		return
	}
	err := tooBigError(max(mtu, leastMTU(p.Version)))
	e.sendError(p, &err, wire.TooBigAnswered, wire.TooBig)
}

// sendError writes an ICMP error over the packet that it is about, which is untouched so far. It comes from the address that
// the packet was sent to, if that is ours; what a backend of mode NAT sends to others gets an error from the leg's own.
func (e *Engine) sendError(p *wire.Packet, err *icmpError, sent, limited wire.Reason) {
	from := p.Flow.Dst
	if e.snap.owned[from] == nil {
		from = e.askFrom(p.Leg, p.Flow.Src)
	}
	if p.Frag == wire.LaterFragment || isICMPError(p) || from.Unspecified() || !e.limit.allow(e.now, &p.Flow.Src) {
		e.done(p, limited)
		return
	}
	head, most := wire.IPv4Len, errorMax4
	if p.Version == 6 {
		head, most = wire.IPv6Len, errorMax6
	}
	quote := min(p.End-p.L3, most-head-wire.ICMPLen)
	length := head + wire.ICMPLen + quote
	d := p.Buf[p.Off : p.Off+p.L3+length]
	copy(d[p.L3+head+wire.ICMPLen:], d[p.L3:p.L3+quote])
	p.Len, p.L4, p.End = len(d), p.L3+head, len(d)
	ip, t := d[p.L3:], d[p.L4:]
	t[2], t[3] = 0, 0
	binary.BigEndian.PutUint32(t[4:], err.word)
	if p.Version == 4 {
		t[0], t[1] = err.type4, err.code4
		putIPv4(ip, length, wire.ProtoICMP, &from, &p.Flow.Src)
		p.Proto = wire.ProtoICMP
	} else {
		t[0], t[1] = err.type6, err.code6
		putIPv6(ip, length-head, wire.ProtoICMPv6, &from, &p.Flow.Src)
		p.Proto = wire.ProtoICMPv6
	}
	p.SealICMP()
	e.answer(p, length, sent)
}

// isICMPError reports whether a packet is an ICMP error, which is never answered by another (RFC 1122 3.2.2).
func isICMPError(p *wire.Packet) bool {
	return (p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6) && p.ICMPError()
}

// refuseTCP writes an RST over a segment (RFC 9293 3.10.7.1).
func (e *Engine) refuseTCP(p *wire.Packet, sent, limited wire.Reason) {
	if !e.limit.allow(e.now, &p.Flow.Src) {
		e.done(p, limited)
		return
	}
	seq, ack := p.Seq()
	flags := byte(wire.RST)
	if p.TCPFlags&wire.ACK != 0 {
		seq, ack = ack, 0
	} else {
		n := uint32(p.PayloadLen())
		if p.TCPFlags&wire.SYN != 0 {
			n++
		}
		if p.TCPFlags&wire.FIN != 0 {
			n++
		}
		seq, ack, flags = 0, seq+n, wire.RST|wire.ACK
	}
	f := p.Flow.Reverse()
	n := putReset(p.Buf[p.Off+p.L3:], &f, seq, ack, flags)
	p.L4 = p.L3 + n - wire.TCPLen
	e.answer(p, n, sent)
}

// putIPv4 writes a header without options: DF set, so the id may be 0 (RFC 6864 4.1).
func putIPv4(ip []byte, total int, proto uint8, src, dst *wire.Addr) {
	be := binary.BigEndian
	be.PutUint32(ip, 0x4500_0000|uint32(total))
	be.PutUint32(ip[4:], 0x4000)
	be.PutUint32(ip[8:], ourTTL<<24|uint32(proto)<<16)
	copy(ip[12:16], src[12:])
	copy(ip[16:20], dst[12:])
	be.PutUint16(ip[10:], ^wire.Fold(wire.Sum(ip[:wire.IPv4Len], 0)))
}

// putIPv6 writes a header without extensions.
func putIPv6(ip []byte, payload int, proto uint8, src, dst *wire.Addr) {
	be := binary.BigEndian
	be.PutUint32(ip, 6<<28)
	be.PutUint32(ip[4:], uint32(payload)<<16|uint32(proto)<<8|ourTTL)
	copy(ip[8:24], src[:])
	copy(ip[24:40], dst[:])
}
