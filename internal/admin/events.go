package admin

import (
	"context"
	"sync"
	"time"
)

// Event is a change that a person should hear of.
type Event struct {
	Seq     uint64    `json:"seq"` // counts from 1
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // state, weight, added, removed, probe, reload, interface, clash
	Service string    `json:"service,omitempty"`
	Backend string    `json:"backend,omitempty"`
	State   string    `json:"state,omitempty"`
	By      string    `json:"by,omitempty"` // operator, health, config, deadline
	Text    string    `json:"text"`
}

// Ring keeps the last events. Make it with NewRing; any goroutine may use it.
type Ring struct {
	mu    sync.Mutex
	ring  []Event
	seq   uint64
	added chan struct{} // closed when there is another event
}

// NewRing returns a ring that keeps so many events.
func NewRing(size int) *Ring { return &Ring{ring: make([]Event, 0, size), added: make(chan struct{})} }

// Add keeps an event and gives it its number. The oldest one goes when there is no room.
func (r *Ring) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq = r.seq
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, e)
	} else {
		r.ring[int((e.Seq-1)%uint64(cap(r.ring)))] = e
	}
	close(r.added)
	r.added = make(chan struct{})
}

// After returns the events that are kept with a number above seq, in order, and a channel that is closed with the next one.
func (r *Ring) After(seq uint64) ([]Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.seq - uint64(len(r.ring)) // the last one that is gone
	var out []Event
	for n := max(seq, oldest); n < r.seq; n++ {
		out = append(out, r.ring[int(n%uint64(cap(r.ring)))])
	}
	return out, r.added
}

// Follow sends the events after seq, and those to come if follow says so.
func (r *Ring) Follow(ctx context.Context, seq uint64, follow bool, send func(any) error) error {
	if err := send(nil); err != nil {
		return err
	}
	for {
		events, more := r.After(seq)
		for _, e := range events {
			if err := send(e); err != nil {
				return err
			}
			seq = e.Seq
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-more:
		}
	}
}
