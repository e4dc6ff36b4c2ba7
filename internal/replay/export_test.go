package replay

import (
	"naru/forwarder"
	"naru/internal/wire"
)

// StateFormat is the version of state files.
const StateFormat = stateFormat

// State is what the run would leave off with now.
func (r *Replay) State() ([]byte, error) { return r.state() }

// Litter fills what is behind a frame in the buffer, as an earlier frame might have.
func (r *Replay) Litter(b byte) {
	behind := r.buf[wire.Headroom : wire.Headroom+2*wire.MinBuffer]
	for i := range behind {
		behind[i] = b
	}
}

// Watch has started called for each connection that is made, and ended for each that ends.
func (r *Replay) Watch(started, ended func(*forwarder.Connection)) {
	r.engine.WatchStarts(func(c *forwarder.Connection) {
		started(c)
		r.numbers.begin(c)
	})
	r.engine.WatchEnds(func(c *forwarder.Connection) {
		ended(c)
		r.ended(c)
	})
}

// Living calls f for each connection.
func (r *Replay) Living(f func(*forwarder.Connection)) { r.engine.Connections(f) }
