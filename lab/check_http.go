package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"naru/lab/server"
)

// Sizes of the transfers.
const (
	downloadBytes = 100 << 20
	uploadBytes   = 20 << 20
	halfBytes     = 1 << 20
)

// answer is what a backend said about one request.
type answer struct {
	backend string
	client  netip.AddrPort // whom the backend saw
	took    time.Duration
}

// get sends one request to the VIP and checks that the answer is whole.
func get(ctx context.Context, client *http.Client, vip netip.Addr, path string) (answer, error) {
	var a answer
	ctx, cancel := context.WithTimeout(ctx, smallTime)
	defer cancel()
	start := time.Now()
	url := fmt.Sprintf("http://%s%s", netip.AddrPortFrom(vip, server.HTTPPort), path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return a, err
	}
	req.Host = "www.naru.test"
	resp, err := client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	a.took = time.Since(start)
	a.backend = resp.Header.Get(server.BackendHeader)
	if a.client, err = netip.ParseAddrPort(resp.Header.Get(server.ClientHeader)); err != nil {
		return a, fmt.Errorf("no %s in the answer: %w", server.ClientHeader, err)
	}
	if want := fmt.Sprintf("%s saw %s\n", a.backend, a.client); string(body) != want || resp.StatusCode != 200 {
		return a, fmt.Errorf("answer %d %q, want 200 %q", resp.StatusCode, body, want)
	}
	return a, nil
}

// to returns the client for a VIP's web service.
func (c *checker) web(vip netip.Addr, keepAlive bool) *http.Client {
	return c.httpClient(c.scenario.Client, netip.AddrPortFrom(vip, server.HTTPPort), keepAlive)
}

// roundRobin sends 30 requests with a connection each: all are answered and every backend gets its exact share, which
// source addresses and ports of the pool show.
func roundRobin(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		const requests = 30
		counts := map[string]int{}
		client := c.web(vip, false)
		for i := range requests {
			a, err := get(c.ctx, client, vip, "/")
			if err != nil {
				return "", fmt.Errorf("request %d of %d: %w", i+1, requests, err)
			}
			if err := c.rightClient(a); err != nil {
				return "", err
			}
			counts[a.backend]++
		}
		seen := c.shares(counts)
		for _, b := range c.scenario.Backends {
			if counts[b]*len(c.scenario.Backends) != requests {
				return "", errors.New(seen)
			}
		}
		return seen, nil
	}
}

// shares writes the backends' counts in the order of the configuration.
func (c *checker) shares(counts map[string]int) string {
	var parts []string
	for _, b := range c.scenario.Backends {
		parts = append(parts, fmt.Sprintf("%s %d", b, counts[b]))
	}
	return strings.Join(parts, ", ")
}

// pool returns full NAT's source pool, nothing in other modes.
func (c *checker) pool() []netip.Addr {
	if c.scenario.Pool == nil {
		return nil
	}
	return c.scenario.Pool(c.Options)
}

// rightClient reports an answer whose backend saw somebody else than it must: in full NAT an address and port of
// naru's, otherwise the client's own address.
func (c *checker) rightClient(a answer) error {
	pool := c.pool()
	if pool == nil {
		if own := c.topology.Node(c.scenario.Client).addr(a.client.Addr().Is4()); a.client.Addr() != own {
			return fmt.Errorf("%s saw %s, not the client's own address %s", a.backend, a.client, own)
		}
		return nil
	}
	if slices.Contains(pool, a.client.Addr()) && a.client.Port() >= c.scenario.PortLo &&
		a.client.Port() <= c.scenario.PortHi {
		return nil
	}
	return fmt.Errorf("%s saw %s, which is not in the source pool %v ports %d-%d", a.backend, a.client, pool,
		c.scenario.PortLo, c.scenario.PortHi)
}

// sees tells whom a backend sees.
func sees(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		a, err := get(c.ctx, c.web(vip, false), vip, "/")
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s saw %s", a.backend, a.client), c.rightClient(a)
	}
}

// keepAlive sends 20 requests over one connection: one backend answers them all, for one and the same client port.
func keepAlive(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		client := c.web(vip, true)
		defer client.CloseIdleConnections()
		first, err := get(c.ctx, client, vip, "/")
		if err != nil {
			return "", err
		}
		for i := 2; i <= 20; i++ {
			a, err := get(c.ctx, client, vip, "/")
			if err != nil {
				return "", fmt.Errorf("request %d: %w", i, err)
			}
			if a.backend != first.backend || a.client != first.client {
				return "", fmt.Errorf("request 1: %s saw %s, request %d: %s saw %s", first.backend, first.client, i,
					a.backend, a.client)
			}
		}
		return "20 requests at " + first.backend, nil
	}
}

