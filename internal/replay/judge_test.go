package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// faults are what tshark may find wrong about a frame: a field, and the value that says so; empty is any.
var faults = []struct{ name, field, value string }{
	{"IPv4 header checksum", "ip.checksum.status", "0"},
	{"TCP checksum", "tcp.checksum.status", "0"},
	{"UDP checksum", "udp.checksum.status", "0"},
	{"ICMP checksum", "icmp.checksum.status", "0"},
	{"ICMPv6 checksum", "icmpv6.checksum.status", "0"},
	{"malformed", "_ws.malformed", ""},
	{"retransmission", "tcp.analysis.retransmission", ""},
	{"fast retransmission", "tcp.analysis.fast_retransmission", ""},
	{"spurious retransmission", "tcp.analysis.spurious_retransmission", ""},
	{"out of order", "tcp.analysis.out_of_order", ""},
	{"lost segment", "tcp.analysis.lost_segment", ""},
	{"acknowledged lost segment", "tcp.analysis.ack_lost_segment", ""},
}

// tshark returns the path of the program. Without it the test is left out, or fails when NARU_REQUIRE lists "tshark".
func tshark(t *testing.T) string {
	path, err := exec.LookPath("tshark")
	if err != nil {
		if wiretest.Required("tshark") {
			t.Fatal("needs tshark: apt-get install tshark")
		}
		t.Skip("needs tshark")
	}
	return path
}

// judge has tshark look at frames, a microsecond apart, and returns the names of the faults of each.
func judge(t *testing.T, frames [][]byte) []string {
	if len(frames) == 0 {
		return nil
	}
	var tp tape
	for i, f := range frames {
		tp.frames = append(tp.frames, taped{int64(1e18) + int64(i)*1000, f, len(f)})
	}
	file := filepath.Join(t.TempDir(), "judge.pcap")
	if err := os.WriteFile(file, pcapFile(binary.LittleEndian, 1, pcapfile.LinkEthernet, 4, nil)(tp), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "separator=|", "-o", "ip.check_checksum:TRUE", "-o",
		"tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.desegment_tcp_streams:FALSE"}
	for _, f := range faults {
		args = append(args, "-e", f.field)
	}
	cmd := exec.Command(tshark(t), args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // nobody's preferences
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("tshark told of %d frames, want %d", len(lines), len(frames))
	}
	for i, line := range lines {
		lines[i] = faultsOf(strings.Split(line, "|"))
	}
	return lines
}

func faultsOf(fields []string) string {
	var found []string
	for k, f := range faults {
		for v := range strings.SplitSeq(fields[k], ",") {
			if v != "" && (f.value == "" || v == f.value) {
				found = append(found, f.name)
				break
			}
		}
	}
	return strings.Join(found, ", ")
}

// batch are captures in which no two hosts of one speak to each other in another: tshark follows connections by address.
type batch []tape

// batches puts captures into as few batches as it can easily.
func batches(tapes []tape) (out []batch) {
	var seen []map[string]bool
	for _, tp := range tapes {
		pairs := map[string]bool{}
		for _, x := range tp.frames {
			pairs[conversation(x.data)] = true
		}
		delete(pairs, "")
		at := slices.IndexFunc(seen, func(s map[string]bool) bool {
			for p := range pairs {
				if s[p] {
					return false
				}
			}
			return true
		})
		if at < 0 {
			at, out, seen = len(out), append(out, nil), append(seen, map[string]bool{})
		}
		out[at] = append(out[at], tp)
		for p := range pairs {
			seen[at][p] = true
		}
	}
	return out
}

// views are the same packets of many captures as seen from several places. names has capture and packet for reports.
type views struct {
	names   []string
	was     [][]byte // as captured; nil for what naru itself said
	client  sight    // the connections as clients see them
	backend sight    // as backends see them, out of the tunnels
	outside sight    // tunnel packets as they are, and what naru itself said
}

// sight is a view: frames, and which packet of was each is, if naru sent it, or -1.
type sight struct {
	frames [][]byte
	of     []int
}

func (s *sight) add(of int, frames ...[]byte) {
	for _, f := range frames {
		s.frames, s.of = append(s.frames, f), append(s.of, of)
	}
}

