package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ: the unit of /proc/stat is the same on all machines that Go runs on.
const ticksPerSecond = 100

// A load is what the CPUs have done since the machine started, in ticks.
type load struct {
	at   time.Time
	cpus []float64 // busy, each CPU
	lost float64   // what a hypervisor gave to others while a CPU wanted to run, all CPUs
	pids []float64 // used by each process that is watched, and its children
	self float64
}

// takeLoad reads the present state. A process that is gone has used nothing.
func takeLoad(pids []int) load {
	l := load{at: time.Now(), self: processTicks(os.Getpid())}
	b, _ := os.ReadFile("/proc/stat") // there on every Linux
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") || f[0] == "cpu" {
			continue
		}
		busy := 0.0
		for i, v := range f[1:9] { // user nice system idle iowait irq softirq steal
			n, err := strconv.ParseFloat(v, 64)
			switch {
			case err != nil || i == 3 || i == 4:
			case i == 7:
				l.lost += n
			default:
				busy += n
			}
		}
		l.cpus = append(l.cpus, busy)
	}
	for _, pid := range pids {
		used := processTicks(pid)
		for _, child := range children(pid) {
			used += processTicks(child)
		}
		l.pids = append(l.pids, used)
	}
	return l
}

// processTicks returns the time that a process has used in user and kernel mode: that of its threads in nanoseconds,
// which is finer than that of the process.
func processTicks(pid int) float64 {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/schedstat", pid))
	sum := 0.0
	for _, t := range threads {
		b, _ := os.ReadFile(t) // a thread that is gone
		if f := strings.Fields(string(b)); len(f) == 3 {
			ns, _ := strconv.ParseFloat(f[0], 64)
			sum += ns / 1e9 * ticksPerSecond
		}
	}
	return sum
}

// children returns the processes that a process has started itself.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// CPU is the use of processors while something was measured, in per cent of one.
type CPU struct {
	Each     []float64 `json:"each"`     // by CPU
	Balancer float64   `json:"balancer"` // the balancer's process; 0 for what forwards in the kernel
	Ends     float64   `json:"ends"`     // client, servers and sender, with the kernel work that they drive
	Stolen   float64   `json:"stolen"`   // what a hypervisor gave to others meanwhile, of all CPUs together
}

// since returns the use since an earlier state.
func (l load) since(before load) CPU {
	ticks := l.at.Sub(before.at).Seconds() * ticksPerSecond
	if ticks <= 0 {
		return CPU{}
	}
	percent := func(a, b float64) float64 { return max(0, a-b) / ticks * 100 }
	var c CPU
	for i := range min(len(l.cpus), len(before.cpus)) {
		c.Each = append(c.Each, percent(l.cpus[i], before.cpus[i]))
	}
	for i := range l.pids {
		c.Balancer += percent(l.pids[i], before.pids[i])
	}
	c.Ends, c.Stolen = percent(l.self, before.self), percent(l.lost, before.lost)
	return c
}

// residentBytes returns the memory of a process that is in RAM.
func residentBytes(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("bench: memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("bench: memory: process %d has none", pid)
}
