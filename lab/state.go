package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// stateDir holds a directory for every lab.
const stateDir = "/run/naru-lab"

// State is what is written down of a lab, before it is made, so that it can be removed by whoever finds it.
type State struct {
	Name      string    `json:"name"`
	Scenario  string    `json:"scenario"`
	Options   Options   `json:"options"`
	Created   time.Time `json:"created"`
	Nodes     []string  `json:"nodes"`
	Processes []Process `json:"processes"`
	Up        bool      `json:"up"` // false while it is being built

	// Owner is the process that builds the lab or, if Private, that the lab belongs to. While it lives, others leave
	// the lab alone.
	Owner   Process `json:"owner"`
	Private bool    `json:"private,omitempty"`
}

// busy reports whether a living process other than the caller is not done with the lab.
func (s *State) busy() bool {
	return (!s.Up || s.Private) && s.Owner != self() && s.Owner.alive()
}

// Dir returns the directory of the lab's files.
func (s *State) Dir() string { return filepath.Join(stateDir, s.Name) }

// LogFile returns the file that the output of a node's processes goes to.
func (s *State) LogFile(node string) string { return filepath.Join(s.Dir(), node+".log") }

// ConfigFile returns the file with naru's configuration.
func (s *State) ConfigFile() string { return filepath.Join(s.Dir(), "naru.yaml") }

// RecordFile returns the file that naru writes its decision records to, if Options.RecordPackets is set.
func (s *State) RecordFile() string { return filepath.Join(s.Dir(), "records.jsonl") }

// save writes the state file, whole or not at all.
func (s *State) save() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("lab: state of %s: %w", s.Name, err)
	}
	file := filepath.Join(s.Dir(), "state.json")
	if err := os.WriteFile(file+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return nil
}

// loadState reads the state of a lab. A lab without a readable state file has a state with nothing but its name.
func loadState(name string) (State, error) {
	s := State{Name: name}
	b, err := os.ReadFile(filepath.Join(stateDir, name, "state.json"))
	if err != nil {
		return s, fmt.Errorf("lab: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{Name: name}, fmt.Errorf("lab: state of %s: %w", name, err)
	}
	s.Name = name
	return s, nil
}

// logTail returns the end of a node's log in one line, or the beginning of a panic in it.
func (s *State) logTail(node string) string {
	return tail(s.logged(node))
}

// logged returns what the processes of a node have said so far.
func (s *State) logged(node string) string {
	b, _ := os.ReadFile(s.LogFile(node)) // no log: nothing was said
	return string(b)
}

func tail(log string) string {
	const most = 5
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if lines[0] == "" {
		return "it said nothing"
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			lines = lines[i:min(len(lines), i+most)]
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "; ")
}

// List returns the states of all labs of this machine by name.
func List() ([]State, error) {
	entries, err := os.ReadDir(stateDir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("lab: %w", err)
	}
	var states []State
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		s, err := loadState(e.Name())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		states = append(states, s)
	}
	sort.Slice(states, func(i, j int) bool { return states[i].Name < states[j].Name })
	return states, nil
}
