// Package dsr hands packets on so that the backend answers the client itself (direct server return).
//
// Contract: functions on a frame, in place; nothing here knows connections, services or next hops, reads a clock or
// allocates. So far the package has the one step that all modes have in common: a frame changes its Ethernet addresses
// and nothing else (RFC 894, RFC 2464). For L2DSR that is the whole translation, for every other mode the last step.
// L3DSR (DSCP values, tunnels), the MTU of tunnels and the backend's half are not here yet, and the engine refuses the
// modes themselves by name.
package dsr

import "naru/internal/wire"

// Redirect sends a frame on to another machine of the segment: it writes the Ethernet addresses and leaves VLAN tags,
// the packet, its checksums and its offload metadata as they are. The frame must have an Ethernet header.
func Redirect(f *wire.Frame, src, dst wire.MAC) {
	b := f.Buf[f.Off : f.Off+12 : len(f.Buf)]
	copy(b[:6], dst[:])
	copy(b[6:], src[:])
}
