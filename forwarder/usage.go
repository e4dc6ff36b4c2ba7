package forwarder

import (
	"cmp"
	"slices"

	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/nat"
)

// Usage is what an engine has carried to one backend of a service since the service came, over all its paths.
type Usage struct {
	Service, Backend string
	Made             uint64    // connections
	Packets, Bytes   [2]uint64 // of IP, by direction (conntrack.Original, conntrack.Reply)
}

// PoolUsage is the fill of a pool of local ports of one worker.
type PoolUsage struct {
	Service, Backend string // of the first path that draws from it
	Local            wire.Addr
	Size, Free       int
}

// usedKey names a backend, over reloads.
type usedKey struct{ service, backend string }

// used counts what a backend was sent and has sent. It fills two cache lines, so that no other worker's lies in one with it.
type used struct {
	made           uint64
	packets, bytes [2]uint64
	_              [128 - 40]byte
}

// add counts a packet.
func (u *used) add(dir conntrack.Dir, p *wire.Packet) {
	u.packets[dir]++
	u.bytes[dir] += uint64(p.End - p.L3)
}

// usedBy returns the counters of a backend, new or as they were.
func (e *Engine) usedBy(service, backend string) *used {
	k := usedKey{service, backend}
	if e.used[k] == nil {
		e.used[k] = new(used)
	}
	return e.used[k]
}

// Usage appends what was carried to each backend, also those that no configuration names any more: so a sum over a service
// never falls. Only the goroutine that owns the engine may call it.
func (e *Engine) Usage(dst []Usage) []Usage {
	for k, u := range e.used {
		dst = append(dst, Usage{Service: k.service, Backend: k.backend, Made: u.made, Packets: u.packets, Bytes: u.bytes})
	}
	slices.SortFunc(dst, func(a, b Usage) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Backend, b.Backend))
	})
	return dst
}

// Pools appends the fill of each pool that a configured path draws from, once. Only the goroutine that owns the engine may
// call it.
func (e *Engine) Pools(dst []PoolUsage) []PoolUsage {
	seen := make(map[*nat.Pool]bool)
	for i := range e.ids {
		for _, id := range e.ids[i] {
			pi := &e.paths[id]
			if pi.pool == nil || seen[pi.pool] {
				continue
			}
			seen[pi.pool] = true
			dst = append(dst, PoolUsage{Service: pi.key.service, Backend: pi.key.backend, Local: pi.key.local,
				Size: pi.pool.Size(), Free: pi.pool.Free()})
		}
	}
	return dst
}

// BackendLoad is how many connections a backend has now.
type BackendLoad struct {
	Service, Backend string
	Active           int64 // over all workers
	Gone             bool  // no configuration names it any more
}

// Loads returns the load of each backend, in the order of the names. Any goroutine may call it.
func (s *Snapshot) Loads() []BackendLoad {
	var out []BackendLoad
	for service, state := range s.shared {
		for backend, load := range state.loads {
			out = append(out, BackendLoad{service, backend, load.Active.Load(), state.gone[backend]})
		}
	}
	slices.SortFunc(out, func(a, b BackendLoad) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Backend, b.Backend))
	})
	return out
}
