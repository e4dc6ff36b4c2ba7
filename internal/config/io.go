package config

import "time"

// Our own choices for io; docs/performance.md has what they were measured with.
const (
	minRingSlots     = 64
	maxRingSlots     = 1 << 16
	defaultRingSlots = 2048
	maxBatch         = 64
	defaultSpin      = 100 * time.Microsecond
	maxSpin          = 10 * time.Millisecond
)

var defaultIO = IO{Driver: "auto", RingSlots: defaultRingSlots, Batch: maxBatch, Spin: defaultSpin}

// io reads how packets get in and out.
func (d *decoder) io(v value) {
	o := &d.cfg.IO
	d.mapping(v, []field{
		{"driver", func(v value) { set(&o.Driver)(d.oneOf(v, "auto", "ring", "mmsg", "xdp")) }},
		{"ring_slots", func(v value) {
			set(&o.RingSlots)(d.integer(v, minRingSlots, maxRingSlots))
			switch o.Driver {
			case "mmsg":
				d.failKey(v.path, `remove it, or write "driver: ring"`, "driver mmsg has no ring")
			case "xdp":
				d.failKey(v.path, `remove it, or write "driver: ring"`, "the rings of driver xdp have lengths of their own")
			}
		}},
		{"batch", func(v value) {
			set(&o.Batch)(d.integer(v, 1, maxBatch))
			if o.Driver == "xdp" {
				d.failKey(v.path, "remove it", "driver xdp needs no batches")
			}
		}},
		{"busy_poll", func(v value) { set(&o.BusyPoll)(d.boolean(v)) }},
		{"spin", func(v value) {
			set(&o.Spin)(d.duration(v, 0, maxSpin))
			if o.BusyPoll {
				d.failKey(v.path, "remove one of them", "with busy_poll naru never sleeps, so there is nothing to put off")
			}
		}},
	})
}
