package director

import (
	"context"
	"sync"
	"time"

	"naru/forwarder"
	"naru/internal/roster"
	"naru/internal/wire"
)

// Our own choices.
const (
	sampleEvery = time.Second            // how often the workers are asked what they carried
	askWait     = 500 * time.Millisecond // for how long at most
)

// sample is what all workers had carried at an instant.
type sample struct {
	at       time.Time
	counters forwarder.Counters
	backends map[roster.Key]forwarder.Usage
	services map[string]forwarder.Usage
	pools    map[poolName]forwarder.PoolUsage
}

// poolName is a pool of local ports over all workers.
type poolName struct {
	roster.Key
	local wire.Addr
}

// samples are the last two. They have a lock of their own: who reads them waits for no worker.
type samples struct {
	mu        sync.Mutex
	last, now *sample
}

// get returns the newest sample and the one before; both are the same while there is but one.
func (s *samples) get() (last, now *sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.now
}

func newSamples() *samples { return &samples{last: &sample{}, now: &sample{}} }

// startSampling asks the workers again and again until the function that it returns is called.
func (d *Director) startSampling(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		again := time.NewTicker(sampleEvery)
		defer again.Stop()
		for {
			d.takeSample()
			d.watchQueues()
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// takeSample asks every worker on its own goroutine. If one has no time there is no sample: sums without it would be wrong.
func (d *Director) takeSample() {
	s := &sample{backends: map[roster.Key]forwarder.Usage{}, services: map[string]forwarder.Usage{},
		pools: map[poolName]forwarder.PoolUsage{}}
	for _, w := range d.workers {
		var used []forwarder.Usage
		var pools []forwarder.PoolUsage
		if !w.ask(askWait, func() {
			used, pools = w.engine.Usage(nil), w.engine.Pools(nil)
			c := w.engine.Counters()
			s.counters.Add(&c)
		}) {
			return
		}
		for _, u := range used {
			key := roster.Key{Service: u.Service, Backend: u.Backend}
			s.backends[key] = sumUsage(s.backends[key], u)
			s.services[u.Service] = sumUsage(s.services[u.Service], u)
		}
		for _, p := range pools {
			name := poolName{roster.Key{Service: p.Service, Backend: p.Backend}, p.Local}
			sum := s.pools[name]
			s.pools[name] = forwarder.PoolUsage{Size: sum.Size + p.Size, Free: sum.Free + p.Free}
		}
	}
	s.at = time.Now()
	d.samples.mu.Lock()
	defer d.samples.mu.Unlock()
	d.samples.last, d.samples.now = d.samples.now, s
	if d.samples.last.at.IsZero() {
		d.samples.last = s
	}
}

// sumUsage adds the counters of two.
func sumUsage(a, b forwarder.Usage) forwarder.Usage {
	b.Made += a.Made
	for i := range b.Packets {
		b.Packets[i] += a.Packets[i]
		b.Bytes[i] += a.Bytes[i]
	}
	return b
}

// ask runs f on the worker's goroutine and waits for it; false if the worker has ended or does not come to it in time.
func (w *worker) ask(patience time.Duration, f func()) bool {
	ran := make(chan struct{})
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case w.calls <- func() { defer close(ran); f() }:
		<-ran
		return true
	case <-w.done:
	case <-late.C:
	}
	return false
}
