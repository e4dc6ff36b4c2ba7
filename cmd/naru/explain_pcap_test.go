package main

import (
	"os"
	"strings"
	"testing"

	"naru/internal/link/pcapfile"
)

func TestExplainingPacketsOfACapture(t *testing.T) {
	capture := goldenCapture(t)
	strange := append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 105, 0, 0, 0},
		0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 1, 2) // link type IEEE 802.11
	yaml, err := os.ReadFile(goldenFolder + "naru.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inFolder(t, map[string]string{"c.yaml": string(yaml), "in.pcapng": string(capture), "strange": string(strange)})
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
		{"-c c.yaml --pcap in.pcapng --packet 999", "", exitFailed, "there is no packet 999"},
		{"-c c.yaml --pcap in.pcapng --flow 99", "", exitFailed, "in.pcapng has no flow 99; there are "},
		{"-c c.yaml --pcap in.pcapng --flow nine", "", exitUsage, "give its name"},
		{"-c c.yaml --pcap in.pcapng", "", exitUsage, "--pcap needs --packet N"},
		{"-c c.yaml --pcap in.pcapng --packet 1 --backends simulated", "", exitUsage, "use captured or recorded"},
		{"--vip auto -c c.yaml --pcap in.pcapng --packet 1", "", exitUsage, "leave -c out"},
		{"--vip auto --mode nut --pcap in.pcapng --packet 1", "", exitUsage, `--mode "nut" is not known`},
		{"--vip auto --pcap - --packet 1", string(capture), exitUsage, "reads the capture twice"},
		{"-c c.yaml --pcap absent --packet 1", "", exitFailed, "absent: no such file; name a capture"},
	} {
		code, out, errs := naru(c.stdin, "explain "+c.line)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: exit %d, want %d and %q in %s%s", c.line, code, c.code, c.want, out, errs)
		}
	}
}
