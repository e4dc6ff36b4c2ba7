package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"naru/internal/replay"
)

// stateOut is the flag that names where the state goes.
const stateOut = "state-out"

// states opens the state to go on from, and makes room for the one to leave off with.
func (j *replayJob) states(opt *replay.Options) (out *bytes.Buffer, err error) {
	if path := j.c.String("state-in"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fileError(path, err)
		}
		j.closers = append(j.closers, f)
		opt.StateIn = f
	}
	if j.c.String(stateOut) != "" {
		out = new(bytes.Buffer)
		opt.StateOut = out
	}
	return out, nil
}

// keep writes the state that a run has left off with, which is none before it is whole.
func (j *replayJob) keep(state *bytes.Buffer) error {
	path := j.c.String(stateOut)
	if path == "" {
		return nil
	}
	f, err := j.unfinished.create(path)
	if err != nil {
		return fmt.Errorf("--%s: %w", stateOut, err)
	}
	_, err = f.Write(state.Bytes())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("--%s: %w", stateOut, err)
	}
	return nil
}

// named adds to an error of a replay the name of the file that it is about.
func (j *replayJob) named(err error) error {
	if e := (*replay.StateError)(nil); errors.As(err, &e) {
		return fmt.Errorf("%s: %w", j.c.String("state-in"), err)
	}
	return j.scriptError(err)
}
