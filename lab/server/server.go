// Package server is what runs in the server nodes of a lab: small servers whose answers tell who answered, whom they
// saw, and whether every byte arrived.
//
// Contract: HTTP on TCP port 80 (RFC 9110; keep-alive on), echo on UDP port 7 (after RFC 862, but the answer begins
// with who answered whom), and a half-close test on TCP port 9000 that reads to the end of the stream before it answers.
// All serve IPv4 and IPv6. The servers trust whoever reaches them: they are for namespaces, not for networks.
package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// The ports of the servers.
const (
	HTTPPort = 80
	EchoPort = 7
	SumPort  = 9000
)

// Headers of every HTTP answer.
const (
	BackendHeader = "X-Backend" // the server's name
	ClientHeader  = "X-Client"  // address:port that the server saw
)

// Limits of what one request may ask for.
const (
	maxBytes = 64 << 30
	maxSlow  = 10 * time.Minute
)

// Run serves under the name until ctx ends. ready is called once when all ports are open.
func Run(ctx context.Context, name string, ready func()) error {
	web, err := net.Listen("tcp", fmt.Sprintf(":%d", HTTPPort))
	if err != nil {
		return fmt.Errorf("server: http: %w", err)
	}
	defer web.Close()
	sum, err := net.Listen("tcp", fmt.Sprintf(":%d", SumPort))
	if err != nil {
		return fmt.Errorf("server: sum: %w", err)
	}
	defer sum.Close()
	echo, err := listenEcho(fmt.Sprintf(":%d", EchoPort))
	if err != nil {
		return fmt.Errorf("server: echo: %w", err)
	}
	defer echo.Close()
	ready()
	failed := make(chan error, 3)
	go func() { failed <- serveHTTP(web, name) }()
	go func() { failed <- serveSum(sum, name) }()
	go func() { failed <- serveEcho(echo, name) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// serveHTTP answers requests until the listener is closed.
func serveHTTP(l net.Listener, name string) error {
	s := &http.Server{Handler: Handler(name), ReadHeaderTimeout: time.Minute}
	return fmt.Errorf("server: http: %w", s.Serve(l))
}

// Handler returns the HTTP server of the name: / tells who saw whom, /bytes?n=N sends the first N bytes of Pattern,
// POST /sum tells how many bytes came and their SHA-256, /slow?ms=N answers after N milliseconds.
func Handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s saw %s\n", name, peer(r.RemoteAddr))
	})
	mux.HandleFunc("/bytes", serveBytes)
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		hash := sha256.New()
		n, err := io.Copy(hash, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %x\n", n, hash.Sum(nil))
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, err := strconv.Atoi(r.FormValue("ms"))
		wait := time.Duration(ms) * time.Millisecond
		if err != nil || wait < 0 || wait > maxSlow {
			http.Error(w, "ms must be a number of milliseconds up to ten minutes", http.StatusBadRequest)
			return
		}
		select {
		case <-time.After(wait):
			fmt.Fprintf(w, "%s saw %s\n", name, peer(r.RemoteAddr))
		case <-r.Context().Done():
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(BackendHeader, name)
		w.Header().Set(ClientHeader, peer(r.RemoteAddr))
		mux.ServeHTTP(w, r)
	})
}

func serveBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxBytes {
		http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyBuffer(w, Pattern(n), make([]byte, 256<<10)) // the client sees a short body
}

// serveSum reads every stream to its end and then answers on the half that is still open: name, bytes, SHA-256.
func serveSum(l net.Listener, name string) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("server: sum: %w", err)
		}
		go func() {
			defer c.Close()
			hash := sha256.New()
			n, err := io.Copy(hash, c)
			if err == nil {
				fmt.Fprintf(c, "%s %d %x\n", name, n, hash.Sum(nil))
			}
		}()
	}
}

// peer writes an address without the brackets of a v4-mapped one.
func peer(s string) string {
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return s
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
}
