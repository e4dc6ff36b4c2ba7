package replay_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"naru/internal/replay"
)

// TestEveryEventOfAScriptStandsASplit cuts runs just before, at and just after an event, and while it lasts.
func TestEveryEventOfAScriptStandsASplit(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	file := traffic(t, random, 250)
	text := strings.Replace(busy, "SCHEDULER", "wrr", 1)
	next := strings.Replace(later(), "SCHEDULER", "wrr", 1)
	n := packetsOf(t, file)
	for i, events := range []string{
		"2s backend web/b1 down\n5s backend web/b1 up",
		"2s drain web/b1 3s",
		"2s drain web/b1\n4s ready web/b1",
		"2s disable web/b2\n4s ready web/b2",
		"2s weight web/b1 0\n4s weight web/b1 7\n6s ready web/b1",
		"2s reload later\n5s reload text",
		"2s drain web/b1 4s\n3s reload later\n4s ready web/b1",
		"5s ready web/b1\n2s disable dns/b1\n2s backend far/b1 down\n3s backend far/b1 up",
		"0s disable web/b1\n1h ready web/b1",
	} {
		opt := replay.Options{Config: load(t, text), Script: script(t, events), Seed: 3, Table: 256,
			Load: loader(t, map[string]string{"text": text, "later": next})}
		opt.Backends = replay.Backends(i % 3)
		if opt.Backends == replay.Simulated {
			opt.Sim = lossy
		}
		one := inParts(t, opt, file)
		for k := range 8 {
			cuts := []int{k * n / 8, min(n, k*n/8+1+random.IntN(n/8))}
			if parts := inParts(t, opt, file, cuts...); !bytes.Equal(one.packets, parts.packets) ||
				!bytes.Equal(one.flows, parts.flows) || !bytes.Equal(one.counters, parts.counters) {
				t.Errorf("%q, cut before packets %v of %d: another result", events, cuts, n)
			}
		}
	}
}

// TestAReplayIsOfOneWorkerWhateverIsConfigured holds replay to one engine: what a packet meets does not depend on how many
// workers share the traffic in a daemon.
func TestAReplayIsOfOneWorkerWhateverIsConfigured(t *testing.T) {
	text := strings.Replace(busy, "SCHEDULER", "rr", 1)
	file := traffic(t, rand.New(rand.NewPCG(13, 14)), 300)
	opt := replay.Options{Config: load(t, text), Seed: 5, Table: 1024}
	one := inParts(t, opt, file)
	opt.Config = load(t, strings.Replace(text, "version: 1", "version: 1\nnode: {workers: 4}", 1))
	four, parts := inParts(t, opt, file), inParts(t, opt, file, 100, 200)
	for what, w := range map[string]whole{"with four workers": four, "with four workers, in parts": parts} {
		if !bytes.Equal(one.packets, w.packets) || !bytes.Equal(one.flows, w.flows) || !bytes.Equal(one.counters, w.counters) {
			t.Errorf("%s the result is another one", what)
		}
	}
}

// allocated is how many bytes a call allocates, all together.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzStateFileNeverPanics reads states that were cut, changed, doubled in places and sealed again or not, with their own
// configuration or another one: each is refused with an error that says so, or can be gone on from, with bounded memory.
func FuzzStateFileNeverPanics(f *testing.F) {
	t := &testing.T{}
	file := traffic(t, rand.New(rand.NewPCG(15, 16)), 100)
	texts := map[string]string{"busy": strings.Replace(busy, "SCHEDULER", "wrr", 1), "later": strings.Replace(later(), "SCHEDULER", "wrr", 1)}
	opt := replay.Options{Config: load(t, texts["busy"]), Seed: 7, Table: 64, Backends: replay.Simulated, Sim: lossy,
		Script: script(t, "1s drain web/b1 1h\n2s reload later"), Load: loader(t, texts)}
	whole := left(t, opt, file)
	const bound = 512 << 20
	f.Add(0, 0, []byte{}, false, false)
	f.Add(len(whole)/2, 1<<30, []byte{}, false, false)
	for i := 0; i < len(whole); i += len(whole)/60 + 1 {
		f.Add(i, 1, []byte{0xff, 0xff, 0xff, 0xff, 0x7f}, true, false) // a large number
		f.Add(i, 0, []byte("\xff\xff\xff\x07"), true, i%3 == 0)
		f.Add(i, 1<<30, bytes.Repeat([]byte{1}, 64), true, false)
	}
	f.Fuzz(func(t *testing.T, at, drop int, put []byte, sealed, otherConfig bool) {
		at = max(0, min(at, len(whole)))
		changed := append(bytes.Clone(whole[:at]), put...)
		changed = append(changed, whole[min(len(whole), at+max(0, min(drop, len(whole)))):]...)
		if _, rest, there := bytes.Cut(changed, []byte{'\n'}); sealed && there && len(rest) >= 32 {
			changed = seal(changed, rest[:len(rest)-32])
		}
		o := opt
		if otherConfig {
			o.Config = load(t, texts["later"])
		}
		o.StateIn = bytes.NewReader(changed)
		var r *replay.Replay
		var err error
		if n := allocated(func() { r, err = replay.New(o) }); n > bound {
			t.Errorf("%d bytes were allocated for a state of %d", n, len(changed))
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "replay: what to go on from ") && !strings.HasPrefix(err.Error(), "script ") {
				t.Errorf("the error does not say what it is about: %v", err)
			}
			return
		}
		feed(t, r, source(t, file), 0, nil)
	})
}

// TestAStateThatClaimsMuchGetsLittle counts what is allocated for numbers that nothing is behind.
func TestAStateThatClaimsMuchGetsLittle(t *testing.T) {
	cfg, file := golden(t)
	opt := replay.Options{Config: cfg, Seed: 1, Table: 1024, Backends: replay.Simulated, Sim: lossy}
	good := left(t, opt, file)
	try := func(values []byte) uint64 {
		opt.StateIn = bytes.NewReader(seal(good, values))
		return allocated(func() { _, _ = replay.New(opt) })
	}
	usual, v := try(values(good)), values(good)
	at := bytes.Index(v, []byte("simulated ends"))
	if at < 0 {
		t.Fatal("the state has no simulated ends")
	}
	at += len("simulated ends")
	for skip := range 60 {
		much := bytes.Join([][]byte{v[:at+skip], {0x80, 0x80, 0x80, 0x01}, bytes.Repeat([]byte{1}, 4<<20)}, nil)
		if n := try(much); n > usual+64<<20 {
			t.Errorf("a large number %d bytes into the simulated ends: %d bytes were allocated, usually %d", skip, n, usual)
		}
	}
}
