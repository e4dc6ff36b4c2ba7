package config

import (
	"fmt"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// maxCPU is the highest number of a processor that the kernel's sets have room for here (CPU_SETSIZE of sched.h).
const maxCPU = 1023

// cpus reads auto, none or a list of processors.
func (d *decoder) cpus(v value) {
	c := &d.cfg.Node.CPUs
	if _, many := v.node.(*ast.SequenceNode); !many {
		word, ok := d.oneOf(v, "auto", "none")
		if ok {
			c.Auto = word == "auto"
		}
		return
	}
	c.Auto = false
	if d.empty[v.path] {
		d.fail(v.path, "write none", "names no processor")
	}
	d.list(v, "[1, 2]", func(i int, v value) {
		cpu, ok := d.integer(v, 0, maxCPU)
		if !ok {
			cpu = -1
		}
		if j := slices.Index(c.List, cpu); ok && j >= 0 {
			d.fail(v.path, "name each once: two workers would wait for each other",
				"processor %d is listed twice, first as node.cpus[%d]", cpu, j)
		}
		c.List = append(c.List, cpu)
	})
}

// checkCPUs wants one processor a worker, and one worker where only one can be.
func (d *decoder) checkCPUs() {
	n := d.cfg.Node
	switch k := len(n.CPUs.List); {
	case k > maxWorkers:
		d.fail(fmt.Sprintf("node.cpus[%d]", maxWorkers), "remove some", "there are at most %d workers", maxWorkers)
	case k > 0 && n.Workers > 0 && k != n.Workers:
		d.fail("node.cpus", "name one for each worker, or write workers: auto", "%d processors for %d workers", k, n.Workers)
	}
	if d.cfg.IO.Driver == "xdp" && max(n.Workers, len(n.CPUs.List)) > 1 {
		d.fail("io.driver", "use ring, or one worker", "xdp works with one worker: the network card shares traffic out, "+
			"not knowing whose connections it is of")
	}
}
