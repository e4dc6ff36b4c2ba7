package replay_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"naru/internal/config"
	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// tape is a capture in memory. Its frames are Ethernet, whatever the capture's link type was.
type tape struct {
	name   string
	frames []taped
}

type taped struct {
	at     int64 // nanoseconds since 1970
	data   []byte
	length int // on the wire
}

// captures returns all files of the captures.
func captures(t *testing.T) (paths []string) {
	err := filepath.WalkDir(wiretest.Captures(t), func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && !d.IsDir() && (ext == ".pcap" || ext == ".pcapng") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// fileOf reads the file of a capture, and its tape.
func fileOf(t *testing.T, path string) ([]byte, tape) {
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, record(t, strings.TrimPrefix(path, wiretest.Captures(t)+"/"), file)
}

func source(t *testing.T, file []byte) *replay.Source {
	src, err := replay.NewSource(replay.Input{Name: "file", Stream: bytes.NewReader(file)})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// record reads a file into a tape. Packets of unknown link types are left out.
func record(t *testing.T, name string, file []byte) tape {
	out := tape{name: name}
	src := source(t, file)
	for {
		p, _, err := src.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		data, ok := pcapfile.AppendEthernet(nil, p.Link, p.Data)
		if !ok {
			continue
		}
		out.frames = append(out.frames, taped{p.Time, data, p.Length + len(data) - len(p.Data)})
	}
}

// file writes the tape as the project's own writer does.
func (tp tape) file(t *testing.T) []byte {
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("", "")
	for _, f := range tp.frames {
		w.Packet(0, f.at, f.data, f.length, "")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// auto makes the configuration that --vip auto makes of the tape.
func (tp tape) auto(t *testing.T, mode string, edits ...string) *config.Config {
	yaml, err := replay.Auto(source(t, tp.file(t)), mode)
	if err != nil {
		t.Fatalf("%s %s: %v", tp.name, mode, err)
	}
	return load(t, strings.NewReplacer(edits...).Replace(yaml))
}

// parsed is a frame whose headers were found.
func parsed(frame []byte) (p wire.Packet, ok bool) {
	p.Frame = wire.Frame{Buf: frame, Len: len(frame)}
	ok = p.ParseLink() == wire.ReasonNone && p.ParseNetwork() == wire.ReasonNone && p.Version != 0
	return p, ok
}
