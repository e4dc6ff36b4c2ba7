package record

import (
	"net/url"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestFilters(t *testing.T) {
	r := exampleRecord()
	r.Flow = 0x1a2b3c4d
	reply := *r
	reply.Dir, reply.NewConn, reply.Before, reply.After = conntrack.Reply, false, r.After, r.Before
	reply.After.Src, reply.After.Dst = r.Before.Dst, r.Before.Src
	dropped := forwarder.Record{Conn: conntrack.None, Verdict: wire.Drop, Reason: wire.TCPFlags, Before: r.Before}
	arp := forwarder.Record{Conn: conntrack.None, Verdict: wire.Consume, Reason: wire.ARPAnswered,
		Before: forwarder.Headers{EtherType: wire.TypeARP}}
	all := []*forwarder.Record{r, &reply, &dropped, &arp}
	for query, want := range map[string]string{
		"":                                      "1111",
		"service=web":                           "1100",
		"service=web&service=other":             "1100",
		"service=other":                         "0000",
		"backend=server02":                      "1100",
		"backend=web/server02":                  "1100",
		"backend=other/server02":                "0000",
		"client=10.20.0.0/16":                   "1110",
		"client=10.20.40.80":                    "1110",
		"client=10.10.0.0/16":                   "0000",
		"verdict=drop":                          "0010",
		"verdict=drop&verdict=consume":          "0011",
		"reason=tcp_flags":                      "0010",
		"flow=f-1a2b3c4d":                       "1100",
		"flow=f-00000001":                       "0000",
		"new=true":                              "1000",
		"expr=arp":                              "0001",
		"expr=tcp and src port 40000":           "1110",
		"expr=dst host 10.10.10.2":              "1100",
		"expr=net 200.100.50.0/24 and not arp":  "1110",
		"expr=udp or (tcp and dst port 81)":     "0000",
		"expr=tcp port 80 not host 10.10.10.2":  "1110", // as it came, or as it left
		"expr=not tcp":                          "0001",
		"expr=ip6":                              "0000",
		"verdict=transmit&new=true&service=web": "1000",
	} {
		q, err := url.ParseQuery(strings.ReplaceAll(query, " ", "+"))
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseFilter(q)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		again, err := ParseFilter(f.Query())
		if err != nil {
			t.Errorf("%s: %v", query, err)
		}
		got, twice := "", ""
		for _, r := range all {
			got += map[bool]string{true: "1", false: "0"}[f.Match(r)]
			twice += map[bool]string{true: "1", false: "0"}[again.Match(r)]
		}
		if got != want || twice != want {
			t.Errorf("%s: %s, written and read again %s, want %s", query, got, twice, want)
		}
		if n := testing.AllocsPerRun(10, func() { f.Match(r); f.Match(&dropped) }); n != 0 {
			t.Errorf("%s: %v allocations", query, n)
		}
	}
	for query, want := range map[string]string{
		"bpf=port":         "pcapfilter: \"\" is no port",
		"client=10.20":     "no address and no prefix",
		"verdict=lost":     `verdict "lost" is not known`,
		"reason=bad":       `reason "bad" is not known`,
		"flow=1a2b":        "no name of a flow",
		"expr=tcp+and":     `"" is not known here`,
		"expr=(tcp":        "a ) is missing",
		"expr=tcp)":        "stands where the expression ends",
		"expr=port+x":      `"x" is no port`,
		"expr=host+x":      "no address",
		"expr=greater+100": `"greater" is not known here`,
		"expr=" + strings.Repeat("not+", 300) + "tcp": "more than 200 words",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFilter(q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %s", query, err, want)
		}
	}
}

// framed is a record with frames.
func framed(n int) *forwarder.Record {
	r := exampleRecord()
	r.Frame, r.FrameLen = make([]byte, n), n
	out := wire.Frame{Buf: make([]byte, 10+n), Off: 10, Len: n}
	out.Buf[10] = 7
	r.Sent = []*wire.Frame{&out}
	return r
}

func TestARingGivesRecordsOnAndCountsWhatFindsNoRoom(t *testing.T) {
	g := NewRing(4, 64)
	r := framed(100)
	for n := range 6 {
		r.Time, r.Frame[0], r.Candidates[0].Active = wire.Time(n), byte(n), int64(n)
		g.Put(r)
	}
	r.Frame[0], r.Candidates[0].Active = 99, 99
	n := 0
	if got := g.Take(func(c *forwarder.Record) {
		if c.Time != wire.Time(n) || c.Frame[0] != byte(n) || c.Candidates[0].Active != int64(n) || len(c.Stages) != 2 || len(c.Frame) != 64 ||
			len(c.Sent) != 1 || c.Sent[0].Len != 64 || c.Sent[0].Bytes()[0] != 7 {
			t.Errorf("record %d: %+v", n, c)
		}
		n++
	}); got != 4 || n != 4 || g.Missed() != 2 {
		t.Errorf("%d records, %d missed", got, g.Missed())
	}
	g.Put(r)
	if g.Take(func(*forwarder.Record) {}) != 1 || g.Take(func(*forwarder.Record) {}) != 0 {
		t.Error("the ring does not go round")
	}
}

func TestARingTakesNoMoreMemoryThanItMay(t *testing.T) {
	g := NewRing(4096, wire.MaxFrame)
	r := framed(60000)
	for range 1000 {
		g.Put(r)
	}
	if n := g.Take(func(*forwarder.Record) {}); n > ringBytes/60000+1 || uint64(n)+g.Missed() != 1000 {
		t.Errorf("%d records of 120 kB were kept, %d missed", n, g.Missed())
	}
}

func TestARingPassesBetweenGoroutines(t *testing.T) {
	g := NewRing(8, 64)
	const all = 5000
	go func() {
		r := framed(80)
		for n := range all {
			r.Time = wire.Time(n)
			g.Put(r)
		}
	}()
	last, got := wire.Time(-1), 0
	for uint64(got)+g.Missed() < all {
		got += g.Take(func(c *forwarder.Record) {
			if c.Time <= last {
				t.Fatalf("%d after %d", c.Time, last)
			}
			last = c.Time
		})
	}
}

func TestAFilterOfFramesLooksAtAllOfThem(t *testing.T) {
	in := wiretest.Frame{Src: "10.20.40.80:40000", Dst: "200.100.50.25:80", TCP: "S"}.Packet(t)
	out := wiretest.Frame{Src: "10.10.10.254:1025", Dst: "10.10.10.2:80", TCP: "S"}.Packet(t)
	r := exampleRecord()
	r.Frame, r.FrameLen, r.Sent = in.Bytes(), in.Len, []*wire.Frame{&out.Frame}
	late := *r
	late.Late = true // what came first has a record of its own
	for text, want := range map[string][2]bool{"host 10.20.40.80": {true, false}, "host 10.10.10.2": {true, true},
		"tcp[tcpflags] & tcp-syn != 0": {true, true}, "udp": {false, false}, "host 10.20.40.80 and host 10.10.10.2": {false, false}} {
		f, err := ParseFilter(url.Values{"bpf": {text}})
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseFilter(f.Query())
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{f.Match(r), again.Match(&late)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
		if n := testing.AllocsPerRun(10, func() { f.Match(r) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
	for text, want := range map[string]int{"tcp": 158, "ip[100] = 0": wire.MaxFrame, "len > 100": 158} {
		if f, err := ParseFilter(url.Values{"bpf": {text}}); err != nil || f.Bytes() != want {
			t.Errorf("%s: %d bytes, %v", text, f.Bytes(), err)
		}
	}
}
