package afpacket

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"naru/internal/link"
)

// Defaults of Options: our own choices.
const (
	DefaultBatch      = 64      // frames a system call
	DefaultSlots      = 2048    // frames of the interface's MTU in a ring
	DefaultRecvBuffer = 8 << 20 // bytes; the kernel doubles it for its own needs: some 100 super-frames
	DefaultSendBuffer = 4 << 20 // bytes
)

// A Driver is a way to receive. Frames are sent by sendmmsg with all of them.
type Driver uint8

// The drivers.
const (
	Ring Driver = iota // frames are read from memory that the kernel writes to (PACKET_RX_RING)
	MMsg               // frames are asked for in batches (recvmmsg)
)

// String returns the driver as a configuration names it.
func (d Driver) String() string {
	if d == MMsg {
		return "mmsg"
	}
	return "ring"
}

// Options of Open. The zero value is a good one.
type Options struct {
	Driver Driver

	// Slots is how many frames may wait in a Ring, at least; 0 is DefaultSlots. Each costs 2.3 KB at an MTU of 1500.
	// Beyond it the kernel drops (Stats.RxMissed).
	Slots int

	// Batch is how many frames one Recv hands out and one system call sends, at most DefaultBatch, which 0 means too.
	// Each costs 66 KB of address space, which takes memory when a frame has used it: with a Ring when a super-frame has.
	Batch int

	// RecvBuffer is how many bytes may wait to be received, with a Ring of frames longer than the MTU; 0 is
	// DefaultRecvBuffer. Beyond it the kernel drops (Stats.RxMissed, with a Ring Stats.RxTruncated). Without
	// CAP_NET_ADMIN net.core.rmem_max is the limit.
	RecvBuffer int

	// SendBuffer is how many bytes may wait in the queueing discipline and the driver; 0 is DefaultSendBuffer.
	// Without CAP_NET_ADMIN net.core.wmem_max is the limit.
	SendBuffer int

	// Filter is a socket filter (classic BPF) that lets in what it returns not 0 for; nil lets everything in.
	Filter []bpf.RawInstruction

	// Fanout makes the device one of several that share the interface's frames; nil takes them all.
	Fanout *Fanout
}

// A Device is a link.Device on one Ethernet interface. Refresh, besides Close and Stats, may be called from any
// goroutine.
type Device struct {
	name  string // when it was opened; for messages
	index int

	rx   *receiver
	ring *ring // nil with MMsg
	tx   *sender
	nl   *netlink.Handle
	feat atomic.Pointer[features]
	info atomic.Pointer[link.Info]

	rxFrames, rxBytes, rxTruncated atomic.Uint64
	txFrames, txBytes, txDropped   atomic.Uint64

	closed atomic.Bool
	mu     sync.Mutex // guards missed, nl and the two ends of a life: Close against Stats and Refresh
	missed uint64     // sum of tp_drops, which reading resets
}

var _ link.Device = (*Device)(nil)

// Open attaches to the interface with that name in the network namespace of the calling thread. The interface must be
// an Ethernet one and up; the process needs CAP_NET_RAW (without it the error is an os.ErrPermission), and
// CAP_NET_ADMIN for buffers beyond the system's limits.
func Open(name string, opt Options) (*Device, error) {
	if opt.Batch <= 0 || opt.Batch > DefaultBatch {
		opt.Batch = DefaultBatch
	}
	if opt.Slots <= 0 {
		opt.Slots = DefaultSlots
	}
	if opt.RecvBuffer <= 0 {
		opt.RecvBuffer = DefaultRecvBuffer
	}
	if opt.SendBuffer <= 0 {
		opt.SendBuffer = DefaultSendBuffer
	}
	ifi, err := lookup(name)
	if err != nil {
		return nil, err
	}
	driver, err := listenTx(ifi, &opt, true)
	if err != nil {
		return nil, err
	}
	qdisc, err := listenTx(ifi, &opt, false)
	if err != nil {
		driver.close()
		return nil, err
	}
	rx, ring, err := listenRx(ifi, &opt)
	if err != nil {
		driver.close()
		qdisc.close()
		return nil, err
	}
	d := &Device{name: name, index: ifi.Index, rx: newReceiver(rx, opt.Batch), ring: ring}
	d.tx = newSender(driver, qdisc, opt.Batch)
	d.feat.Store(&features{})
	d.info.Store(&link.Info{Name: name, Driver: opt.Driver.String(), Index: ifi.Index,
		MAC: [6]byte(ifi.HardwareAddr), MTU: ifi.MTU})
	if d.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
		err = d.Refresh()
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("afpacket: %s: %w", name, err)
	}
	return d, nil
}

