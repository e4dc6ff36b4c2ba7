package afxdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	xdp "github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"naru/internal/link"
)

// Options of one interface.
type Options struct {
	Beside  Beside // shows what the kernel has too
	Replies bool   // look at where packets come from: an interface that backends are behind

	// Everything takes all frames, whatever is owned: the kernel gets none.
	Everything bool

	// Generic keeps the driver from running the program itself.
	Generic bool
}

// Waiting says how the devices wait. The zero value sleeps at once.
type Waiting struct {
	// Spin is how long rings are looked at before Wait sleeps, if frames came since the last time; the processor is offered
	// to others meanwhile.
	Spin time.Duration
	Busy bool // never sleep
}

// besideSpan is how long Wait looks at the rings alone when it never sleeps: then it is time to look beside.
const besideSpan = 200 * time.Microsecond

// Interfaces are the devices of one worker. They share one memory, and end together.
type Interfaces struct {
	Devices []*Device

	memory   *memory
	maps     *maps
	programs []*ebpf.Program
	tables   []*ebpf.Map // of the sockets, one an interface
	attached []xdp.Link

	how     Waiting
	seen    uint64 // frames that had come when it last waited
	event   int    // an eventfd
	ethtool int    // a socket of the interfaces' network namespace
	polled  []unix.PollFd
	limit   unix.Timespec
	dups    []int // of descriptors beside
	woken   atomic.Bool

	users  atomic.Int64 // calls under way; what is closed is given back when there is none
	mu     sync.Mutex   // guards closed
	closed bool
	over   sync.Once
}

// ending is added to users by Close, so that one word tells both.
const ending = 1 << 32

// enter begins a call; false when the devices are closed. leave ends it.
func (x *Interfaces) enter() bool {
	if x.users.Add(1) > ending {
		x.leave()
		return false
	}
	return true
}

func (x *Interfaces) leave() {
	if x.users.Add(-1) == ending {
		x.over.Do(x.giveBack)
	}
}

// Open attaches to interfaces of the network namespace of the calling thread, each with its options, and owns nothing yet.
// They must be Ethernet interfaces that are up, with an MTU of at most MaxMTU bytes. An error leaves nothing behind, but for
// the devices beside, which stay the caller's then.
func Open(how Waiting, opts ...Options) (x *Interfaces, err error) {
	err = byEitherWay(func(zeroCopy bool) (bool, error) {
		x = &Interfaces{how: how, event: -1, ethtool: -1}
		err := x.build(opts, zeroCopy)
		if err != nil {
			x.users.Store(ending)
			x.over.Do(x.giveBack)
		}
		return x.zeroCopy(), err
	})
	if err != nil {
		return nil, fmt.Errorf("afxdp: %w", err)
	}
	return x, nil
}

// byEitherWay tries with zero copy. One way is that of all interfaces: if one took it and then something failed, all are
// tried again with copies.
func byEitherWay(try func(zeroCopy bool) (took bool, err error)) error {
	took, err := try(true)
	if err != nil && took {
		_, err = try(false)
	}
	return err
}

// zeroCopy reports whether an interface shares the memory.
func (x *Interfaces) zeroCopy() bool {
	return slices.ContainsFunc(x.Devices, func(d *Device) bool { return d.mode.ZeroCopy })
}

func (x *Interfaces) build(opts []Options, zeroCopy bool) (err error) {
	if x.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	if x.ethtool, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if x.maps, err = newMaps(); err != nil {
		return err
	}
	counts, chunks := make([]int, len(opts)), 0
	for i := range opts {
		counts[i] = x.queues(opts[i].Beside.Info().Name)
		chunks += counts[i] * chunksASock
	}
	x.memory = newMemory(chunks)
	for i := range opts {
		if err = x.open(&opts[i], counts[i], zeroCopy); err != nil {
			return fmt.Errorf("%s: %w", opts[i].Beside.Info().Name, err)
		}
	}
	return x.watch()
}

