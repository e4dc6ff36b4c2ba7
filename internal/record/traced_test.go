package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestTracedLines(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 1, 7, 113205000, time.Local)
	sent := exampleRecord()
	sent.Flow = 0x1a2b3c4d
	reply := *sent
	reply.NewConn, reply.Dir = false, conntrack.Reply
	dropped := forwarder.Record{Leg: "eth0", Conn: conntrack.None, Verdict: wire.Drop, Reason: wire.TCPFlags, Flow: 2,
		Service: "web", Before: sent.Before}
	late := *sent
	late.Late, late.NewConn, late.Before = true, false, sent.After
	for _, c := range []struct {
		record *forwarder.Record
		want   string
	}{
		{sent, "eth0>eth1 web/server02   f-1a2b3c4d NEW      tcp 10.20.40.80:40000 > 200.100.50.25:80 [S]  " +
			"=> 10.10.10.254:1025 > 10.10.10.2:80"},
		{&reply, "eth0>eth1 web/server02   f-1a2b3c4d          tcp 10.20.40.80:40000 > 200.100.50.25:80 [S]  " +
			"=> 10.10.10.254:1025 > 10.10.10.2:80"},
		{&late, "eth0>eth1 web/server02   f-1a2b3c4d LATE     tcp 10.10.10.254:1025 > 10.10.10.2:80 [S]  => 08:00:00:00:00:00"},
		{&dropped, "eth0      web            f-00000002 DROP     tcp 10.20.40.80:40000 > 200.100.50.25:80 [S]  tcp_flags"},
		{&forwarder.Record{Leg: "eth0", Conn: conntrack.None, Verdict: wire.Pass, Reason: wire.NotIP,
			Before: forwarder.Headers{EtherType: 0x88cc}}, "eth0      -              -          PASS     ethertype 0x88cc  not_ip"},
	} {
		traced := NewTraced(c.record, at, 1, TraceOptions{})
		if got, want := traced.Brief(), "12:01:07.113205 "+c.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		text, err := json.Marshal(traced)
		if err != nil {
			t.Fatal(err)
		}
		var back Traced
		if err := json.Unmarshal(text, &back); err != nil || back.Brief() != traced.Brief() || back.Note != Comment(c.record) {
			t.Errorf("%v, reads back as %s", err, back.Brief())
		}
	}
}

