package conntrack

import (
	"time"

	"naru/internal/wire"
)

// PathID names an interned path.
type PathID uint32

// Return says what replies look like.
type Return uint8

// The ways back.
const (
	ReturnLocal  Return = iota // from the backend to the local address (full NAT)
	ReturnClient               // from the backend to the client (NAT)
	ReturnNone                 // past us (DSR)
)

// Path is what all connections of one service through one local address to one backend share.
type Path struct {
	VIP, Local, Backend wire.Addr
	Proto               uint8
	Return              Return

	pinned   bool   // a configuration names it
	doomed   bool   // its connections are to be ended
	refs     uint32 // connections that hold it
	timeouts [numTimeouts]uint32
}

// Idle are the idle times of a path's connections.
type Idle struct {
	TCPSyn, TCPEstablished, TCPClosing time.Duration
	UDP, UDPUnreplied                  time.Duration
}

// paths is an append-only table with a list of places that nobody uses any more.
type paths struct {
	all  []Path
	free []PathID
}

func (p *paths) at(id PathID) *Path { return &p.all[id] }

func (p *paths) release(id PathID) {
	path := &p.all[id]
	if path.refs--; path.refs == 0 && !path.pinned {
		p.free = append(p.free, id) // capacity is kept by AddPath
	}
}

// AddPath interns a path for as long as a configuration names it or a connection holds it. Called when the configuration
// changes, never for a packet: it allocates.
func (t *Table) AddPath(p Path, idle Idle) PathID {
	p.pinned, p.refs = true, 0
	ps := &t.paths
	var id PathID
	if n := len(ps.free); n > 0 {
		id, ps.free = ps.free[n-1], ps.free[:n-1]
		ps.all[id] = p
	} else {
		id = PathID(len(ps.all))
		ps.all = append(ps.all, p)
		if cap(ps.free) < len(ps.all) { // so that release never allocates
			ps.free = append(make([]PathID, 0, 2*len(ps.all)), ps.free...)
		}
	}
	t.SetIdle(id, idle)
	return id
}

// SetIdle changes the idle times of a path; they hold from a connection's next packet on.
func (t *Table) SetIdle(id PathID, idle Idle) {
	t.paths.at(id).timeouts = [numTimeouts]uint32{
		timeoutTCPSyn:         stamps(idle.TCPSyn),
		timeoutTCPEstablished: stamps(idle.TCPEstablished),
		timeoutTCPClosing:     stamps(idle.TCPClosing),
		timeoutTCPClosed:      stamps(ClosedLinger),
		timeoutUDP:            stamps(idle.UDP),
		timeoutUDPUnreplied:   stamps(idle.UDPUnreplied),
	}
}

// DropPath says that no configuration names a path any more, and reports whether it is gone: its id may be used again
// then. Otherwise it goes with its last connection.
func (t *Table) DropPath(id PathID) bool {
	p := t.paths.at(id)
	p.pinned = false
	if p.refs > 0 {
		return false
	}
	t.paths.free = append(t.paths.free, id)
	return true
}

// PathGone reports whether a dropped path has lost its last connection.
func (t *Table) PathGone(id PathID) bool { p := t.paths.at(id); return !p.pinned && p.refs == 0 }

// PathPinned reports whether a configuration names a path.
func (t *Table) PathPinned(id PathID) bool { return t.paths.at(id).pinned }

// PinPath names a dropped path again.
func (t *Table) PinPath(id PathID) { t.paths.at(id).pinned = true }

// Path returns an interned path.
func (t *Table) Path(id PathID) *Path { return t.paths.at(id) }
