package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// setUpBackends makes every server node what the services need behind naru, as an operator does it: by running naru
// backend setup there, and for tunnels naru backend decap. Full NAT needs nothing.
func setUpBackends(ctx context.Context, l *Lab) error {
	if l.scenario.Mode == ModeFullNAT {
		return nil
	}
	errs := make([]error, len(l.scenario.Backends))
	var all sync.WaitGroup
	for i, node := range l.scenario.Backends {
		all.Go(func() { errs[i] = l.setUpBackend(ctx, node) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil || !l.scenario.Mode.tunnel() {
		return err
	}
	for _, node := range l.scenario.Backends {
		if err := startDecap(ctx, l, node); err != nil {
			return err
		}
	}
	return nil
}

// setUpBackend runs naru backend setup for every service in a node. Outer headers are naru's to take off, also where
// the kernel could: a lab is the same on every machine.
func (l *Lab) setUpBackend(ctx context.Context, node string) error {
	for i, service := range serviceNames() {
		argv := []string{l.exe, "backend", "setup", service + "/" + node, "--apply", "--decap", "naru", "-c",
			l.ConfigFile()}
		if l.scenario.Mode == ModeNAT {
			via := l.scenario.Via4
			if i%2 == 1 {
				via = l.scenario.Via6
			}
			argv = append(argv, "--via", via.String())
		}
		if err := l.runIn(ctx, node, argv); err != nil {
			return err
		}
	}
	return nil
}

// runIn runs a program in a node to its end.
func (l *Lab) runIn(ctx context.Context, node string, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), marker+"="+l.Name)
	if err := inNamespace(namespaceName(l.Name, node), cmd.Start); err != nil {
		return fmt.Errorf("lab: node %s: %w", node, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("lab: node %s: %v: %w: %s", node, argv[1:], err, tail(out.String()))
	}
	return nil
}

// startDecap starts the decapsulator in a node and waits until it says that it works: its device is there before.
func startDecap(ctx context.Context, l *Lab, node string) error {
	argv := []string{l.exe, "backend", "decap", "--mode", encapOf(l.scenario.Mode), "--device", decapDevice}
	for _, vip := range l.scenario.vips() {
		argv = append(argv, "--vip", vip.String())
	}
	before := l.logged(node)
	p, err := startProcess(l, node, roleDecap, argv)
	if err != nil {
		return err
	}
	for {
		if strings.Contains(strings.TrimPrefix(l.logged(node), before), "into "+decapDevice) {
			return nil
		}
		if !p.alive() {
			return fmt.Errorf("lab: naru backend decap in %s has ended: %s", node, l.logTail(node))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lab: naru backend decap in %s: %w: %s", node, ctx.Err(), l.logTail(node))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// decapDevice is the name of the interface that decapsulated packets come out of.
const decapDevice = "naru0"
