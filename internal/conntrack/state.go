package conntrack

import (
	"time"

	"naru/internal/wire"
)

// State is where a connection is in its life.
type State uint8

// The states.
const (
	Free           State = iota // no connection
	TCPSyn                      // a SYN was seen, the handshake is not over
	TCPEstablished              // the handshake is over, or the connection was picked up
	TCPClosing                  // at least one side has sent its FIN
	TCPClosed                   // both FINs are acknowledged, or an RST ended it
	TCPClientOnly               // replies pass us by; the client has gone on after its SYN
	UDPUnreplied                // packets of the client only
	UDPAssured                  // the backend has answered
)

var stateNames = [...]string{"free", "syn", "established", "closing", "closed", "client only", "unreplied", "assured"}

// String returns the state in one word.
func (s State) String() string { return stateNames[s] }

// ClosedLinger is how long a closed connection is kept for late packets (our choice: a retransmitted FIN and its
// acknowledgement still find their way; RFC 9293's two maximum segment lifetimes are cut to 30 s each).
const ClosedLinger = 60 * time.Second

const (
	timeoutTCPSyn = iota
	timeoutTCPEstablished
	timeoutTCPClosing
	timeoutTCPClosed
	timeoutUDP
	timeoutUDPUnreplied
	numTimeouts
)

// Ending reports whether a side has closed: the state is TCPClosing or TCPClosed, which are neighbours.
func (c *Conn) Ending() bool { return c.State-TCPClosing <= TCPClosed-TCPClosing }

// bothFIN reports whether both sides have sent their FIN.
func (c *Conn) bothFIN() bool { return c.Flags&(finOriginal|finReply) == finOriginal|finReply }

// timeout returns which idle time holds in the connection's state. A half-closed connection may be idle for as long as an
// established one: the side that is still open decides. Where replies pass us by, nobody knows whether it is: the client's
// acknowledgements keep the entry. What is not proven has the time of a closing connection, the transitory time of RFC 5382
// REQ-5.
func (c *Conn) timeout() int {
	switch c.State {
	case TCPSyn:
		return timeoutTCPSyn
	case TCPEstablished, TCPClientOnly:
		if c.Flags&proven == 0 {
			return timeoutTCPClosing
		}
		return timeoutTCPEstablished
	case TCPClosing:
		if c.bothFIN() || c.Flags&oneSided != 0 {
			return timeoutTCPClosing
		}
		return timeoutTCPEstablished
	case TCPClosed:
		return timeoutTCPClosed
	case UDPAssured:
		return timeoutUDP
	default:
		return timeoutUDPUnreplied
	}
}

// Begin prepares the state of a connection whose first packet, from the client, is p.
func (c *Conn) Begin(p *wire.Packet) {
	if p.Proto != wire.ProtoTCP {
		c.State = UDPUnreplied
		return
	}
	seq, ack := p.Seq()
	c.end = [2]uint32{seqEnd(p, seq), ack}
	c.ack = [2]uint32{ack, seq}
	c.shift = [2]uint8{maxShift, maxShift}
	if c.State = TCPEstablished; p.TCPFlags&wire.SYN != 0 {
		c.State, c.shift = TCPSyn, [2]uint8{shiftOf(p), 0}
	}
}

// Seen takes note of a packet of a connection: counters, state and deadline.
func (t *Table) Seen(now wire.Time, id ID, d Dir, p *wire.Packet) {
	c := &t.conns[id]
	c.count(d, p.End-p.L3)
	state, flags := c.State, c.Flags
	if p.Proto == wire.ProtoTCP {
		if p.Frag != wire.LaterFragment {
			c.seenTCP(d, p)
		}
	} else if d == Reply {
		c.State = UDPAssured
	}
	if flags&proven == 0 && c.State != TCPClosed && p.Frag != wire.LaterFragment && p.TCPFlags&wire.RST == 0 {
		c.prove(d, state)
	}
	if state == TCPClosed {
		return // late packets do not keep it
	}
	deadline := stamp(now) + t.paths.at(c.Path).timeouts[c.timeout()]
	earlier := int32(deadline-c.deadline) < 0
	c.deadline = deadline
	if c.State != state || c.Flags != flags {
		t.changed(id, classOf(state, flags), earlier)
	}
}

// changed puts a connection whose state has changed into the list where it belongs now.
func (t *Table) changed(id ID, before Class, earlier bool) {
	c := &t.conns[id]
	class := c.class()
	if class != before || earlier {
		t.displace(id, before)
		t.place(id, class, c.deadline)
	}
}

