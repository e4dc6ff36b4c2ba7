package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
)

// unfinished are files that a command is about to write. Each is written beside its place and put there when all are whole:
// a capture without its end looks like a whole one, and what fails must not cost the file that was there before.
type unfinished struct {
	mu    sync.Mutex
	files []unfinishedFile
	done  bool

	folder string // of what is not to stay at all; empty: there is none
}

type unfinishedFile struct{ part, path string }

// create opens a file for writing. What is no file of its own, a device or a pipe, is written as it is.
func (u *unfinished) create(path string) (*os.File, error) {
	mode, place := os.FileMode(0o666), path
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return os.OpenFile(path, os.O_WRONLY, 0)
	case err == nil: // behind a link the file is replaced, not the link
		mode = info.Mode().Perm()
		if place, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	part := fmt.Sprintf("%s.%d.part", place, os.Getpid())
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return nil, &os.PathError{Op: e.Op, Path: path, Err: e.Err} // the name that was given
	}
	u.files = append(u.files, unfinishedFile{part, place})
	return f, nil
}

// end puts the files in their places if they are finished, and removes them if not. Only the first call has an effect.
func (u *unfinished) end(finished bool) (err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return nil
	}
	u.done = true
	for _, f := range u.files {
		if finished {
			err = errors.Join(err, os.Rename(f.part, f.path))
		} else {
			_ = os.Remove(f.part)
		}
	}
	return err
}

// clear removes the folder.
func (u *unfinished) clear() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.folder != "" {
		_ = os.RemoveAll(u.folder)
	}
}

// scratch makes the folder.
func (u *unfinished) scratch() (path string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.folder, err = os.MkdirTemp("", "naru-replay")
	return u.folder, err
}

// watch ends the program when it is interrupted, wherever it is, with the files removed; stop ends the watching.
func (u *unfinished) watch(command string, stderr io.Writer) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		_ = u.end(false)
		u.clear()
		fmt.Fprintf(stderr, "\n%s: interrupted; what was written in part is removed\n", command)
		os.Exit(exitInterrupted)
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
