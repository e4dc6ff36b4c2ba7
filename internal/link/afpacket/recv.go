package afpacket

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/internal/link"
	"naru/internal/wire"
)

const (
	// slotLen is one receive buffer: the headroom, whose end takes the virtio header for a moment, and the longest
	// frame. It is not a multiple of 4 KiB, so that the starts of the frames do not fight for the same cache lines.
	slotLen = wire.Headroom + (wire.MaxFrame+63)/64*64

	// controlLen holds one control message with a struct tpacket_auxdata.
	controlLen = unix.SizeofCmsghdr + (int(unsafe.Sizeof(unix.TpacketAuxdata{}))+7)/8*8

	// maxRefused is how many frames one Recv passes over before it returns without any: our own bound on its time.
	maxRefused = 64
)

// receiver is the receiving half of a device.
type receiver struct {
	sock  *sock
	slots []byte
	msgs  []unix.Mmsghdr
	iovs  []unix.Iovec
	ctrls [][controlLen / 8]uint64 // words, for the alignment of struct cmsghdr

	down bool // an ENETDOWN was seen and no frame since: the interface may have been removed as well
	gone bool
}

func newReceiver(s *sock, batch int) *receiver {
	r := &receiver{
		sock:  s,
		slots: make([]byte, batch*slotLen),
		msgs:  make([]unix.Mmsghdr, batch),
		iovs:  make([]unix.Iovec, batch),
		ctrls: make([][controlLen / 8]uint64, batch),
	}
	for i := range r.msgs {
		r.iovs[i].Base = &r.slots[i*slotLen+wire.Headroom-vnetLen]
		r.iovs[i].SetLen(vnetLen + slotLen - wire.Headroom)
		r.msgs[i].Hdr.Iov = &r.iovs[i]
		r.msgs[i].Hdr.SetIovlen(1)
		r.msgs[i].Hdr.Control = (*byte)(unsafe.Pointer(&r.ctrls[i][0]))
	}
	return r
}

// Recv implements link.Device. At most Options.Batch frames come at once.
func (d *Device) Recv(batch []wire.Packet) (int, error) {
	if d.closed.Load() {
		return 0, link.ErrClosed
	}
	if d.rx.gone {
		return 0, d.goneErr()
	}
	if len(batch) == 0 {
		return 0, nil
	}
	if d.ring != nil {
		return d.recvRing(batch)
	}
	msgs := d.rx.msgs[:min(len(batch), len(d.rx.msgs))]
	for refused := 0; refused < maxRefused; {
		for i := range msgs {
			msgs[i].Hdr.SetControllen(controlLen)
			msgs[i].Hdr.Flags = 0
		}
		got, errno := d.rx.sock.recvBatch(msgs)
		if got == 0 {
			again, err := d.rxError(errno)
			if !again {
				return 0, err
			}
			refused++
			continue
		}
		d.rx.down = false
		if n := d.hand(batch, got); n > 0 {
			return n, nil
		}
		refused += got
	}
	return 0, nil
}

// rxError judges an errno of recvmmsg: try again, nothing there (no error), or broken.
func (d *Device) rxError(errno syscall.Errno) (again bool, err error) {
	switch errno {
	case 0, unix.EAGAIN:
		if d.rx.down {
			return false, d.checkGone()
		}
		return false, nil
	case unix.EBADF:
		return false, link.ErrClosed
	case unix.ENETDOWN:
		// The socket says it once, and goes on by itself when the interface is up again.
		d.rx.down = true
		return true, nil
	case unix.EINVAL:
		// A super-frame of a kind that the virtio header has no word for; the kernel has thrown it away.
		d.rxTruncated.Add(1)
		return true, nil
	}
	return false, fmt.Errorf("afpacket: %s: receive: %w", d.name, errno)
}

// checkGone finds out whether the interface was removed: the kernel then unbinds the socket and says no more.
func (d *Device) checkGone() error {
	err := d.rx.sock.control(func(fd int) error {
		sa, err := unix.Getsockname(fd)
		if ll, ok := sa.(*unix.SockaddrLinklayer); err == nil && ok {
			d.rx.gone = ll.Ifindex != d.index
		}
		return err
	})
	switch {
	case d.closed.Load():
		return link.ErrClosed
	case err != nil:
		return fmt.Errorf("afpacket: %s: getsockname: %w", d.name, err)
	case d.rx.gone:
		return d.goneErr()
	}
	return nil
}

// hand fills batch with the first got messages, leaves out what was truncated, and returns how many frames there are.
func (d *Device) hand(batch []wire.Packet, got int) int {
	var n int
	var bytes, truncated uint64
	for i := range d.rx.msgs[:got] {
		m := &d.rx.msgs[i]
		if m.Hdr.Flags&unix.MSG_TRUNC != 0 || m.Len < vnetLen+wire.EthernetLen {
			truncated++
			continue
		}
		f := &batch[n].Frame
		n++
		f.Buf = d.rx.slot(i)
		f.Off, f.Len = wire.Headroom, int(m.Len)-vnetLen
		f.Offload = getVnet(f.Buf[wire.Headroom-vnetLen:])
		f.TPID, f.TCI = d.rx.tag(i)
		bytes += uint64(f.Len)
	}
	if truncated > 0 {
		d.rxTruncated.Add(truncated)
	}
	d.rxFrames.Add(uint64(n))
	d.rxBytes.Add(bytes)
	return n
}

// slot returns the i-th buffer; the frame begins at wire.Headroom.
func (r *receiver) slot(i int) []byte { return r.slots[i*slotLen : (i+1)*slotLen : (i+1)*slotLen] }

// tag returns the VLAN tag that the kernel took out of the i-th frame, or zeros.
func (r *receiver) tag(i int) (tpid, tci uint16) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&r.ctrls[i][0]))
	if r.msgs[i].Hdr.Controllen < unix.SizeofCmsghdr || h.Level != unix.SOL_PACKET || h.Type != unix.PACKET_AUXDATA {
		return 0, 0
	}
	aux := (*unix.TpacketAuxdata)(unsafe.Add(unsafe.Pointer(h), unix.SizeofCmsghdr))
	return vlanTag(aux.Status, aux.Vlan_tpid, aux.Vlan_tci)
}

// vlanTag returns the tag that a status word of the kernel says there is, or zeros.
func vlanTag(status uint32, tpid, tci uint16) (uint16, uint16) {
	switch {
	case status&unix.TP_STATUS_VLAN_VALID == 0:
		return 0, 0
	case status&unix.TP_STATUS_VLAN_TPID_VALID == 0:
		return wire.TypeVLAN, tci
	}
	return tpid, tci
}
