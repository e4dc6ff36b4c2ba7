package forwarder

import (
	"encoding/binary"

	"naru/internal/wire"
)

// choose picks the backend of a new connection, which is counted there already: unchoose gives it up.
func (e *Engine) choose(p *wire.Packet, svc *service) int {
	return svc.scheduler.Pick(e.sourceHash(&p.Flow.Src))
}

// unchoose gives up a choice whose connection was not made.
func (e *Engine) unchoose(svc *service, backend int) {
	svc.backends[backend].Active.Add(-1)
}

// sourceHash is the keyed hash of a client's address.
func (e *Engine) sourceHash(a *wire.Addr) uint64 {
	le := binary.LittleEndian
	return mix64(mix64(le.Uint64(a[:])^e.source[0]) ^ le.Uint64(a[8:]) ^ e.source[1])
}
