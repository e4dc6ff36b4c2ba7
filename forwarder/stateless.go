package forwarder

import (
	"slices"

	"naru/internal/conntrack"
	"naru/internal/wire"
)

// When the table is full, direct server return goes on without it: the backend of each packet is chosen by the client's
// address alone, so that all of a connection go to one. What began so has no entry later, when there is room again: for as
// long as such a connection may be idle, segments that begin nothing are not refused but go the same way, and get an entry
// for the backend that they had.

// forwardAlone forwards a packet without an entry, or refuses it if no backend may have it.
func (e *Engine) forwardAlone(p *wire.Packet, svc *service) {
	b := svc.stateless(p)
	if e.trace != nil {
		e.rec.pick(svc, b, 0)
	}
	if b < 0 {
		e.reject(p, svc.Reject, wire.NoBackend)
		return
	}
	e.alone = conntrack.Conn{Client: p.Flow.Src, ClientPort: p.Flow.SrcPort, VIPPort: p.Flow.DstPort,
		Path: e.ids[svc.index][b*svc.ways()]}
	e.counters.Stateless++
	e.fellBack = e.now
	e.forward(p, &e.alone, conntrack.None, conntrack.Original)
}

// mayBeAlone reports whether a packet that belongs to no connection may be of one that began while the table was full.
func (e *Engine) mayBeAlone(p *wire.Packet, svc *service) bool {
	if e.fellBack == 0 || svc.Mode < L2DSR {
		return false
	}
	idle := svc.Timeouts.UDP
	if p.Proto == wire.ProtoTCP {
		idle = svc.Timeouts.TCPEstablished
	}
	return e.now.Sub(e.fellBack) < idle
}

// goOn deals with a packet of what may be such a connection, if it begins nothing. An RST ends one, so it gets no entry.
func (e *Engine) goOn(p *wire.Packet, svc *service) bool {
	begins := p.Proto == wire.ProtoTCP && p.TCPFlags&wire.SYN != 0
	if begins || !e.mayBeAlone(p, svc) || p.TTL() <= 1 && svc.Mode != L2DSR || slices.Contains(svc.addrs, p.Flow.Src) {
		return false
	}
	b := svc.stateless(p)
	if b < 0 || p.TCPFlags&wire.RST != 0 || p.Frag == wire.LaterFragment {
		e.forwardAlone(p, svc)
		return true
	}
	svc.count(b)
	id, reason := e.insert(p, svc, b)
	if reason != wire.ReasonNone {
		svc.unchoose(b)
		e.forwardAlone(p, svc)
		return true
	}
	if e.trace != nil {
		e.rec.pick(svc, b, 1)
	}
	e.forward(p, e.table.Conn(id), id, conntrack.Original)
	return true
}

// followAlone sends a later fragment after a first one that was forwarded without an entry.
func (e *Engine) followAlone(p *wire.Packet) bool {
	o := e.snap.owned[p.Flow.Dst]
	if o == nil || !o.vip {
		return false
	}
	svc := o.match(p.Proto, p.Flow.DstPort)
	return svc != nil && e.goOn(p, svc)
}
