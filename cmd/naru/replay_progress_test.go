package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestProgressKnowsAShareOnlyOfFiles(t *testing.T) {
	half := filepath.Join(t.TempDir(), "capture")
	if err := os.WriteFile(half, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() io.Reader {
		f, err := os.Open(half)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	pipe, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer in.Close()
	for _, c := range []struct {
		name   string
		inputs []io.Reader
		read   int64 // of each
		want   string
	}{
		{"a file", []io.Reader{open()}, 500, " 50%  8,192 packets "},
		{"two files", []io.Reader{open(), open()}, 250, " 25%  8,192 packets "},
		{"a whole file", []io.Reader{open()}, 1000, "100%  8,192 packets "},
		{"a pipe", []io.Reader{pipe}, 0, "8,192 packets "},
		{"a file and a pipe", []io.Reader{open(), pipe}, 0, "8,192 packets "},
		{"no file of ours", []io.Reader{bytes.NewReader(make([]byte, 500))}, 500, "8,192 packets "},
	} {
		var screen bytes.Buffer
		p := &progress{out: &screen}
		for _, in := range c.inputs {
			if _, err := io.CopyN(io.Discard, p.watch(in), c.read); err != nil {
				t.Fatal(err)
			}
		}
		p.tick(progressEvery)
		if want := "\r" + c.want; screen.String() != want {
			t.Errorf("%s: %q, want %q", c.name, screen.String(), want)
		}
		p.shown = time.Now().Add(time.Hour)
		p.tick(2 * progressEvery) // too soon
		p.end()
		p.end()
		if want := "\r" + c.want + "\r\x1b[K"; screen.String() != want {
			t.Errorf("%s: %q, want %q", c.name, screen.String(), want)
		}
	}
	p := &progress{out: os.Stderr}
	p.end() // nothing was shown: nothing is cleared
	if (*progress)(nil).watch(pipe) != io.Reader(pipe) {
		t.Error("without a terminal an input is watched")
	}
}
