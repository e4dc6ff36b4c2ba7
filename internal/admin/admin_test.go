package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"naru/internal/admin"
)

// newServer returns a server with a few resources, and a client of it.
func newServer(t *testing.T) (*admin.Server, *admin.Client) {
	t.Helper()
	s, err := admin.Listen(filepath.Join(t.TempDir(), "run", "naru.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s.Handle("GET /v1/thing/{name}", admin.Read, func(r *http.Request) (any, error) {
		if name := r.PathValue("name"); name != "a/b" {
			return nil, &admin.Problem{Status: http.StatusNotFound, Title: "no such thing", Detail: name}
		}
		return map[string]string{"kind": "Thing"}, nil
	})
	s.Handle("POST /v1/text", admin.Write, func(r *http.Request) (any, error) {
		b, err := io.ReadAll(r.Body)
		return len(b), err
	})
	s.Stream("GET /v1/count", admin.Read, func(ctx context.Context, _ *http.Request, send func(any) error) error {
		for n := range 3 {
			if err := send(n); err != nil {
				return err
			}
		}
		return nil
	})
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(s.Path()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return s, admin.NewClient(s.Path())
}

func TestDocumentsAndProblems(t *testing.T) {
	_, c := newServer(t)
	var thing struct{ Kind string }
	if err := c.Get(t.Context(), admin.Path("thing", "a/b"), &thing); err != nil || thing.Kind != "Thing" {
		t.Errorf("%v %v", thing, err)
	}
	for path, want := range map[string]int{"/v1/thing/x": 404, "/v1/other": 404, "/v1/text": 404} {
		err := c.Get(t.Context(), path, &thing)
		if p := (*admin.Problem)(nil); !errors.As(err, &p) || p.Status != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	var n int
	if err := c.Do(t.Context(), "POST", "/v1/text", "0123456789", &n); err != nil || n != 12 {
		t.Errorf("%d bytes, %v", n, err)
	}
	err := c.Do(t.Context(), "POST", "/v1/text", strings.Repeat("x", 3<<20), &n)
	if p := (*admin.Problem)(nil); !errors.As(err, &p) || p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 3 MiB: %v", err)
	}
}

func TestStreams(t *testing.T) {
	s, c := newServer(t)
	var got []string
	err := c.Follow(t.Context(), "/v1/count", func(line []byte) error {
		got = append(got, string(line))
		return nil
	})
	if err != nil || strings.Join(got, " ") != "0 1 2" {
		t.Errorf("%q %v", got, err)
	}
	if text := raw(t, s, "GET /v1/count HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"); !strings.Contains(
		text, "text/event-stream") || !strings.Contains(text, "data: 2\n\n") {
		t.Errorf("server-sent events: %s", text)
	}
}

// raw sends bytes and returns everything that comes back.
func raw(t *testing.T, s *admin.Server, text string) string {
	t.Helper()
	c, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, text)
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%.20q: the connection stays", text)
	}
	return string(b)
}

func TestASocketIsReplacedOnlyWhenNobodyListens(t *testing.T) {
	s, c := newServer(t)
	info, err := os.Stat(s.Path())
	if err != nil || info.Mode().Perm()&0o660 != 0o660 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	_, err = admin.Listen(s.Path())
	if used := (*admin.InUseError)(nil); !errors.As(err, &used) || used.PID != os.Getpid() {
		t.Errorf("a second server: %v", err)
	}
	if err := c.Get(t.Context(), "/v1/thing/a%2Fb", nil); err != nil {
		t.Errorf("the first one was disturbed: %v", err)
	}
	left := filepath.Join(t.TempDir(), "left.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	after, err := admin.Listen(left)
	if err != nil {
		t.Fatalf("a socket that was left: %v", err)
	}
	after.Start()
	if err := after.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Listen(file); err == nil {
		t.Error("a file was replaced")
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("the file is %q", b)
	}
}

// TestHostileClients holds that whoever sends nonsense, too much, or nothing at all keeps nobody else out.
func TestHostileClients(t *testing.T) {
	s, c := newServer(t)
	var silent []net.Conn
	for range 200 {
		if conn, err := net.Dial("unix", s.Path()); err == nil {
			silent = append(silent, conn)
		}
	}
	for _, text := range []string{"\x00\x01\x02\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
		"GET /v1/count HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n"} {
		raw(t, s, text)
	}
	for _, conn := range silent {
		conn.Close()
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := c.Get(t.Context(), "/v1/thing/a%2Fb", nil)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not answer any more: %v", err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	c := admin.NewClient(filepath.Join(t.TempDir(), "none.sock"))
	err := c.Get(t.Context(), "/v1/status", nil)
	if e := (*admin.UnreachableError)(nil); !errors.As(err, &e) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestRing(t *testing.T) {
	r := admin.NewRing(4)
	read := func(after uint64) (s string) {
		events, _ := r.After(after)
		for _, e := range events {
			s += fmt.Sprint(e.Seq, e.Text, " ")
		}
		return s
	}
	for n, want := range []string{"", "1a ", "1a 2b ", "1a 2b 3c ", "1a 2b 3c 4d ", "2b 3c 4d 5e ", "3c 4d 5e 6f "} {
		if got := read(0); got != want {
			t.Errorf("after %d events: %q, want %q", n, got, want)
		}
		r.Add(admin.Event{Text: string(rune('a' + n))})
	}
	if got := read(6) + read(7) + read(99); got != "7g " {
		t.Errorf("the newest: %q", got)
	}
	var got []string
	ctx, cancel := context.WithCancel(t.Context())
	go r.Add(admin.Event{Text: "h"})
	err := r.Follow(ctx, 6, true, func(v any) error {
		if e, ok := v.(admin.Event); ok {
			got = append(got, e.Text)
			if e.Text == "h" {
				cancel()
			}
		}
		return nil
	})
	if err != nil || strings.Join(got, "") != "gh" {
		t.Errorf("followed %q, %v", got, err)
	}
}

func TestStatusKeysAreSnakeCase(t *testing.T) {
	text, err := json.Marshal(admin.Status{Services: []admin.Service{{Backends: []admin.Backend{{}}}}})
	if err != nil {
		t.Fatal(err)
	}
	var keys func(v any)
	keys = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, v := range v {
				if k != "apiVersion" && k != strings.ToLower(k) {
					t.Errorf("key %q", k)
				}
				keys(v)
			}
		case []any:
			for _, v := range v {
				keys(v)
			}
		}
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	keys(v)
}

// A naru that hangs is told apart from one that is not there.
func TestASilentServerIsNoMissingOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = admin.NewClient(path).Get(ctx, "/v1/status", nil)
	if e := (*admin.UnreachableError)(nil); !errors.As(err, &e) || !strings.Contains(err.Error(), "has not answered in time") {
		t.Errorf("got %v", err)
	}
}
