package frag_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"naru/internal/wire"
)

func TestEveryFragmentGetsThePortsOnceInAnyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := newRig(t, 256, 1024)
	for round := range 400 {
		var all []part
		for id := range uint32(1 + rng.IntN(5)) {
			s := part{id: id, six: rng.IntN(2) == 0, tcp: rng.IntN(2) == 0, ports: rng.Uint32()}
			s.options = s.six && rng.IntN(2) == 0
			all = append(all, cuts(rng, s, 100+rng.IntN(4000))...)
		}
		rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
		got := map[part]int{}
		for _, s := range all {
			if o := r.put(s); o != passed && o != kept {
				t.Fatalf("round %d: %+v of %+v: %s", round, s, all, o)
			}
			for _, p := range r.passed {
				s := partOf(&p)
				i := slices.IndexFunc(all, func(o part) bool {
					return s == part{id: o.id, six: o.six, from: o.from, to: o.to, last: o.last, ports: o.ports, tcp: o.tcp}
				})
				if i < 0 {
					t.Fatalf("round %d: %+v comes out, not one of %+v", round, s, all)
				}
				got[all[i]]++
			}
		}
		for _, s := range all {
			if got[s] != 1 {
				t.Fatalf("round %d: %+v came out %d times", round, s, got[s])
			}
		}
		r.after(time.Minute)
		if lost := r.lost(); lost != 0 || r.held != 0 {
			t.Fatalf("round %d: %d lost, %d held", round, lost, r.held)
		}
	}
}

// partOf reads back what a packet is, by its bytes and by what the table filled in.
func partOf(p *wire.Packet) part {
	s := part{six: p.Version == 6, tcp: p.Proto == wire.ProtoTCP && p.Flow.Proto == wire.ProtoTCP,
		ports: uint32(p.Flow.SrcPort)<<16 | uint32(p.Flow.DstPort)}
	var more bool
	s.id, s.from, more = p.Fragment()
	s.to, s.last = s.from+p.End-p.FragmentData(), !more
	return s
}

// model is the rules of the table without its bounds, written down plainly: datagrams as lists of parts.
type model map[uint32]*modelled

type modelled struct {
	parts      []part
	born, last wire.Time
	known      bool
	refused    bool
	held       int
}

// put returns what must become of a fragment, and how many held ones follow it.
func (m model) put(now wire.Time, s part) (outcome, int) {
	if s.to <= s.from || !s.last && (s.to-s.from)%8 != 0 {
		return "fragment_malformed", 0
	}
	d := m[s.id]
	if d != nil && d.over(now) {
		d = nil
	}
	if d != nil {
		why := d.judge(now, s)
		if why != "" && !(d.known && !s.six && now-d.last > wire.Time(time.Second)) {
			return why, 0
		}
		if why != "" {
			d = nil
		}
	}
	if d == nil {
		d = &modelled{born: now}
		m[s.id] = d
	}
	d.parts, d.last = append(d.parts, s), now
	if s.from > 0 && !d.known {
		d.held++
		return kept, 0
	}
	follow := 0
	if s.from == 0 {
		d.known, d.born = true, now
		follow, d.held = d.held, 0
	}
	if d.complete() {
		delete(m, s.id)
	}
	return passed, follow
}

func (d *modelled) over(now wire.Time) bool {
	if d.known || d.refused {
		return now-d.born >= wire.Time(15*time.Second)
	}
	return now-d.born >= wire.Time(time.Second)
}

func (d *modelled) judge(now wire.Time, s part) outcome {
	if d.refused {
		return "fragment_overlap"
	}
	for _, o := range d.parts {
		if o.last && (s.to > o.to || s.last != (s.to == o.to)) || s.last && !o.last && (o.to+7)/8 > (s.to+7)/8 &&
			!slices.ContainsFunc(d.parts, func(p part) bool { return p.last }) {
			return "fragment_malformed"
		}
	}
	if slices.ContainsFunc(d.parts, func(o part) bool { return o.from == s.from && o.to == s.to && o.last == s.last }) {
		return "fragment_overlap"
	}
	for _, o := range d.parts {
		if o.from < (s.to+7)/8*8 && s.from < (o.to+7)/8*8 {
			if d.refused = s.six; d.refused && !d.known {
				d.born = now
			}
			return "fragment_overlap"
		}
	}
	return ""
}

func (d *modelled) complete() bool {
	sum, end := 0, -1
	for _, o := range d.parts {
		sum += o.to - o.from
		if o.last {
			end = o.to
		}
	}
	return sum == end
}

func TestTheTableDoesWhatAPlainModelDoes(t *testing.T) {
	waits := []time.Duration{0, 0, 0, 0, 1, 100 * time.Millisecond, time.Second - 1, time.Second, time.Second + 1,
		14 * time.Second, 15 * time.Second}
	r := newRig(t, 256, 256)
	for seed := range uint64(600) {
		rng, m := rand.New(rand.NewPCG(seed, 3)), model{}
		six := seed%2 == 1
		var story []part
		for range 60 {
			from := 8 * max(0, rng.IntN(8)-1)
			s := part{id: uint32(rng.IntN(3)), from: from, to: from + 8*(1+rng.IntN(2)), six: six}
			if s.last = rng.IntN(5) == 0 && from > 0; s.last || rng.IntN(20) == 0 && from > 0 {
				s.to -= rng.IntN(8)
			}
			story = append(story, s)
			r.after(waits[rng.IntN(len(waits))])
			want, follow := m.put(r.now, s)
			got := r.put(s)
			if got != want || got == passed && len(r.passed) != 1+follow {
				t.Fatalf("seed %d: %s with %d packets, the model says %s and %d held ones, after\n%+v", seed, got,
					len(r.passed), want, follow, story)
			}
			if rng.IntN(4) == 0 {
				r.lost()
			}
		}
		r.after(time.Minute)
		if r.lost(); r.held != 0 {
			t.Fatalf("seed %d: %d are held for ever", seed, r.held)
		}
	}
}

// FuzzTable: whatever comes in whatever order into a table that is much too small, each fragment ends exactly once.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 0, 8, 1, 16, 2, 0xff, 0, 0x88, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newRig(t, 5, 7)
		in, out, refused, lost := 0, 0, 0, 0
		for ; len(script) > 1; script = script[2:] {
			a, b := script[0], script[1]
			r.after(time.Duration(b>>5) * 150 * time.Millisecond)
			if a == 0xff {
				lost += r.Expire(r.now, int(b))
				continue
			}
			from := int(a&0xf) * 8
			s := part{id: uint32(a >> 4 & 7), from: from, to: from + int(b&0x1f), last: b&1 == 1, six: a&0x80 != 0}
			if s.last && from == 0 {
				continue // no fragment
			}
			in++
			switch r.put(s) {
			case passed:
				out += len(r.passed)
			case kept:
			default:
				refused++
			}
			for _, p := range r.passed {
				if p.Flow.SrcPort != 1000 || p.Flow.DstPort != 80 || p.Proto != wire.ProtoUDP {
					t.Fatalf("%+v", p.Flow)
				}
			}
		}
		r.after(time.Minute)
		if lost += r.Expire(r.now, 100); in != out+refused+lost {
			t.Fatalf("%d in, %d out, %d refused, %d lost", in, out, refused, lost)
		}
	})
}
