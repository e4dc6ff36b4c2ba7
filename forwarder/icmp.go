package forwarder

import (
	"encoding/binary"

	"naru/dsr"
	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
	"naru/nat"
)

// The least MTU that an ICMP error may tell: RFC 791 3.1 (576 bytes every host must take), RFC 8200 5.
const (
	leastMTU4 = 576
	leastMTU6 = 1280
)

// icmp deals with ICMP and ICMPv6 to a unicast MAC address.
func (e *Engine) icmp(p *wire.Packet) {
	kind := p.Transport()[0]
	if p.Version == 6 && (kind == wire.ICMPv6Solicit || kind == wire.ICMPv6Advertise) {
		e.nd(p)
		return
	}
	o := e.snap.owned[p.Flow.Dst]
	switch {
	case p.ICMPError():
		e.icmpError(p, o)
	case o == nil:
		e.done(p, wire.NotOurAddress)
	case o.kernel:
		e.done(p, wire.NotOurPort)
	case !p.ICMPRight():
		e.done(p, wire.ICMPChecksum)
	case p.Flow.Src.Martian(p.Version) || e.snap.owned[p.Flow.Src] != nil:
		e.done(p, wire.MartianSource)
	case kind != wire.ICMPEcho && p.Version == 4 || kind != wire.ICMPv6Echo && p.Version == 6 || o.echo == EchoDrop:
		e.done(p, wire.ICMPIgnored)
	case o.echo == EchoPass:
		e.done(p, wire.EchoPassed)
	default:
		e.echo(p)
	}
}

// echo turns an echo request into its reply.
func (e *Engine) echo(p *wire.Packet) {
	ip, t := p.IP(), p.Transport()
	if p.Version == 4 {
		t[0] = wire.ICMPEchoReply
		// The header is the request's, with its options; only the addresses change places and the TTL is ours.
		putAddrs4(ip, &p.Flow.Dst, &p.Flow.Src)
	} else {
		t[0] = wire.ICMPv6EchoReply
		copy(ip[8:24], p.Flow.Dst[:])
		copy(ip[24:40], p.Flow.Src[:])
		ip[7] = ourTTL
	}
	p.SealICMP()
	e.answer(p, len(ip), wire.EchoAnswered)
}

// putAddrs4 writes addresses and our TTL into a header and makes its checksum anew.
func putAddrs4(ip []byte, src, dst *wire.Addr) {
	copy(ip[12:16], src[12:])
	copy(ip[16:20], dst[12:])
	ip[8], ip[10], ip[11] = ourTTL, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^wire.Fold(wire.Sum(ip[:int(ip[0]&0x0f)*4], 0)))
}

// icmpError carries an error about a packet of a connection on, as the connection's mode says. The connection is found by
// the quoted packet; errors neither make, refresh nor end one (RFC 4787 REQ-12). In mode NAT errors from behind are
// addressed to the client, so o may be nil.
func (e *Engine) icmpError(p *wire.Packet, o *owned) {
	var q wire.Quote
	if !p.ICMPRight() {
		e.foreignError(p, o, wire.ICMPChecksum)
		return
	}
	if !p.ParseQuote(&q) {
		if !e.tunnelError(p) {
			e.foreignError(p, o, wire.ICMPMalformed)
		}
		return
	}
	f := q.Flow.Reverse()
	hash := e.table.Hash(&f) | 1
	id, dir := e.table.Lookup(&f, hash)
	// The error must have been sent to the source of what it quotes; everything else is forged.
	if id == conntrack.None || q.Flow.Src != p.Flow.Dst || e.table.Expired(e.table.Conn(id), e.now) {
		if !e.tunnelError(p) && !(id == conntrack.None && e.strayFlow(p, &f)) {
			e.foreignError(p, o, wire.ICMPNoConn)
		}
		return
	}
	if e.trace != nil {
		e.rec.lookup(e, id, dir)
	}
	if p.Flow.Src.Martian(p.Version) || e.snap.owned[p.Flow.Src] != nil {
		e.done(p, wire.MartianSource)
		return
	}
	c := e.table.Conn(id)
	mode := e.paths[c.Path].key.mode
	if p.TTL() <= 1 && mode != L2DSR {
		e.done(p, wire.HopLimit)
		return
	}
	if !plausibleMTU(p) {
		e.done(p, wire.ICMPIgnored)
		return
	}
	hop, reason := e.findHop(c, dir)
	switch {
	case reason != wire.ReasonNone:
		e.done(p, reason)
		return
	case mode >= L2DSR && e.fromBackend(p, &e.paths[c.Path], hop):
		e.done(p, wire.Hairpin)
		return
	}
	if e.trace != nil {
		e.rec.translate(e, c, id, dir)
	}
	p.Hash = hash
	e.carryError(p, &q, c, dir, hop)
}

