package main

import (
	"io"
	"sync/atomic"
)

// output is standard output. It remembers the first error, so that a command that prints without asking fails all the same
// when the disk is full.
type output struct {
	to     io.Writer
	failed atomic.Pointer[error]
}

// Write passes on.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	if err != nil {
		o.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// err returns the first error, or nil.
func (o *output) err() error {
	if e := o.failed.Load(); e != nil {
		return *e
	}
	return nil
}

// beside returns the same output for what a command does beside its task: whoever writes to it answers for its errors.
func beside(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.to
	}
	return w
}
