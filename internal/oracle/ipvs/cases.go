package main

import (
	"fmt"
	"math/rand/v2"
)

// Op is what happens in a step.
type Op string

// The steps.
const (
	Open   Op = "open"   // a client opens a connection; a choice
	Half   Op = "half"   // a client sends a SYN and no more; a choice
	Reset  Op = "reset"  // the client resets a connection: IPVS remembers it for 10 s, in its handshake for 60 s
	Finish Op = "finish" // both ends close a connection: IPVS remembers it for 120 s
	Wait   Op = "wait"   // time passes
	Weigh  Op = "weigh"  // a backend gets another weight
	Add    Op = "add"    // a backend comes, first in the list
	Remove Op = "remove" // a backend goes
)

// Step is one thing that happens.
type Step struct {
	Op      Op
	Conn    int    `json:",omitempty"` // a number for each connection: Open, Half, Reset, Finish
	Client  int    `json:",omitempty"` // whose connection: Open, Half
	Backend int    `json:",omitempty"` // Weigh, Add, Remove
	Weight  uint32 `json:",omitempty"` // Weigh, Add
	Seconds int    `json:",omitempty"` // Wait
}

// Case is a service of its own with what happens to it.
type Case struct {
	Pattern   string
	Scheduler string
	Weights   []uint32 // of the backends 0, 1, 2 and so on, in the order of the list
	Steps     []Step
}

// Result is what a scheduler made of a case.
type Result struct {
	Choices []int  // the backend of each Open and Half in turn, -1 for none
	Active  []int  // in the end, by backend: connections from their SYN on
	Idle    []int  // in the end, by backend: connections that are closed and not forgotten yet
	Error   string `json:",omitempty"`
}

// backends is the most that a case has.
const backends = 16

// pattern is a way in which connections come and go.
type pattern struct {
	name  string
	steps func(n int, r *rand.Rand) []Step // for n backends
	// differs are the schedulers of which the documentation says that they choose otherwise than IPVS here.
	differs []string
}

// sets are weights that the textbooks and the tests of package sched have too.
var sets = [][]uint32{
	{4, 3, 2}, {5, 1, 1}, {1, 2, 3}, {2, 4, 6}, {3, 0, 1}, {10, 5}, {1, 1, 1}, {100, 50, 30, 20, 7, 3, 1, 0},
}

var patterns = []pattern{
	{name: "all stay", steps: stay},
	{name: "closed and forgotten", steps: forgotten},
	{name: "each closed before the next", steps: closing, differs: []string{"lc", "wlc"}},
	{name: "handshakes", steps: handshakes},
	{name: "handshakes reset", steps: handshakesReset, differs: []string{"lc", "wlc", "sed", "nq"}},
	{name: "mixed", steps: mixed, differs: []string{"lc", "wlc"}},
	{name: "weights change", steps: weights, differs: []string{"wrr"}},
	{name: "backends come and go", steps: comeAndGo, differs: []string{"rr", "wrr"}},
}

// hashPatterns are those of the schedulers that choose by the client.
var hashPatterns = []pattern{
	{name: "clients", steps: clients, differs: []string{"sh", "mh"}},
	{name: "clients, one backend goes", steps: clientsMove, differs: []string{"sh", "mh"}},
}

// cases returns all that is tried.
func cases() []Case {
	var all []Case
	add := func(kinds []string, sets [][]uint32, patterns []pattern) {
		for _, kind := range kinds {
			for _, p := range patterns {
				for i, weights := range sets {
					r := rand.New(rand.NewPCG(uint64(i), 1))
					all = append(all, Case{p.name, kind, weights, p.steps(len(weights), r)})
				}
			}
		}
	}
	add([]string{"rr", "wrr", "lc", "wlc", "sed", "nq"}, sets, patterns)
	add([]string{"sh", "mh"}, [][]uint32{{1, 1, 1}, {1, 1, 1, 1, 1}, {4, 3, 2}, {5, 1, 1}}, hashPatterns)
	return all
}

