package forwarder

import (
	"time"

	"naru/internal/wire"
)

// Our own choices.
const (
	samplesEach = 4   // of a reason
	sampleBytes = 128 // of a frame
	sampleEvery = wire.Time(time.Millisecond)
)

// Sample is a packet that was dropped.
type Sample struct {
	Time  wire.Time
	Leg   uint8
	Len   int // bytes of the whole frame
	Frame [sampleBytes]byte
	Kept  int // bytes of Frame
}

// DropSamples are the last packets that were dropped for a reason, oldest first: at most four, no two of them within a
// millisecond. A packet is as naru had it then, so one that waited for its next hop is translated.
type DropSamples struct {
	Reason wire.Reason
	Last   wire.Time // of the last one, sample or not
	Packet []Sample
}

// dropped are the samples of one reason: a ring.
type dropped struct {
	last  wire.Time
	count uint64
	ring  [samplesEach]Sample
}

// sample remembers a packet that was dropped.
func (e *Engine) sample(f *wire.Frame, reason wire.Reason) {
	d := &e.samples[reason]
	d.last = e.now
	s := &d.ring[d.count%samplesEach]
	if d.count > 0 && e.now-d.ring[(d.count-1)%samplesEach].Time < sampleEvery {
		return
	}
	d.count++
	s.Time, s.Leg, s.Len = e.now, f.Leg, f.Len
	s.Kept = copy(s.Frame[:], f.Bytes())
}

// DropSamples returns what is remembered of the packets that were dropped, in the order of the reasons. Only the goroutine
// that owns the engine may call it.
func (e *Engine) DropSamples() (all []DropSamples) {
	for reason := range e.samples {
		d := &e.samples[reason]
		if d.count == 0 {
			continue
		}
		s := DropSamples{Reason: wire.Reason(reason), Last: d.last}
		for n := d.count - min(d.count, samplesEach); n < d.count; n++ {
			s.Packet = append(s.Packet, d.ring[n%samplesEach])
		}
		all = append(all, s)
	}
	return all
}

// Leg returns the name of a leg.
func (e *Engine) Leg(i uint8) string {
	if e.snap == nil || int(i) >= len(e.snap.legs) {
		return ""
	}
	return e.snap.legs[i].Name
}

// Now returns the time of the last call of Process or Tick. Only the goroutine that owns the engine may call it.
func (e *Engine) Now() wire.Time { return e.now }