// seenTCP moves the state along. Only what fits the sequence numbers seen so far moves it: a forged or stray RST, FIN or
// SYN is forwarded for the ends to judge (RFC 5961), and changes nothing here.
func (c *Conn) seenTCP(d Dir, p *wire.Packet) {
	flags := p.TCPFlags
	seq, ack := p.Seq()
	other := d ^ 1
	if flags&wire.RST != 0 {
		if c.resetFits(d, flags, seq, ack) {
			c.State = TCPClosed
		}
		return
	}
	end := seqEnd(p, seq)
	if flags&wire.SYN != 0 {
		c.seenSYN(d, p, seq, ack, end)
		return
	}
	if !c.inWindow(d, end) {
		return
	}
	progress := false
	if int32(end-c.end[d]) > 0 {
		c.end[d] = end
	}
	if ahead := int32(ack-c.ack[d]) > 0; flags&wire.ACK != 0 && (ahead || c.State == TCPSyn) {
		switch {
		case c.Flags&oneSided != 0:
			c.ack[d] = ack // what the backend has sent nobody saw
		case ahead && int32(ack-c.end[other]) <= 0:
			c.ack[d], progress = ack, true
		}
	}
	switch c.State {
	case TCPSyn:
		if d == Original && c.Flags&synAck != 0 && progress {
			c.State = TCPEstablished
		} else if c.Flags&oneSided != 0 && flags&wire.ACK != 0 {
			c.State = TCPClientOnly // never an invented "established"
		}
	case TCPClosed:
		return
	}
	if flags&wire.FIN != 0 && end == c.end[d] && (c.State != TCPSyn || c.Flags&synAck != 0) {
		c.Flags |= finOriginal << d
	}
	// A FIN ends no handshake: two forged segments would make an entry that lives as long as an established one.
	if c.State != TCPSyn && c.Flags&(finOriginal|finReply) != 0 {
		c.State = TCPClosing
	}
	if c.bothFIN() && c.ack[d] == c.end[other] && c.ack[other] == c.end[d] {
		c.State = TCPClosed
	}
}

// seenSYN follows the handshake. A SYN on a live connection is the ends' business: the backend answers it with a challenge
// ACK (RFC 5961 4).
func (c *Conn) seenSYN(d Dir, p *wire.Packet, seq, ack, end uint32) {
	if c.State != TCPSyn {
		return
	}
	switch {
	case d == Original:
		c.end[Original] = end
		c.shift[Original] = shiftOf(p)
	case p.TCPFlags&wire.ACK == 0: // simultaneous open
		c.end[Reply], c.ack[Original] = end, seq
		c.Flags |= synAck
		c.agree(p)
	case ack == c.end[Original] || int32(c.end[Original]-ack) > 0: // data on a SYN need not be accepted (RFC 7413)
		c.end[Reply], c.ack[Reply], c.ack[Original] = end, ack, seq
		c.Flags |= synAck
		c.agree(p)
	}
}

// resetFits reports whether an RST ends the connection: its sequence number is exactly what the other side expects next or
// what this side sent last (RFC 5961 3), or it refuses the SYN (RFC 9293 3.10.7.3).
func (c *Conn) resetFits(d Dir, flags uint8, seq, ack uint32) bool {
	if c.State == TCPSyn && d == Reply && c.Flags&synAck == 0 {
		return flags&wire.ACK != 0 && ack == c.end[Original]
	}
	return seq == c.ack[d^1] || seq == c.end[d]
}

// Resets returns the sequence numbers at which an RST from one end may be believed by the other: behind what was sent to
// it, and what it has acknowledged. Of what passes us by only the latter is known, or the former.
func (c *Conn) Resets(from Dir) (sent, acked uint32) {
	sent, acked = c.end[from], c.ack[from^1]
	switch {
	case c.Flags&oneSided == 0:
	case from == Original:
		acked = sent
	default:
		sent = acked
	}
	return sent, acked
}

// seqEnd returns the sequence number behind a segment.
func seqEnd(p *wire.Packet, seq uint32) uint32 {
	end := seq + uint32(max(0, p.PayloadLen()))
	if p.TCPFlags&wire.SYN != 0 {
		end++
	}
	if p.TCPFlags&wire.FIN != 0 {
		end++
	}
	return end
}

// Restart reports whether a SYN of the client means a new connection although there is an entry: the old one is closed or
// closing on both sides, or the client's side of it is and the sequence number goes on from there (RFC 9293 3.6.1), its
// handshake was begun with another sequence number, or it has been idle for more than half of
// its idle time. Otherwise the SYN belongs to the old one, and the backend judges it.
func (t *Table) Restart(now wire.Time, c *Conn, p *wire.Packet) bool {
	if p.TCPFlags&(wire.SYN|wire.ACK|wire.RST) != wire.SYN {
		return false
	}
	switch c.State {
	case TCPClosed:
		return true
	case TCPClosing:
		seq, _ := p.Seq()
		ended := c.Flags&finOriginal != 0 && c.ack[Reply] == c.end[Original] && int32(seq-c.end[Original]) > 0
		if c.bothFIN() || c.Flags&oneSided != 0 || ended {
			return true
		}
	case TCPSyn:
		// The same initial sequence number, with or without the data that it first came with (RFC 7413 4.2).
		seq, _ := p.Seq()
		return c.end[Original]-seq-1 > 0xffff
	}
	idle := t.paths.at(c.Path).timeouts[c.timeout()]
	return int32(c.deadline-stamp(now)) < int32(idle/2)
}