// open adds an interface.
func (x *Interfaces) open(opt *Options, count int, zeroCopy bool) error {
	info := opt.Beside.Info()
	if info.MTU > MaxMTU {
		return fmt.Errorf("an MTU of %d is more than the %d that AF_XDP carries here: use io.driver: ring", info.MTU, MaxMTU)
	}
	d := &Device{x: x, name: info.Name, lends: lent + use(len(x.Devices)), beside: opt.Beside,
		lent: make([]uint32, 0, count*ringSize), mode: Mode{Queues: count}}
	table, err := ebpf.NewMap(&ebpf.MapSpec{Name: "naru_sockets", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4,
		MaxEntries: uint32(count)})
	if err != nil {
		return fmt.Errorf("map of sockets: %w", err)
	}
	x.tables = append(x.tables, table)
	for q := range count {
		first := x.first()
		s, err := newSocket(x.memory, first)
		if err != nil {
			return err
		}
		d.socks = append(d.socks, s)
		if q == 0 {
			x.Devices = append(x.Devices, d)
		}
		s.stock(x.memory)
		took, err := s.bind(info.Index, q, first, zeroCopy && !opt.Generic)
		if err != nil {
			return err // the mode stays that of the queues before: Open wants to know it
		}
		d.mode.ZeroCopy = took
		if err := table.Put(uint32(q), uint32(s.fd)); err != nil {
			return fmt.Errorf("socket of queue %d: %w", q, err)
		}
	}
	p, err := program(x.maps, table, opt.Everything, opt.Replies)
	if err != nil {
		return fmt.Errorf("load program: %w", err)
	}
	x.programs = append(x.programs, p)
	return x.attach(d, p, info.Index, opt.Generic)
}

// first returns the socket that has registered the memory.
func (x *Interfaces) first() *socket {
	if len(x.Devices) == 0 {
		return nil
	}
	return x.Devices[0].socks[0]
}

