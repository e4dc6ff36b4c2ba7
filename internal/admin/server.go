package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Our own choices.
const (
	maxHeader   = 16 << 10 // bytes of a request's header
	maxBody     = 2 << 20  // bytes of a request's body: a configuration, and room around it
	headerTime  = 3 * time.Second
	readTime    = 10 * time.Second
	writeTime   = 10 * time.Second
	idleTime    = 30 * time.Second
	closeTime   = 2 * time.Second
	maxConns    = 128 // at a time
	maxUserOnly = 32  // of them: of one user
	dialTime    = time.Second
)

// Role is what a peer may do.
type Role uint8

// The roles; each may do what those before it may.
const (
	Nobody Role = iota // nothing
	Read               // look
	Write              // change
)

// Handler answers a request with a document, or with an error: a *Problem is sent as it is.
type Handler func(r *http.Request) (any, error)

// Streamer sends documents until the context ends or send fails, which is when the peer is gone or does not read.
type Streamer func(ctx context.Context, r *http.Request, send func(any) error) error

// InUseError says that another naru listens at a path.
type InUseError struct {
	Path string
	PID  int // of the other naru; 0 if it cannot be told
}

// Error names the path and the process.
func (e *InUseError) Error() string {
	return fmt.Sprintf("admin: %s: another naru listens there (pid %d)", e.Path, e.PID)
}

// Server listens on a unix socket.
type Server struct {
	path   string
	file   fs.FileInfo // of the socket: another one at its path is not ours to remove
	listen *listener
	mux    *http.ServeMux
	http   *http.Server
	end    context.CancelFunc
	done   chan struct{}
}

// Listen makes the socket, with mode 0660 and of group naru if there is one; members of a group naru-ro could not connect
// then, so it is 0666 if that exists. The folder is made if it is missing, and a socket that a dead process left is
// replaced. The error is an *InUseError if a process listens there.
func Listen(path string) (*Server, error) {
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	l.SetUnlinkOnClose(false) // Close does it, if the path is still ours
	s := &Server{path: path, mux: http.NewServeMux(), done: make(chan struct{})}
	who := groups()
	if err = who.guard(path); err == nil {
		s.file, err = os.Lstat(path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(path)
		return nil, fmt.Errorf("admin: %w", err)
	}
	s.listen = newListener(l, who)
	base, end := context.WithCancel(context.Background())
	s.end = end
	s.http = &http.Server{
		Handler: s.mux, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: log.New(io.Discard, "", 0),
		BaseContext: func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, roleKey{}, c.(*conn).role)
		},
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Problem{Status: http.StatusNotFound, Title: "no such resource", Detail: r.Method + " " + r.URL.Path})
	})
	return s, nil
}

// makeRoom removes a socket that nobody listens at.
func makeRoom(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("admin: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("admin: %s: is there and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, dialTime)
	if err == nil {
		defer c.Close()
		pid := 0
		if cred, err := peer(c.(*net.UnixConn)); err == nil {
			pid = cred.pid
		}
		return &InUseError{path, pid}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("admin: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// Path returns where the server listens.
func (s *Server) Path() string { return s.path }

// Handle registers what answers a pattern of net/http, as "GET /v1/status", to a peer that has the role. Call it before
// Start.
func (s *Server) Handle(pattern string, role Role, answer Handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r, role) {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		document, err := answer(r)
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(document)
	})
}

// Stream registers what sends a stream: JSON lines, or server-sent events if the peer accepts text/event-stream.
func (s *Server) Stream(pattern string, role Role, send Streamer) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !allowed(w, r, role) {
			return
		}
		out := newStream(w, r)
		if err := send(r.Context(), r, out.send); err != nil && !out.begun {
			fail(w, err)
			return
		}
		_ = out.begin()
	})
}

// Start serves until Close.
func (s *Server) Start() {
	go func() {
		defer close(s.done)
		_ = s.http.Serve(s.listen)
	}()
}

// Close waits a little for answers that are under way, ends every connection and removes the socket. Start must have been
// called.
func (s *Server) Close() error {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	<-s.done
	if now, e := os.Lstat(s.path); e == nil && os.SameFile(now, s.file) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

type roleKey struct{}

// allowed reports whether the peer has a role, and answers if it has not.
func allowed(w http.ResponseWriter, r *http.Request, role Role) bool {
	has, _ := r.Context().Value(roleKey{}).(Role)
	if has >= role {
		return true
	}
	what := "look at this naru"
	if role == Write {
		what = "change anything"
	}
	fail(w, &Problem{Status: http.StatusForbidden, Title: "not permitted",
		Detail: "this user may not " + what + "; be root or in group " + WriteGroup})
	return false
}
