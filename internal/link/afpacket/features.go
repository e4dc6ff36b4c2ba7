package afpacket

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"

	"naru/internal/wire"
)

// features is what the interface can cut itself. The zero value covers no super-frame.
type features struct {
	tcp4, tcp6, ecn, udp bool
	maxSize, maxSegs     int // of one super-frame, in bytes and segments
}

// readFeatures asks the kernel. A device that does not tell covers nothing: the way through the queueing discipline
// is always right, only slower.
func readFeatures(fd int, attrs *netlink.LinkAttrs) (features, error) {
	on, err := activeFeatures(fd, attrs.Name)
	if err != nil {
		return features{}, fmt.Errorf("read offload features: %w", err)
	}
	f := features{
		tcp4:    on["tx-tcp-segmentation"],
		tcp6:    on["tx-tcp6-segmentation"],
		ecn:     on["tx-tcp-ecn-segmentation"],
		udp:     on["tx-udp-segmentation"],
		maxSize: int(attrs.GSOMaxSize),
		maxSegs: int(attrs.GSOMaxSegs),
	}
	if v4 := int(attrs.GSOIPv4MaxSize); v4 != 0 && v4 < f.maxSize {
		f.maxSize = v4
	}
	return f, nil
}

// covers reports whether the interface takes the frame as it is. An unfinished checksum alone is always covered: the
// kernel finishes it in place on both ways. A super-frame must be of a kind that the interface cuts, within its
// limits, and without a VLAN tag, because features behind a tag are others, which nobody tells.
func (f *features) covers(fr *wire.Frame) bool {
	o := &fr.Offload
	if o.GSOType == wire.GSONone {
		return true
	}
	if o.Flags&wire.NeedsCsum == 0 || o.GSOSize == 0 || tagged(fr) {
		return false
	}
	if fr.Len >= f.maxSize || fr.Len/int(o.GSOSize)+1 > f.maxSegs {
		return false
	}
	if o.GSOType&wire.GSOECNBit != 0 && !f.ecn {
		return false
	}
	switch o.GSOType &^ wire.GSOECNBit {
	case wire.GSOTCPv4:
		return f.tcp4
	case wire.GSOTCPv6:
		return f.tcp6
	case wire.GSOUDPL4:
		return f.udp
	}
	return false
}

// tagged reports whether the frame will have a VLAN tag on the wire, from its metadata or in its bytes.
func tagged(fr *wire.Frame) bool {
	if fr.TPID != 0 {
		return true
	}
	t := binary.BigEndian.Uint16(fr.Buf[fr.Off+macsLen:])
	return t == wire.TypeVLAN || t == wire.TypeQinQ
}
