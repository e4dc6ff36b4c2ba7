package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer bounds what a client reads of one document: our own choice, more than thousands of backends need.
const maxAnswer = 64 << 20

// UnreachableError says that no naru answers at a socket.
type UnreachableError struct {
	Path string
	Err  error
}

// Error names the socket.
func (e *UnreachableError) Error() string {
	if errors.Is(e.Err, context.DeadlineExceeded) {
		return fmt.Sprintf("the naru at %s has not answered in time: it hangs, or its host has no processor to spare", e.Path)
	}
	return fmt.Sprintf("no naru answers at %s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Client talks to a naru. Errors are an *UnreachableError, a *Problem that naru told, or one of the context.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the socket at path; it connects anew for each request.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Path joins the words of a resource, as Path("services", name) for /v1/services/NAME.
func Path(words ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, w := range words {
		b.WriteString("/" + url.PathEscape(w))
	}
	return b.String()
}

// Get reads a document into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, nil, out)
}

// Do sends a document, if in is not nil, and reads the answer into out, if that is not nil.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		body = bytes.NewReader(text)
	}
	answer, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("admin: the answer of naru: %w", err)
	}
	return nil
}

// Follow reads a stream of JSON lines and hands each to line, until the stream or the context ends or line fails.
func (c *Client) Follow(ctx context.Context, path string, line func([]byte) error) error {
	answer, err := c.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		if err := line(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return &UnreachableError{c.path, err}
	}
	return ctx.Err()
}

// ask sends a request; an answer that is a problem is an error.
func (c *Client) ask(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://naru"+path, body)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, &UnreachableError{c.path, cause(err)}
		}
		return nil, ctx.Err()
	}
	if answer.StatusCode < http.StatusBadRequest {
		return answer, nil
	}
	defer answer.Body.Close()
	p := &Problem{}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(p); err != nil {
		p = &Problem{Title: answer.Status}
	}
	p.Status = answer.StatusCode
	return nil, p
}

// cause takes the layers off that only repeat what was asked.
func cause(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err
	}
	if e := (*net.OpError)(nil); errors.As(err, &e) {
		err = e.Err
	}
	return err
}
