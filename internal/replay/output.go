package replay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/record"
	"naru/internal/wire"
)

// made is the comment of a frame that no packet caused.
var made = []byte("- made by naru")

// frameWriter writes packets and what they became as pcapng.
type frameWriter struct {
	out *pcapfile.Writer

	// The packet at hand, as it came.
	in      []byte
	length  int
	missing int // bytes at the end of in that were not captured
	leg     int
	pending bool
	number  uint64 // in the capture, counted from 1; 0: it is in none
	comment []byte // of it

	// What this call's frames were sent for.
	notes    []note
	comments []byte // of all notes
}

// note is one frame that was sent because of a packet, and its comment.
type note struct {
	frame    *wire.Frame
	from, to int // in comments
	madeUp   int // bytes at the end of the frame that were not captured
}

func newFrameWriter(w io.Writer, cfg *config.Config) *frameWriter {
	f := &frameWriter{out: pcapfile.NewWriter(w)}
	for _, ifc := range cfg.Interfaces {
		f.out.AddInterface(ifc.Name, "towards "+sides[ifc.Side])
	}
	return f
}

var sides = map[string]string{"client": "clients", "backend": "backends", "both": "clients and backends"}

// arrived keeps a packet, as it arrives at naru, until the engine has decided about it. captured is what it was in the
// capture, the number'th packet there; or nil.
func (w *frameWriter) arrived(f *wire.Packet, captured *pcapfile.Packet, number uint64) {
	w.in, w.length, w.leg, w.pending, w.comment = append(w.in[:0], f.Bytes()...), 0, int(f.Leg), true, w.comment[:0]
	w.number, w.missing = 0, f.Offload.MadeUp()
	if captured == nil {
		return
	}
	w.number = number
	w.length = captured.Length + f.Len - w.missing - len(captured.Data) // another link layer's header was longer or shorter
}

// undecided writes the packet at hand, which no engine gets.
func (w *frameWriter) undecided(at int64) {
	w.comment = fmt.Appendf(w.comment[:0], "packet %d: cut short by the capture", w.number)
	w.out.PacketBytes(w.leg, at, w.in, w.length, w.comment)
	w.pending = false
}

func (w *frameWriter) note(rec *forwarder.Record) {
	from := len(w.comments)
	if w.pending && w.number > 0 && !rec.Late { // what waited is an earlier packet
		w.comments = append(strconv.AppendUint(append(w.comments, "packet "...), w.number, 10), ": "...)
	}
	w.comments = record.AppendComment(w.comments, rec)
	if w.pending && !rec.Late {
		w.comment = append(w.comment[:0], w.comments[from:]...)
	}
	first := len(w.notes)
	for _, f := range rec.Sent {
		w.notes = append(w.notes, note{frame: f, from: from, to: len(w.comments)})
	}
	record.MadeUp(rec, func(i, n int) { w.notes[first+i].madeUp = n })
}

// write writes the packet at hand and what the engine put out.
func (w *frameWriter) write(at int64, out *forwarder.Output) {
	if w.pending {
		w.out.PacketBytes(w.leg, at, w.in[:len(w.in)-w.missing], w.length, w.comment)
		w.pending = false
	}
	for leg, frames := range out.Legs {
		for _, f := range frames {
			comment, madeUp := w.of(f)
			w.out.PacketBytes(leg, at, f.Bytes()[:f.Len-madeUp], f.Len, comment)
		}
	}
	w.notes, w.comments = w.notes[:0], w.comments[:0]
}

// of returns the comment of a frame, and how many bytes at its end were not captured.
func (w *frameWriter) of(f *wire.Frame) (comment []byte, madeUp int) {
	for i := range w.notes {
		if n := &w.notes[i]; n.frame == f {
			return w.comments[n.from:n.to], n.madeUp
		}
	}
	return made, 0
}

// flowWriter writes connections as JSON lines.
type flowWriter struct {
	out *bufio.Writer
	enc *json.Encoder
	err error
}

func newFlowWriter(w io.Writer) *flowWriter {
	f := &flowWriter{out: bufio.NewWriter(w)}
	f.enc = json.NewEncoder(f.out)
	f.enc.SetEscapeHTML(false)
	return f
}

// flowLine is one connection. Times are seconds after the first packet, to 16.8 ms at the start.
type flowLine struct {
	Number uint64 `json:"number"` // in the order in which connections were made, counted from 1
	record.Flow
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	State string  `json:"state"`
	Ended string  `json:"ended"` // closed, idle, backend or replaced; open at the end of the capture
	// Loop is how simulated ends saw it: completed, reset, open, stalled or mis-delivered.
	Loop string `json:"loop,omitempty"`
	record.Traffic
}

var protocols = map[uint8]string{wire.ProtoTCP: "tcp", wire.ProtoUDP: "udp"}

func (w *flowWriter) write(c *forwarder.Connection, number uint64, now wire.Time, ended, outcome string) {
	line := flowLine{Number: number, Flow: record.NewFlow(c), Start: seconds(c.Start), End: seconds(now),
		State: c.State.String(), Ended: ended, Loop: outcome, Traffic: record.NewTraffic(c)}
	if err := w.enc.Encode(line); err != nil && w.err == nil {
		w.err = fmt.Errorf("replay: flows: %w", err)
	}
}

// seconds is a time after the first packet, to a microsecond.
func seconds(t wire.Time) float64 { return float64(max(0, t-begin)/1000) / 1e6 }
