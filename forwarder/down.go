package forwarder

import (
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// fate is what becomes of the connections of a path whose backend is out of service.
type fate uint8

const (
	livesOn   fate = iota
	isReset        // they end, of TCP both ends hear it
	isForgot       // they end in silence: the client's next packet begins anew
	isDropped      // their packets are dropped
)

// sweepBudget is how many connections one Tick looks at after a backend has gone out of service (our choice).
const sweepBudget = 2048

// fateOf says what becomes of the connections of a backend.
func (s *Service) fateOf(b *Backend) fate {
	tcp := s.Proto == wire.ProtoTCP
	switch {
	case b.State == Disabled && tcp:
		return isReset
	case b.State == Disabled:
		return isForgot
	case b.State != Down:
		return livesOn
	case tcp:
		return [...]fate{DownTCPReset: isReset, DownTCPKeep: livesOn, DownTCPReschedule: isForgot}[s.OnDownTCP]
	}
	return [...]fate{DownUDPRehash: isForgot, DownUDPDrop: isDropped}[s.OnDownUDP]
}

// doom notes the fate of a path's connections. Those that are to end do so when one of their packets comes, or a Tick
// meets them.
func (e *Engine) doom(id conntrack.PathID, f fate) {
	doomed := f == isReset || f == isForgot
	if doomed && !e.table.Doomed(id) {
		e.table.StartSweep()
	}
	e.table.Doom(id, doomed)
}

// endOne ends a connection for Expire and Sweep. It returns false when it cannot tell the ends any more in this call.
func (e *Engine) endOne(id conntrack.ID) bool {
	c := e.table.Conn(id)
	pi := &e.paths[c.Path]
	open := c.State != conntrack.TCPClosed && !e.table.Expired(c, e.now)
	idle := c.State != conntrack.TCPClosed && !open
	tcp := pi.key.proto == wire.ProtoTCP && c.Proven() // the ends of a handshake would not believe it, and it begins anew
	switch {
	case open && pi.fate == isReset && tcp:
		if !e.resets.room() {
			return false
		}
		e.resetBoth(c)
		e.counters.DownReset++
	case open && pi.fate != livesOn:
		e.counters.DownForgotten++
	case idle && tcp && pi.service.OnIdle == IdleReset:
		if !e.resets.room() {
			return false
		}
		e.resetBoth(c)
		e.counters.IdleReset++
	}
	e.endConn(id)
	return true
}

// endNow is endOne where it must be now.
func (e *Engine) endNow(id conntrack.ID) {
	if !e.endOne(id) {
		e.endConn(id)
	}
}

// outOfService deals with a packet of a connection whose backend is out of service, and reports whether it has: the
// connection ends. What may begin a new one does, where the backend would have been sent nothing else.
func (e *Engine) outOfService(p *wire.Packet, id conntrack.ID, dir conntrack.Dir, f fate) bool {
	request := dir == conntrack.Original
	switch {
	case id == conntrack.None || f == isDropped && !request:
		return false
	case f == isDropped || p.Frag == wire.LaterFragment:
		e.done(p, wire.BackendDown)
		return true
	}
	proven := e.table.Conn(id).Proven()
	if !e.endOne(id) { // a Tick will find room to tell the ends
		e.done(p, wire.BackendDown)
		return true
	}
	begins := f == isForgot || p.TCPFlags&(wire.SYN|wire.ACK) == wire.SYN || !proven
	if request && begins {
		e.stranger(p)
	} else {
		e.done(p, wire.BackendDown)
	}
	return true
}
