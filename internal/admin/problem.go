package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Problem is what went wrong, as RFC 9457 has it. It is an error on both ends.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"` // of HTTP
	Detail string `json:"detail,omitempty"`
	// Errors are the places of the mistakes in a configuration.
	Errors []Mistake `json:"errors,omitempty"`
}

// Mistake is one mistake in a configuration.
type Mistake struct {
	File    string `json:"file,omitempty"`
	Path    string `json:"path,omitempty"` // as services[0].vip
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
	Warning bool   `json:"warning"`
}

// Error returns title and detail.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// fail answers with a problem. An error that is none is the server's fault.
func fail(w http.ResponseWriter, err error) {
	p := (*Problem)(nil)
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		p = &Problem{Status: http.StatusRequestEntityTooLarge, Title: "too long", Detail: err.Error()}
	} else if !errors.As(err, &p) {
		p = &Problem{Status: http.StatusInternalServerError, Title: "failed", Detail: err.Error()}
	}
	out := *p
	if out.Type == "" {
		out.Type = "about:blank"
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(out.Status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(out)
}

// stream writes documents one by one.
type stream struct {
	w      http.ResponseWriter
	ctl    *http.ResponseController
	events bool
	begun  bool
}

func newStream(w http.ResponseWriter, r *http.Request) *stream {
	return &stream{w: w, ctl: http.NewResponseController(w),
		events: strings.Contains(r.Header.Get("Accept"), "text/event-stream")}
}

// begin sends the header, so that the peer knows that it is connected.
func (s *stream) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	kind := "application/jsonl"
	if s.events {
		kind = "text/event-stream"
	}
	s.w.Header().Set("Content-Type", kind)
	s.w.WriteHeader(http.StatusOK)
	return s.ctl.Flush()
}

// send writes one document; a nil one only shows that the stream lives.
func (s *stream) send(document any) error {
	// The limits of a request are for its length as a whole; a stream has them for each document.
	if err := s.ctl.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	_ = s.ctl.SetReadDeadline(time.Time{})
	if err := s.begin(); err != nil {
		return err
	}
	if document == nil {
		return nil
	}
	text, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if s.events {
		text = append([]byte("data: "), append(text, '\n')...)
	}
	if _, err := s.w.Write(append(text, '\n')); err != nil {
		return err
	}
	return s.ctl.Flush()
}
