// Package memory is a wire with two ends in memory: the device for tests, replay-like runs and benchmarks without a
// kernel.
//
// Contract: what one end sends the other receives, whole and in order, with offload metadata and VLAN tag as they
// were; the bytes are copied once, at Send. Nothing is lost but what does not fit the queue (the receiver's RxMissed)
// or the wire (the sender's TxDropped). The same calls in the same order give the same result. The two ends may be
// used from two goroutines. It does not filter by address, does not cut super-frames, and does not wait (NewSet does).
package memory

import (
	"sync"

	"naru/internal/link"
	"naru/internal/wire"
)

// QueueLen is how many frames may wait at one end; our own choice.
const QueueLen = 1024

// A Device is one end of a wire.
type Device struct {
	info link.Info
	peer *Device

	mu     sync.Mutex
	queue  []*slot // waiting to be received, oldest first from head
	head   int
	lent   []*slot // with the user until the next Recv
	free   []*slot
	stats  link.Stats
	closed bool
	notify func() // of the set that the device is in
}

// A slot is the memory of one frame.
type slot struct {
	buf   []byte
	frame wire.Frame
}

var _ link.Device = (*Device)(nil)

// Pair returns the two ends of a wire, a device with each Info. An MTU of 0 means no limit but wire.MaxFrame.
func Pair(a, b link.Info) (*Device, *Device) {
	da, db := &Device{info: a}, &Device{info: b}
	da.peer, db.peer = db, da
	return da, db
}

// Recv implements link.Device.
func (d *Device) Recv(batch []wire.Packet) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, link.ErrClosed
	}
	d.free = append(d.free, d.lent...)
	d.lent = d.lent[:0]
	n := min(len(batch), len(d.queue)-d.head)
	for i, s := range d.queue[d.head : d.head+n] {
		leg := batch[i].Leg
		batch[i].Frame = s.frame
		batch[i].Leg = leg
		d.lent = append(d.lent, s)
		d.stats.RxFrames++
		d.stats.RxBytes += uint64(s.frame.Len)
	}
	if d.head += n; d.head == len(d.queue) {
		d.queue, d.head = d.queue[:0], 0
	}
	return n, nil
}

// Send implements link.Device.
func (d *Device) Send(frames []*wire.Frame) error {
	d.mu.Lock()
	closed, mtu := d.closed, d.info.MTU
	d.mu.Unlock()
	if closed {
		return link.ErrClosed
	}
	var sent link.Stats
	for _, f := range frames {
		if !fits(f, mtu) || !d.peer.put(f) {
			sent.TxDropped++
			continue
		}
		sent.TxFrames++
		sent.TxBytes += uint64(f.Len)
	}
	d.mu.Lock()
	d.stats.TxFrames += sent.TxFrames
	d.stats.TxBytes += sent.TxBytes
	d.stats.TxDropped += sent.TxDropped
	d.mu.Unlock()
	return nil
}

// fits reports whether the wire carries the frame. As on Ethernet a VLAN tag does not count against the MTU, and a
// super-frame is bounded by what it is, not by the MTU.
func fits(f *wire.Frame, mtu int) bool {
	if f.Off < 0 || f.Len < wire.EthernetLen || f.Len > len(f.Buf)-f.Off || f.Len > wire.MaxFrame {
		return false
	}
	return mtu == 0 || f.Super() || f.Len <= mtu+wire.EthernetLen+wire.VLANTagLen
}

// put copies a frame into the queue; a full queue counts it as missed. It reports whether there is a device.
func (d *Device) put(f *wire.Frame) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	if len(d.queue)-d.head == QueueLen {
		d.stats.RxMissed++
		return true
	}
	s := d.slot(f.Len)
	copy(s.buf[wire.Headroom:], f.Bytes())
	s.frame = wire.Frame{Buf: s.buf, Off: wire.Headroom, Len: f.Len, Offload: f.Offload, TPID: f.TPID, TCI: f.TCI}
	d.compact()
	d.queue = append(d.queue, s)
	if d.notify != nil {
		d.notify()
	}
	return true
}

// compact moves the queue to the front of its memory when that is at least half unused, so that it stays bounded
// also when it never runs empty.
func (d *Device) compact() {
	if d.head > QueueLen {
		n := copy(d.queue, d.queue[d.head:])
		d.queue, d.head = d.queue[:n], 0
	}
}

// slot returns memory for a frame of n bytes.
func (d *Device) slot(n int) *slot {
	need := wire.Headroom + max(n, wire.MinBuffer)
	var s *slot
	if k := len(d.free); k > 0 {
		s, d.free = d.free[k-1], d.free[:k-1]
	} else {
		s = &slot{}
	}
	if len(s.buf) < need {
		s.buf = make([]byte, need)
	}
	return s
}

// Join implements link.Device; a wire in memory filters nothing.
func (d *Device) Join(mac [6]byte) error { return d.check() }

// Leave implements link.Device; a wire in memory filters nothing.
func (d *Device) Leave(mac [6]byte) error { return d.check() }

func (d *Device) check() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return link.ErrClosed
	}
	return nil
}

// Info implements link.Device.
func (d *Device) Info() link.Info { return d.info }

// Stats implements link.Device.
func (d *Device) Stats() link.Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}

// Close implements link.Device. The other end stays open; what it sends from now on is dropped.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.queue, d.head, d.free = nil, 0, nil
	return nil
}

// waiting reports whether a frame waits.
func (d *Device) waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue) > d.head
}
