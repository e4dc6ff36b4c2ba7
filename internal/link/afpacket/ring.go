package afpacket

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/internal/link"
	"naru/internal/wire"
)

// Our own choices for the receive ring.
const (
	ringBlock = 1 << 20 // bytes the kernel allocates at a time
	pageSize  = 4096    // of which a block has a whole number

	// ringQuiet is how many times in a row a ring may be found empty before the socket is asked whether it is well. An
	// idle worker looks a hundred times a second.
	ringQuiet = 32
)

// tpHeadLen is where the kernel puts a frame in a slot without reserve, less the length of the link header: struct
// tpacket2_hdr, struct sockaddr_ll and at least 16 bytes, rounded up (TPACKET2_HDRLEN in linux/if_packet.h), then the
// virtio header.
const tpHeadLen = (unix.SizeofTpacket2Hdr+20+16+15)/16*16 + vnetLen

// slotHead is what is not lent of a slot: struct tpacket2_hdr and struct sockaddr_ll, up to a cache line.
const slotHead = 64

// A ring is the memory that the kernel writes arriving frames to (TPACKET_V2). It is a ring of equal slots, each with a
// struct tpacket2_hdr at its start, whose status word says whose the slot is.
//
// A slot holds a frame of the interface's MTU. What is longer (super-frames) waits in the socket's queue, as if there
// were no ring, and its slot says so (PACKET_COPY_THRESH): so a ring has thousands of slots in a few megabytes, and
// super-frames are copied when they are asked for, into few buffers.
type ring struct {
	req   unix.TpacketReq
	mem   []byte
	slots []*unix.Tpacket2Hdr
	len   int // bytes of a slot

	head  int   // the slot that the kernel fills next, once all before it are ours
	lent  int   // so many before head are ours and not given back
	quiet int   // so many times in a row it was empty
	large []int // of the batch under way: which frames wait in the socket's queue
	sizes []int // and how long they are

	// alarm says that poll has reported an error of the socket.
	alarm atomic.Bool

	ask   func(fd uintptr) // askSocket, and what it reads
	errno int32
	stats unix.TpacketStats

	missed  uint64 // Device.missed when the socket was asked last
	suspect bool   // frames were dropped before that, and none came since
}

// ringSlot returns the length of a slot for frames of so many bytes of IP: room for a frame with two tags in its bytes,
// and for what the engine may write.
func ringSlot(mtu int) int {
	frame := max(mtu+wire.EthernetLen+2*wire.VLANTagLen, wire.MinBuffer)
	return (tpHeadLen + wire.Headroom + frame + 255) / 256 * 256
}

// newRing makes the socket's ring, of which at most batch frames are taken at once; it must not be bound yet.
func newRing(fd, slots, mtu, batch int) (*ring, error) {
	for _, o := range []option{
		{"PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_RESERVE", unix.PACKET_RESERVE, wire.Headroom},
		{"PACKET_COPY_THRESH", unix.PACKET_COPY_THRESH, 1},
	} {
		if err := o.set(fd); err != nil {
			return nil, err
		}
	}
	r := &ring{len: ringSlot(mtu), large: make([]int, 0, batch), sizes: make([]int, 0, batch)}
	r.ask = r.askSocket
	block := (max(min(ringBlock, slots*r.len), r.len) + pageSize - 1) / pageSize * pageSize
	perBlock := block / r.len
	blocks := (slots + perBlock - 1) / perBlock
	r.req = unix.TpacketReq{Block_size: uint32(block), Block_nr: uint32(blocks), Frame_size: uint32(r.len),
		Frame_nr: uint32(blocks * perBlock)}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &r.req); err != nil {
		return nil, fmt.Errorf("PACKET_RX_RING of %d slots: %w", r.req.Frame_nr, err)
	}
	p, err := unix.MmapPtr(fd, 0, nil, uintptr(block*blocks), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map ring: %w", err)
	}
	r.mem = unsafe.Slice((*byte)(p), block*blocks)
	for i := range int(r.req.Frame_nr) {
		r.slots = append(r.slots, (*unix.Tpacket2Hdr)(unsafe.Pointer(&r.mem[i/perBlock*block+i%perBlock*r.len])))
	}
	return r, nil
}