// carryError is carry for an ICMP error. A router behind naru is hidden behind the VIP; one before it is seen by the backend
// as it is, but in full NAT.
func (e *Engine) carryError(p *wire.Packet, q *wire.Quote, c *conntrack.Conn, dir conntrack.Dir, hop neigh.ID) {
	path := e.table.Path(c.Path)
	pi := &e.paths[c.Path]
	switch {
	case pi.key.mode == L2DSR:
		e.sendWhole(p, hop)
		return
	case pi.key.mode == L3DSR && pi.key.l3dsr.Encap == EncapDSCP:
		dsr.Mark(p, &path.Backend, pi.key.l3dsr.DSCP)
		e.ownSource(p, hop)
		p.SealICMP() // the pseudo header of ICMPv6 has the addresses
		e.sendWhole(p, hop)
		return
	case pi.key.mode == L3DSR:
		p.LowerTTL()
		e.wrap(p, pi, hop, e.mtu(pi, e.snap.legs[e.neigh.Leg(hop)].MTU))
		return
	case dir == conntrack.Reply:
		nat.TranslateError(p, q, &path.VIP, &c.Client,
			&nat.Tuple{Src: &c.Client, Dst: &path.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort})
	case pi.key.mode == NAT:
		nat.TranslateError(p, q, &p.Flow.Src, &path.Backend,
			&nat.Tuple{Src: &path.Backend, Dst: &c.Client, SrcPort: c.BackendPort, DstPort: c.ClientPort})
	default:
		nat.TranslateError(p, q, &path.Local, &path.Backend,
			&nat.Tuple{Src: &path.Backend, Dst: &path.Local, SrcPort: c.BackendPort, DstPort: c.LocalPort})
	}
	e.send(p, hop)
}

// ownSource makes an ICMP error that is routed on one of ours, if the leg has an address: the router that it is from may be
// on the way to the backend too, and would refuse a packet from itself.
func (e *Engine) ownSource(p *wire.Packet, hop neigh.ID) {
	own := e.askFrom(e.neigh.Leg(hop), e.neigh.Addr(hop))
	if own.Unspecified() {
		return
	}
	ip := p.IP()
	if p.Version == 6 {
		copy(ip[8:24], own[:])
		return
	}
	copy(ip[12:16], own[12:])
	sum := wire.Delta(0).AddAddr(&p.Flow.Src, &own, 4).Apply(binary.BigEndian.Uint16(ip[10:]))
	binary.BigEndian.PutUint16(ip[10:], sum)
}

// foreignError ends an error that is about no connection of ours; to an address that is the kernel's it is the kernel's.
func (e *Engine) foreignError(p *wire.Packet, o *owned, reason wire.Reason) {
	switch {
	case e.fenced(p):
		e.routeOn(p)
		return
	case o == nil:
		reason = wire.NotOurAddress
	case o.kernel:
		reason = wire.NotOurPort
	}
	e.done(p, reason)
}

// plausibleMTU reports whether an error about a packet's size tells an MTU that a link may have: a tiny one is an attack.
// Old routers tell 0 (RFC 1191 5).
func plausibleMTU(p *wire.Packet) bool {
	t := p.Transport()
	if p.Version == 4 {
		mtu := binary.BigEndian.Uint16(t[6:])
		return t[0] != wire.ICMPUnreachable || t[1] != 4 || mtu == 0 || mtu >= leastMTU4
	}
	return t[0] != wire.ICMPv6TooBig || binary.BigEndian.Uint32(t[4:]) >= leastMTU6
}
