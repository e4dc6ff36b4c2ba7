package replay_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime/debug"
	"testing"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
)

// subject is one run of a capture in a mode, and what is found wrong with it.
type subject struct {
	t      *testing.T
	name   string // of the capture, and the mode
	cfg    *config.Config
	litter byte
	number int   // of the packet at hand
	packet taped // it

	books
	records int
	reasons [wire.NumReasons]uint64 // packets by the reason of their record; of none: those that went on
	macs    map[wire.MAC]string     // who has which, in l2dsr
	judged  int                     // packets that were compared with what they became
	play    play
	keep    bool // for another judge:
	pairs   []pair
	answers [][]byte
}

// pair is a packet that went on: as it was in the capture, as it came to naru, and what left.
type pair struct {
	reply     bool
	was, came []byte
	outs      [][]byte
}

// play is what a run gave.
type play struct {
	frames, flows, counters []byte
	result                  *replay.Result
	decisions               []decision
	sent                    []sent
}

// decision is what became of one packet of the tape.
type decision struct {
	verdict wire.Verdict
	reason  wire.Reason
	backend string
	flow    wire.FlowID
}

// sent is a frame that was sent, because of the packet number.
type sent struct {
	number int
	leg    uint8
	data   []byte
}

// runs has as little collected as the memory allows: a run needs some megabytes, and there are thousands.
func runs(t *testing.T) {
	before := debug.SetGCPercent(1000)
	t.Cleanup(func() { debug.SetGCPercent(before) })
}

func newSubject(t *testing.T, name string, cfg *config.Config, litter byte) *subject {
	return &subject{t: t, name: name, cfg: cfg, litter: litter, macs: map[wire.MAC]string{}, books: newBooks()}
}

// options are those of every run.
func (s *subject) options(frames, flows *bytes.Buffer) replay.Options {
	return replay.Options{Config: s.cfg, Seed: 1, Frames: frames, Flows: flows, Backends: replay.Recorded, Table: 1024,
		Trace: s.trace, Keep: wire.MaxFrame, Sent: func(_ wire.Time, f *wire.Frame) {
			s.play.sent = append(s.play.sent, sent{s.number, f.Leg, bytes.Clone(f.Bytes())})
		}}
}

// run plays a tape and checks each decision.
func (s *subject) run(tp tape) play {
	var frames, flows, counters bytes.Buffer
	r, err := replay.New(s.options(&frames, &flows))
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	r.Watch(s.started, s.ended)
	for _, f := range tp.frames {
		s.number, s.packet = s.number+1, f
		r.Litter(s.litter)
		p := pcapfile.Packet{Time: f.at, Timed: true, Link: pcapfile.LinkEthernet, Length: f.length, Data: f.data}
		if err := r.Packet(&p, ""); err != nil {
			s.t.Fatalf("%s: packet %d: %v", s.name, s.number, err)
		}
		for len(s.play.decisions) < s.number { // it passed by
			s.play.decisions = append(s.play.decisions, decision{verdict: wire.Pass})
		}
	}
	r.Living(s.lives)
	s.closed()
	s.play.result, err = r.Finish()
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	if err := s.play.result.WriteJSON(&counters); err != nil {
		s.t.Fatal(err)
	}
	s.play.frames, s.play.flows, s.play.counters = frames.Bytes(), flows.Bytes(), counters.Bytes()
	s.balance()
	return s.play
}

func (s *subject) wrong(format string, args ...any) {
	s.t.Errorf("%s packet %d: %s", s.name, s.number, fmt.Sprintf(format, args...))
}