// differs reports whether the documentation says that the scheduler chooses otherwise than IPVS.
func (c *Case) differs() bool {
	for _, p := range append(patterns, hashPatterns...) {
		if p.name != c.Pattern {
			continue
		}
		for _, kind := range p.differs {
			if kind == c.Scheduler {
				return true
			}
		}
	}
	return false
}

// String names the case.
func (c *Case) String() string {
	return fmt.Sprintf("%s, %s, weights %v", c.Scheduler, c.Pattern, c.Weights)
}

// script writes steps down and knows which connections are open.
type script struct {
	*rand.Rand
	steps []Step
	open  []int
	conns int
}

func (s *script) add(step Step) { s.steps = append(s.steps, step) }

// start opens a connection of a client.
func (s *script) start(op Op, client int) {
	s.add(Step{Op: op, Conn: s.conns, Client: client})
	if op == Open {
		s.open = append(s.open, s.conns)
	}
	s.conns++
}

// end ends one of the open connections, any, but none in its handshake.
func (s *script) end(op Op) {
	if len(s.open) == 0 {
		return
	}
	i := s.IntN(len(s.open))
	s.add(Step{Op: op, Conn: s.open[i]})
	s.open = append(s.open[:i], s.open[i+1:]...)
}

func stay(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 60 {
		s.start(Open, s.IntN(100))
	}
	return s.steps
}

func forgotten(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 24 {
		for range 1 + s.IntN(6) {
			s.start(Open, s.IntN(100))
		}
		for range s.IntN(6) {
			s.end(Reset)
		}
		s.add(Step{Op: Wait, Seconds: 12})
	}
	return s.steps
}

func closing(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 40 {
		s.start(Open, s.IntN(100))
		s.end(Finish)
	}
	return s.steps
}

func handshakes(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 40 {
		s.start(Half, s.IntN(100))
	}
	return s.steps
}

func handshakesReset(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 40 {
		s.start(Half, s.IntN(100))
		if s.IntN(3) == 0 {
			s.add(Step{Op: Reset, Conn: s.conns - 1})
		}
	}
	return s.steps
}

func mixed(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 120 {
		switch s.IntN(10) {
		case 0, 1, 2, 3:
			s.start(Open, s.IntN(100))
		case 4:
			s.start(Half, s.IntN(100))
		case 5, 6:
			s.end(Finish)
		case 7:
			s.end(Reset)
		default:
			s.start(Open, s.IntN(100))
		}
	}
	return s.steps
}

func weights(n int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 8 {
		for range 1 + s.IntN(9) {
			s.start(Open, s.IntN(100))
		}
		s.add(Step{Op: Weigh, Backend: s.IntN(n), Weight: uint32(s.IntN(5))})
	}
	// One of weight 0 would leave nobody for the rest.
	s.add(Step{Op: Weigh, Backend: 0, Weight: 2})
	for range 20 {
		s.start(Open, s.IntN(100))
	}
	return s.steps
}

func comeAndGo(n int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	some := func() {
		for range 4 + s.IntN(9) {
			s.start(Open, s.IntN(100))
		}
	}
	for i := range 4 {
		some()
		s.add(Step{Op: Add, Backend: n + i, Weight: uint32(1 + s.IntN(4))})
	}
	for i := range n {
		some()
		s.add(Step{Op: Remove, Backend: i})
	}
	some()
	return s.steps
}

// population is how many clients hash patterns have.
const population = 400

func clients(_ int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for range 2 {
		for i := range population {
			s.start(Half, i)
		}
	}
	return s.steps
}

func clientsMove(n int, r *rand.Rand) []Step {
	s := &script{Rand: r}
	for i := range population {
		s.start(Half, i)
	}
	s.add(Step{Op: Remove, Backend: n - 1})
	for i := range population {
		s.start(Half, i)
	}
	return s.steps
}
