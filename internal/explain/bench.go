package explain

import (
	"fmt"

	"naru/forwarder"
	"naru/internal/record"
	"naru/internal/wire"
)

// benchConnections is how many connections a Bench has room for, unless it is told: our own choice.
const benchConnections = 65536

// Bench is an engine in memory, to ask it things.
type Bench struct {
	Config forwarder.Config
	engine *forwarder.Engine
	out    *forwarder.Output
}

// NewBench makes an engine for a configuration. connections is the capacity of its table; 0 is 65536.
func NewBench(cfg forwarder.Config, seed forwarder.Seed, connections int) (*Bench, error) {
	snap, err := forwarder.Compile(cfg, 1, seed, nil)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	if connections == 0 {
		connections = benchConnections
	}
	engine, err := forwarder.New(forwarder.Options{Seed: seed, Workers: 1, Connections: connections, LongFrames: true}, snap)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	return &Bench{Config: cfg, engine: engine, out: forwarder.NewOutput(len(cfg.Legs))}, nil
}

// Ask gives the engine a frame that comes in by a leg, and explains what it decided. The engine remembers it, as it would
// remember a real one.
func (b *Bench) Ask(now wire.Time, frame []byte, leg int) *record.Explanation {
	return Ask(b.engine, now, frame, leg, b.out)
}

// Ask gives an engine that nobody else uses a frame, and explains what it decided.
func Ask(e *forwarder.Engine, now wire.Time, frame []byte, leg int, out *forwarder.Output) *record.Explanation {
	buf := make([]byte, wire.Headroom+max(len(frame), wire.MinBuffer))
	copy(buf[wire.Headroom:], frame)
	batch := []wire.Packet{{Frame: wire.Frame{Buf: buf, Off: wire.Headroom, Len: len(frame), Leg: uint8(leg)}}}
	var x *record.Explanation
	e.Keep(wire.MaxFrame)
	out.Reset()
	e.Process(now, batch, out, func(r *forwarder.Record) {
		if x == nil { // what waited for it has records of its own
			x = record.Explain(r)
		}
	})
	return x
}

// Question is the document of POST /v1/explain: a packet in words, or the name of a connection.
type Question struct {
	Packet string `json:"packet,omitempty"`
	Flow   string `json:"flow,omitempty"`
}