// Refresh reads name, MAC, MTU and offload features of the interface again; call it when the kernel reports a link
// event. Features that cannot be read are no error: the device then assumes that the interface cuts no super-frames,
// which is right but slower. An interface that was removed is link.ErrGone.
func (d *Device) Refresh() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return link.ErrClosed
	}
	l, err := d.nl.LinkByIndex(d.index)
	if err != nil {
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return d.goneErr()
		}
		return fmt.Errorf("afpacket: %s: read interface: %w", d.name, err)
	}
	attrs := l.Attrs()
	var feat features
	err = d.rx.sock.control(func(fd int) (err error) {
		feat, err = readFeatures(fd, attrs)
		return err
	})
	if err != nil {
		feat = features{}
	}
	d.feat.Store(&feat)
	info := link.Info{Name: attrs.Name, Driver: d.Info().Driver, Index: d.index, MTU: attrs.MTU}
	copy(info.MAC[:], attrs.HardwareAddr)
	d.info.Store(&info)
	return nil
}

// Control calls f with the descriptor that becomes readable when a frame arrives. It must not be closed.
func (d *Device) Control(f func(fd uintptr)) error { return d.rx.sock.rc.Control(f) }

// Info implements link.Device; Refresh changes it.
func (d *Device) Info() link.Info { return *d.info.Load() }

// Stats implements link.Device. It asks the kernel for its drops; it is not for the packet path.
func (d *Device) Stats() link.Stats {
	d.mu.Lock()
	d.addMissed()
	missed := d.missed
	d.mu.Unlock()
	return link.Stats{
		RxFrames:    d.rxFrames.Load(),
		RxBytes:     d.rxBytes.Load(),
		RxMissed:    missed,
		RxTruncated: d.rxTruncated.Load(),
		TxFrames:    d.txFrames.Load(),
		TxBytes:     d.txBytes.Load(),
		TxDropped:   d.txDropped.Load(),
	}
}

// addMissed adds what the kernel has dropped since the last time. A closed device keeps its last figure.
func (d *Device) addMissed() {
	d.rx.sock.control(func(fd int) error {
		st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			d.missed += uint64(st.Drops)
		}
		return err
	})
}

// Join implements link.Device (PACKET_MR_MULTICAST). Memberships count: two joins take two leaves.
func (d *Device) Join(mac [6]byte) error { return d.membership(unix.PACKET_ADD_MEMBERSHIP, mac) }

// Leave implements link.Device.
func (d *Device) Leave(mac [6]byte) error { return d.membership(unix.PACKET_DROP_MEMBERSHIP, mac) }

func (d *Device) membership(opt int, mac [6]byte) error {
	if d.closed.Load() {
		return link.ErrClosed
	}
	mreq := unix.PacketMreq{Ifindex: int32(d.index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(mreq.Address[:], mac[:])
	err := d.rx.sock.control(func(fd int) error {
		return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, opt, &mreq)
	})
	switch {
	case err == nil:
		return nil
	case d.closed.Load():
		return link.ErrClosed
	}
	return fmt.Errorf("afpacket: %s: multicast membership %x: %w", d.name, mac, err)
}

// Close implements link.Device. A second call does nothing.
func (d *Device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addMissed()
	if d.nl != nil {
		d.nl.Close()
	}
	if d.ring != nil {
		d.ring.close()
	}
	var first error
	for _, s := range []*sock{d.rx.sock, d.tx.socks[viaDriver], d.tx.socks[viaQdisc]} {
		if err := s.close(); err != nil && first == nil {
			first = fmt.Errorf("afpacket: %s: close: %w", d.name, err)
		}
	}
	return first
}
