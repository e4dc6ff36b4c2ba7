package director

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"naru/forwarder"
	"naru/internal/record"
	"naru/internal/wire"
)

// Our own choices.
const (
	tapRecords = 4096                  // that wait for one listener, of one worker
	tapEvery   = 20 * time.Millisecond // how often a listener looks
	maxTaps    = 8                     // listeners at a time
)

// TapOptions say which records a listener gets, and what of them.
type TapOptions struct {
	Filter record.Filter
	Sample int // every so many of those that fit; 0 and 1: all
	Bytes  int // of each frame
	// Ready is called when the workers have been told, before the first record; nil: nobody. Its error ends Follow.
	Ready func() error
}

// tap is one listener: a ring a worker.
type tap struct {
	opt   TapOptions
	rings []*record.Ring
	count []uint64 // records that fit, by worker
}

// put is called on a worker's goroutine. What does not fit costs a few comparisons.
func (t *tap) put(worker int, r *forwarder.Record) {
	if !t.opt.Filter.Match(r) {
		return
	}
	n := t.count[worker]
	t.count[worker]++
	if t.opt.Sample <= 1 || n%uint64(t.opt.Sample) == 0 {
		t.rings[worker].Put(r)
	}
}

// taps is what a worker calls while somebody listens.
type taps struct {
	trace forwarder.Trace
	keep  int // bytes of a frame that somebody wants
}

// tapped is a worker's side of it.
type tapped struct {
	taps atomic.Pointer[taps] // nil: nobody listens
	seen *taps                // by the worker
}

// tracer returns what gets the records of the next call of the engine, nil for nobody.
func (w *worker) tracer() forwarder.Trace {
	t := w.tapped.taps.Load()
	if t != w.tapped.seen {
		w.tapped.seen = t
		if t == nil {
			w.engine.Keep(0)
		} else {
			w.engine.Keep(t.keep)
		}
	}
	if t == nil {
		return w.trace
	}
	return t.trace
}

// listen gives every worker its list of listeners. The caller holds d.listeners.mu.
func (d *Director) listen() {
	all := slices.Clone(d.listeners.all)
	for _, w := range d.workers {
		if len(all) == 0 {
			w.tapped.taps.Store(nil)
			continue
		}
		next := &taps{}
		for _, t := range all {
			next.keep = max(next.keep, t.opt.Bytes, t.opt.Filter.Bytes())
		}
		trace, id := w.trace, w.id
		next.trace = func(r *forwarder.Record) {
			for _, t := range all {
				t.put(id, r)
			}
			if trace != nil {
				trace(r)
			}
		}
		w.tapped.taps.Store(next)
	}
}

// Follow hands the decision records that fit to each, those of each worker in order, until the context ends (nil) or each
// fails. each gets the number of records that were missed since the call before; it must not keep the record. While nobody
// follows, nothing of it costs the workers more than a load a batch. The error is ErrBusy when too many follow already.
func (d *Director) Follow(ctx context.Context, opt TapOptions,
	each func(r *forwarder.Record, at time.Time, worker int, missed uint64) error) error {
	t := &tap{opt: opt, count: make([]uint64, len(d.workers))}
	for range d.workers {
		t.rings = append(t.rings, record.NewRing(tapRecords, opt.Bytes))
	}
	if err := d.addTap(t); err != nil {
		return err
	}
	defer d.removeTap(t)
	if opt.Ready != nil {
		if err := opt.Ready(); err != nil {
			return err
		}
	}
	tick := time.NewTicker(tapEvery)
	defer tick.Stop()
	told := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		for id, ring := range t.rings {
			w := d.workers[id]
			ring.Take(func(r *forwarder.Record) {
				if err == nil {
					missed := t.missed()
					err = each(r, w.clock(r.Time), id, missed-told)
					told = missed
				}
			})
		}
		if err != nil {
			return err
		}
	}
}

func (t *tap) missed() (n uint64) {
	for _, r := range t.rings {
		n += r.Missed()
	}
	return n
}

func (d *Director) addTap(t *tap) error {
	d.listeners.mu.Lock()
	defer d.listeners.mu.Unlock()
	if len(d.listeners.all) == maxTaps {
		return ErrBusy
	}
	d.listeners.all = append(d.listeners.all, t)
	d.listen()
	return nil
}

func (d *Director) removeTap(t *tap) {
	d.listeners.mu.Lock()
	defer d.listeners.mu.Unlock()
	d.listeners.all = slices.DeleteFunc(d.listeners.all, func(x *tap) bool { return x == t })
	d.listen()
}

// clock returns the time of day of a worker's time.
func (w *worker) clock(t wire.Time) time.Time { return w.start.Add(time.Duration(t) - time.Second) }
