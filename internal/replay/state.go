package replay

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/state"
)

// A state file is a line of JSON that says what it is of, the values, and the SHA-256 of both. stateFormat is the version
// of the values: it changes with them.
const (
	stateKind   = "ReplayState"
	stateFormat = 4

	longestHead  = 1 << 20 // bytes of the first line: our own choice
	longestState = 1 << 31 // bytes of the values: our own choice; a million connections have 200 MB
	longestName  = 4096    // bytes of a name
)

// stateHead is the first line of a state file.
type stateHead struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Format     int    `json:"format"`

	Seed          uint64     `json:"seed"`
	Configuration string     `json:"configuration"` // of the beginning
	Reloads       []reload   `json:"reloads"`       // that have happened, in order
	Backends      string     `json:"backends"`
	Simulation    Simulation `json:"simulation"`
	Table         int        `json:"table"`

	Packets     uint64  `json:"packets"` // so far, for those who read it
	Seconds     float64 `json:"seconds"`
	Connections uint64  `json:"connections"`

	Length int `json:"length"` // bytes of the values
}

// reload is a configuration that a script has loaded.
type reload struct {
	File          string `json:"file"`
	Configuration string `json:"configuration"`
}

var backendsNames = [...]string{AsCaptured: "captured", Recorded: "recorded", Simulated: "simulated"}

