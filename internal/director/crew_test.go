package director

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

func TestAutoLeavesOneProcessorToTheKernel(t *testing.T) {
	for processors, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 3, 16: 15, 65: 64, 128: 64} {
		if got := autoWorkers(processors); got != want {
			t.Errorf("%d processors: %d workers, want %d", processors, got, want)
		}
	}
	cfg := &config.Config{}
	if cfg.Node.Workers = 5; Workers(cfg) != 5 {
		t.Error("the number that is configured does not hold")
	}
	cfg.Node.Workers, cfg.Node.CPUs.List = 0, []int{4, 5, 6}
	if Workers(cfg) != 3 {
		t.Error("not one worker for each processor that is named")
	}
}

func TestWorkersGetProcessors(t *testing.T) {
	auto := config.CPUs{Auto: true}
	for _, c := range []struct {
		cpus    config.CPUs
		workers int
		want    []int
	}{
		{auto, 1, []int{-1}},
		{auto, 3, []int{2, 4, 6}},
		{auto, 5, []int{-1, -1, -1, -1, -1}},
		{config.CPUs{}, 2, []int{-1, -1}},
		{config.CPUs{List: []int{6, 0}}, 2, []int{6, 0}},
	} {
		if got := processors(c.cpus, c.workers, []int{0, 2, 4, 6}); !slices.Equal(got, c.want) {
			t.Errorf("%+v, %d workers: %v, want %v", c.cpus, c.workers, got, c.want)
		}
	}
	cfg := &config.Config{}
	cfg.Node.CPUs.List = []int{2, 9}
	found := checkCPUs(cfg, []int{0, 2, 4, 6})
	if len(found) != 1 || !strings.Contains(found[0].String(), "node.cpus[1]: processor 9 is not there") {
		t.Errorf("found %v", found)
	}
}

// sharedDevice can share its traffic out.
type sharedDevice struct {
	*fakeDevice
	programs int
}

func (d *sharedDevice) Steer(program []bpf.RawInstruction) error {
	if len(program) == 0 {
		return fmt.Errorf("no program")
	}
	d.programs++
	return nil
}

func TestTheProgramIsSetOncePerInterfaceAndChange(t *testing.T) {
	d := &Director{}
	var devs []*sharedDevice
	for i := range 2 {
		set, fakes := fakeSet()
		for k := range set.Devices {
			devs = append(devs, &sharedDevice{fakeDevice: fakes[k]})
			set.Devices[k] = devs[len(devs)-1]
		}
		d.workers = append(d.workers, testWorker(t, i, 2, set))
	}
	cfg := testConfig()
	var seed forwarder.Seed
	steer := func(prev *forwarder.Snapshot) *forwarder.Snapshot {
		compiled, err := compile.Config(cfg, testHost())
		if err != nil {
			t.Fatal(err)
		}
		s, err := forwarder.Compile(compiled, 2, seed, prev)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.steer(s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := steer(nil)
	steer(s)
	if n := []int{devs[0].programs, devs[1].programs, devs[2].programs, devs[3].programs}; !slices.Equal(n, []int{1, 1, 0, 0}) {
		t.Errorf("programs set: %v", n)
	}
	set, _ := fakeSet()
	d.workers[0].set, d.program = set, nil
	if err := d.steer(s); err == nil || !strings.Contains(err.Error(), "eth0") {
		t.Errorf("devices that cannot share: %v", err)
	}
}

// fullDevice has frames.
type fullDevice struct {
	*fakeDevice
	frames []wire.Packet
}

func (d *fullDevice) Recv(batch []wire.Packet) (int, error) { return copy(batch, d.frames), nil }

// arrive makes SYNs of so many clients come in by the first leg.
func arrive(t *testing.T, w *worker, n int) {
	d := &fullDevice{fakeDevice: w.set.Devices[0].(*fakeDevice)}
	for i := range n {
		d.frames = append(d.frames, wiretest.Frame{SrcMAC: wire.MAC{2, 9}, DstMAC: mac1, TCP: "S",
			Src: fmt.Sprintf("10.20.40.80:%d", 1024+i), Dst: vip4.String() + ":80"}.Packet(t))
	}
	w.set.Devices[0] = d
}

func TestWorkersWakeThoseTheyHandPacketsTo(t *testing.T) {
	for _, crew := range []int{2, 3} {
		woken := make([]int, crew)
		var workers []*worker
		x := forwarder.NewExchange(crew)
		for i := range crew {
			set, _ := fakeSet()
			set.Wake = func() { woken[i]++ }
			workers = append(workers, workerOver(t, i, crew, set, x))
		}
		introduce(workers)
		w := workers[0]
		arrive(t, w, 40)
		if n, err := w.receive(0); n != 40 || err != nil {
			t.Fatal(n, err)
		}
		if woken[0] != 0 || slices.ContainsFunc(woken[1:], func(n int) bool { return n != 1 }) {
			t.Errorf("woken: %v", woken)
		}
		total := 0
		for _, w := range workers[1:] {
			n, err := w.takeOver()
			if err != nil || n == 0 {
				t.Errorf("%d workers: took over %d, %v", crew, n, err)
			}
			total += n
		}
		if c := w.engine.Counters(); uint64(total) != c.HandedOver {
			t.Errorf("%d workers: %d taken of %d", crew, total, c.HandedOver)
		}
	}
}

func TestWhatOfWorkersNeedsARestart(t *testing.T) {
	old := testConfig()
	old.Node.Workers = 2
	keep := *old
	keep.Services = slices.Clone(old.Services)
	keep.Services[0].NAT.KeepClientPort = true
	if err := needsRestart(old, &keep); err == nil || !strings.Contains(err.Error(), "keep_client_port") {
		t.Errorf("got %v", err)
	}
	if err := needsRestart(&keep, old); err != nil {
		t.Errorf("back again: %v", err)
	}
	bound := *old
	bound.Node.CPUs.List = []int{0, 1}
	if err := needsRestart(old, &bound); err == nil || !strings.Contains(err.Error(), "node.cpus") {
		t.Errorf("got %v", err)
	}
}
