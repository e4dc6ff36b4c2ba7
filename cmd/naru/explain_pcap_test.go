package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"naru/internal/link/pcapfile"
	"naru/internal/record"
)

func TestExplainingPacketsOfACapture(t *testing.T) {
	capture := goldenCapture(t)
	strange := append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 105, 0, 0, 0},
		0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 2) // link type IEEE 802.11
	yaml, err := os.ReadFile(goldenFolder + "naru.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inFolder(t, map[string]string{"c.yaml": string(yaml), "in.pcapng": string(capture), "strange": string(strange),
		"part": string(snapped(t, capture, 60)), "short": string(snapped(t, capture, 40))})
	if pcapfile.LinkType(105).String() != "105" {
		t.Fatal("the link type is known by now: choose another one")
	}
	for _, c := range []struct {
		line  string
		stdin string
		code  int
		want  string
	}{
		{"-c c.yaml --pcap in.pcapng --packet 1", "", 0, "verdict  TRANSMIT to web/"},
		{"-c c.yaml --pcap - --packet 1", string(capture), 0, "verdict  TRANSMIT to web/"},
		{"-c c.yaml --pcap in.pcapng --flow 1", "", 0, "tcp 10.20.40.80:40001 > 200.100.50.25:80 [S]"},
		{"-c c.yaml --pcap in.pcapng --packet 27", "", 0, "DROP martian_source"},
		{"--vip auto --pcap in.pcapng --packet 2", "", 0, "tcp 198.18.0.1:80 > 198.18.0.254:"},
		{"--vip auto --mode l2dsr --pcap in.pcapng --packet 2", "", exitFailed, "a backend answers the client itself"},
		{"-c c.yaml --pcap strange --packet 1", "", exitFailed, "packet 1 of strange is of a link type that naru does not know"},
		{"-c c.yaml --pcap part --packet 4", "", 0, "which nobody can judge"},
		{"-c c.yaml --pcap short --packet 1", "", exitFailed, "packet 1 of short was cut short by the capture, which has 40 of its"},
		{"-c c.yaml --pcap strange --packet 2", "", exitFailed, "strange has 1 packet, there is no packet 2"},
		{"-c c.yaml --pcap in.pcapng --packet 999", "", exitFailed, "there is no packet 999"},
		{"-c c.yaml --pcap in.pcapng --flow 99", "", exitFailed, "in.pcapng has no flow 99; naru replay --flows tells of the 9 flows that were made"},
		{"-c c.yaml --pcap in.pcapng --flow nine", "", exitUsage, "give its name"},
		{"-c c.yaml --pcap in.pcapng", "", exitUsage, "--pcap needs --packet N"},
		{"-c c.yaml --pcap in.pcapng --packet 1 --backends simulated", "", exitUsage, "use captured or recorded"},
		{"--vip auto -c c.yaml --pcap in.pcapng --packet 1", "", exitUsage, "leave -c out"},
		{"--vip auto --mode nut --pcap in.pcapng --packet 1", "", exitUsage, `--mode "nut" is not known`},
		{"-c c.yaml --pcap . --packet 1", "", exitFailed, ".: is a directory"},
		{"-c c.yaml --pcap in.pcapng --packet 1 --flow 1", "", exitUsage, "exclude each other"},
		{"-c c.yaml --packet 1 x", "", exitUsage, "--packet is about a capture"},
		{"-c c.yaml --pcap in.pcapng --packet 1 --mode nat", "", exitUsage, "--mode is for --vip auto"},
		{"--vip auto --pcap - --packet 1", string(capture), exitUsage, "reads the capture twice"},
		{"-c c.yaml --pcap absent --packet 1", "", exitFailed, "absent: no such file; name a capture"},
	} {
		code, out, errs := naru(c.stdin, "explain "+c.line)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: exit %d, want %d and %q in %s%s", c.line, code, c.code, c.want, out, errs)
		}
	}
}

// TestPacketsAndFlowsHaveOneNumberEverywhere compares the flow log of a replay, the comments in what it has written and
// what explain says.
func TestPacketsAndFlowsHaveOneNumberEverywhere(t *testing.T) {
	inFolder(t, map[string]string{"in.pcapng": string(goldenCapture(t))})
	const from = " --vip auto "
	if code, out, errs := naru("", "replay in.pcapng --out out.pcapng --flows flows.jsonl"+from); code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	written, err := os.ReadFile("out.pcapng")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Open("flows.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	numbers := map[int]bool{}
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var flow struct {
			Number       int
			Flow, Client string
		}
		if err := json.Unmarshal(lines.Bytes(), &flow); err != nil {
			t.Fatal(err)
		}
		numbers[flow.Number] = true
		code, out, errs := naru("", fmt.Sprintf("explain --pcap in.pcapng -o json --flow %d", flow.Number)+from)
		var x record.Explanation
		if err := json.Unmarshal([]byte(out), &x); err != nil || code != 0 {
			t.Fatalf("exit %d, %v: %s", code, err, errs)
		}
		if x.Capture.Flow != flow.Flow || x.Capture.FlowNumber != flow.Number || !strings.Contains(x.Packet, flow.Client+" > ") {
			t.Errorf("%+v of %s is not %+v", *x.Capture, x.Packet, flow)
		}
		comment := fmt.Sprintf("packet %d: %s transmit auto/", x.Capture.Packet, flow.Flow)
		if strings.Count(string(written), comment) < 2 { // as it came and as it left
			t.Errorf("nothing has the comment %s", comment)
		}
		_, out, _ = naru("", fmt.Sprintf("explain --pcap in.pcapng --packet %d", x.Capture.Packet)+from)
		if want := fmt.Sprintf("flow %d, %s\npacket   %s ", flow.Number, flow.Flow, x.Packet); !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
	for n := range len(numbers) {
		if !numbers[n+1] {
			t.Errorf("flow %d of %d is not in the log", n+1, len(numbers))
		}
	}
	if len(numbers) < 2 {
		t.Errorf("%d flows", len(numbers))
	}
}

// snapped is a capture as a snapshot length leaves it.
func snapped(t *testing.T, file []byte, snaplen int) []byte {
	r, err := pcapfile.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := pcapfile.NewWriter(&out)
	w.AddInterface("", "")
	for p := (pcapfile.Packet{}); r.Next(&p) == nil; {
		w.Packet(0, p.Time, p.Data[:min(len(p.Data), snaplen)], p.Length, "")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
