package explain_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"naru/forwarder"
	"naru/internal/config"
	"naru/internal/record"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// captureBytes bounds the files that are tried: our own choice, for the time it takes.
const captureBytes = 300 << 10

// TestEveryPacketOfTheCapturesIsExplained explains the packets of real and hostile captures in every mode: the words that
// a checksum is said to be the sum of are what the frame has.
func TestEveryPacketOfTheCapturesIsExplained(t *testing.T) {
	files, explained, derived := 0, 0, 0
	err := filepath.WalkDir(wiretest.Captures(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(d.Name(), ".pcap") {
			return err
		}
		if info, err := d.Info(); err != nil || info.Size() > captureBytes {
			return err
		}
		modes := replay.AutoModes()
		mode := modes[files%len(modes)] // each capture in one of them
		files++
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		yaml, err := auto(file, mode)
		if err != nil {
			return nil // no service can be made of it
		}
		cfg, _, err := config.Load(path, []byte(yaml))
		if err != nil {
			return err
		}
		n := 0
		r, err := replay.New(replay.Options{Config: cfg, Seed: 1, Backends: replay.Recorded, Table: 4096, Keep: wire.MaxFrame,
			Trace: func(r *forwarder.Record) {
				x := record.Explain(r)
				explained++
				if x.Text(true) == "" {
					t.Errorf("%s: packet %d is not explained", path, n)
				}
				for _, sum := range x.Checksums {
					if derived++; !sum.Agrees {
						t.Errorf("%s: packet %d in mode %s: %s %s -> %s (%s) is not the sum of\n%s", path, n, mode, sum.Field,
							sum.Before, sum.After, sum.How, strings.Join(sum.Words, "\n"))
					}
				}
			}})
		if err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		src, err := replay.NewSource(replay.Input{Name: path, Stream: file})
		if err != nil {
			return err
		}
		for {
			p, name, err := src.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return nil // hostile: the reader says where
			}
			n++
			if err := r.Packet(p, name); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if explained < 1000 || derived < 500 {
		t.Errorf("%d packets explained, %d checksums derived", explained, derived)
	}
	t.Logf("%d packets explained, %d checksums derived", explained, derived)
}

// auto makes a configuration from a capture.
func auto(file io.Reader, mode string) (string, error) {
	src, err := replay.NewSource(replay.Input{Name: "file", Stream: file})
	if err != nil {
		return "", err
	}
	return replay.Auto(src, mode)
}
