package director

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/explain"
	"naru/internal/record"
	"naru/internal/wire"
)

// follower is a director with one worker that nobody runs.
func follower(t *testing.T) (*Director, *worker) {
	t.Helper()
	cfg := testConfig()
	for i := range cfg.Services {
		cfg.Services[i].Timeouts = config.Timeouts{TCPSyn: time.Minute, TCPEstablished: time.Minute, TCPClosing: time.Minute,
			UDP: time.Minute, UDPUnreplied: time.Minute}
	}
	c, err := compile.Config(cfg, testHost())
	if err != nil {
		t.Fatal(err)
	}
	snap, err := forwarder.Compile(c, 1, forwarder.Seed{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := forwarder.New(forwarder.Options{Workers: 1, Connections: 1024}, snap)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := fakeSet()
	w := newWorker(0, set, e, nil, func(forwarder.Event) {})
	return &Director{log: slog.New(slog.DiscardHandler), compiled: c, snapshot: snap, workers: []*worker{w}}, w
}

// give hands a packet in words to the worker's engine, as if it had come.
func give(t *testing.T, d *Director, w *worker, words string) wire.Packet {
	t.Helper()
	p, err := explain.Parse(words)
	if err != nil {
		t.Fatal(err)
	}
	frame, leg, err := p.Frame(&d.compiled)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, wire.Headroom+wire.MinBuffer)
	copy(buf[wire.Headroom:], frame)
	batch := []wire.Packet{{Frame: wire.Frame{Buf: buf, Off: wire.Headroom, Len: len(frame), Leg: uint8(leg)}}}
	w.out.Reset()
	w.engine.Process(w.now(), batch, w.out, w.tracer())
	return batch[0]
}

const (
	aSYN  = "tcp 10.20.40.80:51000 > 200.100.50.25:80 syn"
	aScan = "tcp 10.20.40.80:51001 > 200.100.50.25:80 syn fin"
)

func TestFollowersGetWhatFitsAndNobodyElsePays(t *testing.T) {
	d, w := follower(t)
	if w.tracer() != nil {
		t.Fatal("records are made though nobody asks")
	}
	filter, err := record.ParseFilter(url.Values{"verdict": {"drop"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan string, 10), make(chan error)
	go func() {
		ended <- d.Follow(ctx, TapOptions{Filter: filter, Bytes: 64, Sample: 2},
			func(r *forwarder.Record, at time.Time, worker int, missed uint64) error {
				if since := time.Since(at); since < 0 || since > time.Minute || len(r.Frame) != 54 || missed != 0 {
					t.Errorf("at %v, %d bytes, %d missed", at, len(r.Frame), missed)
				}
				got <- record.Comment(r)
				return nil
			})
	}()
	for w.tracer() == nil {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		give(t, d, w, aSYN)
		give(t, d, w, aScan)
	}
	for range 2 { // of three that fit, with every second one taken
		if text := <-got; text[11:] != "drop reason=tcp_flags" {
			t.Errorf("got %q", text)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(got) != 0 || w.tracer() != nil {
		t.Errorf("%d more, and records are still made: %v", len(got), w.tracer() != nil)
	}
}

func TestTooManyFollowers(t *testing.T) {
	d, _ := follower(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, maxTaps+1)
	for range maxTaps + 1 {
		go func() { failed <- d.Follow(ctx, TapOptions{}, nil) }()
	}
	if err := <-failed; !errors.Is(err, ErrBusy) {
		t.Errorf("the last one: %v", err)
	}
	cancel()
	for range maxTaps {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

func TestQuestionsToARunningWorker(t *testing.T) {
	d, w := follower(t)
	give(t, d, w, aSYN)
	give(t, d, w, aScan)
	before := w.engine.Counters()
	failed := make(chan error, 1)
	go func() { failed <- w.run() }()
	defer func() {
		w.stop()
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}()
	f := wire.Flow{Src: wire.Addr4([]byte{10, 20, 40, 80}), Dst: wire.Addr4([]byte{200, 100, 50, 25}), SrcPort: 51000,
		DstPort: 80, Proto: wire.ProtoTCP}
	p, err := d.Flow(f.ID())
	if err != nil {
		t.Fatal(err)
	}
	x, err := d.Explain(p)
	if err != nil {
		t.Fatal(err)
	}
	if x.Steps[1].Outcome != "hit" || x.Record.Direction != "request" || x.Record.Flow != f.ID().String() {
		t.Errorf("got %s", x.Text(false))
	}
	fresh, err := explain.Parse("tcp 10.20.40.80:51002 > 200.100.50.25:80 syn")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the answer stays the same, since nothing has changed
		x, err = d.Explain(fresh)
		if err != nil || !x.Record.NewConnection || x.Steps[1].Details[0][10:] != " is no connection yet, 1 of 1024 connections" {
			t.Errorf("%v, got %s", err, x.Text(false))
		}
	}
	if _, err := d.Flow(1); !errors.Is(err, ErrNoFlow) {
		t.Errorf("a flow that is not there: %v", err)
	}
	drops := d.DropSamples()[wire.TCPFlags]
	if len(drops.Samples) != 1 || drops.Samples[0].Packet != "tcp 10.20.40.80:51001 > 200.100.50.25:80 [FS]" ||
		drops.Samples[0].Interface != "eth0" || drops.Samples[0].Length != 54 || time.Since(drops.Last) > time.Minute {
		t.Errorf("drops %+v", drops)
	}
	var after forwarder.Counters
	w.call(func() { after = w.engine.Counters() })
	if after.Received != before.Received || after.Connections != before.Connections {
		t.Errorf("counted %+v, was %+v", after, before)
	}
}
