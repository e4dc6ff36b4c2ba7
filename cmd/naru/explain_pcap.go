package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/record"
	"naru/internal/replay"
	"naru/internal/wire"
)

// explainCapture replays a capture up to the packet that is asked about, so that the state is what it would be.
func explainCapture(c *cli.Context) error {
	switch {
	case c.IsSet("packet") && c.IsSet("flow"):
		return usagef("--packet and --flow exclude each other")
	case !c.IsSet("flow") && c.Int("packet") < 1:
		return usagef("--pcap needs --packet N, counted from 1, or --flow")
	case c.String("vip") == "" && c.IsSet("mode"):
		return usagef("--mode is for --vip auto; a configuration has its own modes")
	}
	if c.Args().Present() {
		return usagef("PACKET %q and --pcap exclude each other", c.Args().First())
	}
	who, known := backendsWords[c.String("backends")]
	if c.IsSet("backends") && (!known || who == replay.Simulated) {
		return usagef("--backends %q cannot be; use captured or recorded", c.String("backends"))
	}
	cfg, err := captureConfig(c)
	if err != nil {
		return err
	}
	if c.String("vip") != "" && !c.IsSet("backends") {
		who = replay.Recorded
	}
	s := &search{packet: c.Int("packet"), flows: map[wire.FlowID]int{}}
	if c.IsSet("flow") {
		if err := s.want(c.String("flow")); err != nil {
			return err
		}
	}
	if err := s.run(c, replay.Options{Config: cfg, Seed: c.Uint64("seed"), Backends: who, Keep: wire.MaxFrame,
		Trace: s.trace}); err != nil {
		return err
	}
	switch {
	case s.found != nil:
		s.found.Capture.File = c.String("pcap")
		return printExplanation(c, s.found)
	case s.passed && s.part == pcapfile.CutShort:
		return withCode(exitFailed, fmt.Errorf("packet %d of %s was cut short by the capture, which has %d of its %d bytes: "+
			"the headers end before, so nobody can say what naru does with it; capture with a longer snap length", s.packet,
			c.String("pcap"), s.captured, s.length))
	case s.passed && s.part == pcapfile.UnknownLink:
		return withCode(exitFailed, fmt.Errorf("packet %d of %s is of a link type that naru does not know, or too short for it", s.packet,
			c.String("pcap")))
	case s.passed:
		return withCode(exitFailed, fmt.Errorf("packet %d of %s never comes near naru: in direct server return a backend "+
			"answers the client itself", s.packet, c.String("pcap")))
	case s.packet > 0:
		return withCode(exitFailed, fmt.Errorf("%s has %s, there is no packet %d", c.String("pcap"),
			count(s.at, "packet"), s.packet))
	}
	return withCode(exitFailed, fmt.Errorf("%s has no flow %s; naru replay --flows tells of the %s that were made",
		c.String("pcap"), c.String("flow"), count(s.made, "flow")))
}

// captureConfig reads the configuration, or makes it from the capture.
func captureConfig(c *cli.Context) (*config.Config, error) {
	switch {
	case c.String("vip") == "":
		cfg, _, err := loadConfig(c.String("config"), c.App.Reader, c.App.ErrWriter)
		return cfg, err
	case c.String("vip") != "auto":
		return nil, usagef("--vip %q is not known; use auto", c.String("vip"))
	case c.IsSet("config"):
		return nil, usagef("--vip auto makes the configuration; leave -c out")
	case !slices.Contains(replay.AutoModes(), c.String("mode")):
		return nil, usagef("--mode %q is not known; use %s", c.String("mode"), strings.Join(replay.AutoModes(), ", "))
	}
	if err := rereadable(c.String("pcap")); err != nil {
		return nil, err
	}
	file, src, err := openCapture(c)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	yaml, err := replay.Auto(src, c.String("mode"))
	if err != nil {
		return nil, fmt.Errorf("--vip auto: %w", err)
	}
	cfg, _, err := config.Load("--vip auto", []byte(yaml))
	return cfg, err
}

func openCapture(c *cli.Context) (io.Closer, *replay.Source, error) {
	name := c.String("pcap")
	file, err := io.NopCloser(c.App.Reader), error(nil)
	if name != "-" {
		file, err = openFile(name)
	}
	if err != nil {
		return nil, nil, captureError(name, err)
	}
	src, err := replay.NewSource(replay.Input{Name: name, Stream: file})
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, src, nil
}

// search looks for one packet in a replay.
type search struct {
	packet int // counted from 1; 0: the first one of a flow
	flow   wire.FlowID
	number int // of the flow, in the order in which they were made, counted from 1; 0: by name

	at     int // the packet at hand
	first  int64
	time   int64 // of the capture
	made   int   // flows
	traced bool
	passed bool                // the packet does not come near naru
	part   pcapfile.Part       // as much of it as the capture has
	flows  map[wire.FlowID]int // their numbers

	captured, length int // bytes of the packet
	found            *record.Explanation
}

// want takes a flow's name or number.
func (s *search) want(text string) error {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		s.number = n
		return nil
	}
	var ok bool
	if s.flow, ok = wire.ParseFlowID(text); !ok {
		return usagef("--flow %q is no flow: give its name, as f-1a2b3c4d, or its number in the capture", text)
	}
	return nil
}

func (s *search) trace(r *forwarder.Record) {
	if s.traced || r.Late || s.found != nil {
		return // what waited before has records of its own
	}
	s.traced = true
	if r.NewConn {
		s.made++
		s.flows[r.Flow] = s.made
	}
	switch {
	case s.packet > 0 && s.at == s.packet,
		s.number > 0 && r.NewConn && s.number == s.made,
		s.flow != 0 && s.flow == r.Flow:
		s.found = record.Explain(r)
		s.found.Capture = &record.Place{Packet: s.at, Seconds: time.Duration(s.time - s.first).Seconds()}
		if s.found.Record.Direction != "" { // it is of a connection
			s.found.Capture.Flow, s.found.Capture.FlowNumber = r.Flow.String(), s.flows[r.Flow]
		}
	}
}

// run replays the capture until the packet is found.
func (s *search) run(c *cli.Context, opt replay.Options) error {
	file, src, err := openCapture(c)
	if err != nil {
		return err
	}
	defer file.Close()
	r, err := replay.New(opt)
	if err != nil {
		return err
	}
	for s.found == nil && (s.packet == 0 || s.at < s.packet) {
		p, name, err := src.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if s.at++; s.at == 1 {
			s.first = p.Time
		}
		s.time = p.Time
		s.traced = false
		if s.at == s.packet {
			_, _, s.part = pcapfile.AppendWhole(nil, p)
			s.captured, s.length = len(p.Data), p.Length
		}
		if err := r.Packet(p, name); err != nil {
			return err
		}
	}
	s.passed = s.found == nil && s.packet > 0 && s.at == s.packet
	return nil
}
