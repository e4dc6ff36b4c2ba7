package lab

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"naru/lab/server"
)

// print writes the packets in the order of the client's cable: every hop of each, and what naru did between two hops.
func (s *story) print(w io.Writer) {
	heading(w, "One request, packet by packet")
	fmt.Fprintf(w, "    %-19s %-37s  %s\n", "who sent > to whom", "source MAC        > destination MAC",
		"source > destination")
	told := map[bool]bool{} // by direction: the first packet each way is explained in full
	for n, j := range s.journeys {
		title := fmt.Sprintf("%2d  %-8s %s", n+1, j[0].kind, s.title(&j[0]))
		since := fmt.Sprintf("%.2f ms", j.atClient().Sub(s.journeys[0].atClient()).Seconds()*1e3)
		fmt.Fprintf(w, "\n%s%*s\n", title, max(1, demoWidth-len(title)), since)
		request := j[0].request()
		first := !told[request]
		for i := range j {
			if i > 0 && s.lab.nodeOf(j[i].srcMAC) == s.lab.scenario.Director {
				s.explain(w, &j[i-1], &j[i], request, told[request])
				told[request] = true
			}
			s.hop(w, &j[i])
		}
		switch {
		case request && first:
			s.arrival(w, &j[len(j)-1])
		case first && s.lab.scenario.Mode.direct():
			fmt.Fprintln(w, "    naru       never sees it: the backend answers the client itself, as the VIP")
			told[request] = true
		}
	}
}

// atClient returns when the packet passed the client's cable, which is one clock for all packets.
func (j journey) atClient() time.Time {
	if j[0].request() {
		return j[0].at
	}
	return j[len(j)-1].at
}

// hop writes one packet on one cable; its DSCP and a tunnel's header if it has them.
func (s *story) hop(w io.Writer, p *sighting) {
	fmt.Fprintf(w, "    %-8s > %-8s %s > %s  %s > %s\n", s.lab.nodeOf(p.srcMAC), s.lab.nodeOf(p.dstMAC),
		net.HardwareAddr(p.srcMAC[:]), net.HardwareAddr(p.dstMAC[:]), p.src, p.dst)
	if o := p.outer; o != nil {
		fmt.Fprintf(w, "%24sinside %s, TTL %d, DSCP %d\n", "", o, o.ttl, o.dscp)
	}
	if p.dscp != 0 {
		fmt.Fprintf(w, "%24swith DSCP %d\n", "", p.dscp)
	}
}

// String writes the addresses of a tunnel's header, and of GUE the ports.
func (o *outerHeader) String() string {
	if o.kind == "GUE" {
		return fmt.Sprintf("GUE %s > %s", netip.AddrPortFrom(o.src, o.srcPort), netip.AddrPortFrom(o.dst, o.dstPort))
	}
	return fmt.Sprintf("%s %s > %s", o.kind, o.src, o.dst)
}

// teller writes lines of a word and a sentence below who did what they tell.
type teller struct {
	w   io.Writer
	who string
}

func (t *teller) line(word, format string, args ...any) {
	fmt.Fprintf(t.w, "    %-10s %-12s %s\n", t.who, word, fmt.Sprintf(format, args...))
	t.who = ""
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
	t := &teller{w, "naru"}
	if l != nil {
		for _, r := range reasons(l) {
			t.line(r[0], "%s", r[1])
		}
	}
	s.changes(t, before, after, request)
	if l != nil && l.NextHop != "" {
		t.line("next hop", "%s", s.lab.nextHopWords(l, s.lab.nodeOf(after.dstMAC)))
	}
}

// changes writes every field that differs between two cables, and the addresses also if they do not.
func (s *story) changes(t *teller, before, after *sighting, request bool) {
	to := s.lab.nodeOf(after.dstMAC)
	sourceWhy, destWhy := "the client knows nobody else", "the client of this connection"
	if request {
		sourceWhy, destWhy = "so that replies come back here", "the backend's own address"
	}
	if before.src == after.src {
		t.line("source", "%-18s stays: the backend sees the client", before.src)
	} else {
		t.line("source", "%-18s -> %-18s %s", before.src, after.src, sourceWhy)
	}
	if before.dst == after.dst {
		t.line("destination", "%-18s stays: the backend answers as the VIP", before.dst)
	} else {
		t.line("destination", "%-18s -> %-18s %s", before.dst, after.dst, destWhy)
	}
	if before.dscp != after.dscp {
		t.line("DSCP", "%-18d -> %-18d what tells the backend the VIP", before.dscp, after.dscp)
	}
	if o := after.outer; o != nil {
		t.line("around it", "%s: the packet travels whole", o)
	}
	if before.ttl == after.ttl {
		t.line("TTL", "%-18d stays: this is a switch's work, not a router's", before.ttl)
	} else {
		t.line("TTL", "%-18d -> %-18d as at any router", before.ttl, after.ttl)
	}
	if s.lab.scenario.Mode == ModeL2DSR {
		t.line("MAC", "%s -> %s  %s's, from naru's own",
			net.HardwareAddr(before.dstMAC[:]), net.HardwareAddr(after.dstMAC[:]), to)
	}
}

// arrival writes what the backend does with the first packet of the request that it gets.
func (s *story) arrival(w io.Writer, last *sighting) {
	t := &teller{w, s.lab.nodeOf(last.dstMAC)}
	vip := netip.AddrPortFrom(s.lab.scenario.VIP4, server.HTTPPort)
	switch s.lab.scenario.Mode {
	case ModeDSCP:
		t.line("rule", "%-18s -> %-18s DSCP %d means it; it is on lo", last.dst, vip, last.dscp)
	case ModeIPIP, ModeGUE:
		t.line("tunnel", "takes %s off: the packet is for the VIP, which is on lo", last.outer.kind)
	case ModeL2DSR:
		t.line("lo", "the packet is for the VIP, which is on lo")
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
