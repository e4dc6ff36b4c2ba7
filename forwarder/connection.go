package forwarder

import (
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// Connection tells a connection to what is outside the data path: flow logs, tables of connections, replay.
type Connection struct {
	Flow             wire.FlowID
	Service, Backend string
	Mode             Mode
	Encap            Encap // with mode L3DSR

	Proto       uint8
	Client, VIP wire.Addr
	Local       wire.Addr // the zero Addr but in full NAT
	Address     wire.Addr // of the backend

	// LocalPort is 0 but in full NAT.
	ClientPort, VIPPort, LocalPort, BackendPort uint16

	State   conntrack.State
	Start   wire.Time // to 16.8 ms
	Latest  wire.Time // when the latest packet came, or the one that closed it, to 16.8 ms
	Expired bool      // it has been idle for longer than its state allows
	Doomed  bool      // its backend is out of service, which ends it
	At      wire.Time // the instant of which this is told
	Packets [2]uint64 // by conntrack.Dir
	Bytes   [2]uint64 // of IP packets
}

// WatchEnds has f called for each connection that ends, before it is gone; nil, the value at first, is nobody. The
// argument is valid during the call only. Only the goroutine that owns the engine may call it.
func (e *Engine) WatchEnds(f func(*Connection)) { e.ended = f }

// WatchStarts has f called for each connection that is made; nil, the value at first, is nobody. The argument is valid
// during the call only. Only the goroutine that owns the engine may call it.
func (e *Engine) WatchStarts(f func(*Connection)) { e.started = f }

// starting tells the watcher of a connection that was made.
func (e *Engine) starting(c *conntrack.Conn) {
	e.describe(c, &e.last)
	e.started(&e.last)
}

// HowEnded says why a connection that ends does: closed, idle, backend (it is out of service) or replaced, which is that
// it gave way to another.
func (c *Connection) HowEnded() string {
	switch {
	case c.State == conntrack.TCPClosed:
		return "closed"
	case c.Expired:
		return "idle"
	case c.Doomed:
		return "backend"
	}
	return "replaced"
}

// ending tells the watcher of a connection that ends.
func (e *Engine) ending(c *conntrack.Conn) {
	e.describe(c, &e.last)
	e.ended(&e.last)
}

// Connections calls f for every connection, in no order that means anything; the argument is valid during the call only.
// It takes time by the size of the table. Only the goroutine that owns the engine may call it.
func (e *Engine) Connections(f func(*Connection)) {
	var out Connection
	e.table.Each(func(c *conntrack.Conn) {
		e.describe(c, &out)
		f(&out)
	})
}

// Connection returns the living connection that a client's flow belongs to. It changes nothing. Only the goroutine that
// owns the engine may call it.
func (e *Engine) Connection(client *wire.Flow) (out Connection, ok bool) {
	id, dir := e.table.Lookup(client, e.table.Hash(client)|1)
	if id == conntrack.None || dir != conntrack.Original {
		return out, false
	}
	e.describe(e.table.Conn(id), &out)
	return out, !out.Expired
}

func (e *Engine) describe(c *conntrack.Conn, out *Connection) {
	pi, path := &e.paths[c.Path], e.table.Path(c.Path)
	*out = Connection{
		Service: pi.key.service, Backend: pi.key.backend, Mode: pi.key.mode, Encap: pi.key.l3dsr.Encap,
		Proto: path.Proto, Client: c.Client, VIP: path.VIP, Local: path.Local, Address: path.Backend,
		ClientPort: c.ClientPort, VIPPort: c.VIPPort, LocalPort: c.LocalPort, BackendPort: c.BackendPort,
		State: c.State, Start: c.Began(e.now), Latest: e.table.Latest(c, e.now), Expired: e.table.Expired(c, e.now),
		Doomed: pi.fate != livesOn, At: e.now,
		Packets: [2]uint64{c.Packets(conntrack.Original), c.Packets(conntrack.Reply)}, Bytes: c.Bytes,
	}
	if pi.key.mode != FullNAT {
		out.LocalPort = 0
	}
	f := wire.Flow{Src: c.Client, Dst: path.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: path.Proto}
	out.Flow = f.ID()
}
