package replay

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"naru/internal/config"
	"naru/internal/roster"
	"naru/internal/wire"
)

// Script is what happens at certain times of a replay, in the order of time.
type Script []Step

// Step is one event of a script.
type Step struct {
	After  time.Duration // the first packet of the capture
	Line   int
	Order  roster.Order
	Reload string // a configuration to load instead of an order; empty: none
}

func (s *Step) at() wire.Time { return begin.Add(s.After) }

// ScriptError lists every mistake of a script, as "line 3: ...".
type ScriptError struct{ Mistakes []string }

// Error joins the mistakes.
func (e *ScriptError) Error() string { return strings.Join(e.Mistakes, "; ") }

// longest is the longest time in a script: our own choice, ten years.
const longest = 10 * 365 * 24 * time.Hour

const scriptHelp = "write one of: backend S/B up|down, drain S/B [DURATION], ready S/B, disable S/B, weight S/B N, reload FILE"

// ParseScript reads a script: lines of a time after the first packet and an event, as "20s drain web/b1 5s". Empty lines
// and what follows a # are nothing. The error is a *ScriptError.
//
//	3.2s backend web/b2 down      a probe finds the backend ill; up: well
//	20s  drain web/b1 5s          no new connections; after 5s the old ones are ended
//	25s  ready web/b1             takes back drain, disable and weight
//	30s  disable web/b1           no new connections, the old ones are ended
//	40s  weight web/b1 3
//	10s  reload new.yaml
func ParseScript(text string) (Script, error) {
	var s Script
	var mistakes []string
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		step, err := parseStep(words)
		if err != nil {
			mistakes = append(mistakes, fmt.Sprintf("line %d: %v", i+1, err))
			continue
		}
		step.Line = i + 1
		s = append(s, step)
	}
	if mistakes != nil {
		return nil, &ScriptError{mistakes}
	}
	slices.SortStableFunc(s, func(a, b Step) int { return int(max(-1, min(1, a.After-b.After))) })
	return s, nil
}

func parseStep(words []string) (s Step, err error) {
	if s.After, err = time.ParseDuration(words[0]); err != nil || s.After < 0 || s.After > longest {
		return s, fmt.Errorf("%q is no time after the first packet; write 3.2s, 500ms or 1m, at most %v", words[0], longest)
	}
	if len(words) < 3 {
		return s, fmt.Errorf("an event is missing; %s", scriptHelp)
	}
	verb, object, rest := words[1], words[2], words[3:]
	if verb == "reload" {
		if len(rest) > 0 {
			return s, fmt.Errorf("too many words; write: reload FILE")
		}
		if object == "-" {
			return s, fmt.Errorf("standard input cannot be loaded at a time; give a file")
		}
		s.Reload = object
		return s, nil
	}
	service, backend, ok := strings.Cut(object, "/")
	if !ok || service == "" || backend == "" {
		return s, fmt.Errorf("%q is no backend; write SERVICE/BACKEND", object)
	}
	s.Order.Key = roster.Key{Service: service, Backend: backend}
	return s, parseOrder(&s.Order, verb, rest)
}

func parseOrder(o *roster.Order, verb string, rest []string) (err error) {
	word := strings.Join(rest, " ")
	switch {
	case verb == "backend" && word == "up":
		o.Action = roster.ProbeUp
	case verb == "backend" && word == "down":
		o.Action, o.Why = roster.ProbeDown, "the script says so"
	case verb == "drain" && word == "":
		o.Action = roster.Drain
	case verb == "drain":
		o.Action = roster.Drain
		if o.Deadline, err = time.ParseDuration(word); err != nil || o.Deadline <= 0 || o.Deadline > longest {
			return fmt.Errorf("%q is no deadline; write 30s", word)
		}
	case verb == "ready" && word == "":
		o.Action = roster.Ready
	case verb == "disable" && word == "":
		o.Action = roster.Disable
	case verb == "weight":
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil || n > roster.MaxWeight {
			return fmt.Errorf("%q is no weight; write 0 to %d", word, roster.MaxWeight)
		}
		o.Action, o.Weight = roster.SetWeight, uint32(n)
	default:
		return fmt.Errorf("%q is not known; %s", strings.TrimSpace(verb+" S/B "+word), scriptHelp)
	}
	return nil
}

// checkScript finds backends that no configuration has at their time, and loads those that the script reloads.
func (r *Replay) checkScript() error {
	cfg, known := r.cfg, keys(r.cfg)
	var mistakes []string
	for i := range r.script {
		s := &r.script[i]
		if s.Reload == "" {
			if !slices.Contains(known, s.Order.Key) {
				mistakes = append(mistakes, fmt.Sprintf("line %d: there is no backend %s in the configuration%s", s.Line,
					shown(s.Order.Key.String()), instead(known)))
			}
			continue
		}
		next, err := r.load(s.Reload)
		if err != nil {
			return fmt.Errorf("script line %d: reload %s: %w", s.Line, shown(s.Reload), err)
		}
		if !slices.Equal(next.Interfaces, cfg.Interfaces) {
			mistakes = append(mistakes, fmt.Sprintf("line %d: %s has other interfaces, which cannot change while naru runs; "+
				"leave them as they are", s.Line, shown(s.Reload)))
		}
		known = keys(next)
	}
	if mistakes != nil {
		return &ScriptError{mistakes}
	}
	return nil
}

// keys lists the backends of a configuration.
func keys(cfg *config.Config) (list []roster.Key) {
	for _, m := range members(cfg) {
		list = append(list, m.Key)
	}
	return list
}

// instead says which backends there are, or some of them.
func instead(known []roster.Key) string {
	const most = 5
	var names []string
	for _, k := range known[:min(most, len(known))] {
		names = append(names, k.String())
	}
	if len(known) > most {
		names = append(names, "...")
	}
	return "; it has " + strings.Join(names, ", ")
}

// load loads a configuration, once.
func (r *Replay) load(file string) (*config.Config, error) {
	if cfg := r.loaded[file]; cfg != nil {
		return cfg, nil
	}
	if r.opt.Load == nil {
		return nil, errors.New("replay: nobody can load " + file)
	}
	cfg, err := r.opt.Load(file)
	if err != nil {
		return nil, err
	}
	if r.loaded == nil {
		r.loaded = map[string]*config.Config{}
	}
	r.loaded[file] = cfg
	return cfg, nil
}

// follow does what a step says.
func (r *Replay) follow(s *Step) {
	if s.Reload != "" {
		cfg := r.loaded[s.Reload]
		r.earlier, r.reloaded, r.cfg = append(r.earlier, r.cfg), append(r.reloaded, s.Reload), cfg
		r.fail(r.configure())
		if r.sim != nil {
			r.sim.configure()
		}
		return
	}
	if _, err := r.roster.Do(r.now, s.Order); err != nil {
		r.fail(fmt.Errorf("script line %d: %w", s.Line, err))
		return
	}
	r.fail(r.recompile())
}
