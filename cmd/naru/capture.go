package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"naru/internal/admin"
	"naru/internal/link/pcapfile"
	"naru/internal/record"
)

// ringBytes is how much memory --ring takes at most: our own choice. Older packets give way.
const ringBytes = 256 << 20

func captureCommand() *cli.Command {
	return &cli.Command{
		Name: "capture", Usage: "write the packets of a running naru to a file, as they came and as they left",
		ArgsUsage: "[EXPRESSION]", Category: "Understand",
		Description: "naru capture -w out.pcapng --service web --for 10s\n" +
			"naru capture -w - | tshark -r - -Y 'frame.comment contains \"f-1a2b3c4d\"'\n" +
			"naru capture -w before.pcapng --ring 30s --trigger no_backend    # what led to it\n\n" +
			"One interface block a leg; every packet has a comment: the connection's name, the verdict, service/backend, the\n" +
			"mode and the reason. EXPRESSION is that of naru trace.",
		Flags: append(append(filterFlags(),
			&cli.StringFlag{Name: "write", Aliases: []string{"w"}, Usage: "write pcapng to `FILE`, - for standard output"},
			&cli.IntFlag{Name: "snaplen", Usage: "keep at most `N` bytes of a frame"},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "end after `N` packets that came"},
			&cli.DurationFlag{Name: "for", Usage: "end after `DURATION`"},
			&cli.DurationFlag{Name: "ring", Usage: "keep the packets of the last `DURATION`, and write it when --trigger comes"},
			&cli.StringSliceFlag{Name: "trigger", Usage: "with --ring: the `REASON` to wait for, also as reason=NAME"},
			quietFlag()), clientFlags()...),
		Action: captureAction,
	}
}

func captureAction(c *cli.Context) error {
	path := c.String("write")
	if path == "" {
		return usagef("missing flag --write FILE; - is standard output")
	}
	if (c.Duration("ring") > 0) != c.IsSet("trigger") {
		return usagef("--ring and --trigger belong together: --ring 30s --trigger no_backend")
	}
	triggers, err := triggerReasons(c)
	if err != nil {
		return err
	}
	q, err := filterQuery(c)
	if err != nil {
		return err
	}
	if n := c.Int("snaplen"); n > 0 {
		q.Set("bytes", fmt.Sprint(n))
	}
	var status admin.Status
	if err := ask(c, "GET", admin.Path("status"), nil, &status); err != nil {
		return err
	}
	out := c.App.Writer
	if path != "-" {
		file, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("--write: %w", err)
		}
		defer file.Close()
		out = file
	}
	w := newCaptureWriter(out, status.Interfaces)
	job := &captureJob{c: c, out: w, triggers: triggers}
	if err := followRecords(c, "capture", q, job.take); err != nil {
		return err
	}
	return job.finish()
}

// triggerReasons reads --trigger.
func triggerReasons(c *cli.Context) (map[string]bool, error) {
	all := map[string]bool{}
	for _, text := range c.StringSlice("trigger") {
		if len(text) > 7 && text[:7] == "reason=" {
			text = text[7:]
		}
		if _, ok := record.ReasonOf(text); !ok {
			return nil, usagef("--trigger %q is no reason; docs/counters.md lists them", text)
		}
		all[text] = true
	}
	return all, nil
}

// captureJob is one call of the command.
type captureJob struct {
	c        *cli.Context
	out      *captureWriter
	triggers map[string]bool

	kept    []*record.Traced // of --ring, oldest first
	bytes   int
	packets int
	missed  uint64
	fired   string
}

// take is called for each record.
func (j *captureJob) take(_ []byte, t *record.Traced) error {
	j.missed += t.Missed
	ring := j.c.Duration("ring")
	if ring == 0 {
		if err := j.write(t); err != nil {
			return err
		}
		if j.packets == j.c.Int("last") {
			return errEnough
		}
		return nil
	}
	j.kept = append(j.kept, t)
	j.bytes += size(t)
	for len(j.kept) > 1 && (t.At.Sub(j.kept[0].At) > ring || j.bytes > ringBytes) {
		j.bytes -= size(j.kept[0])
		j.kept = j.kept[1:]
	}
	if j.triggers[t.Reason] {
		j.fired = t.Reason
		return errEnough
	}
	return nil
}

func size(t *record.Traced) int {
	n := len(t.Frames.Before)
	for _, f := range t.Frames.After {
		n += len(f)
	}
	return n
}

func (j *captureJob) write(t *record.Traced) error {
	if !t.Late {
		j.packets++
	}
	return j.out.write(t)
}

// finish writes what --ring kept, and says what was written.
func (j *captureJob) finish() error {
	if len(j.triggers) > 0 && j.fired == "" {
		if err := j.out.flush(); err != nil {
			return err
		}
		return withCode(exitFailed, fmt.Errorf("nothing was written: the trigger did not come"))
	}
	for _, t := range j.kept {
		if err := j.write(t); err != nil {
			return err
		}
	}
	if err := j.out.flush(); err != nil {
		return err
	}
	if !j.c.Bool("quiet") {
		fmt.Fprintf(j.c.App.ErrWriter, "%s, %s left, %d missed\n", count(j.packets, "packet"),
			count(int(j.out.after), "frame"), j.missed)
	}
	return nil
}

// captureWriter writes records as linked pcapng.
type captureWriter struct {
	out   *pcapfile.Writer
	legs  map[string]int
	after int
	last  time.Time // of the latest flush
}

func newCaptureWriter(out io.Writer, interfaces []admin.Interface) *captureWriter {
	w := &captureWriter{out: pcapfile.NewWriter(out), legs: map[string]int{}}
	for _, i := range interfaces {
		w.legs[i.Name] = w.out.AddInterface(i.Name, map[string]string{"client": "towards clients",
			"backend": "towards backends", "both": "towards clients and backends"}[i.Side])
	}
	return w
}

// leg returns the index of an interface, which is new when naru has been reloaded with another one.
func (w *captureWriter) leg(name string) int {
	if _, known := w.legs[name]; !known {
		w.legs[name] = w.out.AddInterface(name, "")
	}
	return w.legs[name]
}

func (w *captureWriter) write(t *record.Traced) error {
	before, after, err := t.Packets()
	if err != nil {
		return err
	}
	if !t.Late { // a packet that was held came once
		w.out.Packet(w.leg(t.Leg), t.At.UnixNano(), before, t.Frames.BeforeLen, t.Note)
	}
	for _, f := range after {
		w.out.Packet(w.leg(t.Out), t.At.UnixNano(), f, len(f), t.Note)
		w.after++
	}
	if time.Since(w.last) < 200*time.Millisecond {
		return nil
	}
	return w.flush() // somebody may be reading along
}

func (w *captureWriter) flush() error {
	w.last = time.Now()
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("--write: %w", err)
	}
	return nil
}
