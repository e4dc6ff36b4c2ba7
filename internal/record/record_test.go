package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
)

func exampleRecord() *forwarder.Record {
	client, vip := wire.Addr4([]byte{10, 20, 40, 80}), wire.Addr4([]byte{200, 100, 50, 25})
	local, backend := wire.Addr4([]byte{10, 10, 10, 254}), wire.Addr4([]byte{10, 10, 10, 2})
	return &forwarder.Record{
		Time: 1_500_000_000, Leg: "eth0", Out: "eth1", Verdict: wire.Transmit,
		Stages: []forwarder.Stage{forwarder.StageParse, forwarder.StageNextHop},
		Before: forwarder.Headers{SrcMAC: wire.MAC{2}, DstMAC: wire.MAC{4}, EtherType: wire.TypeIPv4, Version: 4, Src: client,
			Dst: vip, Proto: wire.ProtoTCP, SrcPort: 40000, DstPort: 80, TTL: 63, TCPFlags: wire.SYN, Length: 60},
		After: forwarder.Headers{SrcMAC: wire.MAC{6}, DstMAC: wire.MAC{8}, EtherType: wire.TypeIPv4, Version: 4, Src: local,
			Dst: backend, Proto: wire.ProtoTCP, SrcPort: 1025, DstPort: 80, TTL: 62, TCPFlags: wire.SYN, Length: 60},
		Conn: 0, NewConn: true, State: conntrack.TCPSyn, Service: "web", Backend: "server02", Scheduler: "rr",
		Candidates: []forwarder.Candidate{{Name: "server01", Weight: 1, Active: 3},
			{Name: "server02", Weight: 1, Chosen: true}},
		PortsFree: 99, PortsAll: 100, MTU: 1500, NextHop: backend,
	}
}

func TestTheTextTellsWhatHappenedAndWhy(t *testing.T) {
	want := `1.500000 eth0 -> eth1  transmit
  before   02:00:00:00:00:00 > 04:00:00:00:00:00  tcp 10.20.40.80:40000 > 200.100.50.25:80 [S] ttl 63 len 60
  after    06:00:00:00:00:00 > 08:00:00:00:00:00  tcp 10.10.10.254:1025 > 10.10.10.2:80 [S] ttl 62 len 60
  flow     request of web, backend server02, syn, new (99 of 100 local ports free)
  schedule rr: server01 w 1 active 3 | *server02 w 1 active 0
  next hop 10.10.10.2, mtu 1500
  stages   parse, next hop

`
	if got := NewLine(exampleRecord()).Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestARecordThatReachedNothingIsShort(t *testing.T) {
	r := &forwarder.Record{Leg: "eth0", Verdict: wire.Pass, Reason: wire.NotIP, Conn: conntrack.None,
		Stages: []forwarder.Stage{forwarder.StageParse}, Before: forwarder.Headers{EtherType: 0x88cc}}
	want := `0.000000 eth0  pass not_ip (normal: LLDP, spanning tree and the like)
  before   00:00:00:00:00:00 > 00:00:00:00:00:00  ethertype 0x88cc
  stages   parse

`
	if got := NewLine(r).Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestJSONLinesReadBackAsTheyWere(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, true)
	w.Trace(exampleRecord())
	w.Trace(exampleRecord())
	if dropped, err := w.Close(); dropped != 0 || err != nil {
		t.Fatal(dropped, err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	var got Line
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
		t.Fatal(err)
	}
	if got.Text() != NewLine(exampleRecord()).Text() {
		t.Errorf("got\n%s", got.Text())
	}
}

type stuck struct{ release chan struct{} }

func (s stuck) Write(b []byte) (int, error) { <-s.release; return len(b), nil }

func TestASlowReaderCostsRecordsAndNotPackets(t *testing.T) {
	s := stuck{make(chan struct{})}
	w := NewWriter(s, false)
	const extra = 100
	for range room + extra + 1 {
		w.Trace(exampleRecord())
	}
	close(s.release)
	if dropped, err := w.Close(); err != nil || dropped < extra-64 || dropped > extra+1 {
		t.Errorf("dropped %d, %v", dropped, err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAnErrorOfWritingIsReportedAtTheEnd(t *testing.T) {
	w := NewWriter(broken{}, false)
	w.Trace(exampleRecord())
	if _, err := w.Close(); err == nil || err.Error() != "record: disk full" {
		t.Error(err)
	}
}
