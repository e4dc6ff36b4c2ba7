package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"naru/internal/link"
	"naru/internal/wire"
)

// Our own choices.
const (
	paceBatch = 64                     // frames handed to the interface at once
	paceAhead = 500 * time.Microsecond // that a frame may leave early, to go with others
)

// pacer sends what a replay sends into an interface, with the time between frames that they have in the capture.
type pacer struct {
	dev   link.Device
	leg   int     // only what leaves by it; -1: all
	speed float64 // times the capture's; 0: without a pause
	start time.Time
	first wire.Time
	began bool

	memory [paceBatch][]byte
	frames [paceBatch]wire.Frame
	batch  []*wire.Frame
	err    error
}

// parseSpeed reads 1x, 2.5x, 10 or max; max is 0.
func parseSpeed(text string) (float64, error) {
	if text == "max" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64)
	if err != nil || !(n > 0 && n <= 1e9) {
		return 0, usagef("--speed %q is no speed; write 1x, 0.5x, 10x or max", text)
	}
	return n, nil
}

// add sends a frame when its time has come; until then it waits with others.
func (p *pacer) add(at wire.Time, f *wire.Frame) {
	if p.err != nil || p.leg >= 0 && int(f.Leg) != p.leg {
		return
	}
	if !p.began {
		p.start, p.first, p.began = time.Now(), at, true
	}
	if p.speed > 0 {
		due := p.start.Add(time.Duration(float64(at.Sub(p.first)) / p.speed))
		if wait := time.Until(due); wait > paceAhead {
			p.flush()
			time.Sleep(wait)
		}
	}
	n := len(p.batch)
	need := wire.Headroom + max(f.Len, wire.MinBuffer)
	if len(p.memory[n]) < need {
		p.memory[n] = make([]byte, need)
	}
	p.frames[n] = *f
	p.frames[n].Buf, p.frames[n].Off = p.memory[n], wire.Headroom
	if o := &p.frames[n].Offload; o.MadeUp() > 0 { // no device knows that
		o.Flags, o.CsumOffset = o.Flags&^wire.Cut, 0
	}
	copy(p.memory[n][wire.Headroom:], f.Bytes())
	if p.batch = append(p.batch, &p.frames[n]); len(p.batch) == paceBatch {
		p.flush()
	}
}

// flush sends what waits.
func (p *pacer) flush() {
	if len(p.batch) > 0 && p.err == nil {
		p.err = p.dev.Send(p.batch)
	}
	p.batch = p.batch[:0]
}

// live opens the interface of -i, "eth1=veth0" for what leaves by leg eth1 alone.
func (j *replayJob) live() error {
	name := j.c.String("interface")
	if name == "" {
		if j.c.IsSet("speed") {
			return usagef("--speed is for sending; give an interface with -i")
		}
		return nil
	}
	p := &pacer{leg: -1, batch: make([]*wire.Frame, 0, paceBatch)}
	if leg, dev, ok := strings.Cut(name, "="); ok {
		name = dev
		for i, ifc := range j.opt.Config.Interfaces {
			if ifc.Name == leg {
				p.leg = i
			}
		}
		if p.leg < 0 {
			return usagef("-i %s=%s: the configuration has no interface %s", leg, dev, leg)
		}
	}
	var err error
	if p.speed, err = parseSpeed(j.c.String("speed")); err != nil {
		return err
	}
	if p.dev, err = openSender(name); err != nil {
		return err
	}
	j.closers = append(j.closers, p.dev)
	j.opt.Sent, j.pacer = p.add, p
	return nil
}

// sentLive ends the sending and says what could not be sent.
func (j *replayJob) sentLive() error {
	p := j.pacer
	if p == nil {
		return nil
	}
	p.flush()
	if lost := p.dev.Stats().TxDropped; lost > 0 {
		fmt.Fprintf(j.c.App.ErrWriter, "naru replay: warning: %s of the frames could not be sent (too long, or the queue was full)\n",
			grouped(lost))
	}
	return p.err
}
