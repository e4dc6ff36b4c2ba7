package forwarder

import (
	"encoding/binary"
	"net/netip"
	"time"

	"naru/dsr"
	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// pathMTULife is how long a router's word about a tunnel's path holds (RFC 1191 6.3, RFC 8201 4: about ten minutes).
const pathMTULife = 10 * time.Minute

// openTunnel prepares the outer header of a path: its source is as configured, or the leg's own address.
func (e *Engine) openTunnel(pi *path) {
	key := &pi.key
	source := key.l3dsr.Source4
	if !key.address.Is4() {
		source = key.l3dsr.Source6
	}
	if !source.IsValid() {
		leg, next, ok := e.snap.routes.lookup(key.address)
		if !ok {
			return
		}
		own := e.askFrom(uint8(leg), next)
		if own.Unspecified() {
			return
		}
		source = netip.PrefixFrom(own.Netip(), own.Netip().BitLen())
	}
	kind := dsr.IPIP
	if key.l3dsr.Encap == EncapGUE {
		kind = dsr.GUE
	}
	var err error
	pi.tunnel, err = dsr.NewTunnel(dsr.TunnelConfig{Kind: kind, Source: source, Dst: key.address.Netip(),
		Port: key.l3dsr.Port, Variant: key.l3dsr.Variant})
	pi.open = err == nil
}

// wrap puts a packet into the tunnel of its path and sends it: whole, as segments of a super-frame, or as fragments. Before
// it goes in, its checksum is finished, since no device would do it inside a tunnel. limit is the longest inner packet that
// fits.
func (e *Engine) wrap(p *wire.Packet, pi *path, hop neigh.ID, limit int) {
	switch {
	case !pi.open:
		e.done(p, wire.NoRoute)
	case p.Super():
		e.sendPieces(p, hop, pi.tunnel.Overhead(), func(b *burst) bool { return b.segments(e, p, pi, limit) })
	case p.End-p.L3 <= limit:
		if e.wrapWhole(p, pi) {
			e.send(p, hop)
		}
	default:
		e.wrapLong(p, pi, hop, limit)
	}
}

// wrapLong wraps a packet that does not fit: IPv4 without DF in fragments, what nobody may send shorter in fragmented outer
// packets.
func (e *Engine) wrapLong(p *wire.Packet, pi *path, hop neigh.ID, limit int) {
	overhead := pi.tunnel.Overhead()
	if !p.DontFragment() {
		dsr.Finish(p)
		e.sendPieces(p, hop, overhead, func(b *burst) bool { return b.innerFragments(e, p, pi, limit) })
		return
	}
	if e.wrapWhole(p, pi) {
		e.sendPieces(p, hop, 0, func(b *burst) bool { return b.fragments(e, p, limit+overhead) })
	}
}

// wrapWhole wraps a packet where it lies; false when it was dropped, because it would become too long.
func (e *Engine) wrapWhole(p *wire.Packet, pi *path) bool {
	if p.Offload.Flags&wire.NeedsCsum != 0 {
		dsr.Finish(p)
	}
	if !e.wrapOne(&p.Frame, p.L3, pi, p.Hash) {
		e.done(p, wire.TooBig)
		return false
	}
	p.End += pi.tunnel.Overhead()
	if e.trace != nil {
		e.rec.wrapped(p, pi.tunnel.Overhead())
	}
	return true
}

// wrapOne wraps one finished packet where it lies.
func (e *Engine) wrapOne(f *wire.Frame, l3 int, pi *path, hash uint64) bool {
	return pi.tunnel.Wrap(f, l3, hash, uint16(e.fragmentID()))
}

// fragmentID returns the next identification of what naru fragments or wraps. Workers take turns: they share addresses.
func (e *Engine) fragmentID() uint32 {
	e.lastID += uint32(e.opt.Workers)
	return e.lastID
}

// tunnelError learns from a router on the way to a tunnel's end that a packet was too big there. The quoted outer packet
// must be as we send them to a backend, and the inner one, as far as it is quoted, of a connection to it: else it is forged.
func (e *Engine) tunnelError(p *wire.Packet) bool {
	t := p.Transport()
	var mtu, least int
	switch {
	case p.Version == 4 && t[0] == wire.ICMPUnreachable && t[1] == 4:
		mtu, least = int(binary.BigEndian.Uint16(t[6:])), leastMTU4
	case p.Version == 6 && t[0] == wire.ICMPv6TooBig:
		mtu, least = int(binary.BigEndian.Uint32(t[4:])), leastMTU6
	default:
		return false
	}
	var f wire.Flow
	end, ok := dsr.Quoted(p, &f)
	if !ok {
		return false
	}
	hash := e.table.Hash(&f) | 1
	id, dir := e.table.Lookup(&f, hash)
	if id == conntrack.None || dir != conntrack.Original || e.table.Expired(e.table.Conn(id), e.now) {
		return id == conntrack.None && e.strayFlow(p, &f)
	}
	pi := &e.paths[e.table.Conn(id).Path]
	if !pi.tunnelled() || pi.key.address != end || !pi.tunnel.Sent(p.Transport()[wire.ICMPLen:], hash) {
		return false
	}
	e.learnMTU(pi, max(mtu, least))
	e.done(p, wire.PathMTULearned)
	return true
}

// learnMTU notes the MTU of a tunnel for all paths through it, of all workers. While a value holds, an error may lower it
// and never raises it (RFC 8201 4); one that says nothing new costs no walk through the paths.
func (e *Engine) learnMTU(pi *path, mtu int) {
	if pi.lowers(e.now, mtu) || e.now.Add(pathMTULife/2) > pi.toldUntil && mtu == pi.told {
		n := note{addr: pi.key.address, tunnel: pi.key.l3dsr, mtu: mtu}
		e.noteMTU(n)
		e.tellOthers(n)
	}
}

// noteMTU is learnMTU for what another worker has learned.
func (e *Engine) noteMTU(n note) {
	for i := range e.paths {
		o := &e.paths[i]
		same := o.tunnelled() && o.key.address == n.addr && o.key.l3dsr == n.tunnel
		if same && (o.lowers(e.now, n.mtu) || o.told == n.mtu) {
			o.told, o.toldUntil = n.mtu, e.now.Add(pathMTULife)
		}
	}
}

// lowers reports whether an MTU is less than the one that holds, if any does.
func (pi *path) lowers(now wire.Time, mtu int) bool {
	return pi.told == 0 || now >= pi.toldUntil || mtu < pi.told
}