// fingerprint tells configurations apart by what they say: not by the file's name, its order of keys or its comments.
func fingerprint(cfg *config.Config) (string, error) {
	c := *cfg
	c.File = ""
	b, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("replay: configuration: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}

// head says what this run is of.
func (r *Replay) head() (h stateHead, err error) {
	h = stateHead{Kind: stateKind, APIVersion: "naru/v1", Format: stateFormat, Seed: r.opt.Seed, Reloads: []reload{},
		Backends: backendsNames[r.opt.Backends], Simulation: r.opt.Sim, Table: r.opt.Table}
	all := append(slices.Clone(r.earlier), r.cfg)
	if h.Configuration, err = fingerprint(all[0]); err != nil {
		return h, err
	}
	for i, file := range r.reloaded {
		print, err := fingerprint(all[i+1])
		if err != nil {
			return h, err
		}
		h.Reloads = append(h.Reloads, reload{file, print})
	}
	return h, nil
}

// save writes the state.
func (r *Replay) save() error {
	if r.err != nil {
		return nil // the first error is told
	}
	file, err := r.state()
	if err != nil {
		return err
	}
	if _, err := r.opt.StateOut.Write(file); err != nil {
		return fmt.Errorf("replay: state: %w", err)
	}
	return nil
}

// state is a state file of the present instant.
func (r *Replay) state() ([]byte, error) {
	h, err := r.head()
	if err != nil {
		return nil, err
	}
	c := state.NewWriter()
	r.carry(c)
	if err := r.engine.Save(c); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	r.sim.carry(c)
	r.result.carry(c)
	r.numbers.carry(c, r.opt.Table)
	h.Packets, h.Seconds = r.result.Packets, float64(r.result.latest/1000)/1e6
	h.Connections, h.Length = r.engine.Counters().Active, len(c.Bytes())
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("replay: state: %w", err)
	}
	file := append(append(line, '\n'), c.Bytes()...)
	sum := sha256.Sum256(file)
	return append(file, sum[:]...), nil
}

// StateError says that a state cannot be gone on from.
type StateError struct{ Why string }

// Error says why.
func (e *StateError) Error() string { return "replay: what to go on from " + e.Why }

func stateError(format string, args ...any) error { return &StateError{fmt.Sprintf(format, args...)} }

// readState reads a state file and finds out whether it is whole. It reads no more than a state can have.
func readState(in io.Reader) (h stateHead, values []byte, err error) {
	from := bufio.NewReader(in)
	line, err := firstLine(from)
	if err != nil {
		return h, nil, fmt.Errorf("replay: state: %w", err)
	}
	if json.Unmarshal(line, &h) != nil || h.Kind != stateKind {
		return h, nil, stateError("is no state: it does not begin with a line of kind %s, as --state-out writes it", stateKind)
	}
	if h.APIVersion != "naru/v1" || h.Format != stateFormat {
		return h, nil, stateError("is of format %s %d, this naru reads naru/v1 %d; make it again with this naru",
			shown(h.APIVersion), h.Format, stateFormat)
	}
	if h.Length < 0 || h.Length > longestState {
		return h, nil, stateError("is damaged: it says that it has %d bytes of values", h.Length)
	}
	rest, err := io.ReadAll(io.LimitReader(from, int64(h.Length)+sha256.Size+1))
	if err != nil {
		return h, nil, fmt.Errorf("replay: state: %w", err)
	}
	switch n := len(rest) - sha256.Size; {
	case n < h.Length:
		return h, nil, stateError("was cut: it has %d bytes behind its first line, there were %d", len(rest), h.Length+sha256.Size)
	case n > h.Length:
		return h, nil, stateError("was added to: it has more than the %d bytes behind its first line that there were",
			h.Length+sha256.Size)
	}
	sum := sha256.New()
	sum.Write(line)
	sum.Write(rest[:h.Length])
	if !bytes.Equal(sum.Sum(nil), rest[h.Length:]) {
		return h, nil, stateError("is damaged: its bytes are not those that were written")
	}
	return h, rest[:h.Length], nil
}

// firstLine reads a line with its end, or as much of one as a state can have.
func firstLine(from *bufio.Reader) (line []byte, err error) {
	for len(line) < longestHead {
		part, err := from.ReadSlice('\n')
		line = append(line, part...)
		if err == nil || err == io.EOF {
			return line, nil
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
	}
	return line, nil
}

// shown is a text of a file as it can be shown: on a terminal nothing happens but that.
func shown(text string) string {
	const most = 200
	if q := strconv.Quote(text); len(text) > most || q[1:len(q)-1] != text {
		return strconv.Quote(text[:min(most, len(text))])
	}
	return text
}

// fits compares what a state is of with what this run is of.
func (r *Replay) fits(h *stateHead) error {
	own, err := r.head()
	if err != nil {
		return err
	}
	switch {
	case h.Configuration != own.Configuration:
		return stateError("is of another configuration: %s, this one is %s", shown(h.Configuration), own.Configuration)
	case h.Seed != own.Seed:
		return stateError("is of seed %d, this run has seed %d", h.Seed, own.Seed)
	case h.Backends != own.Backends:
		return stateError("is of backends %s, this run has backends %s", shown(h.Backends), own.Backends)
	case h.Simulation != own.Simulation:
		return stateError("is of simulated backends %+v, this run has %+v", h.Simulation, own.Simulation)
	case h.Table != own.Table:
		return stateError("is of a table of %d connections, this run has one of %d", h.Table, own.Table)
	}
	return nil
}

// goOn makes the engine that StateIn is of.
func (r *Replay) goOn() error {
	h, values, err := readState(r.opt.StateIn)
	if err != nil {
		return err
	}
	if err := r.fits(&h); err != nil {
		return err
	}
	if err := r.reloadAgain(h.Reloads); err != nil {
		return err
	}
	if err := r.compile(); err != nil {
		return err
	}
	c := state.NewReader(values)
	r.carry(c)
	r.roster.Fill(&r.compiled)
	r.engine, r.snapshot, err = forwarder.Restore(r.engineOptions(), r.compiled, c)
	if err != nil {
		return stateError("does not fit: %v", err)
	}
	if r.opt.Backends == Simulated {
		r.sim = newSimulation(r, r.opt.Sim)
	}
	r.sim.carry(c)
	r.result.begin(r)
	r.result.carry(c)
	r.numbers.carry(c, r.opt.Table)
	if err := c.Err(); err != nil {
		return stateError("does not fit: %v", err)
	}
	for r.based && len(r.script) > 0 && r.script[0].at() <= r.now {
		r.script = r.script[1:] // it has happened
	}
	return nil
}

// reloadAgain loads the configurations that the run before has reloaded: the first ones of the script.
func (r *Replay) reloadAgain(list []reload) error {
	var files []string
	for i := range r.script {
		if file := r.script[i].Reload; file != "" {
			files = append(files, file)
		}
	}
	for i, done := range list {
		if i >= len(files) || files[i] != done.File {
			return stateError("is of a run whose script has reloaded %s; give this run the same script", shown(done.File))
		}
		cfg := r.loaded[done.File]
		print, err := fingerprint(cfg)
		if err != nil {
			return err
		}
		if print != done.Configuration {
			return stateError("is of a run that has reloaded %s with the configuration %s, which now is %s", done.File,
				shown(done.Configuration), print)
		}
		r.earlier, r.reloaded, r.cfg = append(r.earlier, r.cfg), append(r.reloaded, done.File), cfg
	}
	return nil
}

// carry carries the times and the roster.
func (r *Replay) carry(c *state.Coder) {
	c.Section("times")
	c.Bool(&r.based)
	state.All(c, &r.base, &r.stamp)
	state.All(c, &r.now, &r.tick, &r.pause)
	c.Check(r.now >= begin && r.tick >= begin && r.pause >= begin && r.now <= begin+forever, "a time")
	r.roster.Carry(c)
}

// carry carries the counts of captured packets and of connections that have ended.
func (r *Result) carry(c *state.Coder) {
	c.Section("result")
	state.All(c, &r.Packets, &r.Cut, &r.CutShort, &r.NotEthernet, &r.PassedBy)
	state.Num(c, &r.latest)
	was := r.Services
	if c.Reading() {
		r.Services, r.place = nil, map[[2]string]*Backend{} // one that a reload brought comes with its first connection
	}
	for i, n := 0, c.Count(len(was), longestName*longestName); i < n && c.OK(); i++ {
		if c.Reading() {
			r.Services = append(r.Services, Service{Backends: []*Backend{}})
		}
		r.carryService(c, &r.Services[i])
	}
}

func (r *Result) carryService(c *state.Coder, s *Service) {
	carryName(c, &s.Name)
	carryName(c, &s.Mode)
	for k, n := 0, c.Count(len(s.Backends), longestName*longestName); k < n && c.OK(); k++ {
		if c.Reading() {
			s.Backends = append(s.Backends, &Backend{})
		}
		b := s.Backends[k]
		carryName(c, &b.Name)
		state.All(c, &b.Flows, &b.Packets, &b.Bytes)
		r.place[[2]string{s.Name, b.Name}] = b
	}
}

// carryName carries a name, which will be shown.
func carryName(c *state.Coder, name *string) {
	c.Text(name, longestName)
	c.Check(shown(*name) == *name, "a name")
}
