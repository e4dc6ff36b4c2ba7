package dsr

import "naru/internal/wire"

// Redirect sends a frame on to another machine of the segment: it writes the Ethernet addresses and leaves VLAN tags,
// the packet, its checksums and its offload metadata as they are. The frame must have an Ethernet header.
func Redirect(f *wire.Frame, src, dst *wire.MAC) {
	b := f.Buf[f.Off : f.Off+12 : len(f.Buf)]
	copy(b[:6], dst[:])
	copy(b[6:], src[:])
}
