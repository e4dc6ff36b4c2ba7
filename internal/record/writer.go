package record

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"naru/forwarder"
)

// room is how many records wait to be written: our own choice, some megabytes.
const room = 4096

// Writer writes records in a goroutine of its own.
type Writer struct {
	lines   chan *Line
	dropped atomic.Uint64
	once    sync.Once
	done    chan struct{}
	err     error // of the goroutine; read after done
}

// NewWriter starts to write to w: JSON lines, or text. The caller closes w after the Writer.
func NewWriter(w io.Writer, asJSON bool) *Writer {
	rw := &Writer{lines: make(chan *Line, room), done: make(chan struct{})}
	go rw.run(bufio.NewWriter(w), asJSON)
	return rw
}

// Trace queues one record; it is a forwarder.Trace for any number of engines. It must not be called after Close.
func (w *Writer) Trace(r *forwarder.Record) {
	if len(w.lines) == cap(w.lines) { // before the work of copying; several engines may still find the last place gone
		w.dropped.Add(1)
		return
	}
	select {
	case w.lines <- NewLine(r):
	default:
		w.dropped.Add(1)
	}
}

// Close writes what is queued and returns how many records were dropped, and the first error of writing. It may be
// called more than once.
func (w *Writer) Close() (dropped uint64, err error) {
	w.once.Do(func() { close(w.lines) })
	<-w.done
	return w.dropped.Load(), w.err
}

func (w *Writer) run(out *bufio.Writer, asJSON bool) {
	defer close(w.done)
	for l := range w.lines {
		if w.err != nil {
			w.dropped.Add(1)
			continue
		}
		err := write(out, l, asJSON)
		if err == nil && len(w.lines) == 0 {
			err = out.Flush() // somebody may be reading along
		}
		if err != nil {
			w.err = fmt.Errorf("record: %w", err)
		}
	}
}

func write(out *bufio.Writer, l *Line, asJSON bool) error {
	if !asJSON {
		_, err := out.WriteString(l.Text())
		return err
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = out.Write(append(b, '\n'))
	return err
}
