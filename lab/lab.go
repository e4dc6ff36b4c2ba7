package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Lab is a network that was built.
type Lab struct {
	State
	scenario *Scenario
	topology Topology
	exe      string
}

// Spec says what Up builds.
type Spec struct {
	Scenario string
	Name     string // "" means the scenario's name
	Options  Options
	Exe      string // the naru program; "" means the calling one
	Private  bool   // the lab belongs to the calling process, which removes it
}

// upTime is how long a lab may take until it works.
const upTime = 20 * time.Second

// Scenario returns what the lab was built from.
func (l *Lab) Scenario() *Scenario { return l.scenario }

// Do runs f on a thread that is in a node: sockets that it opens stay there, goroutines that it starts do not.
func (l *Lab) Do(node string, f func() error) error {
	return inNamespace(namespaceName(l.Name, node), f)
}

// Up builds a lab and starts what runs in it. If it fails or ctx ends, what was made is removed again.
func Up(ctx context.Context, spec Spec) (*Lab, error) {
	l, err := prepare(spec)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	if err := l.raise(ctx); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	return l, nil
}

// prepare checks the specification and takes the lab's name.
func prepare(spec Spec) (*Lab, error) {
	sc, err := FindScenario(spec.Scenario)
	if err != nil {
		return nil, err
	}
	if spec.Name == "" {
		spec.Name = sc.Name
	}
	if !validName(spec.Name) {
		return nil, fmt.Errorf("lab: name %q: use up to %d of a-z, 0-9 and inner hyphens", spec.Name, maxName)
	}
	l := &Lab{scenario: sc, topology: sc.Topology(spec.Options), exe: spec.Exe}
	if err := l.findExe(); err != nil {
		return nil, err
	}
	if err := l.topology.Validate(); err != nil {
		return nil, err
	}
	l.State = State{
		Name: spec.Name, Scenario: sc.Name, Options: spec.Options, Created: time.Now().UTC().Truncate(time.Second),
		Owner: self(), Private: spec.Private,
	}
	for _, n := range l.topology.Nodes {
		l.Nodes = append(l.Nodes, n.Name)
	}
	return l, l.take()
}

// take makes the lab's directory, which nobody else can then do, and writes the state.
func (l *Lab) take() error {
	// The directory above vanishes together with the last lab, perhaps just now.
	for try := 0; ; try++ {
		if err := os.MkdirAll(stateDir, 0o755); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		err := os.Mkdir(l.Dir(), 0o755)
		switch {
		case err == nil:
			return l.save()
		case errors.Is(err, fs.ErrExist):
			return fmt.Errorf("lab: %s is there already; remove it with naru lab down %s, or choose another --name",
				l.Name, l.Name)
		case !errors.Is(err, fs.ErrNotExist) || try == 10:
			return fmt.Errorf("lab: %w", err)
		}
	}
}

// raise builds the network and starts the processes.
func (l *Lab) raise(ctx context.Context) error {
	if err := build(ctx, l.Name, &l.topology); err != nil {
		return err
	}
	config := l.scenario.Config(l.Options, l.socket())
	if err := os.WriteFile(l.ConfigFile(), []byte(config), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := setUpBackends(ctx, l); err != nil {
		return err
	}
	for _, n := range l.topology.Nodes {
		if n.Servers {
			if err := startServers(ctx, l, n.Name); err != nil {
				return err
			}
		}
	}
	for _, n := range l.topology.Nodes {
		if n.Balancer && !l.Options.NoNaru {
			if err := startNaru(ctx, l, n.Name); err != nil {
				return err
			}
		}
	}
	l.Up = true
	return l.save()
}

// startNaru starts naru in a node and waits until it answers for the VIPs.
func startNaru(ctx context.Context, l *Lab, node string) error {
	argv := []string{l.exe, "run", "-c", l.ConfigFile()}
	if l.Options.RecordPackets {
		argv = append(argv, "--record", l.RecordFile())
	}
	p, err := startProcess(l, node, roleNaru, argv)
	if err != nil {
		return err
	}
	for _, vip := range l.scenario.vips() {
		for {
			wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, err := l.ping(wait, l.scenario.Client, vip)
			cancel()
			if err == nil {
				break
			}
			if !p.alive() {
				return fmt.Errorf("lab: naru in %s has ended: %s", node, l.logTail(node))
			}
			if ctx.Err() != nil {
				return fmt.Errorf("lab: naru in %s does not answer for %s: %w: %s", node, vip, ctx.Err(), l.logTail(node))
			}
		}
	}
	return nil
}

// Open returns a lab that is up. With an empty name it is the only one there is.
func Open(name string) (*Lab, error) {
	if name == "" {
		var err error
		if name, err = onlyLab(); err != nil {
			return nil, err
		}
	}
	s, err := loadState(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoLab(name)
	}
	if err != nil {
		return nil, err
	}
	sc, err := FindScenario(s.Scenario)
	if err != nil {
		return nil, err
	}
	return &Lab{State: s, scenario: sc, topology: sc.Topology(s.Options)}, nil
}

func errNoLab(name string) error {
	return fmt.Errorf("lab: there is none called %q; naru lab list shows what is there", name)
}

// onlyLab returns the name of the only lab that is up.
func onlyLab() (string, error) {
	states, err := List()
	if err != nil {
		return "", err
	}
	var names []string
	for _, s := range states {
		if !s.Private {
			names = append(names, s.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", errors.New("lab: none is up; build one with naru lab up fullnat")
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("lab: several labs are up, name one of %s with --name", strings.Join(names, ", "))
}
