package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"naru/internal/link/afpacket"
	"naru/internal/link/pcapfile"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// goldenCapture is the capture of testdata/replay: every mode, and most of what can happen to a packet.
func goldenCapture(t *testing.T) []byte {
	t.Helper()
	const client, client6 = "10.20.40.80", "[2001:db8:20::80]"
	text := bytes.Repeat([]byte("naru "), 280)
	frames := []wiretest.Frame{
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "S", Seq: 100, MSS: 1460},
		{Src: "200.100.50.25:80", Dst: client + ":40001", TCP: "SA", Seq: 900, Ack: 101, MSS: 1460},
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "A", Seq: 101, Ack: 901},
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "AP", Seq: 101, Ack: 901, Payload: []byte("GET / HTTP/1.1\r\n\r\n"), DF: true, ID: 7},
		{Src: "200.100.50.25:80", Dst: client + ":40001", TCP: "AP", Seq: 901, Ack: 119, Payload: text},
		{Src: client + ":40002", Dst: "200.100.50.25:80", TCP: "S", Seq: 200},
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "FA", Seq: 119, Ack: 2301},
		{Src: "200.100.50.25:80", Dst: client + ":40001", TCP: "FA", Seq: 2301, Ack: 120},
		{Src: client + ":40001", Dst: "200.100.50.25:80", TCP: "A", Seq: 120, Ack: 2302},
		{Src: client + ":40003", Dst: "200.100.50.25:443", TCP: "S"},
		{Src: client + ":40004", Dst: "200.100.50.25:80", TCP: "A", Seq: 5},
		{Src: client + ":40005", Dst: "200.100.50.25:80", TCP: "S", TTL: 1},
		{Src: client, Dst: "200.100.50.25", ICMP: []byte{8, 0, 0, 0, 0, 1, 0, 1, 'e', 'c', 'h', 'o'}},
		{Src: client, Dst: "200.100.50.29", ICMP: []byte{8, 0, 0, 0, 0, 1, 0, 1, 'e', 'c', 'h', 'o'}},
		{Src: client6 + ":40001", Dst: "[2001:db8:50::25]:80", TCP: "S", Seq: 100},
		{Src: "[2001:db8:50::25]:80", Dst: client6 + ":40001", TCP: "SA", Seq: 900, Ack: 101},
		{Src: client + ":40001", Dst: "200.100.50.26:53", UDP: true, Payload: []byte("question?")},
		{Src: "200.100.50.26:53", Dst: client + ":40001", UDP: true, Payload: []byte("answer"), NoSum: true},
		{Src: client + ":40002", Dst: "200.100.50.26:53", UDP: true, Payload: []byte("another question")},
		{Src: client + ":40001", Dst: "200.100.50.27:80", TCP: "S", TOS: 3},
		{Src: "200.100.50.27:80", Dst: client + ":40001", TCP: "SA"},
		{Src: client + ":40001", Dst: "200.100.50.28:80", TCP: "S", TOS: 3},
		{Src: client + ":40001", Dst: "200.100.50.29:80", TCP: "S", TOS: 3},
		{Src: client + ":40001", Dst: "200.100.50.29:80", TCP: "A", Seq: 1, Payload: text, DF: true}, // too big for the tunnel
		{Src: client + ":40001", Dst: "200.100.50.29:80", TCP: "A", Seq: 1, Payload: text, ID: 9},    // in two fragments
		{Src: client6 + ":40001", Dst: "[2001:db8:50::30]:7777", UDP: true, Payload: []byte("move")},
		{Src: "0.1.2.3:1", Dst: "200.100.50.25:80", TCP: "S"},
		{Src: client + ":1", Dst: "8.8.8.8:80", TCP: "S"},
		{Src: client + ":40006", Dst: "200.100.50.25:80", TCP: "SF"},
		{Src: client + ":40001", Dst: "200.100.50.27:80", TCP: "R", Seq: 1, VLANs: []uint16{100}},
	}
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("", "")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	for i, f := range frames {
		f.SrcMAC, f.DstMAC = wire.MAC{2, 0, 0, 0, 0, 1}, wire.MAC{2, 0, 0, 0, 0, 2}
		frame := f.Bytes(t)
		if i == 18 {
			frame[len(frame)-1] ^= 1 // its checksum is wrong, and stays it
		}
		at += int64(10 * time.Millisecond)
		w.Packet(0, at, frame, len(frame), "")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const goldenFolder = "testdata/replay/"

// goldenLine is the command that the golden captures are compared with.
const goldenLine = "replay -c " + goldenFolder + "naru.yaml --backends recorded " + goldenFolder + "in.pcapng"

func TestTheGoldenCaptureIsWhatItsBuilderMakes(t *testing.T) {
	want := goldenCapture(t)
	if os.Getenv("NARU_REGEN") != "" {
		if err := os.WriteFile(goldenFolder+"in.pcapng", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(goldenFolder + "in.pcapng")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%sin.pcapng is another one (%v): NARU_REGEN=1 renews it", goldenFolder, err)
	}
}

func TestReplayGivesTheGoldenResult(t *testing.T) {
	regen := ""
	if os.Getenv("NARU_REGEN") != "" {
		regen = " --regen"
	}
	code, out, errs := naru("", goldenLine+" --expect "+goldenFolder+"golden"+regen)
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %s%sIf the change is meant: NARU_REGEN=1 go test ./cmd/naru -run Golden", code, out, errs)
	}
}

func TestReplayNamesTheFirstDifferenceAndExits7(t *testing.T) {
	dir := t.TempDir()
	for _, name := range goldenNames {
		b, err := os.ReadFile(filepath.Join(goldenFolder, "golden", name))
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "flows.jsonl":
			b = bytes.Replace(b, []byte(`"backend":"b2"`), []byte(`"backend":"b7"`), 1)
		case "counters.json":
			b = bytes.Replace(b, []byte(`"hop_limit_answered": 1`), []byte(`"hop_limit_answered": 2`), 1)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, _ := naru("", goldenLine+" --expect "+dir+"/")
	for _, want := range []string{filepath.Join(dir, "flows.jsonl") + "   line 2: backend \"b2\", expected \"b7\"",
		"counters.json   reasons.hop_limit_answered 1, expected 2", "2 differences"} {
		if code != exitDiffers || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s", code, want, out)
		}
	}
	if err := os.Remove(filepath.Join(dir, "frames.pcapng")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := naru("", goldenLine+" --expect "+dir); code != exitFailed || !strings.Contains(errs, "make it with --regen") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestReplayPrintsASummary(t *testing.T) {
	code, out, errs := naru("", goldenLine)
	for _, want := range []string{"read 30 packets, ", " 0.3s of capture time in ", ", seed 1\nforwarded ", "\nweb   ",
		"dropped 3 (tcp_flags 1, ", "answered 5 (echo_answered 1, ", "passed 1 (not_our_address 1)  ", "\npast naru 1\nweb   2 flows"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s%s", code, want, out, errs)
		}
	}
	code, out, _ = naru("", goldenLine+" -o json")
	var doc struct{ Kind string }
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != 0 || doc.Kind != "Replay" {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if code, out, errs := naru("", goldenLine+" -q"); code != 0 || out+errs != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestReplayMakesItsConfigurationItself(t *testing.T) {
	line := "replay --vip auto --mode l2dsr " + goldenFolder + "in.pcapng"
	code, out, errs := naru("", line)
	if code != 0 || !strings.Contains(out, `vip: "200.100.50.25"`) || !strings.Contains(out, "mode: l2dsr") || errs != "" {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestReplaySimulatesBackends(t *testing.T) {
	line := "replay --vip auto --backends simulated " + goldenFolder + "in.pcapng --loss 0 --delay 1ms --reply "
	for _, reply := range []string{"100", "recorded"} {
		code, out, errs := naru("", line+reply)
		if code != 0 || !strings.Contains(out, "\nflows completed 1  reset ") || !strings.Contains(out, "mis-delivered 0") {
			t.Errorf("exit %d: %s%s", code, out, errs)
		}
	}
}

func TestReplaySaysWhichAnswersAreShorterThanAskedFor(t *testing.T) {
	for line, want := range map[string]bool{"--reply 1400": false, "--reply 1401": true, "--reply recorded": false} {
		_, out, errs := naru("", "replay -c "+goldenFolder+"naru.yaml --backends simulated "+goldenFolder+"in.pcapng "+line)
		const warning = "simulated backends make no fragments; they answer datagrams with 1400 bytes, not with the 1401 of --reply"
		if got := strings.Contains(errs, warning); got != want {
			t.Errorf("%s: %s%s", line, out, errs)
		}
	}
}

func TestReplaySendsIntoAnInterface(t *testing.T) {
	wiretest.Root(t)
	a := wiretest.NewNS(t, "replay")
	wiretest.Veth(t, a, "out", a, "in")
	a.Up(t, "out")
	a.Up(t, "in")
	a.Do(t, func() {
		dev, err := afpacket.Open("in", afpacket.Options{Driver: afpacket.MMsg})
		if err != nil {
			t.Error(err)
			return
		}
		defer dev.Close()
		for _, c := range []struct {
			options string
			frames  int
		}{{"--speed max -i out", 26}, {"--speed 5x -i eth1=out", 16}} {
			code, out, errs := naru("", goldenLine+" -q "+c.options)
			if code != 0 || out+errs != "" {
				t.Errorf("%s: exit %d: %s%s", c.options, code, out, errs)
			}
			got := 0
			batch := make([]wire.Packet, 64)
			for n, err := dev.Recv(batch); n > 0 && err == nil; n, err = dev.Recv(batch) {
				for _, p := range batch[:n] {
					if p.Bytes()[6] == 2 && p.Bytes()[7] == 'n' && p.Bytes()[0]&1 == 0 { // of naru's legs, to somebody
						got++
					}
				}
			}
			if got != c.frames {
				t.Errorf("%s: %d frames arrived, want %d", c.options, got, c.frames)
			}
		}
	})
}

func TestReplayReadsStandardInput(t *testing.T) {
	capture, err := os.ReadFile(goldenFolder + "in.pcapng")
	if err != nil {
		t.Fatal(err)
	}
	line := "replay -c " + goldenFolder + "naru.yaml --backends recorded --expect " + goldenFolder + "golden -"
	if code, out, errs := naru(string(capture), line); code != 0 {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	code, _, errs := naru(string(capture[:len(capture)-3]), strings.Replace(line, "--expect "+goldenFolder+"golden ", "", 1))
	if code != 0 || !strings.Contains(errs, "warning: -: the file ends in the middle of a packet") {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestReplayRefusesWhatItCannotDo(t *testing.T) {
	inFolder(t, map[string]string{"good.yaml": example(t), "script": "1s drain nobody/b1\n", "bad": "x\n", "worse": "x\ny\n",
		"away": "1s reload absent.yaml\n", "broken": "1s reload bad\n", "text": "no capture",
		"cap": string(goldenCapture(t))})
	for _, c := range []struct {
		line string
		code int
		want string
	}{
		{"replay", exitUsage, "missing argument PCAP"},
		{"replay --vip 1.2.3.4 x", exitUsage, `--vip "1.2.3.4" is not known; use auto`},
		{"replay --vip auto -c good.yaml x", exitUsage, "leave -c out"},
		{"replay --vip auto -", exitUsage, "give a file instead of standard input"},
		{"replay --mode nat -c good.yaml x", exitUsage, "--mode is for --vip auto"},
		{"replay --vip auto --mode nut x", exitUsage, `--mode "nut" is not known; use fullnat, nat`},
		{"replay --backends none x", exitUsage, `--backends "none" is not known`},
		{"replay -c good.yaml --loss 0.5 x", exitUsage, "--loss is for --backends simulated"},
		{"replay -c good.yaml --backends simulated --loss 2 x", exitUsage, "--loss 2 is out of range 0..1"},
		{"replay -c good.yaml --backends simulated --reply much x", exitUsage, `--reply "much" is no number of bytes below 16 MiB`},
		{"replay -c good.yaml --speed 2x x", exitUsage, "give an interface with -i"},
		{"replay -c good.yaml -i lo --speed fast x", exitUsage, `--speed "fast" is no speed; write 1x`},
		{"replay -c good.yaml -i eth7=lo x", exitUsage, "the configuration has no interface eth7"},
		{"replay -c good.yaml -i nowhere x", exitFailed, "nowhere: no such interface"},
		{"replay --regen x", exitUsage, "give it"},
		{"replay -c good.yaml cap --out", exitUsage, "the flag --out needs a value"},
		{"replay -c good.yaml cap --delay 5", exitUsage, `--delay "5" is no time; write it with a unit, as 500ms`},
		{"replay -c good.yaml cap --seed -1", exitUsage, `--seed "-1" is no whole number from 0 on`},
		{"replay -c - -", exitUsage, "give - only once"},
		{"replay -c good.yaml absent", exitFailed, "absent: no such file; name a capture"},
		{"replay -c good.yaml .", exitFailed, "is a directory"},
		{"replay -c good.yaml text", exitFailed, "text: pcapfile: at byte 0: this is no capture file"},
		{"replay -c good.yaml --script script cap", exitConfig, "script: line 1: there is no backend nobody/b1"},
		{"replay -c good.yaml --script absent cap", exitFailed, "absent: no such file"},
		{"replay -c good.yaml --script away cap", exitFailed, "script line 1: reload absent.yaml: absent.yaml: no such file"},
		{"replay -c good.yaml --script broken cap", exitConfig, "bad:1:1: the file is"},
		{"replay -c good.yaml --script bad text", exitConfig, `bad: line 1: "x" is no time`},
		{"replay -c good.yaml --script worse cap", exitConfig, "worse: line 1: \"x\" is no time"},
		{"replay -c good.yaml --script worse cap", exitConfig, "\nworse: line 2: \"y\" is no time"},
		{"replay -c good.yaml --script worse cap", exitConfig, "\nnaru replay: worse: 2 mistakes\n"},
		{"replay -c good.yaml --out absent/x cap", exitFailed, "--out: open absent/x: no such file"},
		{"replay -c good.yaml --out ./cap cap", exitUsage, "--out ./cap would overwrite what is read from cap"},
		{"replay -c good.yaml --counters good.yaml cap", exitUsage, "--counters good.yaml would overwrite what is read"},
		{"replay -c good.yaml --out x --flows x cap", exitUsage, "--flows x: another output goes there too"},
		{"replay -c good.yaml --out x text", exitFailed, "text: pcapfile: at byte 0: this is no capture file"},
		{"replay -c good.yaml --expect golden --out - cap", exitUsage, "--expect compares files"},
		{"replay -c good.yaml --expect golden --regen --out x cap", exitUsage, "leave --out, --flows and --counters out"},
	} {
		if code, _, errs := naru("", c.line); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit %d, want %d and %q in %s", c.line, code, c.code, c.want, errs)
		}
	}
	for name, want := range map[string]string{"cap": string(goldenCapture(t)), "good.yaml": example(t)} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s is not what it was: %v", name, err)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("an output was made for a capture that cannot be read")
	}
}

func TestReplaySaysWhatOfAScriptDidNotHappen(t *testing.T) {
	inFolder(t, map[string]string{"good.yaml": example(t), "late": "1h disable web/server01\n2h ready web/server01\n",
		"cap": string(goldenCapture(t))})
	code, out, errs := naru("", "replay -c good.yaml --script late cap")
	if code != 0 || !strings.Contains(out, "\n2 events of the script did not happen: the captures end before\n") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}

func TestReplayWritesToStandardOutput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	code, _, errs := naru("", goldenLine+" --out "+file)
	want, err := os.ReadFile(file)
	if code != 0 || err != nil {
		t.Fatalf("exit %d: %s%v", code, errs, err)
	}
	code, out, errs := naru("", goldenLine+" --out -")
	if code != 0 || out != string(want) || !strings.HasPrefix(errs, "read ") {
		t.Errorf("exit %d: %d bytes on standard output, %d in a file; standard error: %s", code, len(out), len(want), errs)
	}
}

func TestOneIsNotMany(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 flows", 1: "1 flow", 2: "2 flows", 12345: "12,345 flows"} {
		if got := counted(n, "flow"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
