package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
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
	case o == nil:
		e.done(p, wire.NotOurAddress)
	case !p.ICMPRight():
		e.done(p, wire.ICMPChecksum)
	case p.ICMPError():
		e.icmpError(p, o)
	case o.kernel:
		e.done(p, wire.NotOurPort)
	case p.Flow.Src.Martian(p.Version) || e.snap.owned[p.Flow.Src] != nil:
		e.done(p, wire.MartianSource)
	case kind == wire.ICMPEcho && p.Version == 4 || kind == wire.ICMPv6Echo && p.Version == 6:
		e.echo(p)
	default:
		e.done(p, wire.ICMPIgnored)
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

// icmpError translates an error about a packet of a connection, inside and out. The connection is found by the quoted
// packet; errors neither make, refresh nor end one (RFC 4787 REQ-12).
func (e *Engine) icmpError(p *wire.Packet, o *owned) {
	var q wire.Quote
	if !p.ParseQuote(&q) {
		e.foreignError(p, o, wire.ICMPMalformed)
		return
	}
	f := q.Flow.Reverse()
	id, dir := e.table.Lookup(&f, e.table.Hash(&f))
	// The error must have been sent to the source of what it quotes; everything else is forged.
	if id == conntrack.None || q.Flow.Src != p.Flow.Dst || e.table.Expired(e.table.Conn(id), e.now) {
		e.foreignError(p, o, wire.ICMPNoConn)
		return
	}
	if e.trace != nil {
		e.rec.lookup(e, id, dir)
	}
	if p.Flow.Src.Martian(p.Version) || e.snap.owned[p.Flow.Src] != nil {
		e.done(p, wire.MartianSource)
		return
	}
	if p.TTL() <= 1 {
		e.done(p, wire.HopLimit)
		return
	}
	if !plausibleMTU(p) {
		e.done(p, wire.ICMPIgnored)
		return
	}
	c := e.table.Conn(id)
	hop, reason := e.nextHop(c, dir)
	if reason != wire.ReasonNone {
		e.done(p, reason)
		return
	}
	path := e.table.Path(c.Path)
	if e.trace != nil {
		e.rec.translate(e, c, id, dir)
	}
	if dir == conntrack.Reply {
		nat.TranslateError(p, &q, path.VIP, c.Client,
			&nat.Tuple{Src: c.Client, Dst: path.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort})
	} else {
		nat.TranslateError(p, &q, path.Local, path.Backend,
			&nat.Tuple{Src: path.Backend, Dst: path.Local, SrcPort: c.BackendPort, DstPort: c.LocalPort})
	}
	e.send(p, hop)
}

// foreignError ends an error that is about no connection of ours; on an address that the kernel holds it is the kernel's.
func (e *Engine) foreignError(p *wire.Packet, o *owned, reason wire.Reason) {
	if o.kernel {
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
