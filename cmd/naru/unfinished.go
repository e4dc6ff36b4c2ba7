package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// unfinished are files that a command is about to write. One that is not finished is removed: a capture without its end
// looks like a whole one.
type unfinished struct {
	mu    sync.Mutex
	paths []string
	done  bool

	folder string // of what is not to stay at all; empty: there is none
}

// add takes a file that was opened for writing. Only what is a file of its own will be removed.
func (u *unfinished) add(path string) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.paths = append(u.paths, path)
}

// end removes the files if they are not finished. Only the first call has an effect.
func (u *unfinished) end(finished bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.done {
		return
	}
	u.done = true
	for _, path := range u.paths {
		if !finished {
			_ = os.Remove(path)
		}
	}
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
		u.end(false)
		u.clear()
		fmt.Fprintf(stderr, "\n%s: interrupted; what was written in part is removed\n", command)
		os.Exit(exitInterrupted)
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}
