package flowlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/syslog"
	"os"
	"time"
)

// lookEvery is how often it is looked whether the file is still the one at its path: our own choice.
const lookEvery = time.Second

// Sink is where lines go. OpenFile and OpenSyslog make them.
type Sink struct {
	// write writes complete lines, of which ends says where each ends, and returns how many were written. It is called
	// without lines too.
	write func(lines []byte, ends []int) (int, error)
	close func() error
}

// file is a sink that is made anew when somebody has moved it away.
type file struct {
	path   string
	f      *os.File
	looked time.Time
	torn   bool // the last write stopped within a line
}

// OpenFile appends to the file at a path, and makes it if it is not there, readable for owner and group.
func OpenFile(path string) (Sink, error) {
	w := &file{path: path, looked: time.Now()}
	if err := w.open(); err != nil {
		return Sink{}, err
	}
	return Sink{w.write, func() error { return w.f.Close() }}, nil
}

func (w *file) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("flowlog: %w", err)
	}
	if w.f != nil {
		_ = w.f.Close() // all that it has was written
	}
	w.f, w.torn = f, false
	return nil
}

func (w *file) write(lines []byte, ends []int) (int, error) {
	moved := w.look()
	if len(ends) == 0 {
		return 0, moved
	}
	if w.torn {
		if _, err := io.WriteString(w.f, "\n"); err != nil {
			return 0, fmt.Errorf("flowlog: %w", err)
		}
		w.torn = false
	}
	n, err := w.f.Write(lines)
	if err == nil {
		return len(ends), moved
	}
	done := 0
	for done < len(ends) && ends[done] <= n {
		done++
	}
	w.torn = n > 0 && (done == 0 || ends[done-1] != n)
	return done, fmt.Errorf("flowlog: %w", err)
}

// look makes the file anew if it is no longer at its path. As long as that fails the old one is used.
func (w *file) look() error {
	if time.Since(w.looked) < lookEvery {
		return nil
	}
	w.looked = time.Now()
	there, err := os.Stat(w.path)
	if err == nil {
		var mine fs.FileInfo
		if mine, err = w.f.Stat(); err == nil && os.SameFile(there, mine) {
			return nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("flowlog: %w", err)
	}
	return w.open()
}

// OpenSyslog sends each line to the syslog of this host, as daemon.info of naru.
func OpenSyslog() (Sink, error) {
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "naru")
	if err != nil {
		return Sink{}, fmt.Errorf("flowlog: syslog: %w", err)
	}
	return Sink{func(lines []byte, ends []int) (int, error) {
		from := 0
		for n, end := range ends {
			if _, err := w.Write(lines[from:end]); err != nil { // it has tried to connect again
				return n, fmt.Errorf("flowlog: syslog: %w", err)
			}
			from = end
		}
		return len(ends), nil
	}, w.Close}, nil
}