// attach puts the program at the interface: in the driver if that can run it.
func (x *Interfaces) attach(d *Device, p *ebpf.Program, index int, generic bool) error {
	modes := []xdp.XDPAttachFlags{xdp.XDPDriverMode, xdp.XDPGenericMode}
	switch {
	case generic:
		modes = modes[1:]
	case d.mode.ZeroCopy: // the driver gives its frames to its own program only
		modes = modes[:1]
	}
	var first error
	for _, mode := range modes {
		l, err := xdp.AttachXDP(xdp.XDPOptions{Program: p, Interface: index, Flags: mode})
		if err == nil {
			x.attached = append(x.attached, l)
			d.mode.Native = mode == xdp.XDPDriverMode
			return nil
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("attach program: another XDP program is at the interface (ip link show dev %s): %w", d.name, err)
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("attach program: %w", first)
}

// watch collects what Wait looks at. The descriptors beside are duplicates: they live as long as ours.
func (x *Interfaces) watch() error {
	x.polled = append(x.polled, unix.PollFd{Fd: int32(x.event), Events: unix.POLLIN})
	for _, d := range x.Devices {
		for _, s := range d.socks {
			x.polled = append(x.polled, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
		}
		fd := -1
		var err error
		e := d.beside.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
		if e != nil || err != nil {
			return fmt.Errorf("%s: watch the tap beside: %w", d.name, errors.Join(e, err))
		}
		x.dups = append(x.dups, fd)
		d.tap = len(x.polled)
		x.polled = append(x.polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return nil
}

// Set returns the devices as a link.Set.
func (x *Interfaces) Set() link.Set {
	set := link.Set{Wait: x.wait, Wake: x.wake, Close: x.Close}
	for _, d := range x.Devices {
		set.Devices = append(set.Devices, d)
	}
	return set
}

func (x *Interfaces) wait(timeout time.Duration) error {
	if !x.enter() {
		return link.ErrClosed
	}
	defer x.leave()
	frames := uint64(0)
	for _, d := range x.Devices {
		frames += d.rxFrames.Load()
	}
	idle := frames == x.seen
	x.seen = frames
	for end := time.Now().Add(timeout); ; {
		if (x.how.Busy || !idle) && x.spin(end, timeout < 0) {
			return x.rest()
		}
		over := timeout >= 0 && time.Until(end) <= 0
		n, errno := x.poll(end, timeout < 0, idle)
		if n > 0 || over || errno == 0 && !x.how.Busy || x.users.Load() > ending {
			return x.rest()
		}
		if errno != 0 && errno != unix.EINTR {
			return fmt.Errorf("afxdp: wait: %w", errno)
		}
	}
}

// poll sleeps until a descriptor has something, at most until end. While there is work the runtime is not told, which
// saves two hand-overs and a wake-up of its monitor at each return. What is to be seen beside is noted.
func (x *Interfaces) poll(end time.Time, endless, idle bool) (n int, errno syscall.Errno) {
	limit := &x.limit
	switch {
	case x.how.Busy:
		*limit = unix.Timespec{}
	case endless:
		limit = nil
	default:
		*limit = unix.NsecToTimespec(int64(max(0, time.Until(end))))
	}
	call := syscall.RawSyscall6
	if idle {
		call = syscall.Syscall6
	}
	ready, _, errno := call(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&x.polled[0])), uintptr(len(x.polled)),
		uintptr(unsafe.Pointer(limit)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for _, d := range x.Devices {
		d.heard = d.heard || x.polled[d.tap].Revents != 0
	}
	return int(ready), 0
}

// spin looks at the rings for a while, at most until end, and reports whether that was enough.
func (x *Interfaces) spin(end time.Time, endless bool) bool {
	span := x.how.Spin
	if x.how.Busy {
		span = besideSpan
	}
	if !endless {
		span = min(span, time.Until(end))
	}
	for start := time.Now(); time.Since(start) < span; {
		if x.woken.Load() || x.look() {
			return true
		}
		if !x.how.Busy {
			_, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
	return false
}

// look reports whether a frame has come to one of the rings.
func (x *Interfaces) look() bool {
	for _, d := range x.Devices {
		for _, s := range d.socks {
			if s.rx.ready(1) > 0 {
				return true
			}
		}
	}
	return false
}

// rest ends a wait: it takes a wake-up back.
func (x *Interfaces) rest() error {
	if x.users.Load() > ending {
		return link.ErrClosed
	}
	if x.woken.Load() {
		var counter [8]byte
		unix.Read(x.event, counter[:])
		x.woken.Store(false)
	}
	return nil
}

// wake writes once until the wake-up is taken back. It is called from other goroutines.
func (x *Interfaces) wake() {
	if x.woken.Swap(true) || !x.enter() {
		return
	}
	x.ring()
	x.leave()
}

// ring makes the eventfd readable.
func (x *Interfaces) ring() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(x.event, one[:])
}

// Close detaches from the interfaces and closes the devices beside. What calls are under way end first.
func (x *Interfaces) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	var first error
	for _, l := range x.attached { // from here on the kernel has everything
		if err := l.Close(); err != nil && first == nil {
			first = err
		}
	}
	x.attached = nil
	x.users.Add(1)
	x.users.Add(ending)
	x.ring()
	for _, d := range x.Devices {
		if err := d.beside.Close(); err != nil && first == nil {
			first = err
		}
	}
	x.leave()
	return first
}

// giveBack frees what the devices are made of.
func (x *Interfaces) giveBack() {
	for _, l := range x.attached {
		l.Close()
	}
	for _, p := range x.programs {
		p.Close()
	}
	for _, t := range x.tables {
		t.Close()
	}
	for _, d := range x.Devices {
		for _, s := range d.socks {
			s.close()
		}
	}
	for _, fd := range x.dups {
		unix.Close(fd)
	}
	if x.maps != nil {
		x.maps.close()
	}
	for _, fd := range []int{x.event, x.ethtool} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
