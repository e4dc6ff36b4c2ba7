package frag_test

import (
	"fmt"
	"testing"
	"time"

	"naru/internal/wire"
)

func TestTheOldestDatagramGoesWhenTheTableIsFull(t *testing.T) {
	r := newRig(t, 8, 8)
	from := func(i int) string { return fmt.Sprintf("192.0.%d.1", i) }
	r.put(part{src: from(0), from: 64, to: 72}) // waits for its first fragment
	for i := 1; i <= 8; i++ {
		r.after(1)
		if got := r.put(part{src: from(i), to: 64}); got != passed {
			t.Fatal(i, got)
		}
	}
	if lost := r.lost(); lost != 1 {
		t.Errorf("%d held fragments were lost, want that of the oldest datagram", lost)
	}
	for i := 8; i >= 1; i-- {
		if got := r.put(part{src: from(i), from: 64, to: 72}); got != passed {
			t.Errorf("datagram %d: %s", i, got)
		}
	}
	r.after(1)
	r.put(part{src: from(9), to: 64})
	if got := r.put(part{src: from(1), from: 72, to: 80}); got == passed {
		t.Error("the oldest is still known")
	}
}

func TestOneSourceHasAFewDatagramsUnderWay(t *testing.T) {
	for _, six := range []bool{false, true} {
		r := newRig(t, 4096, 16)
		for id := range uint32(128) {
			if got := r.put(part{id: id, to: 64, six: six}); got != passed {
				t.Fatal(id, got)
			}
		}
		if got := r.put(part{id: 1000, to: 64, six: six}); got != flood {
			t.Errorf("the 129th: %s", got)
		}
		if got := r.put(part{id: 1000, from: 64, to: 72, six: six}); got != flood {
			t.Errorf("a later fragment of the 129th: %s", got)
		}
		other := part{src: "203.0.113.1", id: 1000, to: 64, six: six}
		if six {
			other.src = "2001:db8:0:1::1"
			if got := r.put(part{src: "2001:db8::ffff", id: 1000, to: 64, six: true}); got != flood {
				t.Errorf("another address of the same /64: %s", got)
			}
		}
		if got := r.put(other); got != passed {
			t.Errorf("another source: %s", got)
		}
		if got := r.put(part{id: 5, from: 64, to: 70, last: true, six: six}); got != passed {
			t.Errorf("what is under way goes on: %s", got)
		}
		if got := r.put(part{id: 1000, to: 64, six: six}); got != passed {
			t.Errorf("one ended, so there is room: %s", got)
		}
	}
}

func TestDatagramsThatLostAFragmentGiveWay(t *testing.T) {
	r := newRig(t, 4096, 16)
	for id := range uint32(1000) {
		if got := r.put(part{id: id, to: 64}); got != passed {
			t.Fatal(id, got)
		}
		r.after(time.Millisecond) // the 128 before it were quiet for long enough
	}
	if got := r.put(part{id: 999, from: 64, to: 72}); got != passed {
		t.Errorf("the newest: %s", got)
	}
}

func TestRoomForHeldFragmentsIsBounded(t *testing.T) {
	r := newRig(t, 64, 8)
	for i, want := range []outcome{kept, kept, flood} { // a quarter for one source
		if got := r.put(part{id: 1, from: 64 + 8*i, to: 72 + 8*i}); got != want {
			t.Errorf("fragment %d of one source: %s, want %s", i, got, want)
		}
	}
	for i := range 6 {
		if got := r.put(part{src: fmt.Sprintf("192.0.%d.1", 10+i), from: 64, to: 72}); got != kept {
			t.Errorf("source %d: %s", i, got)
		}
	}
	if got := r.put(part{src: "192.0.99.1", from: 64, to: 72}); got != flood {
		t.Errorf("the ninth: %s", got)
	}
	r.after(time.Second)
	if lost := r.lost(); lost != 8 || r.held != 0 {
		t.Errorf("%d lost, %d held", lost, r.held)
	}
	if got := r.put(part{id: 2, from: 64, to: 72}); got != kept {
		t.Errorf("when they are gone: %s", got)
	}
}

func TestFramesLongerThanABufferAreNotHeld(t *testing.T) {
	r := newRig(t, 16, 16)
	for size, want := range map[int]outcome{9000: kept, 20000: flood} {
		if got := r.put(part{id: uint32(size), from: 64, to: 64 + size}); got != want {
			t.Errorf("%d bytes: %s, want %s", size, got, want)
		}
	}
	if got := r.put(part{id: 20000, to: 64}); got != passed || len(r.passed) != 1 {
		t.Errorf("then the first one: %s, %d packets", got, len(r.passed))
	}
}

func TestExpiryDoesALittleAtATime(t *testing.T) {
	r := newRig(t, 64, 64)
	for i := range 10 {
		r.put(part{src: fmt.Sprintf("192.0.%d.1", i), from: 64, to: 72})
	}
	r.after(time.Minute)
	for _, want := range []int{3, 3, 3, 1, 0} {
		if got := r.Expire(r.now, 3); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	r := newRig(t, 64, 16)
	var packets []wire.Packet
	for id := range uint32(100) {
		for _, at := range []int{16, 0, 8} { // the last, the first, the middle
			p, _ := part{id: id, from: at, to: at + 8, last: at == 16, six: id%2 == 1}.packet(t)
			packets = append(packets, p)
		}
	}
	r.passed = make([]wire.Packet, 0, 16)
	got := testing.AllocsPerRun(10, func() {
		for i := range packets {
			r.take(&packets[i])
		}
		r.after(time.Minute)
		r.lost()
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkDatagramOfThreeFragments(b *testing.B) {
	r := newRig(b, 4096, 256)
	var packets [3]wire.Packet
	for i := range packets {
		packets[i], _ = part{id: 1, from: 1480 * i, to: 1480 * (i + 1), last: i == 2}.packet(b)
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range packets {
			r.take(&packets[i])
		}
	}
}
