package frag_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// step is a fragment and what must become of it.
type step struct {
	part
	wait     time.Duration // before
	want     outcome
	releases int // held fragments that follow
}

// steps reads a story: "0-64+ passed, after 1s 64-70 held" are a first fragment of 64 bytes that passes and, a second
// later, a last one that is held. "passed+2" is followed by two that were held; other outcomes are reasons without the
// word fragment.
func steps(t *testing.T, story string) (all []step) {
	for text := range strings.SplitSeq(story, ", ") {
		var s step
		words := strings.Fields(text)
		if words[0] == "after" {
			s.wait, _ = time.ParseDuration(words[1])
			words = words[2:]
		}
		span, more := strings.CutSuffix(words[0], "+")
		s.last, s.id = !more, 9
		if _, err := fmt.Sscanf(span, "%d-%d", &s.from, &s.to); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want, n, _ := strings.Cut(words[1], "+")
		s.releases, _ = strconv.Atoi(n)
		if s.want = outcome(want); s.want != passed && s.want != kept {
			s.want = "fragment_" + s.want
		}
		all = append(all, s)
	}
	return all
}

func TestFragments(t *testing.T) {
	for _, tt := range []struct {
		name     string
		versions string // 4, 6
		story    string
		lost     int // held fragments that the first one never came to
	}{
		{"in order", "46", "0-64+ passed, 64-128+ passed, 128-131 passed", 0},
		{"the other way round", "46", "128-131 held, 64-128+ held, 0-64+ passed+2", 0},
		{"the first in the middle", "46", "64-128+ held, 0-64+ passed+1, 128-131 passed", 0},
		{"the first never comes", "46", "64-128+ held, 128-131 held", 2},
		{"the first comes too late", "46", "64-128+ held, after 1s 0-64+ passed", 1},
		{"the first comes just in time", "46", "64-128+ held, after 999ms 0-64+ passed+1", 0},
		{"a later one comes late", "46", "0-64+ passed, after 14999ms 64-70 passed", 0},
		{"a later one comes too late", "46", "0-64+ passed, after 15s 64-70 held", 1},

		{"the first twice", "46", "0-64+ passed, 0-64+ overlap, 64-70 passed", 0},
		{"a later one twice", "46", "0-64+ passed, 64-128+ passed, 64-128+ overlap, 128-136 passed", 0},
		{"the last one twice", "46", "0-64+ passed, 128-131 passed, 128-131 overlap, 64-128+ passed", 0},
		{"a held one twice", "46", "64-128+ held, 64-128+ overlap, 0-64+ passed+1", 0},
		{"all of it again", "46", "0-64+ passed, 64-70 passed, 0-64+ passed, 64-70 passed", 0},
		{"the last one again when all has come", "46", "0-64+ passed, 64-70 passed, 64-70 held", 1},

		{"a part of one that came", "4", "0-64+ passed, 8-16+ overlap, 64-70 passed", 0},
		{"one that covers another", "4", "0-64+ passed, 128-136+ passed, 64-192+ overlap, 64-128+ passed", 0},
		{"one of two that came", "4", "0-64+ passed, 64-72+ passed, 72-80+ passed, 64-80+ overlap", 0},
		{"the beginning of one that came", "4", "0-64+ passed, 0-32+ overlap", 0},
		{"over the flags of TCP (RFC 1858)", "4", "0-24+ passed, 8-32+ overlap", 0},
		{"over the flags of TCP, ahead (RFC 3128)", "4", "8-32+ held, 0-24+ overlap", 1},
		{"an overlap ends a datagram (RFC 5722)", "6",
			"0-64+ passed, 56-72+ overlap, 64-128+ overlap, after 2s 128-131 overlap, after 2s 0-64+ overlap", 0},
		{"an overlap of held ones ends a datagram", "6",
			"64-128+ held, 72-80+ overlap, 0-64+ overlap, after 2s 0-64+ overlap", 1},
		{"a last one over one that came ends a datagram", "6",
			"0-64+ passed, 64-72+ passed, 64-70 overlap, 72-80 overlap", 0},

		{"no multiple of 8, though more follow", "46", "0-63+ malformed, 64-127+ malformed", 0},
		{"nothing in it", "46", "64-64+ malformed, 64-64 malformed", 0},
		{"behind the last one", "46",
			"0-64+ passed, 128-131 passed, 136-144+ malformed, 128-136+ malformed, 64-128+ passed", 0},
		{"a last one before one that came", "46",
			"0-64+ passed, 128-192+ passed, 64-70 malformed, 64-128+ passed", 0},
		{"two last ones", "46", "0-64+ passed, 128-131 passed, 64-67 malformed, 128-132 malformed", 0},
		{"up to 65535 bytes", "4", "0-64+ passed, 65504-65515 passed", 0},
		{"beyond 65535 bytes", "4", "0-64+ passed, 65504-65516 malformed", 0},
		{"up to 65535 bytes of payload", "6", "0-64+ passed, 65528-65535 passed", 0},
		{"the very last bytes twice", "6", "0-64+ passed, 65528-65535 passed, 65528-65535 overlap, 64-72+ passed", 0},
		{"beyond 65535 bytes of payload", "6", "0-64+ passed, 65528-65536 malformed", 0},
		{"without ports", "46", "0-0+ tiny, 64-70 held", 1},

		{"the same identification anew", "4", "0-64+ passed, after 1001ms 0-64+ passed, 64-70 passed", 0},
		{"the same identification anew, another end", "4",
			"0-64+ passed, 128-131 passed, after 1001ms 192-200+ held, 0-64+ passed+1", 0},
		{"the same identification too soon", "46", "0-64+ passed, after 1s 0-64+ overlap", 0},
		{"identifications of 32 bits do not come again", "6",
			"0-64+ passed, after 14s 0-64+ overlap, after 2s 0-64+ passed", 0},
	} {
		for _, version := range tt.versions {
			t.Run(tt.name+"/"+string(version), func(t *testing.T) {
				r := newRig(t, 16, 16)
				for i, s := range steps(t, tt.story) {
					r.after(s.wait)
					s.six = version == '6'
					got := r.put(s.part)
					if got != s.want || got == passed && len(r.passed) != 1+s.releases {
						t.Fatalf("step %d: %s with %d packets, want %s and %d that were held", i, got, len(r.passed), s.want,
							s.releases)
					}
					for k, p := range r.passed {
						if p.Flow.SrcPort != 1000 || p.Flow.DstPort != 80 {
							t.Errorf("step %d: packet %d has ports %d, %d", i, k, p.Flow.SrcPort, p.Flow.DstPort)
						}
					}
				}
				r.after(time.Minute)
				if lost := r.lost(); lost != tt.lost || r.held != 0 {
					t.Errorf("%d held ones were lost, %d are left; want %d", lost, r.held, tt.lost)
				}
			})
		}
	}
}

