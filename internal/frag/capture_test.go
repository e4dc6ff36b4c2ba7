package frag_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// run sends a capture through a table and returns how many fragments had each outcome; "whole" are packets that are no
// fragments.
func run(t *testing.T, path string) map[outcome]int {
	packets, err := wiretest.ReadCapture(path)
	if err != nil && len(packets) == 0 {
		t.Fatal(err)
	}
	r, got, in := newRig(t, 64, 64), map[outcome]int{}, 0
	for _, c := range packets {
		p := wiretest.Packet(c.Frame)
		r.now = max(r.now, wire.Time(c.At))
		why := p.ParseLink()
		if why == wire.ReasonNone {
			why = p.ParseNetwork()
		}
		switch {
		case why != wire.ReasonNone:
			got[outcome(why.String())]++
		case p.Frag == wire.Whole:
			got["whole"]++
		default:
			in++
			if o := r.take(&p); o != passed && o != kept {
				got[o]++
				in--
			}
			got[passed] += len(r.passed)
			got["lost"] += r.lost()
		}
	}
	r.after(time.Minute)
	got["lost"] += r.lost()
	if in != got[passed]+got["lost"] || r.held != 0 {
		t.Errorf("%d fragments accepted, %d passed, %d lost, %d held", in, got[passed], got["lost"], r.held)
	}
	maps.DeleteFunc(got, func(_ outcome, n int) bool { return n == 0 })
	return got
}

func TestFragmentsOfCaptures(t *testing.T) {
	dir := wiretest.Captures(t)
	for name, want := range map[string]string{
		"pp-IPv4Frag":                 "map[passed:3]",
		"pp-frag_http_req":            "map[passed:11]",
		"pp-ip6_fragments":            "map[passed:36]",
		"sv-frag-1":                   "map[fragment_overlap:1 passed:3 whole:9]", // one came twice
		"sv-frag-4":                   "map[fragment_overlap:1 passed:3 whole:9]",
		"sv-frag-12":                  "map[ext_unsupported:1 whole:8]",             // 175 headers
		"sv-frag-24":                  "map[fragment_malformed:1 passed:2 whole:8]", // 175 bytes, though more follow
		"sv-frag-30":                  "map[passed:48 whole:8]",
		"sv-frag-eth-vlan-ip-tcp-syn": "map[fragment_tiny:1 lost:2]",
		"sv-ipv4frags":                "map[passed:2 whole:1]",
		"zk-ipv4-fragmented-1":        "map[fragment_malformed:2 lost:1]", // first ones of 18 bytes
		"zk-ipv4-fragmented-3":        "map[passed:5]",
		"zk-ipv4-fragmented-syn":      "map[passed:2]",                // TCP options are in the second
		"zk-ipv6-fragmented-dns":      "map[lost:1 passed:3 whole:4]", // of one datagram only the end was captured
		"zk-ipv6-http-atomic-frag":    "map[whole:38]",
	} {
		t.Run(name, func(t *testing.T) {
			// Maps are printed in the order of their keys.
			if got := fmt.Sprint(run(t, filepath.Join(dir, "frag", name+".pcap"))); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		})
	}
}

func TestEveryCaptureRunsThrough(t *testing.T) {
	dir := wiretest.Captures(t)
	folders, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, folder := range folders {
		for _, file := range wiretest.CaptureFiles(t, dir, filepath.Base(folder)) {
			files++
			t.Run(file, func(t *testing.T) { t.Log(run(t, filepath.Join(dir, file))) })
		}
	}
	if files == 0 {
		t.Error("no captures found")
	}
}
