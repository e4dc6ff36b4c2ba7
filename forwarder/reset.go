package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// Our own choices: what one call sends to reset connections, and the bytes of such a frame.
const (
	resetFrames = 256
	resetsOfOne = 4 // two sequence numbers to two ends
	resetSize   = wire.EthernetLen + wire.IPv6Len + wire.TCPLen
)

// resetTable is memory for the RSTs of one call.
type resetTable struct {
	packets [resetFrames]wire.Packet
	mem     [resetFrames][wire.Headroom + resetSize]byte
	used    int
}

func (r *resetTable) reset() { r.used = 0 }

// room reports whether another connection can be reset in this call.
func (r *resetTable) room() bool { return r.used+resetsOfOne <= resetFrames }

// resetBoth tells both ends of a connection that it is over. A RST counts at the exact sequence number only (RFC 5961 3.2),
// and what is under way to an end nobody knows: where what it was sent and what it has acknowledged differ, there are two.
func (e *Engine) resetBoth(c *conntrack.Conn) {
	for _, from := range [...]conntrack.Dir{conntrack.Reply, conntrack.Original} {
		sent, acked := c.Resets(from)
		e.sendReset(c, from, sent)
		if acked != sent {
			e.sendReset(c, from, acked)
		}
	}
}

// sendReset sends an RST to the other end, as the one from. A next hop that is not known now is not waited for.
func (e *Engine) sendReset(c *conntrack.Conn, from conntrack.Dir, seq uint32) {
	pi := &e.paths[c.Path]
	hop, reason := e.findHop(c, from)
	if reason != wire.ReasonNone {
		return
	}
	if mac, _ := e.neigh.MAC(e.now, hop); mac == nil {
		return
	}
	path := e.table.Path(c.Path)
	f := wire.Flow{Src: path.VIP, SrcPort: c.VIPPort, Dst: c.Client, DstPort: c.ClientPort}
	if from == conntrack.Original {
		f = f.Reverse()
		if pi.key.mode < L2DSR {
			t := translation(path, c, from, pi.key.mode)
			f = wire.Flow{Src: *t.Src, SrcPort: t.SrcPort, Dst: *t.Dst, DstPort: t.DstPort}
		}
	}
	p := e.makeReset(&f, seq)
	trace, before := e.trace, e.counters
	e.trace = nil // it is no packet that came in, nor is it counted as one
	e.passReset(p, pi, from, hop)
	sent := e.counters.Sent - before.Sent
	e.counters, e.trace = before, trace
	e.counters.Sent += sent
	e.counters.Made += sent
}

// passReset sends an RST the way of the connection's packets.
func (e *Engine) passReset(p *wire.Packet, pi *path, from conntrack.Dir, hop neigh.ID) {
	switch {
	case from == conntrack.Reply || pi.key.mode < L2DSR:
		e.send(p, hop)
	case pi.key.mode == L2DSR:
		e.sendWhole(p, hop)
	default:
		e.handOn(p, pi, hop, e.mtu(pi, e.snap.legs[e.neigh.Leg(hop)].MTU))
	}
}

// makeReset makes a frame with an RST of a flow.
func (e *Engine) makeReset(f *wire.Flow, seq uint32) *wire.Packet {
	r := &e.resets
	p, mem := &r.packets[r.used], r.mem[r.used][:]
	r.used++
	d := mem[wire.Headroom:]
	kind, head := uint16(wire.TypeIPv4), wire.IPv4Len
	if !f.Dst.Is4() {
		kind, head = wire.TypeIPv6, wire.IPv6Len
	}
	binary.BigEndian.PutUint16(d[12:], kind)
	putReset(d[wire.EthernetLen:], f, seq, 0, wire.RST)
	*p = wire.Packet{Frame: wire.Frame{Buf: mem, Off: wire.Headroom, Len: wire.EthernetLen + head + wire.TCPLen}}
	p.ParseLink()
	p.ParseNetwork()
	return p
}

// putReset writes an IP packet with a TCP segment without options or data, and returns its length.
func putReset(ip []byte, f *wire.Flow, seq, ack uint32, flags byte) int {
	be := binary.BigEndian
	head := wire.IPv4Len
	if f.Dst.Is4() {
		putIPv4(ip, head+wire.TCPLen, wire.ProtoTCP, &f.Src, &f.Dst)
	} else {
		head = wire.IPv6Len
		putIPv6(ip, wire.TCPLen, wire.ProtoTCP, &f.Src, &f.Dst)
	}
	t := ip[head:][:wire.TCPLen]
	clear(t)
	be.PutUint16(t, f.SrcPort)
	be.PutUint16(t[2:], f.DstPort)
	be.PutUint32(t[4:], seq)
	be.PutUint32(t[8:], ack)
	t[12], t[13] = wire.TCPLen/4<<4, flags
	be.PutUint16(t[16:], ^wire.Fold(wire.Sum(t, wire.PseudoSum(ip, wire.ProtoTCP, wire.TCPLen))))
	return head + wire.TCPLen
}
