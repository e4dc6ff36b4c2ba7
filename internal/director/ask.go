package director

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"naru/forwarder"
	"naru/internal/admin"
	"naru/internal/conntrack"
	"naru/internal/explain"
	"naru/internal/record"
	"naru/internal/wire"
)

// The errors of questions.
var (
	ErrBusy    = errors.New("director: too many listen already")
	ErrNoFlow  = errors.New("director: there is no connection of that name")
	errStopped = errors.New("director: naru is ending")
)

// listeners are the taps of all who follow.
type listeners struct {
	mu  sync.Mutex
	all []*tap

	asking sync.Mutex // held while a question is answered: each takes memory for all pools of local ports
}

// Explain says what naru would do now with a packet. Nothing is sent, and nothing changes: a scratch engine is asked.
func (d *Director) Explain(p *explain.Packet) (*record.Explanation, error) {
	d.listeners.asking.Lock()
	defer d.listeners.asking.Unlock()
	d.mu.Lock()
	cfg, plan := d.compiled, d.snapshot.Steering()
	d.mu.Unlock()
	frame, leg, err := p.Frame(&cfg)
	if err != nil {
		return nil, err
	}
	w := d.workers[0]
	parsed := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if plan != nil && parsed.ParseLink() == wire.ReasonNone && parsed.ParseNetwork() == wire.ReasonNone {
		w = d.workers[plan.Owner(&parsed.Flow)%len(d.workers)]
	}
	var x *record.Explanation
	service, backend := "", ""
	for range 2 { // the second time with the local ports of the backend that the first one chose
		scratch, err := forwarder.NewScratch(forwarder.Options{Seed: d.opt.Seed, Worker: w.id, Workers: len(d.workers)}, cfg)
		if err != nil {
			return nil, err
		}
		if !w.call(func() { scratch.Fill(w.engine, frame, service, backend) }) {
			return nil, errStopped
		}
		chosen := ""
		scratch.Ask(parsed, leg, func(r *forwarder.Record) {
			x, service = record.Explain(r), r.Service
			if i := slices.IndexFunc(r.Candidates, func(c forwarder.Candidate) bool { return c.Chosen }); i >= 0 {
				chosen = r.Candidates[i].Name
			}
		})
		if chosen == "" || chosen == backend {
			break
		}
		backend = chosen
	}
	return x, nil
}

// Flow returns a packet that the client of a connection might send next: an acknowledgement, or an empty datagram.
func (d *Director) Flow(id wire.FlowID) (*explain.Packet, error) {
	for _, w := range d.workers {
		for from, ok := conntrack.ID(0), false; from != conntrack.None; {
			var f wire.Flow
			if !w.call(func() { f, from, ok = w.engine.FindFlow(id, from) }) {
				return nil, errStopped
			}
			if ok {
				return explain.Next(&f), nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %v", ErrNoFlow, id)
}

// DropSamples returns the last packets that each worker dropped, by reason, the latest of a reason last, and when the last
// one of each reason was dropped.
func (d *Director) DropSamples() map[wire.Reason]Dropped {
	all := map[wire.Reason]Dropped{}
	for _, w := range d.workers {
		w.call(func() {
			for _, s := range w.engine.DropSamples() {
				r := all[s.Reason]
				if at := w.clock(s.Last); at.After(r.Last) {
					r.Last = at
				}
				for i := range s.Packet {
					p := &s.Packet[i]
					frame := p.Frame[:p.Kept]
					r.Samples = append(r.Samples, admin.DropSample{At: w.clock(p.Time).UTC(), Interface: w.engine.Leg(p.Leg),
						Packet: record.DescribeFrame(frame), Length: p.Len, Hex: hex.EncodeToString(frame)})
				}
				all[s.Reason] = r
			}
		})
	}
	for _, r := range all {
		slices.SortStableFunc(r.Samples, func(a, b admin.DropSample) int { return a.At.Compare(b.At) })
	}
	return all
}

// Dropped is what is remembered of the packets that were dropped for one reason.
type Dropped struct {
	Last    time.Time
	Samples []admin.DropSample
}