// add plays a capture in a mode and adds what went on.
func (v *views) add(t *testing.T, number int, tp tape, mode string) {
	cfg := tp.auto(t, mode, "198.18.0.", fmt.Sprintf("198.18.%d.", number), "db8:198::", fmt.Sprintf("db8:198:%x::", number))
	s := newSubject(t, tp.name+" "+mode, cfg, 0)
	s.keep = true
	s.run(tp)
	for i, p := range s.pairs {
		index := len(v.names)
		v.names, v.was = append(v.names, fmt.Sprintf("%s packet %d that went on", s.name, i+1)), append(v.was, p.was)
		if p.reply {
			v.backend.add(-1, p.came)
			v.client.add(index, p.outs...)
			continue
		}
		v.client.add(-1, p.was)
		if encap := cfg.Services[0].L3DSR.Encap; encap == "ipip" || encap == "gue" {
			v.outside.add(index, p.outs...)
			out, _ := parsed(p.outs[0])
			inner, err := s.unwrap(p.outs, out.Flow.Dst)
			if err != nil {
				s.wrong("%v", err)
			}
			p.outs = inner
		}
		v.backend.add(index, p.outs...)
	}
	for i, d := range s.answers {
		v.outside.add(len(v.names), uncut(d))
		v.names, v.was = append(v.names, fmt.Sprintf("%s answer %d", s.name, i+1)), append(v.was, nil)
	}
}

// uncut takes from an ICMP error what follows the ports of a quote that was cut: nobody can check the checksum of a part,
// tshark does it all the same.
func uncut(frame []byte) []byte {
	p, ok := parsed(bytes.Clone(frame))
	var q wire.Quote
	if !ok || !isError(&p) || !p.ParseQuote(&q) {
		return frame
	}
	ip := p.Bytes()[q.L3:p.End]
	length := int(binary.BigEndian.Uint16(ip[2:]))
	if p.Version == 6 {
		length = wire.IPv6Len + int(binary.BigEndian.Uint16(ip[4:]))
	}
	if length <= len(ip) {
		return frame
	}
	p.Len, p.End = q.L4+8, q.L4+8
	ip = p.Bytes()[p.L3:]
	if p.Version == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-wire.IPv6Len))
	}
	reseal(&p, p.Bytes())
	p.SealICMP()
	return p.Bytes()
}

// compare reports what tshark finds wrong about what naru sent and not about the packet that it was.
func (v *views) compare(t *testing.T) {
	was := make([]string, len(v.was))
	var captured sight
	for i, f := range v.was {
		if f != nil {
			captured.add(i, f)
		}
	}
	for i, found := range judge(t, captured.frames) {
		was[captured.of[i]] = found
	}
	for _, side := range []*sight{&v.client, &v.backend, &v.outside} {
		if !slices.ContainsFunc(side.of, func(i int) bool { return i >= 0 }) {
			continue
		}
		for i, found := range judge(t, side.frames) {
			for fault := range strings.SplitSeq(found, ", ") {
				if of := side.of[i]; of >= 0 && !strings.Contains(was[of], fault) {
					t.Errorf("%s: %s, and not as captured: %x", v.names[of], fault, side.frames[i][:min(100, len(side.frames[i]))])
				}
			}
		}
	}
}

// TestTsharkFindsNothingNew has tshark judge what the captures become in every mode: a twentieth of them in every second mode,
// with NARU_FULL all.
func TestTsharkFindsNothingNew(t *testing.T) {
	tshark(t)
	runs(t)
	var tapes []tape
	for i, path := range captures(t) {
		if full() || i%20 == 5 {
			_, tp := fileOf(t, path)
			tapes = append(tapes, tp)
		}
	}
	judged, said := 0, 0
	for _, b := range batches(tapes) {
		for m, mode := range replay.AutoModes() {
			if !full() && m%2 != 0 {
				continue
			}
			var v views
			for i, tp := range b {
				v.add(t, i, tp, mode)
			}
			v.compare(t)
			judged, said = judged+len(v.names), said+len(v.outside.frames)
		}
	}
	t.Logf("%d captures in %d batches: %d packets that went on, %d tunnel packets and answers", len(tapes), len(batches(tapes)),
		judged, said)
	if judged < 500 {
		t.Errorf("only %d packets were judged", judged)
	}
}
