package replay_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"naru/internal/replay"
	"naru/internal/wire"
)

// relation is what must be the same of a capture and of another one that is made from it.
type relation struct {
	name  string
	check func(t *testing.T, name, mode string, tp tape) (compared int)
}

var relations = []relation{
	{"a tag", tagIsCarried},
	{"another date", dateIsNothing},
	{"flows permuted, mh", func(t *testing.T, name, mode string, tp tape) int { return hashStays(t, name, mode, "mh", tp) }},
	{"flows permuted, sh", func(t *testing.T, name, mode string, tp tape) int { return hashStays(t, name, mode, "sh", tp) }},
	{"the other family", familyIsNothing},
}

// TestWhatMustHoldBetweenTwoCaptures checks one relation of each capture in one mode, with NARU_FULL all in all.
func TestWhatMustHoldBetweenTwoCaptures(t *testing.T) {
	runs(t)
	modes := replay.AutoModes()
	compared := map[string]int{}
	for i, path := range captures(t) {
		_, tp := fileOf(t, path)
		for k, r := range relations {
			for m, mode := range modes {
				if full() || i%len(relations) == k && i/len(relations)%len(modes) == m {
					compared[r.name] += r.check(t, tp.name+", "+r.name+" "+mode, mode, tp)
				}
			}
		}
	}
	for _, r := range relations {
		if compared[r.name] < 200 {
			t.Errorf("%s: only %d packets were compared", r.name, compared[r.name])
		}
	}
	t.Logf("packets compared: %v", compared)
}

// tagIsCarried: with a VLAN tag on every frame the same leaves, with the tag.
func tagIsCarried(t *testing.T, name, mode string, tp tape) int {
	with := each(func(_ *rand.Rand, d []byte) []byte {
		if p, ok := parsed(d); ok && p.L3 != wire.EthernetLen {
			return nil
		}
		return tagged(d, wire.TypeVLAN, 0x2007)
	})(nil, tp)
	if len(with.frames) == 0 {
		return 0
	}
	cfg := tp.auto(t, mode)
	a, b := newSubject(t, name+", before", cfg, 0).run(tp), newSubject(t, name, cfg, 0).run(with)
	if len(a.sent) != len(b.sent) {
		t.Errorf("%s: %d frames left, without the tag %d", name, len(b.sent), len(a.sent))
		return 0
	}
	for i, got := range b.sent {
		want := a.sent[i].data
		// What naru announces is because of no packet, and has no tag.
		if announced := want[0]&1 != 0; !announced && !bytes.Equal(tp.frames[got.number-1].data, with.frames[got.number-1].data) {
			want = tagged(want, wire.TypeVLAN, 0x2007)
		}
		if !bytes.Equal(got.data, want) {
			t.Errorf("%s packet %d: %s", name, got.number, difference(got.data, want))
		}
	}
	return len(a.sent)
}

// dateIsNothing: ten years later the same leaves.
func dateIsNothing(t *testing.T, name, mode string, tp tape) int {
	later := tape{name: tp.name}
	for _, x := range tp.frames {
		x.at += 10 * 365 * 24 * 3600 * 1e9
		later.frames = append(later.frames, x)
	}
	cfg := tp.auto(t, mode)
	a, b := newSubject(t, name+", before", cfg, 0).run(tp), newSubject(t, name, cfg, 0).run(later)
	if !bytes.Equal(a.flows, b.flows) || !bytes.Equal(a.counters, b.counters) || len(a.sent) != len(b.sent) {
		t.Errorf("%s: other flows, counters or frames", name)
		return 0
	}
	for i, got := range b.sent {
		if !bytes.Equal(got.data, a.sent[i].data) {
			t.Errorf("%s packet %d: %s", name, got.number, difference(got.data, a.sent[i].data))
		}
	}
	return len(tp.frames)
}

// hashStays: whatever the order of the conversations, a scheduler that hashes makes the same choice.
func hashStays(t *testing.T, name, mode, scheduler string, tp tape) int {
	cfg := tp.auto(t, mode, "scheduler: rr", "scheduler: "+scheduler)
	other := reordered(permute)(seeded(name), tp)
	chosen, compared := map[wire.FlowID]string{}, 0
	for i, x := range []tape{tp, other} {
		for n, d := range newSubject(t, name, cfg, 0).run(x).decisions {
			if d.backend == "" {
				continue
			}
			was, there := chosen[d.flow]
			if there && was != d.backend {
				t.Errorf("%s packet %d of order %d: flow %v went to %s, in another order to %s", name, n+1, i, d.flow, d.backend, was)
			}
			if there && i == 1 {
				compared++
			}
			chosen[d.flow] = d.backend
		}
	}
	return compared
}

// familyIsNothing: the same conversations in the other family get the same decisions.
func familyIsNothing(t *testing.T, name, mode string, tp tape) int {
	base := tape{name: tp.name}
	for _, x := range tp.frames {
		if p, ok := parsed(x.data); ok && plainTransport(&p) && ordinary(&p) {
			base.frames = append(base.frames, taped{x.at, x.data, len(x.data)})
		}
	}
	if len(base.frames) == 0 {
		return 0
	}
	other := otherFamily(nil, base)
	a := newSubject(t, name+", before", base.auto(t, mode), 0).run(base)
	b := newSubject(t, name, other.auto(t, mode), 0).run(other)
	for i, got := range b.decisions {
		want := a.decisions[i]
		// Of answers the limit may be reached earlier: the addresses lie closer together.
		refused := got.verdict != wire.Transmit && want.verdict != wire.Transmit && got.verdict != wire.Pass
		if got.backend != want.backend || !refused && (got.verdict != want.verdict || got.reason != want.reason) {
			t.Errorf("%s packet %d: %v %v %s, in its own family %v %v %s", name, i+1, got.verdict, got.reason, got.backend,
				want.verdict, want.reason, want.backend)
		}
	}
	return len(base.frames)
}

// ordinary reports whether the addresses of a packet are such as hosts have.
func ordinary(p *wire.Packet) bool {
	for _, a := range []wire.Addr{p.Flow.Src, p.Flow.Dst} {
		if !a.Netip().IsGlobalUnicast() || a.Martian(p.Version) || p.Version == 6 && a.Is4() {
			return false
		}
	}
	return p.Bytes()[0]&1 == 0
}
