package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/config"
	"naru/internal/replay"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name:      "replay",
		Usage:     "run captures through the engine, without root, in their own time",
		ArgsUsage: "PCAP...",
		Category:  "Understand",
		Description: "naru replay --vip auto in.pcap --out out.pcapng\n" +
			"naru replay -c naru.yaml client.pcap server.pcap --flows flows.jsonl --counters counters.json\n" +
			"naru replay -c naru.yaml in.pcap --expect golden/\n\n" +
			"pcap and pcapng, also compressed with gzip; - is standard input. Several captures are merged by time. The same\n" +
			"captures, configuration, seed and script give the same bytes. docs/replay.md has the details.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "vip", Usage: "make the configuration from the capture, and print it: `auto`"},
			&cli.StringFlag{Name: "mode", Value: "fullnat",
				Usage: "with --vip auto, forward by `MODE`: " + strings.Join(replay.AutoModes(), ", ")},
			&cli.StringFlag{Name: "out", Usage: "write every packet, and what it became, as pcapng to `FILE`, - for standard output"},
			&cli.StringFlag{Name: "flows", Usage: "write a JSON line for every connection to `FILE`"},
			&cli.StringFlag{Name: "counters", Usage: "write the counters as JSON to `FILE`"},
			&cli.StringFlag{Name: "expect", Usage: "compare with what an earlier run left in `DIR`; exit 7 if it differs"},
			&cli.BoolFlag{Name: "regen", Usage: "renew what is in the folder of --expect instead"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "make every random choice from `N`"},
			&cli.StringFlag{Name: stateOut, Usage: "leave off at the end of the captures: write to `FILE` what a run needs to go on"},
			&cli.StringFlag{Name: "state-in", Usage: "go on where the run left off that wrote `FILE`"},
			&cli.StringFlag{Name: "script", Usage: "let happen what `FILE` says, at its times"},
			&cli.StringFlag{Name: "interface", Aliases: []string{"i"},
				Usage: "send the result into `[LEG=]IFACE`, of one leg or of all"},
			&cli.StringFlag{Name: "speed", Value: "1x", Usage: "send so many `TIMES` as fast as the capture: 1x, 10x, max"},
			&cli.StringFlag{Name: "backends",
				Usage: "`WHO` answers: captured (as it is), recorded (what the VIP sent, as of the backend) or simulated"},
			&cli.StringFlag{Name: "reply", Value: "512", Usage: "simulated backends answer with `BYTES`, or with what was recorded"},
			&cli.DurationFlag{Name: "delay", Usage: "simulated backends answer after `TIME`"},
			&cli.Float64Flag{Name: "loss", Usage: "lose a share of `0..1` of the frames from and to simulated ends"},
			&cli.Float64Flag{Name: "reset", Usage: "simulated backends reset a share of `0..1` of the TCP connections"},
			outputFlag("table", "json"),
			quietFlag(),
		},
		Action: replayAction,
	}
}

// backendsWords are the values of --backends.
var backendsWords = map[string]replay.Backends{"captured": replay.AsCaptured, "recorded": replay.Recorded,
	"simulated": replay.Simulated}

func replayAction(c *cli.Context) error {
	if !c.Args().Present() {
		return usagef("missing argument PCAP; give a capture, or - for standard input")
	}
	job := &replayJob{c: c, names: c.Args().Slice()}
	defer job.close()
	defer job.unfinished.watch(commandName(c), c.App.ErrWriter)()
	if err := job.prepare(); err != nil {
		return err
	}
	if c.Bool("regen") {
		return job.regenerate()
	}
	began := time.Now()
	result, err := job.run(job.outputs)
	if err != nil {
		return err
	}
	if err := job.print(result, time.Since(began)); err != nil {
		return err
	}
	return job.compare()
}

// replayJob is one call of the command.
type replayJob struct {
	c       *cli.Context
	names   []string
	opt     replay.Options
	outputs map[string]string // path by golden name; without an entry it is not written
	closers []io.Closer
	pacer   *pacer // nil without -i
	left    int    // events of the script that did not happen

	unfinished unfinished
}

func (j *replayJob) close() {
	for _, c := range j.closers {
		_ = c.Close()
	}
	j.unfinished.clear()
}

// prepare reads the flags, the configuration and the script.
func (j *replayJob) prepare() error {
	c := j.c
	if err := j.checkFlags(); err != nil {
		return err
	}
	j.opt.Seed = c.Uint64("seed")
	if err := j.configure(); err != nil {
		return err
	}
	j.opt.Load = func(path string) (*config.Config, error) {
		cfg, _, err := loadConfig(path, c.App.Reader, c.App.ErrWriter)
		return cfg, err
	}
	if path := c.String("script"); path != "" {
		text, err := readConfig(path, c.App.Reader)
		if err != nil {
			return err
		}
		if j.opt.Script, err = replay.ParseScript(string(text)); err != nil {
			return j.scriptError(err)
		}
	}
	if err := j.live(); err != nil {
		return err
	}
	return j.places()
}

