package lab

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"naru/lab/server"
)

// print writes the packets in the order of the client's cable: every hop of each, and what naru did between two hops.
func (s *story) print(w io.Writer) {
	heading(w, "One more request, packet by packet")
	fmt.Fprintf(w, "    %-19s %-37s  %s\n", "who sent > to whom", "source MAC        > destination MAC",
		"source > destination")
	told := map[bool]bool{} // by direction: the first packet each way is explained in full
	for n, j := range s.journeys {
		title := fmt.Sprintf("%2d  %-8s %s", n+1, j[0].kind, s.title(&j[0]))
		since := fmt.Sprintf("%.2f ms", j.atClient().Sub(s.journeys[0].atClient()).Seconds()*1e3)
		fmt.Fprintf(w, "\n%s%*s\n", title, max(1, demoWidth-len(title)), since)
		request := j[0].dst.Port() == server.HTTPPort
		for i := range j {
			if i > 0 && s.lab.nodeOf(j[i].srcMAC) == s.lab.scenario.Director {
				s.explain(w, &j[i-1], &j[i], request, told[request])
				told[request] = true
			}
			s.hop(w, &j[i])
		}
	}
}

// atClient returns when the packet passed the client's cable, which is one clock for all packets.
func (j journey) atClient() time.Time {
	if j[0].dst.Port() == server.HTTPPort {
		return j[0].at
	}
	return j[len(j)-1].at
}

// hop writes one packet on one cable.
func (s *story) hop(w io.Writer, p *sighting) {
	fmt.Fprintf(w, "    %-8s > %-8s %s > %s  %s > %s\n", s.lab.nodeOf(p.srcMAC), s.lab.nodeOf(p.dstMAC),
		net.HardwareAddr(p.srcMAC[:]), net.HardwareAddr(p.dstMAC[:]), p.src, p.dst)
}

// explain writes what naru did between two cables, and why: in full for the first packet of a direction.
func (s *story) explain(w io.Writer, before, after *sighting, request, again bool) {
	l := s.decision(before)
	if again {
		state := ""
		if l != nil && l.State != "" {
			state = " (" + l.State + ")"
		}
		fmt.Fprintf(w, "    naru       knows the connection%s: the same change as above\n", state)
		return
	}
	who := "naru"
	line := func(word, format string, args ...any) {
		fmt.Fprintf(w, "    %-10s %-12s %s\n", who, word, fmt.Sprintf(format, args...))
		who = ""
	}
	if l != nil {
		for _, r := range reasons(l) {
			line(r[0], "%s", r[1])
		}
	}
	sourceWhy, destWhy := "the client knows nobody else", "the client of this connection"
	if request {
		sourceWhy, destWhy = "so that replies come back here", s.lab.nodeOf(after.dstMAC)+"'s own address"
	}
	line("source", "%-18s -> %-18s %s", before.src, after.src, sourceWhy)
	line("destination", "%-18s -> %-18s %s", before.dst, after.dst, destWhy)
	line("TTL", "%-18d -> %-18d as at any router", before.ttl, after.ttl)
	if l != nil && l.NextHop != "" {
		line("next hop", "%s", nextHopWords(l, s.lab.nodeOf(after.dstMAC)))
	}
}

// nodeOf returns the node that has an interface with this MAC address.
func (l *Lab) nodeOf(mac [6]byte) string {
	for _, n := range l.topology.Nodes {
		for _, i := range n.Interfaces {
			if m, ok := i.mac(); ok && m == mac {
				return n.Name
			}
		}
	}
	return "?"
}

// title says in words what a packet is for.
func (s *story) title(p *sighting) string {
	who := s.lab.nodeOf(p.srcMAC)
	switch {
	case p.kind == "SYN":
		return "the client asks for a connection to www.naru.test"
	case p.kind == "SYN-ACK":
		return who + " accepts"
	case p.kind == "RST":
		return who + " breaks off"
	case p.kind == "data":
		line, _, _ := bytes.Cut(p.payload, []byte("\r\n"))
		body := ""
		if _, b, ok := bytes.Cut(p.payload, []byte("\r\n\r\n")); ok && len(b) > 0 {
			body = fmt.Sprintf(": %q", strings.TrimSpace(string(b)))
		}
		return fmt.Sprintf("%s sends %d bytes, %s%s", who, len(p.payload), bytes.TrimPrefix(line, []byte("HTTP/1.1 ")), body)
	case p.kind == "FIN":
		return who + " has nothing more to say"
	}
	return who + " acknowledges"
}
