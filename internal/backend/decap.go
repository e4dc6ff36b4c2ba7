package backend

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the kernel or the machine lacks what is needed.
var ErrUnsupported = errors.New("not supported here")

// DecapOptions say what a decapsulator takes and where it puts it.
type DecapOptions struct {
	Mode   Way            // IPIP or GUE
	Port   uint16         // UDP port of GUE
	Device string         // name of the TUN device, at most 15 characters; empty: a free one, naru-decap-MODE first
	Local  []netip.Addr   // outer destinations; empty: every address of this machine
	VIPs   []netip.Addr   // inner destinations; empty: the addresses on lo, as they come and go
	From   []netip.Prefix // outer sources; empty: any
}

// Counter is how many packets met one fate.
type Counter struct {
	Name    string
	Packets uint64
}

// Decap takes outer headers off. Whole packets come from sockets, so that the kernel has put outer fragments together
// and does not answer that nobody speaks the protocol; inner packets go to the kernel by a TUN device.
type Decap struct {
	opt     DecapOptions
	nl      *netlink.Handle // in the namespace of OpenDecap, whatever thread Run is on
	tun     *tunDevice
	sockets []*outerSocket
	filter  atomic.Pointer[filter]
	counts  [drops]atomic.Uint64
}

// addressInterval is how often the addresses on lo are read again when they are the VIPs.
const addressInterval = time.Second

// OpenDecap makes the device and the sockets in the network namespace of the calling thread. The error wraps
// ErrUnsupported where there is no /dev/net/tun, and os.ErrPermission without the capabilities.
func OpenDecap(opt DecapOptions) (*Decap, error) {
	if opt.Mode != IPIP && opt.Mode != GUE {
		return nil, fmt.Errorf("backend: decap: mode %q is not ipip or gue", opt.Mode)
	}
	if opt.Device == "" {
		opt.Device = freeDevice("naru-decap-" + string(opt.Mode))
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("backend: decap: netlink: %w", err)
	}
	d := &Decap{opt: opt, nl: nl}
	d.readFilter()
	if d.tun, err = openTun(opt.Device); err != nil {
		nl.Close()
		return nil, fmt.Errorf("backend: decap: %s: %w", opt.Device, err)
	}
	if d.sockets, err = openOuter(opt); err != nil {
		d.Close()
		return nil, fmt.Errorf("backend: decap: %w", err)
	}
	return d, nil
}

// decapDevices is how many decapsulators of a machine find names for their devices by themselves.
const decapDevices = 16

// freeDevice returns the name, or another one if an interface has it: one decapsulator runs for each address and port.
func freeDevice(name string) string {
	for n := 2; n <= decapDevices; n++ {
		if _, err := netlink.LinkByName(name); err != nil {
			break
		}
		name = fmt.Sprintf("naru-decap-%d", n)
	}
	return name
}

// Device returns the name of the TUN device.
func (d *Decap) Device() string { return d.opt.Device }

// Close ends sockets and device. Run does it too; a second call does nothing.
func (d *Decap) Close() {
	for _, s := range d.sockets {
		s.close()
	}
	d.tun.close()
	d.nl.Close()
}

// Run moves packets until ctx ends, then closes everything and returns nil; an error is a socket's that cannot go on.
// Any thread will do.
func (d *Decap) Run(ctx context.Context) error {
	defer d.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(d.sockets))
	var group sync.WaitGroup
	for _, s := range d.sockets {
		group.Go(func() {
			if err := d.serve(s); err != nil {
				failed <- err
			}
		})
	}
	defer group.Wait()
	defer d.Close() // wakes what the group waits for
	tick := time.NewTicker(addressInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("backend: decap: %w", err)
		case <-tick.C:
			d.readFilter()
		}
	}
}

// serve moves the packets of one socket until it is closed.
func (d *Decap) serve(s *outerSocket) error {
	for {
		n, err := s.recv()
		if err != nil || n == 0 {
			return err
		}
		f := d.filter.Load()
		for i := range n {
			d.counts[d.handle(f, s, i)].Add(1)
		}
	}
}

func (d *Decap) handle(f *filter, s *outerSocket, i int) drop {
	b, src, tos := s.packet(i)
	if !f.source(src) {
		return dropSource
	}
	proto := s.proto
	if s.gue {
		var why drop
		if b, proto, why = openGUE(b); why != unwrapped {
			return why
		}
	}
	inner, why := f.openInner(b, proto, tos)
	if why != unwrapped {
		return why
	}
	if d.tun.write(inner) != nil {
		return dropWrite
	}
	return unwrapped
}

// Counters returns the fates in a fixed order, "received" first; every received packet has one of the others.
func (d *Decap) Counters() []Counter {
	out := []Counter{{Name: "received"}}
	for i, name := range dropNames {
		n := d.counts[i].Load()
		out[0].Packets += n
		out = append(out, Counter{name, n})
	}
	return out
}

// readFilter renews the VIPs. Addresses that cannot be read leave what was there.
func (d *Decap) readFilter() {
	f := &filter{vips: d.opt.VIPs, from: d.opt.From}
	if len(f.vips) > 0 {
		d.filter.CompareAndSwap(nil, f)
		return
	}
	vips, err := loopbackAddresses(d.nl)
	if err != nil && d.filter.Load() != nil {
		return
	}
	f.vips = vips
	if old := d.filter.Load(); old == nil || !slices.Equal(old.vips, vips) {
		d.filter.Store(f)
	}
}

// loopbackAddresses returns the addresses on lo that are not loopback addresses.
func loopbackAddresses(nl *netlink.Handle) ([]netip.Addr, error) {
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	addrs, err := nl.AddrList(lo, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.Unmap().IsLoopback() && !ip.IsLinkLocalUnicast() {
			out = append(out, ip.Unmap())
		}
	}
	return out, nil
}
