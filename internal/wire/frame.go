package wire

import "time"

// Time is a monotonic instant in nanoseconds. Its zero has no meaning of its own: a live worker reads the kernel's
// monotonic clock once a batch, replay passes the stamps of the capture. Only differences are ever used.
type Time int64

// Add returns t + d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns t - u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Our own choices (no specification asks for these values).
const (
	// Headroom is the number of bytes a device leaves free in a buffer before the frame, so that a tunnel header
	// or a VLAN tag can be put in front without moving the packet.
	Headroom = 128

	// MinBuffer is the least number of bytes a device provides from the start of a frame to the end of its buffer,
	// however short the frame is: answers (ICMP errors of at most 1280 bytes, ARP, RST) are written over the frame
	// that caused them.
	MinBuffer = 2048

	// MaxFrame is the longest frame that is carried: a 64 KiB IP packet behind an Ethernet header with two tags.
	MaxFrame = 65535 + EthernetLen + 2*VLANTagLen
)

// Bits of Offload.Flags, as in struct virtio_net_hdr (linux/virtio_net.h).
const (
	NeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM: the checksum at CsumStart+CsumOffset is unfinished
	DataValid = 2 // VIRTIO_NET_HDR_F_DATA_VALID: somebody has verified the checksum

	// Cut is no bit of virtio and no device's: the frame is from a capture that has only a part of it, and its last
	// CsumOffset bytes are made up.
	Cut = 0x80
)

// Values of Offload.GSOType, as in struct virtio_net_hdr.
const (
	GSONone   = 0
	GSOTCPv4  = 1
	GSOUDP    = 3 // UFO: an IP datagram to be fragmented
	GSOTCPv6  = 4
	GSOUDPL4  = 5    // USO: one UDP datagram a GSOSize
	GSOECNBit = 0x80 // or'ed to a TCP type: the segments carry CWR on the first only
)

// Offload is what a device left to do on a frame, in the words of struct virtio_net_hdr: an unfinished checksum
// (CHECKSUM_PARTIAL) and a super-frame that is still to be cut into segments. Offsets count from the start of the
// frame's bytes. The zero value means that the frame is finished.
type Offload struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // bytes of all headers of a super-frame; a hint that may be 0
	GSOSize    uint16 // payload bytes of one segment
	CsumStart  uint16
	CsumOffset uint16
}

// MadeUp returns how many bytes at the end of the frame were not captured; 0 but in a replay.
func (o *Offload) MadeUp() int {
	if o.Flags&Cut == 0 {
		return 0
	}
	return int(o.CsumOffset)
}

// Frame is one Ethernet frame with what its bytes do not tell. It is a view: the memory belongs to whoever made the
// frame (a device lends it until its next Recv).
type Frame struct {
	// Buf is the whole buffer; the frame is Buf[Off : Off+Len], without the frame check sequence.
	// Off is at least Headroom and len(Buf)-Off at least MinBuffer for frames that came from a device.
	Buf []byte
	Off int
	Len int

	Offload Offload

	// TPID and TCI are the outer VLAN tag that the kernel took out of the bytes; TPID 0 means none.
	// On send a device puts it back.
	TPID, TCI uint16

	// Leg is the index of the device the frame came in by and, in a frame to send, of the device it leaves by.
	Leg uint8
}

// Bytes returns the frame from the destination MAC to its last byte.
func (f *Frame) Bytes() []byte { return f.Buf[f.Off : f.Off+f.Len : len(f.Buf)] }

// Super reports whether the frame is a super-frame that a device, or we, must still cut into segments.
func (f *Frame) Super() bool { return f.Offload.GSOType != GSONone }
