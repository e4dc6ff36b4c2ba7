package linktest

import (
	"testing"
	"time"

	"naru/internal/link"
	"naru/internal/wire"
)

// TestSet runs the contract of link.Set, which is a part of TestDevice.
func TestSet(t *testing.T, d Driver) {
	for _, tc := range []struct {
		name string
		f    func(*testing.T, *pair)
	}{
		{"Wait ends after the timeout", testWaitTimeout},
		{"Wait ends at an arrival", testWaitArrival},
		{"Wait ends while frames are left", testWaitLeft},
		{"Wait ends at a Wake before and during it", testWaitWake},
		{"a Wake is used up by one Wait", testWakeOnce},
		{"Close of a set ends Wait and closes its devices", testSetClose},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.f(t, open(t, d)) })
	}
	t.Run("Wait looks at every device", func(t *testing.T) { testWaitBoth(t, d) })
}

func wait(t *testing.T, set link.Set, timeout time.Duration) {
	t.Helper()
	within(t, "Wait", func() {
		if err := set.Wait(timeout); err != nil {
			t.Errorf("Wait: %v", err)
		}
	})
}

func testWaitTimeout(t *testing.T, p *pair) {
	wait(t, p.set, 0)
	const timeout = 20 * time.Millisecond
	start := time.Now()
	wait(t, p.set, timeout)
	if d := time.Since(start); d < timeout {
		t.Errorf("Wait(%v) ended after %v though nothing happened", timeout, d)
	}
}

func testWaitArrival(t *testing.T, p *pair) {
	done := make(chan error, 1)
	go func() { done <- p.set.Wait(-1) }()
	p.send(t, p.frame(0, 100))
	within(t, "Wait", func() {
		if err := <-done; err != nil {
			t.Errorf("Wait: %v", err)
		}
	})
	if n, err := p.b.Recv(make([]wire.Packet, 4)); n != 1 || err != nil {
		t.Errorf("Recv behind Wait = %d, %v", n, err)
	}
}

func testWaitLeft(t *testing.T, p *pair) {
	p.send(t, p.frames(3)...)
	batch := make([]wire.Packet, 1)
	for range 3 {
		wait(t, p.set, -1)
		if n, err := p.b.Recv(batch); n != 1 || err != nil {
			t.Fatalf("Recv = %d, %v", n, err)
		}
	}
}

func testWaitWake(t *testing.T, p *pair) {
	p.set.Wake()
	p.set.Wake()
	wait(t, p.set, -1)

	done := make(chan error, 1)
	go func() { done <- p.set.Wait(-1) }()
	time.Sleep(5 * time.Millisecond) // so that it probably waits already; right in either case
	p.set.Wake()
	within(t, "Wait", func() {
		if err := <-done; err != nil {
			t.Errorf("Wait: %v", err)
		}
	})
}

func testWakeOnce(t *testing.T, p *pair) {
	p.set.Wake()
	wait(t, p.set, -1)
	testWaitTimeout(t, p)
}

func testSetClose(t *testing.T, p *pair) {
	done := make(chan error, 1)
	go func() { done <- p.set.Wait(-1) }()
	for range 2 {
		if err := p.set.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	within(t, "Wait", func() { wantClosed(t, "Wait", <-done) })
	wantClosed(t, "Wait", p.set.Wait(0))
	_, err := p.b.Recv(make([]wire.Packet, 1))
	wantClosed(t, "Recv", err)
	p.set.Wake()
}

func testWaitBoth(t *testing.T, d Driver) {
	a, b := d.Open(t)
	p := &pair{a: a, b: b, set: d.Set(t, a, b)}
	if len(p.set.Devices) != 2 || p.set.Devices[0] != a || p.set.Devices[1] != b {
		t.Errorf("Devices = %v, want both in order", p.set.Devices)
	}
	for _, dir := range []struct{ from, to link.Device }{{a, b}, {b, a}} {
		if err := dir.from.Send([]*wire.Frame{p.frame(0, 100)}); err != nil {
			t.Fatal(err)
		}
		receive(t, dir.to, p.set, 1, 1)
	}
}