// parallel sends requests from several clients at a time, a connection each.
func parallel(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		const clients, each = 20, 15
		client := c.web(vip, false)
		var all sync.WaitGroup
		failed := make(chan error, clients)
		for range clients {
			all.Go(func() {
				for range each {
					if _, err := get(c.ctx, client, vip, "/"); err != nil {
						failed <- err
						return
					}
				}
			})
		}
		all.Wait()
		close(failed)
		for err := range failed {
			return "", err
		}
		return fmt.Sprintf("%d requests, %d at a time", clients*each, clients), nil
	}
}

// download fetches many bytes through one connection and compares their SHA-256.
func download(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		start := time.Now()
		url := fmt.Sprintf("http://%s/bytes?n=%d", netip.AddrPortFrom(vip, server.HTTPPort), downloadBytes)
		req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := c.web(vip, false).Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		hash := sha256.New()
		n, err := io.CopyBuffer(hash, resp.Body, make([]byte, 256<<10))
		if err != nil {
			return "", fmt.Errorf("after %d bytes: %w", n, err)
		}
		took := time.Since(start)
		if want := patternSum(downloadBytes); n != downloadBytes || !bytes.Equal(hash.Sum(nil), want[:]) {
			return "", fmt.Errorf("%d bytes with SHA-256 %x, want %d with %x", n, hash.Sum(nil), downloadBytes, want)
		}
		return fmt.Sprintf("%d MiB from %s, %s", downloadBytes>>20, resp.Header.Get(server.BackendHeader),
			rate(n, took)), nil
	}
}

// upload sends many bytes through one connection; the backend tells their count and SHA-256.
func upload(vip netip.Addr, size int64) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		start := time.Now()
		url := fmt.Sprintf("http://%s/sum", netip.AddrPortFrom(vip, server.HTTPPort))
		req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, url, server.Pattern(size))
		if err != nil {
			return "", err
		}
		req.ContentLength = size
		resp, err := c.web(vip, false).Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return "", err
		}
		if want := fmt.Sprintf("%d %x\n", size, patternSum(size)); string(body) != want {
			return "", fmt.Errorf("the backend got %q, sent were %q", body, want)
		}
		return fmt.Sprintf("%d MiB to %s, %s", size>>20, resp.Header.Get(server.BackendHeader),
			rate(size, time.Since(start))), nil
	}
}

// patternSum computes every sum once.
var patternSum = func() func(int64) [sha256.Size]byte {
	var mu sync.Mutex
	known := map[int64][sha256.Size]byte{}
	return func(n int64) [sha256.Size]byte {
		mu.Lock()
		defer mu.Unlock()
		if _, ok := known[n]; !ok {
			known[n] = server.PatternSum(n)
		}
		return known[n]
	}
}()

// rate writes a speed for people; nothing is asserted about it.
func rate(n int64, took time.Duration) string {
	return fmt.Sprintf("%.1f Gb/s", float64(n)*8/took.Seconds()/1e9)
}

// halfClose sends bytes, closes its half of the connection and then still gets the answer.
func halfClose(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		ctx, cancel := context.WithTimeout(c.ctx, smallTime)
		defer cancel()
		conn, err := c.Dial(ctx, c.scenario.Client, "tcp", netip.AddrPortFrom(vip, server.SumPort))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(smallTime))
		if _, err := io.Copy(conn, server.Pattern(halfBytes)); err != nil {
			return "", err
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return "", err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("no answer after the end of our half: %w", err)
		}
		backend, sum, _ := strings.Cut(line, " ")
		if want := fmt.Sprintf("%d %x\n", halfBytes, patternSum(halfBytes)); sum != want {
			return "", fmt.Errorf("%s got %q, sent were %q", backend, sum, want)
		}
		return fmt.Sprintf("%s answered after our FIN", backend), nil
	}
}

// resolves runs a program in the client's node that knows nothing but the name.
func resolves(c *checker) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, smallTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.exe, "lab", "exec", "--name", c.Name, c.scenario.Client, "--",
		c.exe, "lab", "node-get", "http://www.naru.test/").CombinedOutput()
	if ctx.Err() != nil {
		return "", fmt.Errorf("no answer in %s", smallTime)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	text := strings.TrimSpace(string(out))
	backend, seen, ok := strings.Cut(text, " saw ")
	client, err := netip.ParseAddrPort(seen)
	if !ok || err != nil {
		return "", fmt.Errorf("answer %q", text)
	}
	return text, c.rightClient(answer{backend: backend, client: client})
}
