package afpacket

import (
	"encoding/binary"

	"naru/internal/wire"
)

// vnetLen is the length of struct virtio_net_hdr as packet sockets use it (PACKET_VNET_HDR), all fields in the byte
// order of the machine.
const vnetLen = 10

// getVnet reads the header that the kernel put before a frame.
func getVnet(b []byte) wire.Offload {
	return wire.Offload{
		Flags:      b[0],
		GSOType:    b[1],
		HdrLen:     binary.NativeEndian.Uint16(b[2:]),
		GSOSize:    binary.NativeEndian.Uint16(b[4:]),
		CsumStart:  binary.NativeEndian.Uint16(b[6:]),
		CsumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// putVnet writes the header of a frame that has grown by shift bytes before its payload. A finished frame gets zeros
// whatever else its metadata says: the kernel refuses headers that contradict themselves.
func putVnet(b []byte, o *wire.Offload, shift uint16) {
	clear(b[:vnetLen])
	if o.Flags&wire.NeedsCsum != 0 {
		b[0] = wire.NeedsCsum
		binary.NativeEndian.PutUint16(b[6:], o.CsumStart+shift)
		binary.NativeEndian.PutUint16(b[8:], o.CsumOffset)
	}
	if o.GSOType == wire.GSONone {
		return
	}
	b[1] = o.GSOType
	if o.HdrLen != 0 {
		binary.NativeEndian.PutUint16(b[2:], o.HdrLen+shift)
	}
	binary.NativeEndian.PutUint16(b[4:], o.GSOSize)
}
