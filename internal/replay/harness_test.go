package replay_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// subject is one capture in one mode, and what is found wrong with it.
type subject struct {
	t       *testing.T
	name    string // file and mode
	backend map[string]string
	number  int // of the packet at hand
	litter  byte
	records int
	judged  int // packets that were compared with what they became
}

// harness replays a capture in a mode and checks what must hold for any capture.
func harness(t *testing.T, path, mode string) (judged int) {
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fresh := func(litter byte) *subject {
		return &subject{t: t, name: filepath.Base(path) + " " + mode, backend: map[string]string{}, litter: litter}
	}
	s := fresh(0)
	yaml, err := replay.Auto(source(t, file), mode)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	cfg, _, err := config.Load("auto", []byte(yaml))
	if err != nil {
		t.Fatalf("%s: %v\n%s", s.name, err, yaml)
	}
	frames, flows, result := s.run(cfg, file)
	again, flowsAgain, _ := fresh(0xa5).run(cfg, file)
	if !bytes.Equal(frames, again) || !bytes.Equal(flows, flowsAgain) {
		t.Errorf("%s: two runs differ, with other bytes behind the frames", s.name)
	}
	rewritten := rewrite(t, file)
	formats, flowsAgain, _ := fresh(0).run(cfg, rewritten)
	if d, err := replay.CompareFrames(bytes.NewReader(formats), bytes.NewReader(frames)); err != nil || d != "" {
		t.Errorf("%s: the same packets from a pcapng file: %s %v", s.name, d, err)
	}
	if !bytes.Equal(flows, flowsAgain) {
		t.Errorf("%s: the same packets from a pcapng file give other flows", s.name)
	}
	if uint64(s.records)+result.PassedBy+result.NotEthernet != result.Packets {
		t.Errorf("%s: %d packets, %d decisions, %d passed by, %d of another link type", s.name, result.Packets, s.records,
			result.PassedBy, result.NotEthernet)
	}
	if !result.Balanced() {
		t.Errorf("%s: counters do not balance: %+v", s.name, result)
	}
	return s.judged
}

func source(t *testing.T, file []byte) *replay.Source {
	src, err := replay.NewSource(replay.Input{Name: "file", Stream: bytes.NewReader(file)})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// rewrite makes a pcapng file of the same packets.
func rewrite(t *testing.T, file []byte) []byte {
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("", "")
	src := source(t, file)
	var buf []byte
	for {
		p, _, err := src.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		frame, ok := pcapfile.AppendEthernet(buf[:0], p.Link, p.Data)
		if !ok {
			t.Fatalf("link type %v", p.Link)
		}
		length := p.Length
		if p.Link != pcapfile.LinkEthernet {
			length = 0
		}
		w.Packet(0, p.Time, frame, length, "")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (s *subject) run(cfg *config.Config, file []byte) (frames, flows []byte, result *replay.Result) {
	var out, log bytes.Buffer
	r, err := replay.New(replay.Options{Config: cfg, Seed: 1, Frames: &out, Flows: &log, Backends: replay.Recorded,
		Table: 4096, Trace: s.trace, Keep: wire.MaxFrame})
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	src := source(s.t, file)
	for {
		p, ifname, err := src.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.t.Fatalf("%s: %v", s.name, err)
		}
		s.number++
		r.Litter(s.litter)
		if err := r.Packet(p, ifname); err != nil {
			s.t.Fatalf("%s: packet %d: %v", s.name, s.number, err)
		}
	}
	result, err = r.Finish()
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	return out.Bytes(), log.Bytes(), result
}

func (s *subject) wrong(format string, args ...any) {
	s.t.Errorf("%s packet %d: %s", s.name, s.number, fmt.Sprintf(format, args...))
}

// trace checks one decision.
func (s *subject) trace(r *forwarder.Record) {
	if !r.Late {
		s.records++
	}
	if r.Verdict != wire.Transmit || r.Late {
		return
	}
	if r.Service != "" && r.Flow != 0 && r.Conn != ^r.Conn {
		s.sticks(r)
	}
	if r.Before.GSOSize > 0 || len(r.Sent) != 1 || r.Service == "" {
		return
	}
	s.judged++
	s.rewritten(r)
}

// sticks checks that a flow keeps its backend while its connection lives.
func (s *subject) sticks(r *forwarder.Record) {
	id := r.Flow.String()
	if was, there := s.backend[id]; there && was != r.Backend && !r.NewConn {
		s.wrong("flow %s moved from %s to %s", id, was, r.Backend)
	}
	s.backend[id] = r.Backend
}

// rewritten compares a packet with what it has become.
func (s *subject) rewritten(r *forwarder.Record) {
	in, out := r.Frame, r.Sent[0].Bytes()
	switch r.ModeName() {
	case "l2dsr":
		if !bytes.Equal(in[12:], out[12:]) {
			s.wrong("l2dsr changed more than MAC addresses")
		}
		return
	case "l3dsr/ipip", "l3dsr/gue":
		s.carried(in, out)
		return
	}
	a, whole := residue(in)
	b, _ := residue(out)
	if whole && a != b {
		s.wrong("the checksum was wrong by %#04x and is by %#04x", a, b)
	}
}

// residue is by how much the transport checksum of a packet is wrong, 0 if it is right; whole is false if that cannot be
// told or does not stay: of fragments, of UDP without a checksum, of ICMP errors, which are translated inside.
func residue(frame []byte) (by uint16, whole bool) {
	p := wire.Packet{Frame: wire.Frame{Buf: frame, Len: len(frame)}}
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Frag != wire.Whole ||
		p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return 0, false
	}
	t := p.Transport()
	if p.Proto == wire.ProtoUDP && t[6] == 0 && t[7] == 0 {
		return 0, false
	}
	by = ^wire.Fold(wire.Sum(t, wire.PseudoSum(p.IP(), p.Proto, len(t))))
	if by == 0xffff {
		by = 0
	}
	return by, true
}

// carried checks that a tunnelled packet is in the frame as it was, but for TTL and IPv4 header checksum.
func (s *subject) carried(in, out []byte) {
	p := wire.Packet{Frame: wire.Frame{Buf: bytes.Clone(in), Len: len(in)}}
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone {
		s.wrong("a packet that cannot be parsed was carried")
		return
	}
	ip := p.IP()
	if p.Version == 4 {
		old := binary.BigEndian.Uint16(ip[8:])
		sum := wire.Delta(0).Add16(old, old-0x100).Apply(binary.BigEndian.Uint16(ip[10:]))
		ip[8]--
		binary.BigEndian.PutUint16(ip[10:], sum)
	} else {
		ip[7]--
	}
	if !bytes.HasSuffix(out, ip) {
		s.wrong("the packet in the tunnel is not what it was")
	}
}

// captures returns all files of the captures.
func captures(t *testing.T) (paths []string) {
	err := filepath.WalkDir(wiretest.Captures(t), func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && !d.IsDir() && (ext == ".pcap" || ext == ".pcapng") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestWhatMustHoldForEveryCapture(t *testing.T) {
	modes := replay.AutoModes()
	judged := map[string]int{}
	for i, path := range captures(t) {
		for k, mode := range modes {
			// Half of the modes for each capture, in turn; NARU_FULL asks for all.
			if os.Getenv("NARU_FULL") == "" && (i+k)%len(modes) >= len(modes)/2 {
				continue
			}
			judged[mode] += harness(t, path, mode)
		}
	}
	for _, mode := range modes {
		if judged[mode] < 1000 {
			t.Errorf("%s: only %d packets were compared with what they became", mode, judged[mode])
		}
	}
	t.Logf("packets compared: %v", judged)
}
