package lab

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"naru/internal/record"
	"naru/lab/server"
)

// identity is what every mode leaves of a packet as it is, which joins its sightings on several cables.
type identity struct {
	seq, ack uint32
	kind     string
	length   int
	request  bool
}

func (s *sighting) identity() identity {
	return identity{s.seq, s.ack, s.kind, len(s.payload), s.request()}
}

// journey is one packet on all cables, in the order that it travelled.
type journey []sighting

// story is one request, packet by packet.
type story struct {
	lab      *Lab
	journeys []journey
	records  []record.Line
}

// follow sends one request to a VIP and watches it on every cable.
func (l *Lab) follow(ctx context.Context, vip netip.Addr) (*story, error) {
	w, err := l.watchCables(l.cables())
	if err != nil {
		return nil, err
	}
	defer w.close()
	client, err := l.oneRequest(ctx, vip)
	if err != nil {
		return nil, err
	}
	seen := w.settle() // the last acknowledgements travel after the answer is read
	s := &story{lab: l, journeys: l.join(seen, client)}
	if len(s.journeys) == 0 {
		return nil, fmt.Errorf("lab: no packet of %s was seen", client)
	}
	if l.Options.RecordPackets {
		if s.records, err = readRecords(l.RecordFile()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// watch collects the packets of the web service on some cables.
type watch struct {
	taps []*tap
	mu   sync.Mutex
	seen [][]sighting // by cable
	last time.Time
}

func (l *Lab) watchCables(cables []End) (*watch, error) {
	w := &watch{seen: make([][]sighting, len(cables)), last: time.Now()}
	for i, at := range cables {
		t, err := l.openTap(at, 64<<10, func(now time.Time, frame []byte) {
			if s, ok := parseSighting(now, frame); ok {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.seen[i], w.last = append(w.seen[i], s), now
			}
		})
		if err != nil {
			w.close()
			return nil, err
		}
		w.taps = append(w.taps, t)
	}
	return w, nil
}

// settle waits until the cables are quiet and returns what was seen on each.
func (w *watch) settle() [][]sighting {
	for quiet, limit := false, time.Now().Add(2*time.Second); !quiet && time.Now().Before(limit); {
		time.Sleep(50 * time.Millisecond)
		w.mu.Lock()
		quiet = time.Since(w.last) > 150*time.Millisecond
		w.mu.Unlock()
	}
	w.close()
	return w.seen
}

func (w *watch) close() {
	for _, t := range w.taps {
		t.close()
	}
	w.taps = nil
}

// cables returns an end of every cable, the client's first: of those of the director the other node's end, since what
// naru sends bypasses the taps of its own interfaces.
func (l *Lab) cables() []End {
	var ends []End
	for _, link := range l.topology.Links {
		end := link.A
		if end.Node == l.scenario.Director {
			end = link.B
		}
		at := len(ends)
		if end.Node == l.scenario.Client {
			at = 0
		}
		ends = slices.Insert(ends, at, end)
	}
	return ends
}

// oneRequest asks the VIP for / on a connection of its own and returns the client's end of it.
func (l *Lab) oneRequest(ctx context.Context, vip netip.Addr) (client netip.AddrPort, err error) {
	conn, err := l.Dial(ctx, l.scenario.Client, "tcp", netip.AddrPortFrom(vip, server.HTTPPort))
	if err != nil {
		return client, fmt.Errorf("lab: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(smallTime))
	if client, err = netip.ParseAddrPort(conn.LocalAddr().String()); err != nil {
		return client, fmt.Errorf("lab: %w", err)
	}
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: www.naru.test\r\nConnection: close\r\n\r\n")
	if err != nil {
		return client, fmt.Errorf("lab: %w", err)
	}
	if _, err = io.ReadAll(conn); err != nil {
		return client, fmt.Errorf("lab: %w", err)
	}
	return client, nil
}

// join puts the sightings of every packet of the client's connection together. The order of the packets is that on the
// client's cable, which is the first.
func (l *Lab) join(seen [][]sighting, client netip.AddrPort) []journey {
	index := map[identity]int{}
	var journeys []journey
	for _, s := range seen[0] {
		if _, again := index[s.identity()]; !again && (s.src == client || s.dst == client) {
			index[s.identity()] = len(journeys)
			journeys = append(journeys, nil)
		}
	}
	type hop struct {
		packet   int
		from, to [6]byte
	}
	known := map[hop]bool{} // a switch shows a frame on two cables and more
	for _, cable := range seen {
		for _, s := range cable {
			i, ours := index[s.identity()]
			h := hop{i, s.srcMAC, s.dstMAC}
			if ours && !known[h] {
				known[h] = true
				journeys[i] = append(journeys[i], s)
			}
		}
	}
	for i := range journeys {
		journeys[i] = l.inOrder(journeys[i])
	}
	return journeys
}

// inOrder puts the hops of a packet into the order in which each begins where the last one ended. Without such an
// order it is that of time, which several cables do not agree upon.
func (l *Lab) inOrder(hops journey) journey {
	slices.SortStableFunc(hops, func(a, b sighting) int { return a.at.Compare(b.at) })
	var walk func(done, left journey) journey
	walk = func(done, left journey) journey {
		if len(left) == 0 {
			return done
		}
		for i := range left {
			if len(done) > 0 && l.nodeOf(done[len(done)-1].dstMAC) != l.nodeOf(left[i].srcMAC) {
				continue
			}
			rest := slices.Delete(slices.Clone(left), i, i+1)
			if whole := walk(append(slices.Clone(done), left[i]), rest); whole != nil {
				return whole
			}
		}
		return nil
	}
	const most = 8 // hops that are tried in every order
	if len(hops) <= most {
		if whole := walk(nil, hops); whole != nil {
			return whole
		}
	}
	return hops
}

// into returns the hop of a packet that ends at a node, or nil.
func (j journey) into(l *Lab, node string) *sighting {
	for i := range j {
		if l.nodeOf(j[i].dstMAC) == node {
			return &j[i]
		}
	}
	return nil
}

// outOf returns the hop of a packet that begins at a node, or nil.
func (j journey) outOf(l *Lab, node string) *sighting {
	for i := range j {
		if l.nodeOf(j[i].srcMAC) == node {
			return &j[i]
		}
	}
	return nil
}
