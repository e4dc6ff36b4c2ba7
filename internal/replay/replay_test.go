package replay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

const web = `version: 1
interfaces:
  - {name: eth0, side: client}
  - {name: eth1, side: backend}
services:
  - name: web
    vip: 200.100.50.25
    ports: [80]
    protocol: tcp
    mode: fullnat
    nat: {source_pool: [10.10.10.254]}
    backends:
      - {name: b1, address: 10.10.10.1, port: 8080}
      - {name: b2, address: 10.10.10.2, port: 8080}
`

func load(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, problems, err := config.Load("test", []byte(yaml))
	if err != nil {
		t.Fatalf("%v %v", err, problems)
	}
	return cfg
}

// shot is a packet of a capture that a test builds.
type shot struct {
	at time.Duration
	f  wiretest.Frame
}

// syn, data and reply are packets of the n-th client connection.
func syn(at time.Duration, n int) shot {
	return shot{at, wiretest.Frame{Src: fmt.Sprintf("10.20.40.80:%d", 40000+n), Dst: "200.100.50.25:80", TCP: "S", Seq: 99}}
}

func data(at time.Duration, n int) shot {
	return shot{at, wiretest.Frame{Src: fmt.Sprintf("10.20.40.80:%d", 40000+n), Dst: "200.100.50.25:80", TCP: "AP", Seq: 100,
		Ack: 500, Payload: []byte("hello")}}
}

func reply(at time.Duration, n int) shot {
	return shot{at, wiretest.Frame{Src: "200.100.50.25:80", Dst: fmt.Sprintf("10.20.40.80:%d", 40000+n), TCP: "SA", Seq: 499,
		Ack: 100}}
}

