package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// endGrace is how long a lab's process may take to end by itself.
const endGrace = 3 * time.Second

// Down ends the lab's processes and removes everything that it is made of. It goes on after errors and returns all.
func (l *Lab) Down() error { return l.State.remove() }

// Remove removes the lab of that name, whatever there is of it.
func Remove(name string) error {
	s, err := loadState(name)
	if errors.Is(err, fs.ErrNotExist) && !exists(s.Dir()) {
		return errNoLab(name)
	}
	if s.busy() {
		return fmt.Errorf("lab: %s is in use by process %d; end that first", name, s.Owner.PID)
	}
	return s.remove()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// remove removes everything that belongs to the name, in the order that keeps it findable: the state goes last.
func (s *State) remove() error {
	var errs []error
	// naru comes down first: it takes its fence with it while its interfaces are still there.
	for _, role := range []string{roleNaru, roleDecap, roleServers} {
		for _, p := range s.Processes {
			if p.Role == role {
				errs = append(errs, p.end(endGrace))
			}
		}
	}
	for _, p := range leftovers(s.Name) {
		errs = append(errs, p.end(endGrace))
	}
	for _, node := range s.Nodes {
		errs = append(errs, removeNamespace(namespaceName(s.Name, node)))
	}
	releaseNamespaceDirs()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(s.Dir()); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	removeEmpty(stateDir)
	return nil
}

// Clean removes every lab that no living process works on, or only the named ones, and namespaces of labs whose state
// is lost. It returns what it removed and, as errors, what it could not.
func Clean(names ...string) (removed []string, err error) {
	plan, err := Cleanable(names...)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, s := range plan {
		if err := s.remove(); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, s.Name)
	}
	return removed, errors.Join(errs...)
}

// Cleanable returns the labs that Clean would remove, those that lost their state with what is left of them.
func Cleanable(names ...string) ([]State, error) {
	states, err := List()
	if err != nil {
		return nil, err
	}
	wanted := func(name string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return len(names) == 0
	}
	var plan []State
	known := map[string]bool{}
	for _, s := range states {
		known[s.Name] = true
		if len(s.Nodes) == 0 { // killed between the directory and the file, or the file was lost
			s.Nodes = orphanNodes(s.Name)
		}
		if wanted(s.Name) && !s.busy() {
			plan = append(plan, s)
		}
	}
	for _, name := range orphans() {
		if !known[name] && wanted(name) {
			known[name] = true
			plan = append(plan, State{Name: name, Nodes: orphanNodes(name)})
		}
	}
	return plan, nil
}

// orphans returns the names of labs that namespaces look like being of: naru-LAB-NODE with a node of some scenario.
func orphans() []string {
	var labs []string
	for _, ns := range namespaces(namespacePrefix) {
		for _, node := range nodeNames() {
			lab, ok := strings.CutSuffix(strings.TrimPrefix(ns, namespacePrefix), "-"+node)
			if ok && validName(lab) {
				labs = append(labs, lab)
			}
		}
	}
	return labs
}

// orphanNodes returns the nodes of a lab that have a namespace.
func orphanNodes(lab string) []string {
	var nodes []string
	for _, node := range nodeNames() {
		name := namespaceName(lab, node)
		if exists(filepath.Join(namespaceDir, name)) || exists(filepath.Join(etcDir, name)) {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// nodeNames returns the names of all nodes that any scenario has.
func nodeNames() []string {
	var names []string
	seen := map[string]bool{}
	for _, s := range scenarios() {
		t := s.Topology(Options{})
		for _, n := range t.Nodes {
			if !seen[n.Name] {
				seen[n.Name] = true
				names = append(names, n.Name)
			}
		}
	}
	return names
}
