package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"naru/internal/replay"
)

// talk is where the summary goes: standard error if standard output is one of the outputs.
func (j *replayJob) talk() io.Writer {
	for _, flag := range outputFlags {
		if j.c.String(flag) == "-" {
			return j.c.App.ErrWriter
		}
	}
	return j.c.App.Writer
}

// outputFlags are the flags that name outputs, by golden name.
var outputFlags = map[string]string{replay.GoldenFrames: "out", replay.GoldenFlows: "flows",
	replay.GoldenCounters: "counters"}

// rereadable checks that captures can be read twice.
func rereadable(names ...string) error {
	for _, name := range names {
		if name == "-" {
			return usagef("--vip auto reads the capture twice; give a file instead of standard input")
		}
		info, err := os.Stat(name)
		if err != nil {
			return captureError(name, err)
		}
		if !info.Mode().IsRegular() && !info.IsDir() {
			return usagef("--vip auto reads the capture twice; %s can be read once: save it in a file first", name)
		}
	}
	return nil
}

// open opens the captures.
func (j *replayJob) open(p *progress) (*replay.Source, error) {
	var inputs []replay.Input
	for _, name := range j.names {
		in := j.c.App.Reader
		if name != "-" {
			f, err := openFile(name)
			if err != nil {
				return nil, captureError(name, err)
			}
			j.closers = append(j.closers, f)
			in = f
		}
		inputs = append(inputs, replay.Input{Name: name, Stream: p.watch(in)})
	}
	return replay.NewSource(inputs...)
}

// openFile opens a file to read it, which a directory would let one do up to the first byte.
func openFile(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, syscall.EISDIR
	}
	return f, nil
}

// apart checks that no output is a file that is read, or another output: an output takes the place of the file.
func (j *replayJob) apart(outputs map[string]string) error {
	type file struct {
		path string
		info os.FileInfo
	}
	var taken []file
	take := func(path string) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			taken = append(taken, file{path, info})
		}
	}
	for _, path := range append([]string{j.c.String("script"), j.c.String("state-in")}, j.names...) {
		take(path)
	}
	if j.c.String("vip") == "" {
		take(j.c.String("config"))
	}
	seen := map[string]bool{}
	for _, name := range append([]string{stateOut}, goldenNames...) {
		path, flag := outputs[name], outputFlags[name]
		if name == stateOut {
			path, flag = j.c.String(stateOut), stateOut
		}
		if path == "" {
			continue
		}
		if seen[path] {
			return usagef("--%s %s: another output goes there too; give each a file of its own", flag, path)
		}
		info, err := os.Stat(path)
		seen[path] = err != nil || info.Mode().IsRegular() // /dev/null takes all
		for i := 0; err == nil && i < len(taken); i++ {
			if os.SameFile(info, taken[i].info) {
				return usagef("--%s %s would overwrite what is read from %s; give another file", flag, path, taken[i].path)
			}
		}
	}
	return nil
}

// create opens the outputs, by golden name.
func (j *replayJob) create(outputs map[string]string) (map[string]io.WriteCloser, error) {
	if err := j.apart(outputs); err != nil {
		return nil, err
	}
	files := map[string]io.WriteCloser{}
	for _, name := range goldenNames {
		switch path := outputs[name]; path {
		case "":
		case "-":
			files[name] = standardOutput{j.c.App.Writer}
		default:
			f, err := j.unfinished.create(path)
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", outputFlags[name], err)
			}
			j.closers = append(j.closers, f)
			files[name] = f
		}
	}
	return files, nil
}

// standardOutput stays open.
type standardOutput struct{ io.Writer }

func (standardOutput) Close() error { return nil }

// run replays the captures once and writes the outputs, which are opened when the captures are.
func (j *replayJob) run(outputs map[string]string) (result *replay.Result, err error) {
	defer func() { err = errors.Join(err, j.unfinished.end(err == nil)) }()
	p := newProgress(j.c)
	defer p.end()
	src, err := j.open(p)
	if err != nil {
		return nil, err
	}
	opt := j.opt
	files, err := j.create(outputs)
	if err != nil {
		return nil, err
	}
	if f := files[replay.GoldenFrames]; f != nil {
		opt.Frames = f
	}
	if f := files[replay.GoldenFlows]; f != nil {
		opt.Flows = f
	}
	state, err := j.states(&opt)
	if err != nil {
		return nil, err
	}
	r, err := replay.New(opt)
	if err != nil {
		return nil, j.named(err)
	}
	result, err = j.feed(r, src, p)
	if err == nil {
		err = j.keep(state)
	}
	if err != nil {
		return nil, err
	}
	if f := files[replay.GoldenCounters]; f != nil {
		err = result.WriteJSON(f)
	}
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return result, err
}

// feed runs every packet.
func (j *replayJob) feed(r *replay.Replay, src *replay.Source, p *progress) (*replay.Result, error) {
	packets := 0
	for ; ; packets++ {
		packet, ifname, err := src.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := r.Packet(packet, ifname); err != nil {
			return nil, err
		}
		p.tick(packets)
	}
	p.end()
	if packets == 0 {
		fmt.Fprintln(j.c.App.ErrWriter, "naru replay: warning: there is no packet in what was read")
	}
	j.warnOfDatagrams()
	for _, w := range src.Warnings() {
		fmt.Fprintf(j.c.App.ErrWriter, "naru replay: warning: %s\n", w)
	}
	result, err := r.Finish()
	j.left = r.Left()
	return result, errors.Join(err, j.sentLive())
}

// warnOfDatagrams says which services get shorter answers than were asked for.
func (j *replayJob) warnOfDatagrams() {
	if j.opt.Backends != replay.Simulated || j.opt.Sim.Reply <= replay.MostDatagram {
		return
	}
	for _, s := range j.opt.Config.Services {
		if s.Protocol == "udp" {
			fmt.Fprintf(j.c.App.ErrWriter, "naru replay: warning: service %s: simulated backends make no fragments; they answer "+
				"datagrams with %d bytes, not with the %d of --reply\n", s.Name, replay.MostDatagram, j.opt.Sim.Reply)
		}
	}
}
