package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestCheckKnowsHowMuchTheKernelCanShareOut: what naru run would be refused by the kernel for is a mistake of the file.
func TestCheckKnowsHowMuchTheKernelCanShareOut(t *testing.T) {
	text := func(node string, locals int) string {
		var pool []string
		for i := range locals {
			pool = append(pool, fmt.Sprintf("10.%d.%d.254", 20+i/256, i%256))
		}
		var b strings.Builder
		b.WriteString("version: 1\n" + node + "interfaces: [{name: eth0, side: client}, {name: eth1, side: backend}]\nservices:\n")
		for i := 0; len(pool) > 0; i++ {
			n := min(len(pool), 100)
			fmt.Fprintf(&b, "  - {name: s%d, vip: 192.0.2.25, ports: [%d], protocol: tcp, mode: fullnat, nat: {source_pool: [%s]}, "+
				"backends: [{name: b, address: 10.0.0.1}]}\n", i, 1000+i, strings.Join(pool[:n], ", "))
			pool = pool[n:]
		}
		return b.String()
	}
	const says, fix = "cannot share the traffic out among several workers", "node.workers: 1"
	for _, c := range []struct {
		name, node string
		locals     int
		code       int
		stderr     string // how it begins
	}{
		{"few", "node: {workers: 4}\n", 1500, 0, ""},
		{"too many", "node: {workers: 4}\n", 2100, 3, "-:2:17: node.workers: "},
		{"too many, by processors", "node: {cpus: [0, 1]}\n", 2100, 3, "-:2:14: node.cpus: "},
		{"one worker", "node: {workers: 1}\n", 2100, 0, ""},
		{"auto", "", 2100, 0, "-:4:3: warning: services: "},
		{"xdp", "io: {driver: xdp}\n", 2100, 0, ""},
	} {
		code, _, stderr := naru(text(c.node, c.locals), "check -")
		first, _, _ := strings.Cut(stderr, "\n")
		if code != c.code || !strings.HasPrefix(first, c.stderr) || strings.Contains(stderr, says) != (c.stderr != "") ||
			strings.Contains(stderr, fix) != (c.stderr != "") {
			t.Errorf("%s: exit code %d, %.300s", c.name, code, stderr)
		}
	}
}
