package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/replay"
	"naru/internal/wire"
)

// goldenNames are the outputs that are compared, in the order in which differences are told.
var goldenNames = []string{replay.GoldenFrames, replay.GoldenFlows, replay.GoldenCounters}

// print prints what came of a run.
func (j *replayJob) print(r *replay.Result, took time.Duration) error {
	c, out := j.c, j.talk()
	switch {
	case c.String("output") == "json":
		return r.WriteJSON(out)
	case c.Bool("quiet"):
		return nil
	}
	rate := float64(r.Packets) / max(took.Seconds(), 1e-9) / 1000
	fmt.Fprintf(out, "read %s, %s, %.1fs of capture time in %.2fs (%.0f kpps), seed %d\n",
		counted(r.Packets, "packet"), counted(r.Flows, "flow"), r.Seconds, took.Seconds(), rate, r.Seed)
	fmt.Fprintf(out, "forwarded %s  answered %s%s  passed %s%s  dropped %s%s\n", grouped(r.Forwarded), grouped(r.Answered),
		reasons(r, wire.Consume), grouped(r.Passed), reasons(r, wire.Pass), grouped(r.Dropped), reasons(r, wire.Drop))
	if s := aside(r); s != "" {
		fmt.Fprintln(out, s)
	}
	if l := r.Loop; l != nil {
		fmt.Fprintf(out, "flows completed %s  reset %s  open %s  stalled %s  mis-delivered %s   frames lost %s  ignored %s\n",
			grouped(l.Completed), grouped(l.Reset), grouped(l.Open), grouped(l.Stalled), grouped(l.MisDelivered), grouped(l.Lost),
			grouped(l.Ignored))
	}
	if j.left > 0 {
		fmt.Fprintf(out, "%s of the script did not happen: the captures end before\n", count(j.left, "event"))
	}
	for _, s := range r.Services {
		fmt.Fprintf(out, "%s   %s  %s\n", s.Name, counted(s.Flows, "flow"), shares(s))
	}
	return nil
}

// counted is "1 flow" or "12,345 flows".
func counted(n uint64, noun string) string {
	if n == 1 {
		return count(1, noun)
	}
	return grouped(n) + " " + noun + "s"
}

// aside is "past naru 3  captured in part 1" of the packets that came otherwise than the others.
func aside(r *replay.Result) string {
	var list []string
	for _, x := range []struct {
		what    string
		packets uint64
	}{{"past naru", r.PassedBy}, {"unknown link type", r.NotEthernet}, {"captured in part", r.Cut},
		{"cut short", r.CutShort}} {
		if x.packets > 0 {
			list = append(list, x.what+" "+grouped(x.packets))
		}
	}
	return strings.Join(list, "  ")
}

// reasons is " (no_route 3, hop_limit 2)" of what has a verdict.
func reasons(r *replay.Result, verdict wire.Verdict) string {
	var list []string
	for _, why := range r.Reasons {
		if why.Verdict == verdict.String() {
			list = append(list, fmt.Sprintf("%s %s", why.Name, grouped(why.Packets)))
		}
	}
	if list == nil {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

// shares is "b1 104  b2 103  b3 105   max/mean 1.01".
func shares(s replay.Service) string {
	var list []string
	var most uint64
	for _, b := range s.Backends {
		list = append(list, fmt.Sprintf("%s %s", b.Name, grouped(b.Flows)))
		most = max(most, b.Flows)
	}
	text := strings.Join(list, "  ")
	if s.Flows > 0 {
		text += fmt.Sprintf("   max/mean %.2f", float64(most)*float64(len(s.Backends))/float64(s.Flows))
	}
	return text
}

// grouped writes a number as 12,804.
func grouped(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// compare compares the outputs with the expected ones.
func (j *replayJob) compare() error {
	dir := j.c.String("expect")
	if dir == "" {
		return nil
	}
	differences := 0
	for _, name := range goldenNames {
		want := filepath.Join(dir, name)
		text, err := compareFiles(name, j.outputs[name], want)
		if err != nil {
			return err
		}
		if text != "" {
			differences++
			fmt.Fprintf(j.c.App.Writer, "%s   %s\n", want, text)
		}
	}
	if differences > 0 {
		fmt.Fprintln(j.c.App.Writer, count(differences, "difference"))
		return withCode(exitDiffers, nil)
	}
	return nil
}

func compareFiles(name, got, want string) (string, error) {
	g, err := os.Open(got)
	if err != nil {
		return "", err
	}
	defer g.Close()
	w, err := os.Open(want)
	if os.IsNotExist(err) {
		return "", fmt.Errorf("%s: no such file; make it with --regen", want)
	}
	if err != nil {
		return "", fileError(want, err)
	}
	defer w.Close()
	by := map[string]func(got, want io.Reader) (string, error){replay.GoldenFrames: replay.CompareFrames,
		replay.GoldenFlows: replay.CompareFlows, replay.GoldenCounters: replay.CompareCounters}
	text, err := by[name](g, w)
	if err != nil {
		return "", fmt.Errorf("%s: %w", want, err)
	}
	return text, nil
}

// regenerate writes the expected outputs.
func (j *replayJob) regenerate() error {
	dir := j.c.String("expect")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	outputs := map[string]string{}
	for _, name := range goldenNames {
		outputs[name] = filepath.Join(dir, name)
	}
	began := time.Now()
	result, err := j.run(outputs)
	if err != nil {
		return err
	}
	return j.print(result, time.Since(began))
}

// progressEvery is how many packets pass between two looks at the clock: our own choice.
const progressEvery = 8192

// progress tells a person at a terminal how far a replay is. nil: nobody is there.
type progress struct {
	out        io.Writer
	size, read int64
	endless    bool // of an input nobody knows the size
	shown      time.Time
	dirty      bool // there is a line to clear
}

func newProgress(c *cli.Context) *progress {
	if c.Bool("quiet") || !isTerminal(c.App.ErrWriter) {
		return nil
	}
	return &progress{out: c.App.ErrWriter, shown: time.Now()}
}

// watch counts what is read of an input.
func (p *progress) watch(in io.Reader) io.Reader {
	if p == nil {
		return in
	}
	var info os.FileInfo
	if f, ok := in.(*os.File); ok {
		info, _ = f.Stat() // without one the size is not known
	}
	if info == nil || !info.Mode().IsRegular() {
		p.endless = true
		return in
	}
	p.size += info.Size()
	return io.TeeReader(in, p)
}

// Write counts bytes.
func (p *progress) Write(b []byte) (int, error) {
	p.read += int64(len(b))
	return len(b), nil
}

func (p *progress) tick(packets int) {
	if p == nil || packets%progressEvery != 0 || time.Since(p.shown) < 200*time.Millisecond {
		return
	}
	p.shown, p.dirty = time.Now(), true
	fmt.Fprint(p.out, "\r", p.line(packets))
}

// line is short enough for a narrow terminal.
func (p *progress) line(packets int) string {
	text := grouped(uint64(packets)) + " packets "
	if p.endless || p.size == 0 {
		return text
	}
	return fmt.Sprintf("%3d%%  %s", min(100, p.read*100/p.size), text) // a file may grow
}

// end clears the line.
func (p *progress) end() {
	if p != nil && p.dirty {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.dirty = false
	}
}
