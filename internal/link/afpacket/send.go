package afpacket

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"naru/internal/link"
	"naru/internal/wire"
)

const (
	macsLen = 2 * 6 // both MAC addresses: a VLAN tag comes behind them
	tagLen  = 4     // TPID and TCI

	// headLen is what we put before the rest of a frame: the virtio header and, for a frame with a tag in its
	// metadata, the addresses and the tag.
	headLen = vnetLen + macsLen + tagLen
)

// A txPath is one of the two ways out.
type txPath uint8

const (
	viaDriver txPath = iota // PACKET_QDISC_BYPASS
	viaQdisc
)

// sender is the sending half of a device.
type sender struct {
	socks [2]*sock // by txPath

	// One message a frame. Where the caller's buffer has room before the frame the virtio header is written there, and
	// the message is of one piece, which is cheaper; otherwise, and with a tag, it is ours (head) and the caller's.
	// The frame itself is neither written to nor moved.
	msgs   []unix.Mmsghdr
	iovs   [][2]unix.Iovec
	heads  [][headLen]byte
	frames []*wire.Frame

	// queued says that frames may still lie in the queueing discipline; a frame that goes around it would overtake
	// them.
	queued bool
	outq   func(fd int) error
	left   int // result of outq: bytes not yet sent
}

func newSender(driver, qdisc *sock, batch int) *sender {
	t := &sender{
		socks:  [2]*sock{viaDriver: driver, viaQdisc: qdisc},
		msgs:   make([]unix.Mmsghdr, batch),
		iovs:   make([][2]unix.Iovec, batch),
		heads:  make([][headLen]byte, batch),
		frames: make([]*wire.Frame, batch),
	}
	for i := range t.msgs {
		t.msgs[i].Hdr.Iov = &t.iovs[i][0]
	}
	t.outq = func(fd int) (err error) {
		t.left, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	}
	return t
}

// Send implements link.Device.
func (d *Device) Send(frames []*wire.Frame) error {
	if d.closed.Load() {
		return link.ErrClosed
	}
	feat := d.feat.Load()
	for len(frames) > 0 {
		taken, n, path := d.tx.fill(frames, feat)
		if bad := taken - n; bad > 0 {
			d.txDropped.Add(uint64(bad))
		}
		frames = frames[taken:]
		if n == 0 {
			continue
		}
		if err := d.flush(path, n); err != nil {
			d.txDropped.Add(uint64(len(frames)))
			return err
		}
	}
	return nil
}

// fill makes messages of the first frames that take the same way. It returns how many frames it took, how many
// messages it made of them (a frame without an Ethernet header makes none) and the way.
func (t *sender) fill(frames []*wire.Frame, feat *features) (taken, n int, path txPath) {
	for _, f := range frames {
		if n == len(t.msgs) {
			break
		}
		if f.Off < 0 || f.Len < wire.EthernetLen || f.Len > len(f.Buf)-f.Off {
			taken++
			continue
		}
		p := viaDriver
		if !feat.covers(f) {
			p = viaQdisc
		}
		if n > 0 && p != path {
			break
		}
		path = p
		t.message(n, f)
		taken++
		n++
	}
	return taken, n, path
}

// message makes the i-th message of f.
func (t *sender) message(i int, f *wire.Frame) {
	head, b := t.heads[i][:], f.Bytes()
	t.frames[i] = f
	switch {
	case f.TPID == 0 && f.Off >= vnetLen:
		whole := f.Buf[f.Off-vnetLen : f.Off+f.Len]
		putVnet(whole, &f.Offload, 0)
		t.iovs[i][0].Base = &whole[0]
		t.iovs[i][0].SetLen(len(whole))
		t.msgs[i].Hdr.SetIovlen(1)
		return
	case f.TPID == 0:
		putVnet(head, &f.Offload, 0)
		t.iovs[i][0].SetLen(vnetLen)
	default:
		putVnet(head, &f.Offload, tagLen)
		copy(head[vnetLen:], b[:macsLen])
		head[vnetLen+macsLen], head[vnetLen+macsLen+1] = byte(f.TPID>>8), byte(f.TPID)
		head[vnetLen+macsLen+2], head[vnetLen+macsLen+3] = byte(f.TCI>>8), byte(f.TCI)
		t.iovs[i][0].SetLen(headLen)
		b = b[macsLen:]
	}
	t.iovs[i][0].Base = &head[0]
	t.iovs[i][1].Base = &b[0]
	t.iovs[i][1].SetLen(len(b))
	t.msgs[i].Hdr.SetIovlen(2)
}

// flush sends the first n messages. A frame that the kernel refuses is counted and skipped; sendmmsg stops there and
// says so only at the next call, so each turn moves on by at least one frame.
func (d *Device) flush(path txPath, n int) error {
	path = d.keepOrder(path)
	var bytes, sent uint64
	var err error
	for i := 0; i < n && err == nil; {
		k, errno := d.tx.socks[path].sendBatch(d.tx.msgs[i:n])
		if k == 0 && d.retry(path, i, errno) {
			k = 1
		}
		for _, f := range d.tx.frames[i : i+k] {
			bytes += uint64(f.Len)
		}
		sent += uint64(k)
		i += k
		if k == 0 {
			var skip int
			skip, err = d.refused(errno, n-i)
			d.txDropped.Add(uint64(skip))
			i += skip
		}
	}
	d.txFrames.Add(sent)
	d.txBytes.Add(bytes)
	return err
}

// refused returns how many of the rest frames an errno of the first of them costs, and an error if the device is
// broken.
func (d *Device) refused(errno syscall.Errno, rest int) (skip int, err error) {
	switch errno {
	case unix.EBADF:
		return rest, link.ErrClosed
	case unix.ENXIO, unix.ENODEV:
		return rest, d.goneErr()
	case unix.ENETDOWN:
		return rest, nil
	}
	return 1, nil
}

// keepOrder returns the way that the next run takes so that it does not overtake an earlier one.
func (d *Device) keepOrder(path txPath) txPath {
	if path == viaQdisc {
		d.tx.queued = true
		return path
	}
	if !d.tx.queued {
		return path
	}
	if err := d.tx.socks[viaQdisc].control(d.tx.outq); err != nil || d.tx.left > 0 {
		return viaQdisc
	}
	d.tx.queued = false
	return path
}

// retry sends the i-th message through the queueing discipline when the driver would not take a super-frame: the
// interface's features may have changed since they were read.
func (d *Device) retry(path txPath, i int, errno syscall.Errno) bool {
	if path != viaDriver || errno != unix.ENOBUFS || !d.tx.frames[i].Super() {
		return false
	}
	d.tx.queued = true
	k, _ := d.tx.socks[viaQdisc].sendBatch(d.tx.msgs[i : i+1])
	return k == 1
}

func (d *Device) goneErr() error { return fmt.Errorf("afpacket: %s: %w", d.name, link.ErrGone) }
