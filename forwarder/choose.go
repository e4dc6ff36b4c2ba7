package forwarder

import (
	"encoding/binary"

	"naru/internal/affinity"
	"naru/internal/wire"
	"naru/sched"
)

// choose picks the backend of a new connection and counts the connection there and at the service: unchoose gives it up.
// Without a backend it returns why not.
func (e *Engine) choose(p *wire.Packet, svc *service) (backend int, reason wire.Reason) {
	if !svc.load.Take(svc.limit) {
		return sched.None, wire.ServiceFull
	}
	if svc.affinity != nil {
		backend = e.sticky(p, svc)
	} else {
		backend = svc.pick(p)
	}
	switch backend {
	case sched.None:
		reason = wire.NoBackend
	case sched.Full:
		reason = wire.BackendFull
	default:
		return backend, wire.ReasonNone
	}
	svc.load.Active.Add(-1)
	return sched.None, reason
}

// stateless returns the backend that what the service hashes leads to, by itself, or sched.None.
func (s *service) stateless(p *wire.Packet) int {
	hash := s.hash(p)
	if b := s.scheduler.Stateless(hash); b >= 0 || s.backups == nil {
		return b
	}
	return s.backups.Stateless(hash)
}

// count counts a connection that choose was not asked for.
func (s *service) count(backend int) {
	s.backends[backend].Active.Add(1)
	s.load.Active.Add(1)
}

// unchoose ends the counting of a connection that was not made, or is over.
func (s *service) unchoose(backend int) {
	s.backends[backend].Active.Add(-1)
	s.load.Active.Add(-1)
}

// pick asks the scheduler, and where it has nobody the one of the backups.
func (s *service) pick(p *wire.Packet) int {
	var hash uint64
	if s.Scheduler.Hashes() {
		hash = s.hash(p)
	}
	b := s.scheduler.Pick(hash)
	if b >= 0 || s.backups == nil || b == sched.Full && s.RefuseFull {
		return b
	}
	if backup := s.backups.Pick(hash); backup != sched.None {
		return backup
	}
	return b
}

// hash is the keyed hash of what the service hashes.
func (s *service) hash(p *wire.Packet) uint64 {
	var b [37]byte
	f, n := &p.Flow, 16
	switch s.Hash {
	case HashDest:
		copy(b[:], f.Dst[:])
		binary.BigEndian.PutUint16(b[16:], f.DstPort)
		n = 18
	case HashSourcePort:
		copy(b[:], f.Src[:])
		binary.BigEndian.PutUint16(b[16:], f.SrcPort)
		n = 18
	case HashTuple:
		copy(b[:], f.Src[:])
		copy(b[16:], f.Dst[:])
		binary.BigEndian.PutUint16(b[32:], f.SrcPort)
		binary.BigEndian.PutUint16(b[34:], f.DstPort)
		b[36] = f.Proto
		n = 37
	default:
		copy(b[:], f.Src[:])
	}
	return sched.SipHash(s.hashKey, b[:n])
}

// sticky sends a client to where it was sent before. It is sent somewhere else when that backend takes no new
// connections, or is a backup that is not needed any more; and for this once when that backend is full.
func (e *Engine) sticky(p *wire.Packet, svc *service) int {
	key := svc.client(&p.Flow.Src)
	until := e.now.Add(svc.Affinity.Timeout)
	id, known := svc.affinity.Find(key, e.now)
	if known {
		if b := svc.byID(id); b >= 0 && svc.serves[b] {
			if svc.take(b) {
				svc.affinity.Keep(key, e.now, until, id, id)
				return b
			}
			if svc.RefuseFull {
				return sched.Full
			}
			return svc.pick(p)
		}
	}
	b := svc.pick(p)
	if b < 0 {
		return b
	}
	if !known {
		id = svc.ids[b]
	}
	holds := svc.affinity.Keep(key, e.now, until, svc.ids[b], id)
	if other := svc.byID(holds); holds != svc.ids[b] && other >= 0 && svc.serves[other] && svc.take(other) {
		svc.backends[b].Active.Add(-1) // another worker has sent this client there in the same moment
		return other
	}
	return b
}

// take counts a connection at a backend that the scheduler was not asked for.
func (s *service) take(backend int) bool {
	limit := s.backends[backend].Max
	if limit == 0 {
		limit = sched.NoLimit
	}
	return s.backends[backend].Take(limit)
}

// byID returns the index of a backend, or -1 if it is gone.
func (s *service) byID(id uint32) int {
	for i := range s.ids {
		if s.ids[i] == id {
			return i
		}
	}
	return -1
}

// client is the keyed hash of the part of an address that says who a client is.
func (s *service) client(a *wire.Addr) uint64 {
	b, bits := *a, s.Affinity.Prefix6
	if a.Is4() {
		bits = 96 + s.Affinity.Prefix4
	}
	if whole := bits >> 3; whole < len(b) {
		b[whole] &^= 0xff >> (bits & 7)
		clear(b[whole+1:])
	}
	return sched.SipHash(s.clientKey, b[:])
}

// sourceHash is the keyed hash of a client's address, by which a client keeps its local address.
func (e *Engine) sourceHash(a *wire.Addr) uint64 {
	le := binary.LittleEndian
	return mix64(mix64(le.Uint64(a[:])^e.source[0]) ^ le.Uint64(a[8:]) ^ e.source[1])
}

// defaultClients is for how many clients a service remembers their backends.
const defaultClients = 1 << 16

// remember gives a service its memory of clients: the old one unless it has another size.
func (c *compiler) remember(svc *service, state, old *shared) {
	if svc.Affinity.Timeout == 0 {
		return
	}
	clients := svc.Affinity.Clients
	if clients == 0 {
		clients = defaultClients
	}
	if state.affinity = affinity.New(clients); old.affinity != nil && old.affinity.Size() == state.affinity.Size() {
		state.affinity = old.affinity
	}
	svc.affinity = state.affinity
}