// close parts the memory from the socket. Whoever still works on a frame finds memory there that nobody else uses; its
// address range stays taken.
func (r *ring) close() {
	_ = r.remap(-1, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
}

// remap puts other memory in the place of the ring's.
func (r *ring) remap(fd, flags int) error {
	_, err := unix.MmapPtr(fd, 0, unsafe.Pointer(&r.mem[0]), uintptr(len(r.mem)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_FIXED|flags)
	return err
}

// renew makes the kernel begin with a new ring in the place of the old one. A slot that the kernel had taken for a frame
// of a kind that the virtio header has no word for is never given up again (tpacket_rcv in Linux up to 6.18 at least),
// and as the kernel fills slots in turn, nothing more would ever arrive.
func (r *ring) renew(fd int) error {
	r.close() // a ring that is mapped cannot be changed
	for _, req := range []unix.TpacketReq{{}, r.req} {
		if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
			return fmt.Errorf("PACKET_RX_RING: %w", err)
		}
	}
	if err := r.remap(fd, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return fmt.Errorf("map ring: %w", err)
	}
	r.head, r.lent = 0, 0
	return nil
}

// ready reports whether there is a frame in the ring.
func (r *ring) ready() bool {
	return atomic.LoadUint32(&r.slots[r.head].Status) != unix.TP_STATUS_KERNEL
}

// giveBack returns the slots of the last Recv to the kernel.
func (r *ring) giveBack() {
	i := r.head - r.lent
	if i < 0 {
		i += len(r.slots)
	}
	for ; r.lent > 0; r.lent-- {
		atomic.StoreUint32(&r.slots[i].Status, unix.TP_STATUS_KERNEL)
		if i++; i == len(r.slots) {
			i = 0
		}
	}
}

// recvRing is Recv with a ring.
func (d *Device) recvRing(batch []wire.Packet) (int, error) {
	r := d.ring
	r.giveBack()
	n, bytes, truncated := r.take(batch[:min(len(batch), len(d.tx.msgs))])
	if len(r.large) > 0 {
		var lost int
		n, lost = d.recvLarge(batch, n)
		truncated += lost
	}
	if truncated > 0 {
		d.rxTruncated.Add(uint64(truncated))
	}
	if r.lent > 0 {
		r.quiet, r.suspect, d.rx.down = 0, false, false
		d.rxFrames.Add(uint64(n))
		d.rxBytes.Add(uint64(bytes))
		return n, nil
	}
	if r.quiet++; r.quiet < ringQuiet && !r.alarm.Load() {
		return 0, nil
	}
	r.quiet = 0
	r.alarm.Store(false)
	return 0, d.health()
}

// take fills batch from the front with what the ring has, and notes which frames wait in the socket's queue.
func (r *ring) take(batch []wire.Packet) (n, bytes, truncated int) {
	r.large, r.sizes = r.large[:0], r.sizes[:0]
	for n < len(batch) && r.lent < len(r.slots) {
		h := r.slots[r.head]
		status := atomic.LoadUint32(&h.Status)
		if status == unix.TP_STATUS_KERNEL {
			break
		}
		if r.head++; r.head == len(r.slots) {
			r.head = 0
		}
		r.lent++
		f := &batch[n].Frame
		switch {
		case status&unix.TP_STATUS_COPY != 0:
			r.large, r.sizes = append(r.large, n), append(r.sizes, int(h.Len))
		case h.Snaplen < h.Len || h.Len < wire.EthernetLen:
			truncated++
			continue
		default:
			f.Buf = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(h), slotHead)), r.len-slotHead)
			f.Off, f.Len = int(h.Mac)-slotHead, int(h.Len)
			f.Offload = getVnet(f.Buf[f.Off-vnetLen:])
		}
		bytes += int(h.Len)
		f.TPID, f.TCI = vlanTag(status, h.Vlan_tpid, h.Vlan_tci)
		n++
	}
	return n, bytes, truncated
}

// recvLarge reads the frames that wait in the socket's queue into their places among the n of the batch. Those that are
// not there after all are left out: it returns how many frames remain, and how many were lost.
func (d *Device) recvLarge(batch []wire.Packet, n int) (left, lost int) {
	got := 0
	for _, at := range d.ring.large {
		batch[at].Buf = nil
	}
	for got < len(d.ring.large) {
		k, errno := d.rx.sock.recvBatch(d.rx.msgs[got:len(d.ring.large)])
		if k == 0 && errno != unix.ENETDOWN {
			break
		}
		got += k
	}
	for i, at := range d.ring.large[:got] {
		if m := &d.rx.msgs[i]; int(m.Len) == vnetLen+d.ring.sizes[i] {
			f := &batch[at].Frame
			f.Buf, f.Off, f.Len = d.rx.slot(i), wire.Headroom, d.ring.sizes[i]
			f.Offload = getVnet(f.Buf[wire.Headroom-vnetLen:])
		}
	}
	for i := range batch[:n] {
		if batch[i].Buf == nil {
			continue
		}
		if left < i {
			batch[left].Frame = batch[i].Frame
		}
		left++
	}
	return left, n - left
}

// askSocket reads the socket's error and what the kernel has dropped since the last time. It is called by way of a
// function made once, since a closure made per call would be an allocation per call.
func (r *ring) askSocket(fd uintptr) {
	r.errno, r.stats = 0, unix.TpacketStats{}
	get := func(level, opt uintptr, to unsafe.Pointer, size uintptr) {
		n := uint32(size)
		_, _, _ = syscall.RawSyscall6(unix.SYS_GETSOCKOPT, fd, level, opt, uintptr(to), uintptr(unsafe.Pointer(&n)), 0)
	}
	get(unix.SOL_SOCKET, unix.SO_ERROR, unsafe.Pointer(&r.errno), unsafe.Sizeof(r.errno))
	get(unix.SOL_PACKET, unix.PACKET_STATISTICS, unsafe.Pointer(&r.stats), unsafe.Sizeof(r.stats))
}

// health asks the socket what the ring itself does not tell: that the interface is down or gone, that the ring is stuck.
func (d *Device) health() error {
	d.mu.Lock()
	err := d.rx.sock.rc.Control(d.ring.ask)
	if err == nil {
		d.missed += uint64(d.ring.stats.Drops)
	}
	missed := d.missed
	d.mu.Unlock()
	if err != nil {
		return link.ErrClosed
	}
	if d.ring.errno == int32(unix.ENETDOWN) {
		d.rx.down = true
	}
	if d.rx.down {
		return d.checkGone()
	}
	return d.checkStuck(missed)
}

// checkStuck renews the ring if frames were dropped twice while it was empty.
func (d *Device) checkStuck(missed uint64) error {
	r := d.ring
	dropped := missed != r.missed
	r.missed = missed
	if !dropped || !r.suspect {
		r.suspect = dropped
		return nil
	}
	r.suspect = false
	// Under the lock, so that Close does not come between the steps and find memory that is mapped again.
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return link.ErrClosed
	}
	if err := d.rx.sock.control(r.renew); err != nil {
		return fmt.Errorf("afpacket: %s: renew ring: %w", d.name, err)
	}
	return nil
}
