package lab

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"naru/internal/record"
	"naru/lab/server"
)

// sighting is one TCP packet as it was seen on one cable.
type sighting struct {
	at             time.Time
	srcMAC, dstMAC [6]byte
	src, dst       netip.AddrPort
	ttl            uint8
	kind           string // what the packet is for: a TCP flag, or data
	seq, ack       uint32
	payload        []byte
}

// identity is what full NAT leaves of a packet as it is, which joins its sightings on several cables.
type identity struct {
	seq, ack uint32
	kind     string
	length   int
	request  bool // travels towards the service's port
}

func (s *sighting) identity() identity {
	return identity{s.seq, s.ack, s.kind, len(s.payload), s.dst.Port() == server.HTTPPort}
}

// journey is one packet on all cables, in the order that it travelled.
type journey []sighting

// story is one request, packet by packet.
type story struct {
	lab      *Lab
	journeys []journey
	records  []record.Line
}

// follow sends one request and watches it on every cable.
func (l *Lab) follow(ctx context.Context) (*story, error) {
	cables := l.cables()
	var mu sync.Mutex
	seen := make([][]sighting, len(cables))
	last := time.Now()
	for i, at := range cables {
		t, err := l.openTap(at, 2048, func(now time.Time, frame []byte) {
			s, ok := parseSighting(now, frame)
			if !ok {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[i], last = append(seen[i], s), now
		})
		if err != nil {
			return nil, err
		}
		defer t.close()
	}
	client, err := l.oneRequest(ctx)
	if err != nil {
		return nil, err
	}
	// The last acknowledgements travel after the answer is read: wait until the cables are quiet.
	for quiet, limit := false, time.Now().Add(2*time.Second); !quiet && time.Now().Before(limit); {
		time.Sleep(50 * time.Millisecond)
		mu.Lock()
		quiet = time.Since(last) > 150*time.Millisecond
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	s := &story{lab: l, journeys: join(seen, client)}
	if len(s.journeys) == 0 {
		return nil, fmt.Errorf("lab: no packet of %s was seen", client)
	}
	if s.records, err = readRecords(l.RecordFile()); err != nil {
		return nil, err
	}
	return s, nil
}

// cables returns where a packet is looked at on its way from the client to a backend: at the ends of the director's
// cables, and at the client's.
func (l *Lab) cables() []End {
	client := End{l.scenario.Client, l.topology.Node(l.scenario.Client).Interfaces[0].Name}
	return []End{client, l.scenario.ClientSide, l.scenario.BackendSide}
}

// oneRequest asks the VIP for / on a connection of its own and returns the client's end of it.
func (l *Lab) oneRequest(ctx context.Context) (client netip.AddrPort, err error) {
	conn, err := l.Dial(ctx, l.scenario.Client, "tcp", netip.AddrPortFrom(l.scenario.VIP4, server.HTTPPort))
	if err != nil {
		return client, fmt.Errorf("lab: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(requestTime))
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

// parseSighting reads a TCP packet to or from the port of the web service.
func parseSighting(now time.Time, frame []byte) (sighting, bool) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ether, _ := p.LinkLayer().(*layers.Ethernet)
	ip, _ := p.NetworkLayer().(*layers.IPv4)
	tcp, _ := p.TransportLayer().(*layers.TCP)
	if ether == nil || ip == nil || tcp == nil {
		return sighting{}, false
	}
	if tcp.SrcPort != server.HTTPPort && tcp.DstPort != server.HTTPPort {
		return sighting{}, false
	}
	src, _ := netip.AddrFromSlice(ip.SrcIP)
	dst, _ := netip.AddrFromSlice(ip.DstIP)
	return sighting{
		at: now, srcMAC: [6]byte(ether.SrcMAC), dstMAC: [6]byte(ether.DstMAC),
		src: netip.AddrPortFrom(src, uint16(tcp.SrcPort)), dst: netip.AddrPortFrom(dst, uint16(tcp.DstPort)),
		ttl: ip.TTL, kind: kindOf(tcp), seq: tcp.Seq, ack: tcp.Ack, payload: slices.Clone(tcp.Payload),
	}, true
}

// kindOf says what a segment is for.
func kindOf(t *layers.TCP) string {
	switch {
	case t.RST:
		return "RST"
	case t.SYN && t.ACK:
		return "SYN-ACK"
	case t.SYN:
		return "SYN"
	case len(t.Payload) > 0:
		return "data"
	case t.FIN:
		return "FIN"
	}
	return "ACK"
}

// join puts the sightings of every packet of the client's connection together. The order of the packets is that on the
// client's cable, which is the first.
func join(seen [][]sighting, client netip.AddrPort) []journey {
	index := map[identity]int{}
	var journeys []journey
	for _, s := range seen[0] {
		if s.src != client && s.dst != client {
			continue
		}
		if _, again := index[s.identity()]; !again {
			index[s.identity()] = len(journeys)
			journeys = append(journeys, journey{s})
		}
	}
	for _, cable := range seen[1:] {
		counted := map[identity]bool{}
		for _, s := range cable {
			i, ours := index[s.identity()]
			if ours && !counted[s.identity()] {
				counted[s.identity()] = true
				journeys[i] = append(journeys[i], s)
			}
		}
	}
	for _, j := range journeys {
		if j[0].src != client { // travelled towards the client
			slices.Reverse(j)
		}
	}
	return journeys
}