// capture builds a pcapng file that begins at an instant.
func capture(t *testing.T, start int64, shots ...shot) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("", "")
	for _, s := range shots {
		s.f.SrcMAC, s.f.DstMAC = wire.MAC{2, 1}, wire.MAC{2, 2}
		frame := s.f.Bytes(t)
		w.Packet(0, start+int64(s.at), frame, len(frame), "")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// run is what a replay gave.
type run struct {
	frames, flows []byte
	result        *replay.Result
	comments      []string // of all packets of frames
	times         []int64  // their stamps
}

func replayed(t *testing.T, opt replay.Options, files ...[]byte) run {
	t.Helper()
	var frames, flows bytes.Buffer
	opt.Frames, opt.Flows, opt.Table = &frames, &flows, 4096
	if opt.Seed == 0 {
		opt.Seed = 1
	}
	r, err := replay.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	var inputs []replay.Input
	for _, f := range files {
		inputs = append(inputs, replay.Input{Name: "file", Stream: bytes.NewReader(f)})
	}
	src, err := replay.NewSource(inputs...)
	if err != nil {
		t.Fatal(err)
	}
	result := feed(t, r, src, 0, nil)
	if !result.Balanced() {
		t.Errorf("counters do not balance: %+v", result)
	}
	out := run{frames: frames.Bytes(), flows: flows.Bytes(), result: result}
	in, err := pcapfile.NewReader(bytes.NewReader(out.frames))
	if err != nil {
		t.Fatal(err)
	}
	var p pcapfile.Packet
	for in.Next(&p) == nil {
		out.comments = append(out.comments, fmt.Sprintf("%s %s", in.Interfaces()[p.Interface].Name, p.Comment))
		out.times = append(out.times, p.Time)
	}
	return out
}

// has checks that some comment has all the words.
func (r run) has(t *testing.T, n int, words ...string) {
	t.Helper()
	found := 0
	for _, c := range r.comments {
		all := true
		for _, w := range words {
			all = all && strings.Contains(" "+c+" ", " "+w+" ")
		}
		if all {
			found++
		}
	}
	if found != n {
		t.Errorf("%d packets with %q, want %d of\n%s", found, words, n, strings.Join(r.comments, "\n"))
	}
}

func script(t *testing.T, text string) replay.Script {
	t.Helper()
	s, err := replay.ParseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const ms = time.Millisecond

func TestTheFileHasBothSidesOfEveryPacket(t *testing.T) {
	r := replayed(t, replay.Options{Config: load(t, web), Backends: replay.Recorded},
		capture(t, 1e18, syn(0, 1), reply(ms, 1), data(2*ms, 1), shot{3 * ms, wiretest.Frame{Src: "9.9.9.9:1", Dst: "8.8.8.8:2"}}))
	r.has(t, 1, "eth0", "transmit", "web/b1", "fullnat", "request", "new") // as it came
	r.has(t, 1, "eth1", "transmit", "web/b1", "fullnat", "request", "new") // as it left
	r.has(t, 1, "eth1", "transmit", "web/b1", "fullnat", "reply")
	r.has(t, 1, "eth0", "transmit", "web/b1", "fullnat", "reply")
	r.has(t, 1, "eth0", "pass", "reason=not_our_address")
	if r.result.Packets != 4 || r.result.Forwarded != 3 || r.result.Flows != 1 || r.result.Seconds != 0.003 {
		t.Errorf("result %+v", r.result)
	}
	var line map[string]any
	if err := json.Unmarshal(r.flows, &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"service": "web", "backend": "b1", "client": "10.20.40.80:40001", "mode": "fullnat",
		"vip": "200.100.50.25:80", "server": "10.10.10.1:8080", "ended": "open", "state": "established", "protocol": "tcp",
		"request_packets": 2., "reply_packets": 1., "request_bytes": 85., "reply_bytes": 40., "start": 0., "end": 0.003} {
		if line[key] != want {
			t.Errorf("%s: %v, want %v", key, line[key], want)
		}
	}
	if local, _ := line["local"].(string); !strings.HasPrefix(local, "10.10.10.254:") {
		t.Errorf("local %v", line["local"])
	}
}

func TestARecordedAnswerReachesTheClientAsItWas(t *testing.T) {
	for _, mode := range []string{"fullnat", "nat"} {
		yaml := strings.Replace(web, "mode: fullnat", "mode: "+mode, 1)
		if mode == "nat" {
			yaml = strings.Replace(yaml, "    nat: {source_pool: [10.10.10.254]}\n", "", 1)
		}
		var sent [][]byte
		r := replayed(t, replay.Options{Config: load(t, yaml), Backends: replay.Recorded,
			Sent: func(_ wire.Time, f *wire.Frame) { sent = append(sent, bytes.Clone(f.Bytes())) }},
			capture(t, 0, syn(0, 1), reply(ms, 1)))
		r.has(t, 1, "eth0", "reply", mode)
		want := reply(0, 1).f
		want.TTL = 63
		last := sent[len(sent)-1]
		if b := want.Bytes(t); !bytes.Equal(last[14:], b[14:14+40]) {
			t.Errorf("%s: got  %x\nwant %x", mode, last[14:], b[14:])
		}
	}
}

func TestInDirectServerReturnAnswersPassBy(t *testing.T) {
	yaml := strings.Replace(strings.Replace(web, "mode: fullnat", "mode: l2dsr", 1), "    nat: {source_pool: [10.10.10.254]}\n", "", 1)
	yaml = strings.ReplaceAll(yaml, ", port: 8080", "")
	r := replayed(t, replay.Options{Config: load(t, yaml), Backends: replay.Recorded},
		capture(t, 0, syn(0, 1), reply(ms, 1), reply(2*ms, 2)))
	if r.result.PassedBy != 1 {
		t.Errorf("result %+v", r.result)
	}
	r.has(t, 1, "pass", "reason=not_our_address") // of no connection
}

func TestAsCapturedAnAnswerOfTheVIPIsNobodys(t *testing.T) {
	r := replayed(t, replay.Options{Config: load(t, web)}, capture(t, 0, syn(0, 1), reply(ms, 1)))
	r.has(t, 1, "pass", "reason=not_our_address")
}

func TestABackendsPacketArrivesOnItsLeg(t *testing.T) {
	r := replayed(t, replay.Options{Config: load(t, web)},
		capture(t, 0, shot{0, wiretest.Frame{Src: "10.10.10.2:8080", Dst: "10.10.10.254:5", TCP: "A"}}))
	r.has(t, 1, "eth1", "drop", "reason=no_connection")
}

func TestTimeIsTheCaptures(t *testing.T) {
	shots := []shot{syn(0, 1), syn(29*time.Second, 1), syn(80*time.Second, 1), data(81*time.Second, 1), data(2*time.Hour, 1),
		data(5*time.Hour, 1)}
	r := replayed(t, replay.Options{Config: load(t, web)}, capture(t, 1e18, shots...))
	// A SYN lives 30 s, an established connection 2 h 4 min.
	if got := strings.Count(string(r.flows), `"ended":"idle"`); got != 2 {
		t.Errorf("%d connections ended idle\n%s", got, r.flows)
	}
	r.has(t, 2, "eth0", "new")
	r.has(t, 4, "eth0", "consume", "reason=rejected_rst") // the connection is gone; two packets, two answers
	later := replayed(t, replay.Options{Config: load(t, web)}, capture(t, 1.5e18, shots...))
	if !bytes.Equal(r.flows, later.flows) || fmt.Sprint(r.comments) != fmt.Sprint(later.comments) {
		t.Error("another date gives another result")
	}
	if bytes.Equal(r.frames, later.frames) {
		t.Error("the frames do not have the capture's time")
	}
}

func TestEveryPacketHasItsTimeInTheFile(t *testing.T) {
	const start = 1e18 + 123456789
	times := []time.Duration{0, 3 * ms, 9999 * time.Microsecond, 17*ms + 1, 17*ms + 2, 250*ms + 7, time.Hour + 1234567}
	var shots []shot
	for n, at := range times {
		shots = append(shots, syn(at, n))
	}
	for _, who := range []replay.Backends{replay.AsCaptured, replay.Recorded} {
		r := replayed(t, replay.Options{Config: load(t, web), Backends: who}, capture(t, start, shots...))
		for n, at := range times {
			frames := 0
			for i, c := range r.comments {
				if !strings.Contains(c, fmt.Sprintf(" packet %d:", n+1)) {
					continue
				}
				frames++
				if late := r.times[i] - start - int64(at); late != 0 {
					t.Errorf("%v: %s: %d ns after its time", who, c, late)
				}
			}
			if frames != 2 {
				t.Errorf("%v: packet %d has %d frames: it came and left", who, n+1, frames)
			}
		}
	}
}

func TestTimeDoesNotRunBackwards(t *testing.T) {
	r := replayed(t, replay.Options{Config: load(t, web)},
		capture(t, 1e18, syn(time.Hour, 1), data(0, 1), syn(-1e18, 2), syn(1<<62, 3)))
	if r.result.Flows != 3 || r.result.Dropped != 0 {
		t.Errorf("result %+v", r.result)
	}
}

func TestTheSeedDecides(t *testing.T) {
	file := capture(t, 0, syn(0, 1), data(ms, 1))
	a := replayed(t, replay.Options{Config: load(t, web), Seed: 7}, file)
	b := replayed(t, replay.Options{Config: load(t, web), Seed: 7}, file)
	c := replayed(t, replay.Options{Config: load(t, web), Seed: 8}, file)
	if !bytes.Equal(a.frames, b.frames) || !bytes.Equal(a.flows, b.flows) {
		t.Error("one seed, two results")
	}
	if bytes.Equal(a.frames, c.frames) {
		t.Error("two seeds, one result: the local port should differ")
	}
}

func TestCapturesAreMergedByTime(t *testing.T) {
	cfg := load(t, web)
	whole := replayed(t, replay.Options{Config: cfg}, capture(t, 5, syn(0, 1), syn(ms, 2), data(2*ms, 1), syn(3*ms, 3)))
	parts := replayed(t, replay.Options{Config: cfg}, capture(t, 5, syn(ms, 2), syn(3*ms, 3)), capture(t, 5, syn(0, 1), data(2*ms, 1)))
	if !bytes.Equal(whole.frames, parts.frames) || !bytes.Equal(whole.flows, parts.flows) {
		t.Error("two captures that are one give another result")
	}
}

func TestACaptureThatIsCutShortIsReadUpToThere(t *testing.T) {
	file := capture(t, 0, syn(0, 1), syn(ms, 2))
	src, err := replay.NewSource(replay.Input{Name: "a.pcap", Stream: bytes.NewReader(file[:len(file)-9])})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; ; n++ {
		if _, _, err = src.Next(); err != nil {
			break
		}
	}
	if n != 1 || err != io.EOF || len(src.Warnings()) != 1 || !strings.Contains(src.Warnings()[0], "a.pcap: the file ends") {
		t.Errorf("%d packets, %v, warnings %q", n, err, src.Warnings())
	}
}

func TestAScriptHappensInTheCapturesTime(t *testing.T) {
	sec := time.Second
	shots := []shot{syn(0, 1), syn(1*sec, 2), syn(4*sec, 3), syn(5*sec, 4), syn(21*sec, 5), syn(22*sec, 6), syn(31*sec, 7), syn(32*sec, 8)}
	r := replayed(t, replay.Options{Config: load(t, web), Script: script(t, `
3.2s backend web/b2 down
20s  backend web/b2 up
20s  drain web/b1    # no deadline
30s  ready web/b1
30s  weight web/b2 0
`)}, capture(t, 0, shots...))
	var order []string
	for _, c := range r.comments {
		for _, b := range []string{"b1", "b2"} {
			if strings.HasPrefix(c, "eth0") && strings.Contains(c, "web/"+b) && strings.HasSuffix(c, "new") {
				order = append(order, b)
			}
		}
	}
	if got, want := strings.Join(order, " "), "b1 b2 b1 b1 b2 b2 b1 b1"; got != want {
		t.Errorf("backends %s, want %s", got, want)
	}
}

func TestAReloadComesInTheCapturesTime(t *testing.T) {
	loaded := 0
	opt := replay.Options{Config: load(t, web), Script: script(t, "2s reload new.yaml\n3s weight web/b9 3"),
		Load: func(path string) (*config.Config, error) {
			loaded++
			return load(t, strings.NewReplacer("b1", "b9", "10.10.10.1,", "10.10.10.9,").Replace(web)), nil
		}}
	r := replayed(t, opt, capture(t, 0, syn(0, 1), data(2500*ms, 1), syn(2600*ms, 2), syn(2700*ms, 3), syn(4*time.Second, 4)))
	if loaded != 1 {
		t.Errorf("loaded %d times", loaded)
	}
	r.has(t, 2, "eth0", "web/b1") // its connection lives on
	r.has(t, 2, "eth1", "web/b1")
	names := fmt.Sprint(r.comments)
	if !strings.Contains(names, "web/b9") || strings.Count(names, "new") != 8 {
		t.Errorf("comments %v", r.comments)
	}
	if s := r.result.Services[0]; len(s.Backends) != 3 || s.Flows != 4 {
		t.Errorf("%+v", s)
	}
}

func TestASuperFrameOfTheCapturingHostIsOne(t *testing.T) {
	big := data(ms, 1)
	big.f.Payload = bytes.Repeat([]byte("x"), 9000)
	r := replayed(t, replay.Options{Config: load(t, web)}, capture(t, 0, syn(0, 1), big))
	if r.result.Forwarded != 2 {
		t.Errorf("result %+v", r.result)
	}
}
