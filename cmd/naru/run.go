//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"naru/forwarder"
	"naru/internal/admin"
	"naru/internal/config"
	"naru/internal/director"
	"naru/internal/kernel"
	"naru/internal/record"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:     "run",
		Usage:    "run the load balancer in the foreground",
		Category: "Run",
		Description: "naru run -c naru.yaml\n" +
			"naru run -c naru.yaml --log-level debug --record -\n\n" +
			"SIGHUP reads the configuration again; a bad one is refused and the old one goes on. SIGTERM and SIGINT end it.",
		Flags: []cli.Flag{
			configFlag(),
			choiceFlag("log-level", "write messages from `LEVEL` on", "info", "debug", "warn", "error"),
			choiceFlag("log-format", "write messages as `FORMAT`; auto is text on a terminal, else json",
				"auto", "text", "json"),
			&cli.StringFlag{
				Name: "record", EnvVars: []string{"NARU_RECORD"},
				Usage: "write what is decided about each packet to `FILE` (- is standard output; JSON if it ends in .jsonl)",
			},
			&cli.Uint64Flag{Name: "seed", Hidden: true, Usage: "make every random choice from `N`; for tests"},
		},
		Action: runAction,
	}
}

// choiceFlag takes one of the words; the first is the default.
func choiceFlag(name, usage string, words ...string) cli.Flag {
	return &cli.StringFlag{
		Name: name, EnvVars: []string{"NARU_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}, Value: words[0],
		Usage: usage + ": " + strings.Join(words, ", "),
		Action: func(_ *cli.Context, word string) error {
			for _, w := range words {
				if w == word {
					return nil
				}
			}
			return usagef("--%s %q is not known; use %s", name, word, strings.Join(words, ", "))
		},
	}
}

func runAction(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("too many arguments: %q; name the file with -c", c.Args().First())
	}
	cfg, src, err := loadConfig(c.String("config"), c.App.Reader, c.App.ErrWriter)
	if err != nil {
		return err
	}
	seed, err := newSeed(c)
	if err != nil {
		return err
	}
	opt := director.Options{Config: cfg, Open: openDevices(cfg), Log: newLogger(c), Seed: seed,
		Version: thisBuild().Version, Hints: hintsFor(cfg)}
	defer useXDP(cfg, &opt, suitsXDP)()
	if c.IsSet("record") {
		stop, err := startRecording(c, &opt)
		if err != nil {
			return err
		}
		defer stop()
	}
	if cfg.IO.BusyPoll {
		awake, err := kernel.KeepAwake()
		if err != nil {
			opt.Log.Warn("io.busy_poll: whoever is woken on a processor that sleeps has to wait for it", "error", err)
		} else {
			defer awake.Close()
		}
	}
	// From here on a signal ends it the clean way.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	// Whoever reads the log or the records may go away: that is no reason to stop forwarding.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Stop(signals)
	d, err := director.New(opt)
	if err != nil {
		return startError(c.App.ErrWriter, cfg, src, err)
	}
	r := &reloader{d: d, log: opt.Log, path: c.String("config")}
	socket, err := openAdmin(cfg, opt.Log)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	if socket != nil {
		d.Serve(socket)
		r.serve(socket)
		socket.Start()
	}
	return live(c, r, socket, signals)
}

// live runs the director until a signal ends it, and takes everything down.
func live(c *cli.Context, r *reloader, socket *admin.Server, signals <-chan os.Signal) error {
	d, log := r.d, r.log
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	var err error
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case s := <-signals:
			if s == syscall.SIGHUP {
				_, _ = r.apply("", false) // the log says what came of it
				continue
			}
			log.Info("ending", "signal", s.String())
			cancel()
		}
	}
	if socket != nil {
		err = errors.Join(err, socket.Close())
	}
	counters, stats := d.Counters(), d.DeviceStats()
	err = errors.Join(err, d.Close())
	if textLog(c) {
		printCounters(c.App.ErrWriter, &counters, stats)
	} else {
		logCounters(log, &counters, stats)
	}
	return err
}

// startError says why naru does not start: what is wrong with the host is shown at its place in the file.
func startError(stderr io.Writer, cfg *config.Config, src []byte, err error) error {
	host := (*director.HostError)(nil)
	if !errors.As(err, &host) {
		return kernelError(err)
	}
	var problems []config.Problem
	for _, p := range host.Problems {
		problems = append(problems, cfg.Problem(p.Path, p.Message, p.Fix))
	}
	printProblems(stderr, problems, src)
	return withCode(exitFailed, nil)
}

// newSeed draws the seed; a number given for tests is its first word.
func newSeed(c *cli.Context) (seed forwarder.Seed, err error) {
	if c.IsSet("seed") {
		binary.LittleEndian.PutUint64(seed[:], c.Uint64("seed"))
		return seed, nil
	}
	if _, err = rand.Read(seed[:]); err != nil {
		return seed, fmt.Errorf("seed: %w", err)
	}
	return seed, nil
}

// newLogger writes to standard error.
func newLogger(c *cli.Context) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.String("log-level"))) // the flag takes known words only
	opt := &slog.HandlerOptions{Level: level}
	if textLog(c) {
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, opt))
	}
	return slog.New(slog.NewJSONHandler(c.App.ErrWriter, opt))
}

// textLog reports whether messages are for people.
func textLog(c *cli.Context) bool {
	format := c.String("log-format")
	return format == "text" || format == "auto" && isTerminal(c.App.ErrWriter)
}

// recordPatience is how long the end of naru waits for a reader of the records that has stopped reading: our own choice.
const recordPatience = time.Second

// startRecording makes the engine's records go to the file of --record. stop writes what is left.
func startRecording(c *cli.Context, opt *director.Options) (stop func(), err error) {
	path, out := c.String("record"), beside(c.App.Writer) // naru goes on when nobody reads them
	var file *os.File
	if path != "-" {
		if file, err = os.Create(path); err != nil {
			return nil, fmt.Errorf("--record: %w", err)
		}
		out = file
	}
	w := record.NewWriter(out, strings.HasSuffix(path, ".jsonl"))
	opt.Record = w.Trace
	return func() {
		closed := make(chan struct{})
		var dropped uint64
		var err error
		go func() {
			defer close(closed)
			dropped, err = w.Close()
			if file != nil {
				err = errors.Join(err, file.Close())
			}
		}()
		select {
		case <-closed:
			if err != nil || dropped > 0 {
				opt.Log.Warn("records are missing", "dropped", dropped, "error", err)
			}
		case <-time.After(recordPatience):
			opt.Log.Warn("records are missing", "error", "nobody reads them")
		}
	}, nil
}
