package forwarder

import (
	"naru/dsr"
	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/nat"
)

// translate is what the NAT modes do to a packet.
func (e *Engine) translate(p *wire.Packet, c *conntrack.Conn, dir conntrack.Dir, hop neigh.ID, mtu int) {
	to := translation(e.table.Path(c.Path), c, dir, e.paths[c.Path].key.mode)
	if p.TCPFlags&wire.SYN != 0 {
		e.clampMSS(p, hop)
	}
	nat.Translate(p, &to)
	if p.Frag != wire.Whole {
		e.renumber(p)
	}
	e.sendFitting(p, hop, mtu)
}

// handOn is what L3DSR does to a packet.
func (e *Engine) handOn(p *wire.Packet, pi *path, hop neigh.ID, mtu int) {
	if pi.key.l3dsr.Encap == EncapDSCP {
		dsr.Mark(p, &pi.key.address, pi.key.l3dsr.DSCP)
		e.sendMarked(p, hop, mtu)
		return
	}
	p.LowerTTL()
	e.wrap(p, pi, hop, mtu)
}

// translation is what a NAT mode writes into a packet of a connection.
func translation(path *conntrack.Path, c *conntrack.Conn, dir conntrack.Dir, mode Mode) nat.Tuple {
	switch {
	case dir == conntrack.Reply:
		return nat.Tuple{Src: &path.VIP, Dst: &c.Client, SrcPort: c.VIPPort, DstPort: c.ClientPort}
	case mode == NAT:
		return nat.Tuple{Src: &c.Client, Dst: &path.Backend, SrcPort: c.ClientPort, DstPort: c.BackendPort}
	default:
		return nat.Tuple{Src: &path.Local, Dst: &path.Backend, SrcPort: c.LocalPort, DstPort: c.BackendPort}
	}
}

// fromBackend reports whether a packet came from the very backend that it would be sent to: that does not take the VIP for
// its own and routes the packet back. A router may well be the way both from the client and to the backend.
func (e *Engine) fromBackend(p *wire.Packet, pi *path, hop neigh.ID) bool {
	mac := e.neigh.Peek(hop)
	return mac != nil && *mac == wire.MAC(p.Bytes()[6:12]) && e.neigh.Addr(hop) == pi.key.address
}

// mtu is the longest packet, as it came in, that fits the way to an L3DSR backend by a leg of the MTU leg.
func (e *Engine) mtu(pi *path, leg int) int {
	if pi.mtu != 0 {
		leg = min(leg, pi.mtu)
	}
	if pi.key.l3dsr.Encap == EncapDSCP {
		return leg
	}
	if pi.told != 0 && e.now < pi.toldUntil {
		leg = min(leg, pi.told)
	}
	return leg - pi.tunnel.Overhead()
}

// mayFragment reports whether naru fragments a packet that is too big: IPv4 without DF where naru may change the packet,
// and what a tunnel cannot carry whole though nobody may be told to send less (RFC 8200 5, RFC 2473 7.1).
func (e *Engine) mayFragment(p *wire.Packet, pi *path, mtu int) bool {
	switch {
	case pi.key.mode == L2DSR:
		return false
	case pi.tunnelled() && mtu > 0 && p.SegmentLen() <= leastMTU(p.Version):
		return true
	}
	return !p.Super() && !p.DontFragment()
}

// leastMTU is the least MTU that an ICMP error tells.
func leastMTU(version uint8) int {
	if version == 6 {
		return leastMTU6
	}
	return leastMTU4
}

// tunnelled reports whether packets on the path travel inside others.
func (pi *path) tunnelled() bool { return pi.key.mode == L3DSR && pi.key.l3dsr.Encap != EncapDSCP }

// clampMSS lowers the MSS that a SYN offers to what both legs carry, when their MTUs differ (RFC 9293 3.7.1).
func (e *Engine) clampMSS(p *wire.Packet, hop neigh.ID) {
	if p.Frag != wire.Whole {
		return
	}
	in, out := e.snap.legs[p.Leg].MTU, e.snap.legs[e.neigh.Leg(hop)].MTU
	if in == out {
		return
	}
	head := wire.IPv4Len + wire.TCPLen
	if p.Version == 6 {
		head = wire.IPv6Len + wire.TCPLen
	}
	nat.ClampMSS(p, uint16(max(1, min(in, out, 65535)-head)))
}

// sendMarked is sendFitting for a packet that goes on in its own frame where it fits.
func (e *Engine) sendMarked(p *wire.Packet, hop neigh.ID, mtu int) {
	if p.SegmentLen() <= mtu {
		e.sendWhole(p, hop)
		return
	}
	e.sendFitting(p, hop, mtu)
}

// sendFitting sends a translated packet, in fragments where it does not fit.
func (e *Engine) sendFitting(p *wire.Packet, hop neigh.ID, mtu int) {
	if p.End-p.L3 <= mtu || p.Super() {
		e.send(p, hop)
	} else {
		e.sendCut(p, hop, mtu)
	}
}

// sendCut sends a packet that does not fit, in fragments.
func (e *Engine) sendCut(p *wire.Packet, hop neigh.ID, mtu int) {
	dsr.Finish(p)
	e.sendPieces(p, hop, 0, func(b *burst) bool { return b.fragments(e, p, mtu) })
}
