package pcapfile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"

	"naru/internal/link/pcapfile"
)

// memoryCap is what reading a file may allocate in all, beside what the file and its writing again take: the buffers of the
// reader, of the decompressor and of one packet, whatever lengths a file claims.
const memoryCap = 4 << 20

// allocated returns how many bytes have been allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// FuzzReader reads hostile files: it must end, stay within the file and the memory, and give packets that are what they say.
// What it read is written and read again.
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
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, _ = z.Write(b.Bytes())
	_ = z.Close()
	f.Add(gz.Bytes())
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, magic := range []uint32{0xa1b2c3d4, 0xa1b23c4d} { // microseconds, nanoseconds
			f.Add(oldFile(order, magic))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		packed := bytes.HasPrefix(file, []byte{0x1f, 0x8b})
		before := allocated()
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
		if took := allocated() - before; took > memoryCap+uint64(8*(out.Cap()+len(file)+total)) {
			t.Fatalf("%d bytes of memory for a file of %d with %d packets", took, len(file), packets)
		}
		if !packed && (r.Offset() > int64(len(file)) || total > len(file) || packets > len(file)/12) {
			t.Fatalf("%d packets of %d bytes, %d of %d read", packets, total, r.Offset(), len(file))
		}
		if !packed && err == io.EOF && r.Offset() != int64(len(file)) {
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

// oldFile is a file of the old format with one packet.
func oldFile(order binary.AppendByteOrder, magic uint32) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	for _, v := range []uint32{0, 0, 1 << 16, 1, 7, 8, 4, 60} { // the header's rest; seconds, fraction, there, on the wire
		b = order.AppendUint32(b, v)
	}
	return append(b, "abcd"...)
}
