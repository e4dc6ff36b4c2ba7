package forwarder

import (
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// Usage is what an engine has carried on one path: to one backend of a service, in full NAT through one local address.
type Usage struct {
	Service, Backend string
	Mode             Mode
	Gone             bool      // no configuration names the path any more; its connections go on
	Addr             wire.Addr // of the backend
	Local            wire.Addr // of full NAT
	Made             uint64    // connections since the path was interned
	Active           int64     // connections of the backend now, over all its paths and all workers
	Packets, Bytes   [2]uint64 // of IP, by direction (conntrack.Original, conntrack.Reply), since the path was interned

	// Ports says how many local ports of full NAT there are and are free, for this worker. Paths of several services may
	// draw from the same Pool; it is a name for it and nothing more.
	Ports, Free int
	Pool        any
}

// Usage appends what was carried on each path that a configuration names or a connection holds. Only the goroutine that
// owns the engine may call it.
func (e *Engine) Usage(dst []Usage) []Usage {
	for id := range e.paths {
		pi := &e.paths[id]
		if pi.service == nil || e.table.PathGone(conntrack.PathID(id)) {
			continue
		}
		u := Usage{Service: pi.key.service, Backend: pi.key.backend, Mode: pi.key.mode,
			Gone: e.table.PathDropped(conntrack.PathID(id)), Addr: pi.key.address, Local: pi.key.local, Made: pi.used.made,
			Active: pi.service.backends[pi.backend].Active.Load(), Packets: pi.used.packets, Bytes: pi.used.bytes}
		if pi.pool != nil {
			u.Ports, u.Free, u.Pool = pi.pool.Size(), pi.pool.Free(), pi.pool
		}
		dst = append(dst, u)
	}
	return dst
}

// used counts what a path has carried.
type used struct {
	made           uint64
	packets, bytes [2]uint64
}

// add counts a packet.
func (u *used) add(dir conntrack.Dir, p *wire.Packet) {
	u.packets[dir]++
	u.bytes[dir] += uint64(p.End - p.L3)
}
