package forwarder

import (
	"naru/dsr"
	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/nat"
)

// short is flow, forward and send in one for nearly every packet: of a connection that lives and neither begins nor ends
// with it, to a next hop that is known, and short enough to stay one frame. It asks first and changes something only when
// all is well; for any other packet it reports false, and the whole way decides. What it does is what the whole way does: a
// test gives the same packets to both, and what is traced always goes the whole way.
func (e *Engine) short(p *wire.Packet) bool {
	if p.Ref == uint32(conntrack.NoRef) || e.table.Changes() != e.found ||
		p.Proto == wire.ProtoTCP && p.TCPFlags&^wire.PSH != wire.ACK || p.Super() {
		return false
	}
	id, dir := conntrack.Ref(p.Ref).Split()
	c := e.table.Conn(id)
	pi := &e.paths[c.Path]
	hop, known := e.knownHop(c, pi, dir)
	if !known || pi.fate != livesOn || e.table.Expired(c, e.now) {
		return false
	}
	to, mode := e.neigh.Hop(hop), pi.key.mode
	leg := &e.snap.legs[to.Leg]
	if !to.Ready(e.now) || mode != L2DSR && p.TTL() <= 1 {
		return false
	}
	mtu := leg.MTU
	if mode >= L2DSR {
		if mode == L3DSR {
			mtu = e.mtu(pi, mtu)
		}
		if to.MAC == wire.MAC(p.Bytes()[6:12]) || pi.tunnelled() && !pi.open {
			return false
		}
	}
	if p.End-p.L3 > mtu {
		return false
	}
	e.table.Seen(e.now, id, dir, p)
	if c.Ending() {
		e.ceded(c)
	}
	pi.used.add(dir, p)
	if e.rewrite(p, c, pi, dir) {
		if p.Len != p.End {
			e.endFrame(p, pi, hop)
		}
		p.Leg = to.Leg
		dsr.Redirect(&p.Frame, &leg.MAC, &to.MAC)
		e.emit(&p.Frame)
		p.Verdict = wire.Transmit
		e.counters.Transmitted++
	}
	return true
}

// rewrite does to a packet that stays one frame what its mode does; false when the packet was dropped.
func (e *Engine) rewrite(p *wire.Packet, c *conntrack.Conn, pi *path, dir conntrack.Dir) bool {
	switch {
	case pi.key.mode < L2DSR:
		to := translation(e.table.Path(c.Path), c, dir, pi.key.mode)
		nat.Translate(p, &to)
	case pi.tunnelled():
		p.LowerTTL()
		return e.wrapWhole(p, pi)
	case pi.key.mode == L3DSR:
		dsr.Mark(p, &pi.key.address, pi.key.l3dsr.DSCP)
	}
	return true
}

// endFrame decides about what follows a packet in its frame, as send and sendWhole do.
func (e *Engine) endFrame(p *wire.Packet, pi *path, hop neigh.ID) {
	if pi.key.mode < L2DSR || pi.tunnelled() {
		p.Len = p.End
		return
	}
	e.pad(p, hop)
}
