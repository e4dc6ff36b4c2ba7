package flowlog

import (
	"bytes"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"naru/forwarder"
	"naru/internal/record"
	"naru/internal/wire"
)

// Our own choices.
const (
	ringEntries = 8192                  // that may wait, a worker
	takeEvery   = 50 * time.Millisecond // how often they are taken
	chunk       = 64 << 10              // bytes that are written at once
	patience    = time.Second           // how long Close waits for a reader that has stopped
)

// Options are what Start needs.
type Options struct {
	Workers int
	Rate    int       // lines a second that are written at most
	Zero    time.Time // the instant 0 of the workers' time
	// Lost is told how many lines were lost since it was told before, and the last error of writing, if there was one.
	Lost func(lines uint64, err error)
}

// Log is a running flow log.
type Log struct {
	opt     Options
	sink    Sink
	rings   []*ring
	tokens  float64
	filled  time.Time
	lines   bytes.Buffer // complete lines that wait to be written
	ends    []int        // where each of them ends
	json    *json.Encoder
	err     error // the last one of writing
	told    uint64
	written atomic.Uint64
	lost    atomic.Uint64 // without those of the rings
	quit    chan struct{}
	done    chan struct{}
	once    sync.Once
}

// Start begins to write to a sink, which Close closes.
func Start(sink Sink, opt Options) *Log {
	l := &Log{opt: opt, sink: sink, tokens: float64(opt.Rate), filled: time.Now(), quit: make(chan struct{}),
		done: make(chan struct{})}
	l.json = json.NewEncoder(&l.lines)
	l.json.SetEscapeHTML(false)
	for range opt.Workers {
		l.rings = append(l.rings, &ring{slots: make([]entry, ringEntries)})
	}
	go l.run()
	return l
}

// Watch tells the log of all connections of a worker's engine. Only who owns the engine may call it.
func (l *Log) Watch(worker int, e *forwarder.Engine) {
	r := l.rings[worker]
	e.WatchStarts(func(c *forwarder.Connection) { r.put(c, false) })
	e.WatchEnds(func(c *forwarder.Connection) { r.put(c, true) })
}

// Counts returns how many lines were written, and how many were lost.
func (l *Log) Counts() (written, lost uint64) {
	lost = l.lost.Load()
	for _, r := range l.rings {
		lost += r.lost.Load()
	}
	return l.written.Load(), lost
}

// Close writes what waits and closes the sink; it gives up on one that takes nothing for a second. Workers must have
// stopped. It may be called more than once.
func (l *Log) Close() {
	l.once.Do(func() { close(l.quit) })
	select {
	case <-l.done:
	case <-time.After(patience):
	}
}

func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(takeEvery)
	defer tick.Stop()
	for more := true; more; {
		select {
		case <-tick.C:
		case <-l.quit:
			more = false
		}
		l.refill()
		for _, r := range l.rings {
			r.take(l.add)
		}
		l.write()
		l.tell()
	}
	_ = l.sink.close()
}

// refill lets the rate's share of the time that has passed be written.
func (l *Log) refill() {
	now := time.Now()
	rate := float64(l.opt.Rate)
	l.tokens, l.filled = min(rate, l.tokens+now.Sub(l.filled).Seconds()*rate), now
}

// line is what is written. The times are UTC, those of the packets.
type line struct {
	Time  string `json:"time"`
	Event string `json:"event"` // start or end
	record.Flow
	*ending
}

// ending is what a line has of a connection that has ended.
type ending struct {
	Duration float64 `json:"duration"` // seconds from the first packet to the latest, to 16.8 ms
	State    string  `json:"state"`
	Ended    string  `json:"ended"` // closed, idle, backend or replaced
	record.Traffic
}

func (l *Log) add(e *entry) {
	if l.tokens < 1 {
		l.lost.Add(1)
		return
	}
	l.tokens--
	out := line{Time: l.opt.Zero.Add(time.Duration(e.At)).UTC().Format("2006-01-02T15:04:05.000000Z"), Event: "start",
		Flow: record.NewFlow(&e.Connection)}
	if e.end {
		out.Event, out.ending = "end", &ending{Duration: seconds(e.Latest - e.Start), State: e.State.String(), Ended: e.HowEnded(),
			Traffic: record.NewTraffic(&e.Connection)}
	}
	if err := l.json.Encode(out); err != nil { // no value of a line has an error
		l.lost.Add(1)
		return
	}
	l.ends = append(l.ends, l.lines.Len())
	if l.lines.Len() >= chunk {
		l.write()
	}
}

// seconds is a time to a microsecond.
func seconds(t wire.Time) float64 { return float64(max(0, t)/1000) / 1e6 }

// write hands the complete lines to the sink.
func (l *Log) write() {
	n, err := l.sink.write(l.lines.Bytes(), l.ends)
	l.written.Add(uint64(n))
	if err != nil {
		l.lost.Add(uint64(len(l.ends) - n))
		l.err = err
	}
	l.lines.Reset()
	l.ends = l.ends[:0]
}

// tell says what was lost since it was said last.
func (l *Log) tell() {
	_, lost := l.Counts()
	if lost > l.told || l.err != nil {
		l.opt.Lost(lost-l.told, l.err)
		l.told, l.err = lost, nil
	}
}
