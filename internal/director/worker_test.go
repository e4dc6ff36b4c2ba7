package director

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/kernel"
	"naru/internal/link"
	"naru/internal/wire"
)

// fakeDevice answers nothing and remembers what is asked of it.
type fakeDevice struct {
	name   string
	joined []string
	sent   int
	recv   func() error
}

func (d *fakeDevice) Recv([]wire.Packet) (int, error) {
	if d.recv == nil {
		return 0, nil
	}
	return 0, d.recv()
}

func (d *fakeDevice) Send(frames []*wire.Frame) error { d.sent += len(frames); return nil }
func (d *fakeDevice) Join(mac [6]byte) error {
	d.joined = append(d.joined, fmt.Sprintf("+%02x", mac[5]))
	return nil
}

func (d *fakeDevice) Leave(mac [6]byte) error {
	d.joined = append(d.joined, fmt.Sprintf("-%02x", mac[5]))
	return nil
}

func (d *fakeDevice) Stats() link.Stats {
	return link.Stats{RxFrames: 1, RxBytes: 2, TxFrames: 3, TxBytes: 4, TxDropped: 5}
}

func (d *fakeDevice) Info() link.Info { return link.Info{Name: d.name} }
func (d *fakeDevice) Close() error    { return nil }

// fakeSet has two devices and sleeps a little when it is asked to wait.
func fakeSet() (link.Set, [2]*fakeDevice) {
	devs := [2]*fakeDevice{{name: "eth0"}, {name: "eth1"}}
	return link.Set{Devices: []link.Device{devs[0], devs[1]}, Wake: func() {}, Close: func() error { return nil },
		Wait: func(d time.Duration) error {
			if d <= 0 || d > idleEvery {
				return fmt.Errorf("asked to wait for %v", d)
			}
			time.Sleep(min(d, time.Millisecond))
			return nil
		}}, devs
}

func testWorker(t *testing.T, id, workers int, set link.Set) *worker {
	t.Helper()
	if workers == 1 {
		return workerOver(t, id, workers, set, nil)
	}
	return workerOver(t, id, workers, set, forwarder.NewExchange(workers))
}

func workerOver(t *testing.T, id, workers int, set link.Set, x *forwarder.Exchange) *worker {
	t.Helper()
	c, err := compile.Config(testConfig(), testHost())
	if err != nil {
		t.Fatal(err)
	}
	var seed forwarder.Seed
	snap, err := forwarder.Compile(c, workers, seed, nil)
	if err != nil {
		t.Fatal(err)
	}
	opt := forwarder.Options{Seed: seed, Worker: id, Workers: workers, Connections: 1024, Exchange: x}
	e, err := forwarder.New(opt, snap)
	if err != nil {
		t.Fatal(err)
	}
	return newWorker(id, set, e, nil, func(forwarder.Event) {})
}

func TestAnIdleWorkerAnnouncesAndEndsWhenItIsStopped(t *testing.T) {
	set, devs := fakeSet()
	w := testWorker(t, 0, 1, set)
	failed := make(chan error, 1)
	go func() { failed <- w.run() }()
	var sent int
	for deadline := time.Now().Add(10 * time.Second); sent == 0 && time.Now().Before(deadline); {
		if !w.call(func() { sent = devs[0].sent }) {
			t.Fatal("the worker has ended")
		}
	}
	w.stop()
	if err := <-failed; err != nil {
		t.Error(err)
	}
	if sent == 0 {
		t.Error("nothing was announced on the client side")
	}
	if w.call(func() { t.Error("called after the end") }) {
		t.Error("call says that an ended worker did it")
	}
	if c := w.published.Load(); c.Made == 0 {
		t.Errorf("published %+v", c)
	}
}

func TestABrokenDeviceEndsTheWorker(t *testing.T) {
	set, devs := fakeSet()
	devs[1].recv = func() error { return link.ErrGone }
	if err := testWorker(t, 0, 1, set).run(); !errors.Is(err, link.ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestCountersAreSummedOverWorkers(t *testing.T) {
	d := &Director{}
	for i := range 2 {
		set, _ := fakeSet()
		w := testWorker(t, i, 2, set)
		w.published.Store(&forwarder.Counters{Received: 10, Passed: 10})
		d.workers = append(d.workers, w)
	}
	if c := d.Counters(); c.Received != 20 || !c.Balanced() {
		t.Errorf("counters %+v", c)
	}
	want := link.Stats{RxFrames: 2, RxBytes: 4, TxFrames: 6, TxBytes: 8, TxDropped: 10}
	if s := d.DeviceStats(); len(s) != 2 || s["eth0"] != want {
		t.Errorf("devices %+v", s)
	}
}

func TestMembershipsFollowTheConfiguration(t *testing.T) {
	set, devs := fakeSet()
	one := []map[[6]byte]bool{{{5: 1}: true, {5: 2}: true}, {}}
	two := []map[[6]byte]bool{{{5: 2}: true, {5: 3}: true}, {{5: 4}: true}}
	if err := errors.Join(regroup(set.Devices, nil, one), regroup(set.Devices, one, two)); err != nil {
		t.Fatal(err)
	}
	slices.Sort(devs[0].joined)
	if got := fmt.Sprint(devs[0].joined, devs[1].joined); got != "[+01 +02 +03 -01] [+04]" {
		t.Errorf("joined %s", got)
	}
}

func TestAnInterfaceThatComesUpIsNoticed(t *testing.T) {
	d := &Director{cfg: testConfig(), up: map[string]bool{}, log: slog.New(slog.DiscardHandler), standing: newStanding()}
	host := testHost()
	seen := []bool{d.noteLinks(host)}
	host.Links[2].Up = false
	seen = append(seen, d.noteLinks(host))
	host.Links[2].Up = true
	seen = append(seen, d.noteLinks(host), d.noteLinks(host))
	if want := []bool{false, false, true, false}; !slices.Equal(seen, want) {
		t.Errorf("came up: %v, want %v", seen, want)
	}
}

func TestHostStateWithoutChangeSwapsNothing(t *testing.T) {
	cfg, host := testConfig(), testHost()
	compiled, err := compile.Config(cfg, host)
	if err != nil {
		t.Fatal(err)
	}
	d := &Director{cfg: cfg, compiled: compiled, log: slog.New(slog.DiscardHandler), standing: newStanding()}
	host.Neighbors = append(host.Neighbors, kernel.Neighbor{Link: 7, Addr: free4, MAC: mac1})
	if err := d.apply(cfg, host); err != nil { // without workers and snapshot anything else would panic
		t.Error(err)
	}
	gone := *host
	gone.Links = nil
	if err := d.apply(cfg, &gone); err == nil {
		t.Error("a host without the interfaces was applied")
	}
}