func TestDatagramsAreToldApart(t *testing.T) {
	base := part{id: 9, to: 64}
	for name, other := range map[string]part{
		"identification": {id: 10, to: 64},
		"protocol":       {id: 9, to: 64, tcp: true},
		"source":         {id: 9, to: 64, src: "192.0.2.2"},
		"version":        {id: 9, to: 64, six: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 16, 16)
			first, second := base, other
			first.ports, second.ports = 0x00010002, 0x00030004
			if a, b := r.put(first), r.put(second); a != passed || b != passed {
				t.Fatal(a, b)
			}
			first.from, first.to, second.from, second.to = 64, 72, 64, 72
			if got := r.put(second); got != passed || r.passed[0].Flow.SrcPort != 3 || r.passed[0].Flow.DstPort != 4 {
				t.Errorf("second: %s %+v", got, r.passed)
			}
			if got := r.put(first); got != passed || r.passed[0].Flow.SrcPort != 1 || r.passed[0].Flow.DstPort != 2 {
				t.Errorf("first: %s %+v", got, r.passed)
			}
		})
	}
}

func TestIPv6TellsTheProtocolInTheFirstFragmentOnly(t *testing.T) {
	r := newRig(t, 16, 16)
	early := part{id: 9, from: 64, to: 72, six: true, tcp: true, options: true}
	r.put(early)
	if early.from, early.to = 0, 64; r.put(early) != passed || len(r.passed) != 2 {
		t.Fatalf("%d packets", len(r.passed))
	}
	early.from, early.to = 72, 80
	all := r.passed[1:2]
	if r.put(early) != passed {
		t.Fatal("the third is not known")
	}
	for _, p := range append(all, r.passed...) {
		if p.Proto != wire.ProtoTCP || p.Flow.Proto != wire.ProtoTCP || p.Flow.SrcPort != 1000 {
			t.Errorf("protocol %d, flow %+v", p.Proto, p.Flow)
		}
	}
}

