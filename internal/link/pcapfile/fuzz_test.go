package pcapfile_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"naru/internal/link/pcapfile"
)

// FuzzReader reads hostile files: it must end, stay within the file, and give packets that are what they say. What it read
// is written and read again.
func FuzzReader(f *testing.F) {
	for _, pattern := range []string{"format/*", "malformed/*"} {
		files, _ := filepath.Glob(filepath.Join(os.Getenv("NARU_PCAPS"), pattern))
		for _, name := range files {
			if b, err := os.ReadFile(name); err == nil && len(b) < 4096 {
				f.Add(b)
			}
		}
	}
	var b bytes.Buffer
	w := pcapfile.NewWriter(&b)
	w.AddInterface("eth0", "c")
	w.Packet(0, 1, []byte("abc"), 4, "comment")
	_ = w.Flush()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		if bytes.HasPrefix(file, []byte{0x1f, 0x8b}) {
			return // the decompressor is not ours
		}
		r, err := pcapfile.NewReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		var out bytes.Buffer
		w := pcapfile.NewWriter(&out)
		iface, packets, total := w.AddInterface("all", ""), 0, 0
		for {
			var p pcapfile.Packet
			if err = r.Next(&p); err != nil {
				break
			}
			packets++
			total += len(p.Data)
			if p.Length < len(p.Data) || len(p.Data) > pcapfile.MaxPacket || p.Interface >= len(r.Interfaces()) {
				t.Fatalf("packet %d: %d of %d bytes, interface %d", packets, len(p.Data), p.Length, p.Interface)
			}
			w.Packet(iface, p.Time, p.Data, p.Length, string(p.Comment))
			frame, ok := pcapfile.AppendEthernet(nil, p.Link, p.Data)
			if ok && len(frame) > len(p.Data)+14 {
				t.Fatalf("packet %d: %d bytes became %d", packets, len(p.Data), len(frame))
			}
		}
		if r.Offset() > int64(len(file)) || total > len(file) || packets > len(file)/12 {
			t.Fatalf("%d packets of %d bytes, %d of %d read", packets, total, r.Offset(), len(file))
		}
		if err == io.EOF && r.Offset() != int64(len(file)) {
			t.Fatalf("a clean end at byte %d of %d", r.Offset(), len(file))
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if again, _, err := read(t, &out); err != nil || len(again) != packets {
			t.Fatalf("%d packets were written, %d read: %v", packets, len(again), err)
		}
	})
}