// balance compares what the records have told with the counters.
func (s *subject) balance() {
	res := s.play.result
	if uint64(s.records)+res.PassedBy+res.NotEthernet+res.CutShort != res.Packets {
		s.t.Errorf("%s: %d packets, %d decisions, %d passed by, %d of another link type, %d cut short", s.name, res.Packets,
			s.records, res.PassedBy, res.NotEthernet, res.CutShort)
	}
	if !res.Balanced() {
		s.t.Errorf("%s: counters do not balance: %+v", s.name, res)
	}
	if n := s.reasons[wire.ReasonNone]; n != res.Forwarded {
		s.t.Errorf("%s: %d packets went on, the counter has %d", s.name, n, res.Forwarded)
	}
	counted := map[string]uint64{}
	for _, r := range res.Reasons {
		counted[r.Name] = r.Packets
	}
	for why, n := range s.reasons {
		// A fragment that waited in vain has no second record.
		if name := wire.Reason(why).String(); why != 0 && wire.Reason(why) != wire.FragmentLost && n != counted[name] {
			s.t.Errorf("%s: %d packets were %s, the counter has %d", s.name, n, name, counted[name])
		}
	}
	if n := uint64(len(s.play.sent)); n != res.Counters.Sent {
		s.t.Errorf("%s: %d frames were sent, the counter has %d", s.name, n, res.Counters.Sent)
	}
}

// twice plays a tape in a configuration two times, with other bytes behind the frames the second time.
func twice(t *testing.T, tp tape, name string, cfg *config.Config) *subject {
	s := newSubject(t, name, cfg, 0)
	a := s.run(tp)
	b := newSubject(t, name, cfg, 0xa5).run(tp)
	if !bytes.Equal(a.frames, b.frames) || !bytes.Equal(a.flows, b.flows) || !bytes.Equal(a.counters, b.counters) {
		t.Errorf("%s: two runs differ, with other bytes behind the frames", name)
	}
	return s
}

// trace checks one decision.
func (s *subject) trace(r *forwarder.Record) {
	if !r.Late {
		s.records++
		s.play.decisions = append(s.play.decisions, decision{r.Verdict, r.Reason, r.Backend, r.Flow})
	}
	if r.Verdict != wire.Held {
		s.reasons[r.Reason]++
	}
	switch {
	case r.Verdict == wire.Transmit:
		s.judged++
		s.forwarded(r)
	case r.Verdict == wire.Consume:
		s.answered(r)
	case len(r.Sent) != 0:
		s.wrong("%v, and %d frames were sent", r.Verdict, len(r.Sent))
	}
}

// full reports whether everything is asked for, not the sample of make test.
func full() bool { return os.Getenv("NARU_FULL") != "" }

func TestWhatMustHoldForEveryCapture(t *testing.T) {
	runs(t)
	modes := replay.AutoModes()
	judged := map[string]int{}
	packets, played := 0, 0
	for i, path := range captures(t) {
		file, tp := fileOf(t, path)
		packets += len(tp.frames)
		for k, mode := range modes {
			// Half of the modes for each capture, in turn.
			if !full() && (i+k)%len(modes) >= len(modes)/2 {
				continue
			}
			played++
			name := tp.name + " " + mode
			s := twice(t, tp, name, tp.auto(t, mode))
			judged[mode] += s.judged
			fromFile(t, name, s, file)
		}
	}
	for _, mode := range modes {
		if judged[mode] < 1000 {
			t.Errorf("%s: only %d packets were compared with what they became", mode, judged[mode])
		}
	}
	t.Logf("%d captures, %d packets, %d runs; packets compared: %v", len(captures(t)), packets, played, judged)
}

// fromFile plays the capture from its file, whose format and link type may be any.
func fromFile(t *testing.T, name string, s *subject, file []byte) {
	out := replayed(t, replay.Options{Config: s.cfg, Backends: replay.Recorded, Keep: wire.MaxFrame}, file)
	if d, err := replay.CompareFrames(bytes.NewReader(out.frames), bytes.NewReader(s.play.frames)); err != nil || d != "" {
		t.Errorf("%s: the same packets from the file itself: %s %v", name, d, err)
	}
	if !bytes.Equal(out.flows, s.play.flows) {
		d, err := replay.CompareFlows(bytes.NewReader(out.flows), bytes.NewReader(s.play.flows))
		t.Errorf("%s: the same packets from the file itself give other flows: %s %v", name, d, err)
	}
}