// scriptError names the file of a script. Several mistakes have a line each.
func (j *replayJob) scriptError(err error) error {
	e := (*replay.ScriptError)(nil)
	if !errors.As(err, &e) {
		return err
	}
	path := j.c.String("script")
	if len(e.Mistakes) > 1 {
		for _, m := range e.Mistakes {
			fmt.Fprintf(j.c.App.ErrWriter, "%s: %s\n", path, m)
		}
		err = errors.New(count(len(e.Mistakes), "mistake"))
	}
	return withCode(exitConfig, fmt.Errorf("%s: %w", path, err))
}

func (j *replayJob) checkFlags() error {
	c := j.c
	vip, mode, backends := c.String("vip"), c.String("mode"), c.String("backends")
	who, known := backendsWords[backends]
	j.opt.Backends = who
	stdin := 0
	for _, name := range append(slices.Clone(j.names), c.String("config"), c.String("script")) {
		if name == "-" {
			stdin++
		}
	}
	for _, flag := range []string{"state-in", stateOut} {
		if c.String(flag) == "-" {
			return usagef("--%s - is not possible; give a file", flag)
		}
	}
	switch {
	case vip != "" && vip != "auto":
		return usagef("--vip %q is not known; use auto", vip)
	case vip == "auto" && c.IsSet("config"):
		return usagef("--vip auto makes the configuration; leave -c out")
	case vip == "" && c.IsSet("mode"):
		return usagef("--mode is for --vip auto; a configuration has its own modes")
	case !slices.Contains(replay.AutoModes(), mode):
		return usagef("--mode %q is not known; use %s", mode, strings.Join(replay.AutoModes(), ", "))
	case backends != "" && !known:
		return usagef("--backends %q is not known; use captured, recorded or simulated", backends)
	case c.Bool("regen") && c.String("expect") == "":
		return usagef("--regen renews the folder of --expect; give it")
	case c.Bool("regen") && (c.IsSet("out") || c.IsSet("flows") || c.IsSet("counters")):
		return usagef("--regen writes into the folder of --expect; leave --out, --flows and --counters out")
	case stdin > 1:
		return usagef("standard input is read once; give - only once")
	}
	if err := j.simulation(); err != nil {
		return err
	}
	if vip == "auto" && backends == "" {
		j.opt.Backends = replay.Recorded
	}
	return nil
}

// simulation reads the flags of simulated ends.
func (j *replayJob) simulation() error {
	c := j.c
	if j.opt.Backends != replay.Simulated {
		for _, name := range []string{"reply", "delay", "loss", "reset"} {
			if c.IsSet(name) {
				return usagef("--%s is for --backends simulated", name)
			}
		}
		return nil
	}
	reply := -1
	if text := c.String("reply"); text != "recorded" {
		n, err := strconv.ParseUint(text, 10, 24)
		if err != nil {
			return usagef("--reply %q is no number of bytes below 16 MiB; write one, or recorded", text)
		}
		reply = int(n)
	}
	j.opt.Sim = replay.Simulation{Reply: reply, Delay: c.Duration("delay"), Loss: c.Float64("loss"), Reset: c.Float64("reset")}
	switch sim := j.opt.Sim; {
	case sim.Delay < 0:
		return usagef("--delay %v is in the past", sim.Delay)
	case !(sim.Loss >= 0 && sim.Loss <= 1):
		return usagef("--loss %v is out of range 0..1", sim.Loss)
	case !(sim.Reset >= 0 && sim.Reset <= 1):
		return usagef("--reset %v is out of range 0..1", sim.Reset)
	}
	return nil
}

// configure reads the configuration, or makes it.
func (j *replayJob) configure() (err error) {
	c := j.c
	if c.String("vip") == "" {
		j.opt.Config, _, err = loadConfig(c.String("config"), c.App.Reader, c.App.ErrWriter)
		return err
	}
	if err := rereadable(j.names...); err != nil {
		return err
	}
	src, err := j.open(nil)
	if err != nil {
		return err
	}
	yaml, err := replay.Auto(src, c.String("mode"))
	if err != nil {
		return fmt.Errorf("--vip auto: %w", err)
	}
	if !c.Bool("quiet") && c.String("output") == "table" {
		fmt.Fprintln(j.talk(), strings.TrimSuffix(yaml, "\n"))
		fmt.Fprintln(j.talk())
	}
	cfg, _, err := config.Load("--vip auto", []byte(yaml))
	if err != nil {
		return fmt.Errorf("--vip auto: %w", err)
	}
	j.opt.Config = cfg
	return nil
}

// places says where each output goes. What is compared and not asked for goes into a folder that is removed.
func (j *replayJob) places() error {
	c := j.c
	j.outputs = map[string]string{}
	for name, flag := range outputFlags {
		if path := c.String(flag); path != "" {
			j.outputs[name] = path
		}
	}
	if c.String("expect") == "" || c.Bool("regen") {
		return nil
	}
	for name, path := range j.outputs {
		if path == "-" {
			return usagef("--expect compares files; give --%s one, or leave it out", outputFlags[name])
		}
	}
	scratch, err := j.unfinished.scratch()
	if err != nil {
		return err
	}
	for _, name := range goldenNames {
		if j.outputs[name] == "" {
			j.outputs[name] = filepath.Join(scratch, name)
		}
	}
	return nil
}
