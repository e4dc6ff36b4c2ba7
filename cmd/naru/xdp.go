//go:build linux

package main

import (
	"fmt"
	"log/slog"
	"runtime"

	"naru/internal/config"
	"naru/internal/director"
	"naru/internal/kernel"
	"naru/internal/link"
	"naru/internal/link/afpacket"
	"naru/internal/link/afxdp"
)

// suitsXDP reports whether io.driver auto means xdp: where the drivers of all interfaces share their memory,
// frames fit it, and one worker does.
func suitsXDP(cfg *config.Config) bool {
	if cfg.IO.Driver != "auto" || director.Workers(cfg) != 1 {
		return false
	}
	for _, ifc := range cfg.Interfaces {
		if s, err := afxdp.Supported(ifc.Name); err != nil || !s.Physical || !s.ZeroCopy || !s.Fits {
			return false
		}
	}
	return true
}

// xdpDevices are the devices of io.driver xdp. The program at the interfaces takes away from the kernel what is naru's, so
// there is no fence.
type xdpDevices struct {
	cfg *config.Config
	log *slog.Logger
	x   *afxdp.Interfaces
}

// useXDP has the director use XDP where the configuration says so, or means it: there the devices are opened now, and what
// fails is no reason not to run. The function that it returns closes what the director did not take.
func useXDP(cfg *config.Config, opt *director.Options, suits func(*config.Config) bool) (drop func()) {
	d := &xdpDevices{cfg: cfg, log: opt.Log}
	drop = func() {}
	switch {
	case cfg.IO.Driver == "xdp":
		opt.Open = d.open
	case suits(cfg):
		set, err := d.open(0, 1)
		if err != nil {
			opt.Log.Warn("io.driver: auto would be xdp here, which cannot be opened: it is ring", "error", err)
			return drop
		}
		opt.Open = func(int, int) (link.Set, error) { return set, nil }
		drop = func() { _ = set.Close() }
	default:
		return drop
	}
	opt.Own = d.own
	return drop
}

// open opens them; each has a tap beside it.
func (d *xdpDevices) open(int, int) (link.Set, error) {
	var opts []afxdp.Options
	fail := func(err error) (link.Set, error) {
		for _, o := range opts {
			_ = o.Beside.Close()
		}
		return link.Set{}, fmt.Errorf("%w (io.driver: ring is the other way)", err)
	}
	for _, ifc := range d.cfg.Interfaces {
		tap, err := afpacket.Open(ifc.Name, afpacket.Options{Driver: afpacket.MMsg, Filter: afxdp.BesideFilter()})
		if err != nil {
			return fail(err)
		}
		opts = append(opts, afxdp.Options{Beside: tap, Replies: ifc.Side != "client"})
	}
	var err error
	if d.x, err = afxdp.Open(afxdp.Waiting{Spin: d.cfg.IO.Spin, Busy: d.cfg.IO.BusyPoll}, opts...); err != nil {
		return fail(err)
	}
	// The worker keeps its place in the runtime while it sends or sleeps; everybody else has as many as before.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	for _, dev := range d.x.Devices {
		d.advise(dev)
	}
	return d.x.Set(), nil
}

// advise warns of an interface that is better off without XDP.
func (d *xdpDevices) advise(dev *afxdp.Device) {
	name := dev.Info().Name
	if s, err := afxdp.Supported(name); err == nil && s.Physical && s.Native {
		return
	}
	d.log.Warn("XDP takes segmentation offload (TSO) from whoever sends to this interface: bulk transfers fall to about an "+
		"eighth, and unfinished checksums are lost", "interface", name, "mode", dev.Mode().String(), "fix",
		"io.driver: auto; or, for TCP and UDP to pass at all, ethtool -K IFACE tx off at whatever sends to it by veth")
}

// own says which packets are naru's.
func (d *xdpDevices) own(spec kernel.FenceSpec) error {
	o := afxdp.Owned{Prefixes: spec.Outer, Hosts: spec.Host, Replies: xdpPorts(spec.Replies),
		Ports: append(xdpPorts(spec.Services), xdpPorts(spec.LocalPorts)...)}
	o.Whole = append(append(o.Whole, spec.VIPs...), spec.Pool...)
	if err := d.x.Own(o); err != nil {
		return fmt.Errorf("%w; io.driver: ring has no such limit", err)
	}
	return nil
}

func xdpPorts(list []kernel.FencePorts) (out []afxdp.Ports) {
	for _, p := range list {
		out = append(out, afxdp.Ports(p))
	}
	return out
}
