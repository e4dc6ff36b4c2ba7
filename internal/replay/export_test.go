package replay

import "naru/internal/wire"

// Litter fills what is behind a frame in the buffer, as an earlier frame might have.
func (r *Replay) Litter(b byte) {
	behind := r.buf[wire.Headroom : wire.Headroom+2*wire.MinBuffer]
	for i := range behind {
		behind[i] = b
	}
}
