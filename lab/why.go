package lab

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"naru/internal/record"
	"naru/sched"
)

// readRecords reads the decision records that naru has written so far. A line that is not whole yet is left out.
func readRecords(file string) ([]record.Line, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("lab: records: %w", err)
	}
	defer f.Close()
	var records []record.Line
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var l record.Line
		if json.Unmarshal(s.Bytes(), &l) == nil {
			records = append(records, l)
		}
	}
	return records, s.Err()
}

// decision returns naru's record of a packet that came in as it was seen on the cable, or nil.
func (s *story) decision(p *sighting) *record.Line {
	for i := range s.records {
		b := &s.records[i].Before
		if b.Src == p.src.Addr().String() && b.SrcPort == p.src.Port() && b.Dst == p.dst.Addr().String() &&
			b.DstPort == p.dst.Port() && b.Seq == p.seq && b.Ack == p.ack && b.Payload == len(p.payload) {
			return &s.records[i]
		}
	}
	return nil
}

// reasons says in lines of a word and a sentence why naru did with a packet what it did.
func reasons(l *record.Line) [][2]string {
	if !l.NewConnection {
		return [][2]string{{"connection", fmt.Sprintf("the %s of one that it knows: service %s, backend %s",
			l.Direction, l.Service, l.Backend)}}
	}
	var candidates []string
	for _, c := range l.Candidates {
		candidates = append(candidates, fmt.Sprintf("%s w %d active %d", c.Name, c.Weight, c.Active))
	}
	words := [][2]string{
		{"service", fmt.Sprintf("%s; the packet belongs to no connection yet, so naru makes one", l.Service)},
		{"candidates", strings.Join(candidates, " | ")},
		{"choice", fmt.Sprintf("%s, by %s", l.Backend, schedulerWords(l.Scheduler))},
	}
	if l.PortsAll != 0 {
		words = append(words, [2]string{"local port",
			fmt.Sprintf("%d of %d towards %s are free", l.PortsFree, l.PortsAll, l.Backend)})
	}
	return words
}

// schedulerWords explains a scheduler's short name.
func schedulerWords(short string) string {
	if kind, known := sched.Parse(short); known {
		return short + ": " + kind.Words()
	}
	return short
}

// nextHopWords says whose MAC address a packet got.
func (l *Lab) nextHopWords(line *record.Line, to string) string {
	if n := l.topology.Node(to); n != nil && n.Servers {
		return fmt.Sprintf("%s, %s itself, on the network of %s", line.NextHop, to, line.Out)
	}
	return fmt.Sprintf("%s, the gateway on %s", line.NextHop, line.Out)
}
