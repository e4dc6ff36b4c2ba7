package director

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"naru/forwarder"
	"naru/internal/link"
	"naru/internal/wire"
)

// Our own choices.
const (
	batchSize    = 64                     // frames asked of a device at once
	tickEvery    = 10 * time.Millisecond  // how often the engine's maintenance runs
	idleAfter    = time.Second            // without a frame a worker is idle
	idleEvery    = 25 * time.Millisecond  // how often the maintenance of an idle worker runs: each sleep costs a wake-up
	publishEvery = 100 * time.Millisecond // how often counters are copied for other goroutines
	eventBatch   = 16                     // events taken from the engine at once
)

// worker is one goroutine with one engine and the devices that it alone uses.
type worker struct {
	id     int
	set    link.Set
	engine *forwarder.Engine
	trace  forwarder.Trace // nil: off
	tapped tapped
	event  func(forwarder.Event)

	batch  []wire.Packet
	out    *forwarder.Output
	events [eventBatch]forwarder.Event
	start  time.Time // Time counts from here
	cpu    int       // where it runs; -1 is anywhere
	peers  []*worker // all workers, by number

	published atomic.Pointer[forwarder.Counters]
	calls     chan func() // run on the worker's goroutine
	quit      atomic.Bool
	done      chan struct{} // closed when run has returned
}

func newWorker(id int, set link.Set, engine *forwarder.Engine, trace forwarder.Trace,
	event func(forwarder.Event)) *worker {
	w := &worker{id: id, set: set, engine: engine, trace: trace, event: event,
		batch: make([]wire.Packet, batchSize), out: forwarder.NewOutput(len(set.Devices)), start: time.Now(), cpu: -1,
		calls: make(chan func()), done: make(chan struct{})}
	w.published.Store(new(forwarder.Counters))
	return w
}

// now reads the monotonic clock. The engine's first instant is not 0, so that no deadline is mistaken for none.
func (w *worker) now() wire.Time { return wire.Time(time.Second + time.Since(w.start)) }

// run moves packets until stop is called (nil) or a device is broken.
func (w *worker) run() error {
	runtime.LockOSThread()
	if w.cpu < 0 { // a thread that is bound to a processor is of no use to others
		defer runtime.UnlockOSThread()
	}
	defer close(w.done)
	defer w.publish()
	if err := pin(w.cpu); err != nil {
		return err
	}
	var ticked, published, moved wire.Time
	for !w.quit.Load() {
		n, err := w.takeOver()
		if err != nil {
			return err
		}
		idle := n == 0
		for leg := range w.set.Devices {
			n, err := w.receive(leg)
			if err != nil {
				return err
			}
			idle = idle && n == 0
		}
		now := w.now()
		every := tickEvery
		if !idle {
			moved = now
		} else if now.Sub(moved) > idleAfter {
			every = idleEvery
		}
		if now.Sub(ticked) >= every {
			ticked = now
			if err := w.tick(now); err != nil {
				return err
			}
		}
		if now.Sub(published) >= publishEvery {
			published = now
			w.publish()
		}
		if idle {
			if err := w.set.Wait(every - min(now.Sub(ticked), every-time.Microsecond)); err != nil {
				return fmt.Errorf("director: wait for frames: %w", err)
			}
		}
	}
	return nil
}

// receive moves one batch of one leg. What the engine hands out lives until the next Recv, so it is sent at once.
func (w *worker) receive(leg int) (int, error) {
	n, err := w.set.Devices[leg].Recv(w.batch)
	if err != nil {
		return 0, fmt.Errorf("director: receive: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	for i := range w.batch[:n] {
		w.batch[i].Leg = uint8(leg)
	}
	w.out.Reset()
	w.engine.Process(w.now(), w.batch[:n], w.out, w.tracer())
	return n, w.send()
}

// tick gives the engine time for maintenance, and other goroutines their turn.
func (w *worker) tick(now wire.Time) error {
	w.out.Reset()
	w.engine.Tick(now, w.out, w.tracer())
	if err := w.send(); err != nil {
		return err
	}
	for n := w.engine.Events(w.events[:]); n > 0; n = 0 {
		for _, e := range w.events[:n] {
			w.event(e)
		}
	}
	select {
	case f := <-w.calls:
		f()
	default:
	}
	return nil
}

func (w *worker) send() error {
	for leg, frames := range w.out.Legs {
		if len(frames) == 0 {
			continue
		}
		if err := w.set.Devices[leg].Send(frames); err != nil {
			return fmt.Errorf("director: send: %w", err)
		}
	}
	w.wakePeers()
	return nil
}

func (w *worker) publish() {
	c := w.engine.Counters()
	w.published.Store(&c)
}

// call runs f on the worker's goroutine and waits for it; false if the worker has ended.
func (w *worker) call(f func()) bool {
	ran := make(chan struct{})
	select {
	case w.calls <- func() { defer close(ran); f() }:
		<-ran
		return true
	case <-w.done:
		return false
	}
}

// stop ends run, from another goroutine.
func (w *worker) stop() {
	w.quit.Store(true)
	w.set.Wake()
}
