package memory

import (
	"sync"
	"time"

	"naru/internal/link"
)

// NewSet makes the set of devices that one worker owns. A device belongs to one set at a time: the last one made.
func NewSet(devs ...*Device) link.Set {
	w := &waiter{devs: devs, bell: make(chan struct{}, 1), gone: make(chan struct{})}
	set := link.Set{Wait: w.wait, Wake: w.ring, Close: w.close}
	for _, d := range devs {
		d.mu.Lock()
		d.notify = w.ring
		d.mu.Unlock()
		set.Devices = append(set.Devices, d)
	}
	return set
}

// A waiter waits for a bell that rings at every arrival and every Wake; one ring not yet heard is as good as many.
type waiter struct {
	devs []*Device
	bell chan struct{}
	once sync.Once
	gone chan struct{}
}

func (w *waiter) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

func (w *waiter) wait(timeout time.Duration) error {
	select {
	case <-w.gone:
		return link.ErrClosed
	default:
	}
	for _, d := range w.devs {
		// Frames from before the set was made, or left by a Recv with a small batch, have rung already.
		if d.waiting() {
			w.hush()
			return nil
		}
	}
	var late <-chan time.Time
	if timeout >= 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-w.bell:
	case <-late:
	case <-w.gone:
		return link.ErrClosed
	}
	return nil
}

// hush takes a ring back that has been heard already.
func (w *waiter) hush() {
	select {
	case <-w.bell:
	default:
	}
}

func (w *waiter) close() error {
	w.once.Do(func() { close(w.gone) })
	for _, d := range w.devs {
		if err := d.Close(); err != nil {
			return err
		}
	}
	return nil
}