func TestOnlyWhatHasPortsIsShownWithPorts(t *testing.T) {
	h := forwarder.Headers{EtherType: wire.TypeIPv4, Version: 4, Src: wire.AddrFrom(netip.MustParseAddr("192.0.2.1")),
		Dst: wire.AddrFrom(netip.MustParseAddr("198.51.100.1")), TTL: 64, Length: 1500}
	for _, c := range []struct {
		proto      uint8
		later      bool
		first      uint16 // the port, or the type
		packet, to string
	}{
		{wire.ProtoUDP, false, 53, "udp 192.0.2.1:53 > 198.51.100.1:4", "198.51.100.1:4/udp"},
		{wire.ProtoUDP, true, 0, "udp 192.0.2.1 > 198.51.100.1 later fragment", "198.51.100.1/udp"},
		{wire.ProtoICMP, false, 3, "icmp 192.0.2.1 > 198.51.100.1 type 3 code 4", "198.51.100.1/icmp"},
		{wire.ProtoICMP, true, 0, "icmp 192.0.2.1 > 198.51.100.1 later fragment", "198.51.100.1/icmp"},
		{47, false, 0, "protocol 47 192.0.2.1 > 198.51.100.1", "198.51.100.1/protocol 47"},
	} {
		r := forwarder.Record{Conn: conntrack.None, Verdict: wire.Pass, Reason: wire.NotOurAddress, Before: h,
			Stages: []forwarder.Stage{forwarder.StageParse, forwarder.StageService}}
		r.Before.Proto, r.Before.Later, r.Before.SrcPort = c.proto, c.later, c.first
		if c.first != 0 {
			r.Before.DstPort = 4
		}
		x := Explain(&r)
		if want := c.packet + " ttl 64 len 1500"; x.Packet != want {
			t.Errorf("%s, want %s", x.Packet, want)
		}
		if got, want := x.Steps[1].Details[0], "no service for "+c.to; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAWrongHeaderChecksumIsToldWithTheRightOne(t *testing.T) {
	whole := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "S"}.Bytes(t)
	right := fmt.Sprintf("right is 0x%02x%02x", whole[24], whole[25])
	for _, c := range []struct {
		sum  [2]byte
		want string
	}{
		{[2]byte{whole[24] ^ 1, whole[25]}, right},
		{[2]byte{}, right + "; the sender's own capture has 0 where its device makes it"},
	} {
		frame := bytes.Clone(whole)
		frame[24], frame[25] = c.sum[0], c.sum[1]
		given := bytes.Clone(frame)
		x := Explain(&forwarder.Record{Conn: conntrack.None, Verdict: wire.Drop, Reason: wire.IPChecksum, Frame: frame,
			FrameLen: len(frame), Before: forwarder.Headers{EtherType: wire.TypeIPv4}, Stages: []forwarder.Stage{forwarder.StageParse}})
		if want := "tcp 192.0.2.1:1000 > 198.51.100.1:80 [S]"; x.Packet != want {
			t.Errorf("%s, want %s", x.Packet, want)
		}
		want := fmt.Sprintf("ipv4, header checksum 0x%02x%02x wrong, %s", c.sum[0], c.sum[1], c.want)
		if got := x.Steps[0].Details[0]; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if !bytes.Equal(frame, given) {
			t.Error("the frame was changed")
		}
	}
}

func TestFramesOfATracedRecordReadBack(t *testing.T) {
	r := framed(60)
	r.Frame[0] = 5
	traced := NewTraced(r, time.Now(), 0, TraceOptions{Frames: true})
	before, after, err := traced.Packets()
	if err != nil || len(before) != 60 || before[0] != 5 || len(after) != 1 || after[0][0] != 7 {
		t.Errorf("%v %v %v", before, after, err)
	}
	traced.Frames.Before = "?"
	if _, _, err := traced.Packets(); err == nil {
		t.Error("nonsense is taken for a frame")
	}
}

func TestFramesAreDescribedAsFarAsTheyGo(t *testing.T) {
	tcp := wiretest.Frame{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "S"}.Bytes(t)
	for want, frame := range map[string][]byte{
		"tcp 192.0.2.1:1000 > 198.51.100.1:80 [S]":    tcp,
		"tcp 192.0.2.1:1000 > 198.51.100.1:80":        tcp[:40],
		"protocol 6 192.0.2.1 > 198.51.100.1":         tcp[:34],
		"ethertype 0x0800":                            tcp[:16],
		"ethertype ":                                  tcp[:3],
		"udp [2001:db8::1]:1 > [2001:db8::2]:53":      wiretest.Frame{Src: "[2001:db8::1]:1", Dst: "[2001:db8::2]:53", UDP: true}.Bytes(t),
		"icmp 192.0.2.1 > 198.51.100.1 type 8 code 0": wiretest.Frame{Src: "192.0.2.1", Dst: "198.51.100.1", ICMP: []byte{8, 0, 0, 0, 0, 0, 0, 1}}.Bytes(t),
	} {
		if got := DescribeFrame(frame); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzFields gives the dissector anything: it must not panic, and every field lies in the frame.
func FuzzFields(f *testing.F) {
	for _, fr := range []wiretest.Frame{
		{Src: "192.0.2.1:1000", Dst: "198.51.100.1:80", TCP: "S"},
		{Src: "[2001:db8::1]:1000", Dst: "[2001:db8::2]:6080", UDP: true, Payload: []byte{0, 4, 0, 0, 0x45, 0}},
	} {
		f.Add(fr.Bytes(f), uint16(6080))
	}
	f.Fuzz(func(t *testing.T, frame []byte, gue uint16) {
		for _, x := range Fields(frame, gue) {
			if x.At < 0 || x.At+x.Len > len(frame) || strings.TrimSpace(x.Name) == "" {
				t.Errorf("%+v of %d bytes", x, len(frame))
			}
		}
	})
}
