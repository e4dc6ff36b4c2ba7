//go:build linux

package main

import (
	"runtime"

	"golang.org/x/net/bpf"

	"naru/internal/config"
	"naru/internal/link"
	"naru/internal/link/afpacket"
)

// drivers are the words of io.driver. auto is what docs/performance.md measured to be best.
var drivers = map[string]afpacket.Driver{"auto": afpacket.Ring, "ring": afpacket.Ring, "mmsg": afpacket.MMsg}

// openDevices returns what opens the devices of one worker, as io says.
func openDevices(cfg *config.Config) func(worker, workers int) (link.Set, error) {
	// The workers' devices of an interface share its traffic; the director says how.
	shared := make([]afpacket.Fanout, len(cfg.Interfaces))
	opt := afpacket.Options{Driver: drivers[cfg.IO.Driver], Slots: cfg.IO.RingSlots, Batch: cfg.IO.Batch}
	how := afpacket.Waiting{Spin: cfg.IO.Spin, Busy: cfg.IO.BusyPoll}
	return func(worker, workers int) (link.Set, error) {
		if worker == 0 {
			// A worker keeps its place in the runtime while it sends or sleeps; everybody else has as many as before.
			runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + workers)
		}
		var devs []*afpacket.Device
		fail := func(err error) (link.Set, error) {
			for _, d := range devs {
				_ = d.Close()
			}
			return link.Set{}, err
		}
		for i, ifc := range cfg.Interfaces {
			opt := opt // the fanout is this interface's
			if workers > 1 {
				shared[i].Program = []bpf.Instruction{bpf.RetConstant{}}
				opt.Fanout = &shared[i]
			}
			d, err := afpacket.Open(ifc.Name, opt)
			if err != nil {
				return fail(err)
			}
			devs = append(devs, d)
		}
		set, err := afpacket.NewSet(how, devs...)
		if err != nil {
			return fail(err)
		}
		return set, nil
	}
}