func TestHeadersBeforeTheFragmentCountAsPayload(t *testing.T) {
	for to, want := range map[int]outcome{65527: kept, 65528: malformed} {
		b := part{id: 9, from: 65504, to: to, last: true, six: true}.frame()
		b = slices.Insert(b, 54, []byte{44, 0, 1, 4, 0, 0, 0, 0}...) // hop-by-hop options
		b[20] = 0
		b[18], b[19] = 0, byte(len(b)-54)
		p := wiretest.Packet(b)
		if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone {
			t.Fatal("cannot parse")
		}
		if got := newRig(t, 4, 4).take(&p); got != want {
			t.Errorf("up to %d: %s, want %s", to, got, want)
		}
	}
}

func TestAnOverlapGivesUpWhatIsHeldAtOnce(t *testing.T) {
	r := newRig(t, 16, 16)
	r.put(part{id: 9, from: 64, to: 128, six: true})
	r.put(part{id: 9, from: 72, to: 80, six: true})
	if lost := r.lost(); lost != 1 || r.held != 0 {
		t.Errorf("%d lost, %d held", lost, r.held)
	}
}

func TestOnlyWhatIsNotKnownIsHeld(t *testing.T) {
	r := newRig(t, 16, 16)
	r.put(part{id: 9, to: 64})
	p, _ := part{id: 9, from: 64, to: 72}.packet(t)
	if r.Hold(r.now, &p) {
		t.Error("a fragment whose first one came is held")
	}
}

func TestHeldFragmentsComeBackAsTheyWere(t *testing.T) {
	r := newRig(t, 16, 16)
	p, _ := part{id: 9, from: 64, to: 72, last: true}.packet(t)
	p.Leg, p.TPID, p.TCI = 3, 0x8100, 7
	want := string(p.Bytes())
	p.Len += 10 // padding
	if got := r.take(&p); got != kept {
		t.Fatal(got)
	}
	clear(p.Buf) // the device takes its memory back
	if got := r.put(part{id: 9, to: 64}); got != passed || len(r.passed) != 2 {
		t.Fatal(got, len(r.passed))
	}
	q := &r.passed[1]
	if string(q.Bytes()) != want {
		t.Errorf("%x, want %x", q.Bytes(), want)
	}
	if q.Leg != 3 || q.TPID != 0x8100 || q.TCI != 7 || q.Frag != wire.LaterFragment || q.L3 != 14 || q.L4 != 34 || q.End != 42 {
		t.Errorf("%+v", q)
	}
	if q.Off < wire.Headroom || len(q.Buf)-q.Off < wire.MinBuffer {
		t.Errorf("%d bytes before, %d behind", q.Off, len(q.Buf)-q.Off)
	}
}

func TestLentPacketsStayUntilReset(t *testing.T) {
	r := newRig(t, 16, 4)
	early := part{id: 1, from: 64, to: 72}
	r.put(early)
	r.put(part{id: 1, to: 64})
	lent := r.passed[1].Bytes()
	before := string(lent)
	for id := range uint32(4) {
		p, _ := part{src: "192.0.2.9", id: 10 + id, from: 128, to: 136}.packet(t)
		if _, _, why := r.Later(r.now, &p); why != wire.ReasonNone {
			t.Fatal(why)
		}
		r.Hold(r.now, &p)
	}
	if string(lent) != before {
		t.Error("a packet that was given back is overwritten")
	}
	if got := r.put(part{src: "192.0.2.3", id: 2, from: 64, to: 72}); got != kept {
		t.Errorf("after Reset there is no room: %s", got)
	}
}

func TestValuesStayWithTheirDatagram(t *testing.T) {
	r := newRig(t, 16, 16)
	for id := range uint32(3) {
		p, _ := part{id: id, to: 64}.packet(t)
		at, why := r.First(r.now, &p)
		if why != wire.ReasonNone || r.Value(at) != 0 {
			t.Fatal(why, r.Value(at))
		}
		r.SetValue(at, 100+id)
	}
	for id := range uint32(3) {
		p, _ := part{id: id, from: 64, to: 72, last: true}.packet(t)
		at, known, _ := r.Later(r.now, &p)
		if !known || r.Value(at) != 100+id { // also of the fragment that ends it
			t.Errorf("datagram %d: known %v, value %d", id, known, r.Value(at))
		}
	}
	p, _ := part{id: 1, to: 64}.packet(t)
	if at, _ := r.First(r.now, &p); r.Value(at) != 0 {
		t.Errorf("a new datagram has the value %d of the old one", r.Value(at))
	}
}

func TestReasonsHaveTheirNames(t *testing.T) {
	for r := wire.FragmentMalformed; r <= wire.FragmentLost; r++ {
		if !strings.HasPrefix(r.String(), "fragment_") || r.Verdict() != wire.Drop {
			t.Errorf("%s %s", r, r.Verdict())
		}
	}
}
