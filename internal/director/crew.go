package director

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"naru/forwarder"
	"naru/internal/config"
)

// maxWorkers is the most that an exchange has room for; the configuration allows no more.
const maxWorkers = 64

// Workers returns how many workers there are. With auto it is one for each processor that is named to them; else one
// where there are two processors or fewer, since the kernel's half of the work needs the other one, and one less than there
// are where there are more.
func Workers(cfg *config.Config) int {
	switch n := cfg.Node.Workers; {
	case cfg.IO.Driver == "xdp": // the network card shares traffic out, not knowing whose it is
		return 1
	case n > 0:
		return n
	case len(cfg.Node.CPUs.List) > 0:
		return len(cfg.Node.CPUs.List)
	}
	return autoWorkers(runtime.NumCPU())
}

func autoWorkers(processors int) int { return min(max(1, processors-1), maxWorkers) }

// steerer is a device that shares the frames of its interface out among several, by a program of classic BPF.
type steerer interface {
	Steer(program []bpf.RawInstruction) error
}

// steer tells the kernel how to share the frames of every interface out. One device of each interface is enough, since the
// program is the group's.
func (d *Director) steer(s *forwarder.Snapshot) error {
	if len(d.workers) < 2 {
		return nil
	}
	code, err := s.Steering().Program()
	if err != nil {
		return fmt.Errorf("director: %w; fewer addresses, or node.workers: 1", err)
	}
	program := make([]bpf.RawInstruction, len(code))
	for i, in := range code {
		program[i] = bpf.RawInstruction(in)
	}
	if slices.Equal(program, d.program) {
		return nil
	}
	for _, dev := range d.workers[0].set.Devices {
		s, ok := dev.(steerer)
		if !ok {
			return fmt.Errorf("director: %s: its driver cannot share traffic out; use node.workers: 1", dev.Info().Name)
		}
		if err := s.Steer(program); err != nil {
			return err
		}
	}
	d.program = program
	return nil
}

// keepsPorts reports whether a service keeps the port of its clients, by which they are shared out then.
func keepsPorts(cfg *config.Config) bool {
	return slices.ContainsFunc(cfg.Services, func(s config.Service) bool { return s.NAT.KeepClientPort })
}

// introduce lets the workers wake each other.
func introduce(workers []*worker) {
	for _, w := range workers {
		w.peers = workers
	}
}

// wakePeers wakes the workers for which the engine has left something.
func (w *worker) wakePeers() {
	for rang := w.engine.Rang(); rang != 0; rang &= rang - 1 {
		w.peers[bits.TrailingZeros64(rang)].set.Wake()
	}
}

// takeOver deals with what other workers have left.
func (w *worker) takeOver() (int, error) {
	if len(w.peers) < 2 {
		return 0, nil
	}
	w.out.Reset()
	n := w.engine.TakeOver(w.now(), w.out, w.tracer())
	return n, w.send()
}

// processors returns the processor of each worker; -1 is any. With auto several workers have one each, the last ones, since
// interrupts come to the first where nobody has shared them out.
func processors(c config.CPUs, workers int, allowed []int) []int {
	out := slices.Repeat([]int{-1}, workers)
	switch {
	case len(c.List) > 0:
		copy(out, c.List)
	case c.Auto && workers > 1 && workers <= len(allowed):
		copy(out, allowed[len(allowed)-workers:])
	}
	return out
}

// allowedCPUs returns the processors that this process may run on, in order.
func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("director: processors: %w", err)
	}
	var out []int
	for cpu := range len(set) * bits.UintSize {
		if set.IsSet(cpu) {
			out = append(out, cpu)
		}
	}
	return out, nil
}

// checkCPUs finds processors of the configuration that are not there.
func checkCPUs(cfg *config.Config, allowed []int) (found []HostProblem) {
	for i, cpu := range cfg.Node.CPUs.List {
		if !slices.Contains(allowed, cpu) {
			found = append(found, HostProblem{Path: fmt.Sprintf("node.cpus[%d]", i),
				Message: fmt.Sprintf("processor %d is not there, or naru may not run on it", cpu),
				Fix:     fmt.Sprintf("name some of %v", allowed)})
		}
	}
	return found
}

// pin binds the calling thread to a processor; nothing with -1. The goroutine must be locked to the thread, and must stay
// so: the thread ends with it.
func pin(cpu int) error {
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: taken offline since
		return fmt.Errorf("director: processor %d: %w", cpu, err)
	}
	return nil
}
