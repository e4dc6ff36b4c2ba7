package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// UpBare builds a topology of the caller's own, without a scenario: nothing runs in it but what the caller starts. The
// lab is private, so it ends with Down, or with Clean when the calling process is gone. exe is the naru program; ""
// means the calling one. If it fails or ctx ends, what was made is removed again.
func UpBare(ctx context.Context, name, exe string, t Topology) (*Lab, error) {
	if !validName(name) {
		return nil, fmt.Errorf("lab: name %q: use up to %d of a-z, 0-9 and inner hyphens", name, maxName)
	}
	l := &Lab{topology: t, exe: exe}
	if err := l.findExe(); err != nil {
		return nil, err
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	l.State = State{Name: name, Created: time.Now().UTC().Truncate(time.Second), Owner: self(), Private: true}
	for _, n := range t.Nodes {
		l.Nodes = append(l.Nodes, n.Name)
	}
	if err := l.take(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	if err := build(ctx, name, &l.topology); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	l.Up = true
	return l, l.save()
}

// findExe sets the naru program if the caller named none.
func (l *Lab) findExe() (err error) {
	if l.exe == "" {
		if l.exe, err = os.Executable(); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// Exe returns the path of the naru program that runs in the lab.
func (l *Lab) Exe() string { return l.exe }

// Start starts a program in a node; Down ends it, if Process.Stop did not before. Its output goes to LogFile(node).
func (l *Lab) Start(node string, argv []string) (Process, error) {
	return startProcess(l, node, roleNaru, argv)
}

// Alive reports whether the process still runs.
func (p Process) Alive() bool { return p.alive() }

// Stop asks the process to end, kills it after a grace time, and waits for its end. One that is gone is no error.
func (p Process) Stop() error { return p.end(endGrace) }

// LogTail returns the end of a node's log in one line.
func (l *Lab) LogTail(node string) string { return l.logTail(node) }
