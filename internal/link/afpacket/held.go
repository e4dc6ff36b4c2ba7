package afpacket

import (
	"os"
	"sync/atomic"
)

// A held is a descriptor that one goroutine closes while others may be in a system call on it: it stays open until the
// last of them is back. os.File does the same by way of closures, a dozen calls for each system call.
type held struct {
	f     *os.File
	fd    uintptr
	users atomic.Int32 // how many are in a system call, with closing added when it is to be closed
}

const closing = -1 << 30 // less than there can be users

func (h *held) hold(f *os.File) { h.f, h.fd = f, f.Fd() }

// enter reports whether the descriptor may be used; then leave must follow.
func (h *held) enter() bool {
	if h.users.Add(1) > 0 {
		return true
	}
	h.leave()
	return false
}

func (h *held) leave() {
	if h.users.Add(-1) == closing {
		_ = h.f.Close() // a second time does nothing
	}
}

// close closes the descriptor, or lets the last user do it.
func (h *held) close() error {
	if h.users.Add(closing) == closing {
		return h.f.Close()
	}
	return nil
}
