package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"naru/lab/server"
)

// Traffic is what passed in one direction: frames on the cable (a super-frame is one) and their bytes.
type Traffic struct {
	Frames int `json:"frames"`
	Bytes  int `json:"bytes"`
}

// Through is what one answer of ThroughBytes costs naru: what came into the director and left it, in each direction,
// counted from captures of the director's cables.
type Through struct {
	Scenario    string  `json:"scenario"`
	FromClient  Traffic `json:"from_client"`
	ToBackend   Traffic `json:"to_backend"`
	FromBackend Traffic `json:"from_backend"`
	ToClient    Traffic `json:"to_client"`
}

// ThroughBytes is the length of the answer that Through is about.
const ThroughBytes = 1 << 20

// total returns the bytes in all directions.
func (t *Through) total() int {
	return t.FromClient.Bytes + t.ToBackend.Bytes + t.FromBackend.Bytes + t.ToClient.Bytes
}

// through fetches one answer over a VIP and counts what of it passes the director.
func (l *Lab) through(ctx context.Context, vip netip.Addr) (Through, error) {
	count := Through{Scenario: l.scenario.Name}
	var mu sync.Mutex
	last := time.Now()
	ends := []End{l.scenario.ClientSide, l.scenario.BackendSide}
	if ends[0] == ends[1] {
		ends = ends[:1]
	}
	var taps []*tap
	closeAll := func() {
		for _, t := range taps {
			t.close()
		}
		taps = nil
	}
	defer closeAll()
	for _, at := range ends {
		t, err := l.openTap(at, 256, func(now time.Time, frame []byte) {
			mu.Lock()
			defer mu.Unlock()
			if l.countThrough(&count, frame) {
				last = now
			}
		})
		if err != nil {
			return count, err
		}
		taps = append(taps, t)
	}
	if err := l.fetch(ctx, vip, ThroughBytes); err != nil {
		return count, err
	}
	quiet := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return time.Since(last) > 100*time.Millisecond
	}
	for limit := time.Now().Add(2 * time.Second); !quiet() && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond)
	}
	closeAll()
	return count, nil
}

// countThrough counts a frame of the web service that the director gets or sends.
func (l *Lab) countThrough(count *Through, frame []byte) bool {
	s, ok := parseSighting(time.Time{}, frame)
	if !ok {
		return false
	}
	h, _ := readIP(frame[ethernetLen:]) // the outer header of a tunnel
	in, out := l.nodeOf(s.dstMAC) == l.scenario.Director, l.nodeOf(s.srcMAC) == l.scenario.Director
	var t *Traffic
	switch {
	case in && s.request():
		t = &count.FromClient
	case out && s.request():
		t = &count.ToBackend
	case in:
		t = &count.FromBackend
	case out:
		t = &count.ToClient
	default: // a switch shows others' frames too
		return false
	}
	t.Frames++
	t.Bytes += ethernetLen + h.total
	return true
}

// fetch gets n bytes over a VIP.
func (l *Lab) fetch(ctx context.Context, vip netip.Addr, n int64) error {
	to := netip.AddrPortFrom(vip, server.HTTPPort)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/bytes?n=%d", to, n), nil)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	resp, err := l.httpClient(l.scenario.Client, to, false).Do(req)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer resp.Body.Close()
	if got, err := io.Copy(io.Discard, resp.Body); got != n || err != nil {
		return fmt.Errorf("lab: %d of %d bytes came: %w", got, n, err)
	}
	return nil
}

// WriteThrough writes a table of what the same answer costs naru in several scenarios.
func WriteThrough(w io.Writer, counts []Through) {
	if len(counts) == 0 {
		return
	}
	heading(w, "One answer of %d MiB, in bytes at naru", ThroughBytes>>20)
	fmt.Fprintf(w, "  %-12s %15s %15s %15s %15s %15s\n", "scenario", "from the client", "to the backend", "from the backend",
		"to the client", "all through naru")
	for i := range counts {
		t := &counts[i]
		fmt.Fprintf(w, "  %-12s %15s %15s %16s %15s %16s\n", t.Scenario, thousands(t.FromClient.Bytes),
			thousands(t.ToBackend.Bytes), thousands(t.FromBackend.Bytes), thousands(t.ToClient.Bytes), thousands(t.total()))
	}
	fmt.Fprintln(w)
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	var parts []string
	for len(s) > 3 {
		parts = append([]string{s[len(s)-3:]}, parts...)
		s = s[:len(s)-3]
	}
	return strings.Join(append([]string{s}, parts...), ",")
}
