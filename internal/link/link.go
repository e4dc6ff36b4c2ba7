// Package link says what a device is: one attachment to an Ethernet segment that gives and takes frames in batches.
//
// Drivers live below it (afpacket, memory); linktest is the contract as tests, which every driver passes. The data
// path never waits inside a device: Recv and Send return at once, and Set.Wait is the only place where a worker sleeps.
package link

import (
	"errors"
	"net/netip"
	"time"

	"naru/internal/wire"
)

// ErrClosed is what calls on a closed device return.
var ErrClosed = errors.New("link: device closed")

// ErrGone is what Recv and Send wrap when the interface below the device has been removed or moved to another network
// namespace; it does not come back. An interface that is merely down is no error: Recv returns 0 until it is up again.
var ErrGone = errors.New("link: interface is gone")

// A Device is one attachment to an Ethernet segment. One goroutine uses it at a time; only Close and Stats may be
// called from another.
type Device interface {
	// Recv fills batch from the front with frames that have arrived and returns how many; 0 when there is none. It
	// never waits. The frames' memory is lent until the next Recv; it may be written to, with wire.Headroom bytes
	// before and at least wire.MinBuffer bytes from the start of each frame. Offload metadata and a VLAN tag that is
	// not in the bytes are in the frame. Frame.Leg is left alone.
	Recv(batch []wire.Packet) (int, error)

	// Send sends frames in order and does not keep them. It may write to the wire.Headroom bytes before a frame in its
	// buffer, never to the frame. A frame that cannot be sent (too long, queue full) is
	// skipped and counted in Stats.TxDropped; it does not stop the others. The error is for a device that is broken.
	Send(frames []*wire.Frame) error

	// Join receives frames to the multicast MAC address too; Leave undoes it.
	Join(mac [6]byte) error
	Leave(mac [6]byte) error

	Info() Info
	Stats() Stats

	// Close gives everything back. Later calls return ErrClosed.
	Close() error
}

// Info is what a device is made of; it does not change while the device is open, but for MTU and the GSO features.
type Info struct {
	Name   string // eth0
	Driver string // how frames come in, as a configuration names it; "" where there is no choice
	Index  int    // interface index of the kernel; 0 where there is none
	MAC    [6]byte
	MTU    int // bytes of an IP packet, without the Ethernet header
}

// Stats are the counters of a device since it was opened.
type Stats struct {
	RxFrames, RxBytes uint64
	TxFrames, TxBytes uint64
	// RxMissed counts frames that the kernel dropped before us because we did not keep up (tp_drops).
	RxMissed uint64
	// RxTruncated counts frames that were thrown away because they did not fit a buffer, because there was no room for
	// one longer than the MTU, or because the kernel had no words for their offload state.
	RxTruncated uint64
	// TxDropped counts frames that could not be sent: queue full (ENOBUFS), too long (EMSGSIZE), interface down,
	// offload metadata that makes no sense (EINVAL).
	TxDropped uint64
}

// A Set is what one worker owns: a device a leg and the way to wait for any of them.
type Set struct {
	Devices []Device
	// Wait returns when a frame may have arrived on any device, when Wake was called (also before) or after timeout;
	// a negative timeout never ends. One goroutine waits at a time. After Close it returns ErrClosed.
	Wait func(timeout time.Duration) error
	// Wake ends a Wait from another goroutine.
	Wake func()
	// Close ends a Wait, closes the devices and gives back what Wait needs. It may be called from another goroutine.
	Close func() error
}

// SolicitedNode returns the multicast MAC address of the solicited-node group of an IPv6 address (RFC 4291 2.7.1,
// RFC 2464 7).
func SolicitedNode(a netip.Addr) [6]byte {
	b := a.As16()
	return [6]byte{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}
