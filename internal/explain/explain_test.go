package explain_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/explain"
	"naru/internal/record"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// bench is an engine with the example of a mode.
func bench(t *testing.T, mode string) *explain.Bench {
	t.Helper()
	text, err := config.Example(mode)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(mode, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := compile.Config(cfg, compile.Offline(cfg))
	if err != nil {
		t.Fatal(err)
	}
	b, err := explain.NewBench(compiled, forwarder.Seed{1}, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask asks about a packet in words.
func ask(t *testing.T, b *explain.Bench, words string) *record.Explanation {
	t.Helper()
	p, err := explain.Parse(words)
	if err != nil {
		t.Fatal(err)
	}
	frame, leg, err := p.Frame(&b.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := wiretest.Wrong(frame); err != nil {
		t.Errorf("%s: the frame that was made: %v", words, err)
	}
	return b.Ask(wire.Time(time.Second), frame, leg)
}

const (
	syn4  = "tcp 10.20.40.80:51000 > 200.100.50.25:80 syn mss 1460"
	about = " about tcp 200.100.50.25:80 > 10.20.40.80:51000 syn-ack"
)

func TestExplanations(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		packets    []string // the last one is explained
	}{
		{"fullnat-syn", "fullnat", []string{syn4}},
		{"fullnat-ack", "fullnat", []string{syn4, "tcp 10.20.40.80:51000 > 200.100.50.25:80 ack payload 100"}},
		{"fullnat-error", "fullnat", []string{syn4, "icmp 10.20.40.1 > 200.100.50.25 too-big 1400" + about}},
		{"nat-syn", "nat", []string{syn4}},
		{"l2dsr-syn", "l2dsr", []string{syn4}},
		{"dscp-syn", "l3dsr-dscp", []string{syn4}},
		{"ipip-syn", "l3dsr-ipip", []string{syn4}},
		{"gue", "l3dsr-gue", []string{"udp 10.20.40.80:51000 > 200.100.50.53:53 payload 30"}},
		{"ipip-too-big", "l3dsr-ipip", []string{syn4, "tcp 10.20.40.80:51000 > 200.100.50.25:80 ack len 1500"}},
		{"midstream", "fullnat", []string{"tcp 10.20.40.80:51000 > 200.100.50.25:80 [P.] payload 10"}},
		{"no-service", "fullnat", []string{"udp 10.20.40.80:51000 > 200.100.50.25:53 payload 30"}},
		{"martian", "fullnat", []string{"tcp 127.0.0.1:5 > 200.100.50.25:80 syn"}},
		{"echo", "fullnat", []string{"icmp 10.20.40.80 > 200.100.50.25 payload 8"}},
		{"not-ours", "fullnat", []string{"tcp 10.20.40.80:51000 > 10.99.99.99:80 syn"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bench(t, c.mode)
			var x *record.Explanation
			for _, words := range c.packets {
				x = ask(t, b, words)
			}
			for _, sum := range x.Checksums {
				if !sum.Agrees {
					t.Errorf("%s is derived wrong: %q", sum.Field, sum.Words)
				}
			}
			golden(t, c.name+".txt", []byte(x.Text(true)))
			if c.name == "ipip-syn" || c.name == "midstream" {
				text, err := json.MarshalIndent(x, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				golden(t, c.name+".json", append(text, '\n'))
			}
		})
	}
}

// golden compares got with a file, or writes the file if NARU_UPDATE is set.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("NARU_UPDATE") != "" {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func TestPacketsOfEveryKindAreRight(t *testing.T) {
	b := bench(t, "fullnat")
	for _, words := range []string{
		"tcp [2001:db8::1]:1 > [2001:db8::2]:80 syn+ack ttl 3 dscp 46 payload 3 seq 4 ack 5 window 6",
		"udp [2001:db8::1]:1 > [2001:db8::2]:80 payload 7",
		"udp 192.0.2.1:1>192.0.2.2:2 len 29 id 7 df",
		"icmp 2001:db8::1 > 2001:db8::2 echo payload 5",
		"icmp 2001:db8::1 > 2001:db8::2 too-big 1280 about udp [2001:db8::2]:5 > [2001:db8::3]:6 payload 4",
		"icmp 192.0.2.1 > 192.0.2.2 reply",
		"icmp 192.0.2.1 > 192.0.2.2 unreachable host ttl 9 about udp 192.0.2.2:1 > 192.0.2.3:2",
		"tcp 192.0.2.1:1 > 192.0.2.2:2 [FPU.] in eth1",
	} {
		ask(t, b, words)
	}
	p, err := explain.Parse("tcp 10.10.10.1:80 > 10.10.10.254:5000 syn-ack")
	if err != nil {
		t.Fatal(err)
	}
	if _, leg, err := p.Frame(&b.Config); err != nil || leg != 1 {
		t.Errorf("a backend's packet comes in by leg %d, %v", leg, err)
	}
}

func TestMistakesInPacketsAreNamed(t *testing.T) {
	for words, want := range map[string]string{
		"":                                                       "is no protocol",
		"sctp 1.1.1.1:1 > 2.2.2.2:2":                             `"sctp" is no protocol`,
		"tcp 1.1.1.1 > 2.2.2.2:2":                                `source "1.1.1.1" is no ADDRESS:PORT`,
		"tcp 1.1.1.1:1 2.2.2.2:2":                                `"2.2.2.2:2" stands where >`,
		"tcp 1.1.1.1:1 > [::1]:2":                                "not of one family",
		"tcp 1.1.1.1:1 > 2.2.2.2:2 sny":                          `did you mean "syn"?`,
		"tcp 1.1.1.1:1 > 2.2.2.2:2 [X]":                          "is no flag of TCP",
		"tcp 1.1.1.1:1 > 2.2.2.2:2 ttl 300":                      `ttl "300" is no number from 0 to 255`,
		"tcp 1.1.1.1:1 > 2.2.2.2:2 ttl":                          `ttl "" is no number`,
		"tcp 1.1.1.1:1 > 2.2.2.2:2 len 30":                       "less than the headers",
		"udp 1.1.1.1:1 > 2.2.2.2:2 payload 65535":                "too long",
		"udp 1.1.1.1:1 > 2.2.2.2:2 syn":                          `"syn" is not known here`,
		"icmp 1.1.1.1:1 > 2.2.2.2":                               "is no IP address",
		"icmp 1.1.1.1 > 2.2.2.2 unreachable port":                "an ICMP error quotes a packet",
		"icmp 1.1.1.1 > 2.2.2.2 about udp 2.2.2.2:1 > 3.3.3.3:3": "about belongs to an ICMP error",
		"icmp 1.1.1.1 > 2.2.2.2 ttl-exceeded about x":            "about: ",
		"icmp 1.1.1.1 > 2.2.2.2 unreachable moon":                `unreachable "moon" is not known`,
		"udp 1.1.1.1:1 > 2.2.2.2:2 in":                           "the name of an interface is missing",
	} {
		if _, err := explain.Parse(words); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", words, err, want)
		}
	}
	b := bench(t, "fullnat")
	p, err := explain.Parse("udp 1.1.1.1:1 > 2.2.2.2:2 in eth7")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Frame(&b.Config); err == nil || !strings.Contains(err.Error(), "eth0 eth1") {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(syn4)
	f.Add("icmp 10.20.40.1 > 200.100.50.25 too-big 1400" + about)
	cfg := forwarder.Config{Legs: []forwarder.Leg{{Name: "eth0"}}}
	f.Fuzz(func(t *testing.T, words string) {
		p, err := explain.Parse(words)
		if err != nil {
			return
		}
		if frame, _, err := p.Frame(&cfg); err == nil {
			if err := wiretest.Wrong(frame); err != nil && len(frame) <= wire.MaxFrame {
				t.Errorf("%q: %v", words, err)
			}
		}
	})
}
