package pcapfile_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"naru/internal/link/pcapfile"
	"naru/internal/wiretest"
)

// packet is a pcapfile.Packet that may be kept.
type packet struct {
	pcapfile.Packet
	data, comment string
}

// read reads all packets, and what the file ended with; nil is a clean end.
func read(t testing.TB, in io.Reader) (list []packet, ifs []pcapfile.Interface, err error) {
	t.Helper()
	r, err := pcapfile.NewReader(in)
	if err != nil {
		return nil, nil, err
	}
	for {
		var p pcapfile.Packet
		if err = r.Next(&p); err != nil {
			break
		}
		k := packet{p, string(p.Data), string(p.Comment)}
		k.Data, k.Comment = nil, nil
		list = append(list, k)
	}
	if err == io.EOF {
		err = nil
	}
	return list, r.Interfaces(), err
}

func mustRead(t testing.TB, b []byte) ([]packet, []pcapfile.Interface) {
	t.Helper()
	list, ifs, err := read(t, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return list, ifs
}

// counts returns the captures of the table in README.md with their numbers of packets.
func counts(t *testing.T, dir string) map[string]int {
	text, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, line := range strings.Split(string(text), "\n") {
		cell := strings.Split(line, "|")
		if len(cell) < 10 || !strings.Contains(cell[1], "`") {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cell[5]))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out[strings.Trim(cell[1], " `")] = n
	}
	return out
}

func TestEveryCaptureHasThePacketsOfTheTable(t *testing.T) {
	dir := wiretest.Captures(t)
	files := counts(t, dir)
	if len(files) < 100 {
		t.Fatalf("%d files in the table", len(files))
	}
	for name, want := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := read(t, bytes.NewReader(b))
		if err != nil || len(list) != want {
			t.Errorf("%s: %d packets, %v; want %d", name, len(list), err, want)
		}
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(b)
		_ = w.Close()
		again, _, err := read(t, iotest.HalfReader(&z))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
			t.Errorf("%s: compressed and in small pieces it reads differently: %v", name, err)
		}
	}
}

// oracle reads with gopacket. It does not know all formats.
func oracle(b []byte) (list []packet, err error) {
	type reader interface {
		ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
		LinkType() layers.LinkType
	}
	var r reader
	if bytes.HasPrefix(b, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		r, err = pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.NgReaderOptions{WantMixedLinkType: true})
	} else {
		r, err = pcapgo.NewReader(bytes.NewReader(b))
	}
	if err != nil {
		return nil, err
	}
	for {
		data, info, err := r.ReadPacketData()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, packet{pcapfile.Packet{Time: info.Timestamp.UnixNano(), Length: info.Length}, string(data), ""})
	}
}

func TestAnotherReaderReadsTheSame(t *testing.T) {
	dir := wiretest.Captures(t)
	compared := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err != nil || d.IsDir() || ext != ".pcap" && ext != ".pcapng" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := oracle(b)
		if err != nil {
			return nil // simple packet blocks, longer than the snapshot length, odd resolutions
		}
		compared++
		got, _ := mustRead(t, b)
		if len(got) != len(want) {
			t.Errorf("%s: %d packets, the other has %d", path, len(got), len(want))
			return nil
		}
		for i, g := range got {
			// What has no time the other reader dates at the beginning.
			if w := want[i]; g.Timed && g.Time != w.Time || g.data != w.data || g.Length != max(w.Length, len(w.data)) {
				t.Errorf("%s: packet %d: %d, %d of %d bytes; the other has %d, %d of %d", path, i+1, g.Time, len(g.data),
					g.Length, w.Time, len(w.data), w.Length)
			}
		}
		return nil
	})
	if err != nil || compared < 130 {
		t.Fatalf("%d compared, %v", compared, err)
	}
}

// classic makes a pcap file of one packet.
func classic(o binary.AppendByteOrder, magic uint32, minor uint16, network, sec, frac, first, second uint32, data string) []byte {
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(b, 2)
	b = o.AppendUint16(b, minor)
	for _, v := range []uint32{0, 0, 96, network, sec, frac, first, second} {
		b = o.AppendUint32(b, v)
	}
	if magic == 0xa1b2cd34 {
		b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
	}
	return append(b, data...)
}

func TestClassicFiles(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	for _, c := range []struct {
		name    string
		file    []byte
		time    int64
		link    pcapfile.LinkType
		length  int
		content string
	}{
		{"little-endian", classic(le, 0xa1b2c3d4, 4, 1, 7, 5, 3, 9, "abc"), 7_000_005_000, 1, 9, "abc"},
		{"big-endian nanoseconds", classic(be, 0xa1b23c4d, 4, 101, 7, 5, 3, 3, "abc"), 7_000_000_005, 101, 3, "abc"},
		{"a fraction beyond a second", classic(le, 0xa1b23c4d, 4, 1, 7, 2e9, 3, 3, "abc"), 9e9, 1, 3, "abc"},
		{"version 2.1: lengths swapped", classic(le, 0xa1b2c3d4, 1, 1, 7, 0, 9, 3, "abc"), 7e9, 1, 9, "abc"},
		{"version 2.3, swapped", classic(le, 0xa1b2c3d4, 3, 1, 7, 0, 9, 3, "abc"), 7e9, 1, 9, "abc"},
		{"version 2.3, not swapped", classic(le, 0xa1b2c3d4, 3, 1, 7, 0, 3, 9, "abc"), 7e9, 1, 9, "abc"},
		{"less on the wire than captured", classic(le, 0xa1b2c3d4, 4, 1, 7, 0, 3, 2, "abc"), 7e9, 1, 3, "abc"},
		{"longer records", classic(le, 0xa1b2cd34, 4, 1, 7, 0, 3, 3, "abc"), 7e9, 1, 3, "abc"},
		{"a check sequence", classic(le, 0xa1b2c3d4, 4, 1|1<<26|2<<28, 7, 0, 7, 7, "abc1234"), 7e9, 1, 3, "abc"},
		{"a check sequence cut", classic(le, 0xa1b2c3d4, 4, 1|1<<26|2<<28, 7, 0, 7, 9, "abc1234"), 7e9, 1, 9, "abc1234"},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, _ := mustRead(t, c.file)
			if len(list) != 1 {
				t.Fatalf("%d packets", len(list))
			}
			if p := list[0]; p.Time != c.time || p.Link != c.link || p.Length != c.length || p.data != c.content {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func TestFaultsHaveTheirPlace(t *testing.T) {
	le := binary.LittleEndian
	good := classic(le, 0xa1b2c3d4, 4, 1, 7, 5, 3, 9, "abc")
	var ng bytes.Buffer
	w := pcapfile.NewWriter(&ng)
	w.AddInterface("a", "")
	w.Packet(0, 1, []byte("abc"), 3, "")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	change := func(b []byte, at int, v byte) []byte {
		b = bytes.Clone(b)
		b[at] = v
		return b
	}
	block := bytes.Index(ng.Bytes(), []byte("abc")) - 28 // of the packet
	for _, c := range []struct {
		name string
		file []byte
		want string // ErrTruncated if empty
	}{
		{"nothing", nil, "at byte 0: this is no capture file: it is 0 bytes long"},
		{"text", []byte("hello"), "at byte 0: this is no capture file: it begins with 68656c6c"},
		{"half a header", good[:20], ""},
		{"half a record header", good[:30], ""},
		{"half a packet", good[:41], ""},
		{"version 3", change(good, 4, 3), "at byte 0: version 3.4 of pcap is not known"},
		{"a packet of 16 MB", change(good, 35, 1), "at byte 24: a packet of 16777219 captured bytes"},
		{"half a section", ng.Bytes()[:20], ""},
		{"half a block", ng.Bytes()[:ng.Len()-2], ""},
		{"a section without byte order", change(ng.Bytes(), 8, 0), "at byte 0: a section without a byte order"},
		{"pcapng 2", change(ng.Bytes(), 12, 2), "at byte 0: version 2 of pcapng is not known"},
		{"two lengths", change(ng.Bytes(), ng.Len()-4, 8), "at its end"},
		{"a block of 4 bytes", change(ng.Bytes(), block+4, 4), "a block of 4 bytes"},
		{"interface 7", change(ng.Bytes(), block+8, 7), "a packet of interface 7"},
		{"longer than the block", change(ng.Bytes(), block+20, 200), "a packet of 200 captured bytes in a block of 36"},
		{"a broken gzip", []byte{0x1f, 0x8b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "gzip: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := read(t, bytes.NewReader(c.file))
			switch {
			case c.want == "" && !errors.Is(err, pcapfile.ErrTruncated):
				t.Errorf("got %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	var out bytes.Buffer
	w := pcapfile.NewWriter(&out)
	client := w.AddInterface("eth0", "towards clients")
	server := w.AddInterface("eth1", "")
	at := time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC).UnixNano()
	w.Packet(client, at, []byte("hello"), 5, "f-1: in")
	w.Packet(server, at+1, []byte("hi"), 1514, "")
	late := w.AddInterface("eth2", "")
	long := strings.Repeat("x", 70000)
	w.Packet(late, at+2, []byte(long), len(long), long)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	list, ifs := mustRead(t, out.Bytes())
	if len(ifs) != 3 || ifs[0].Name != "eth0" || ifs[1].Name != "eth1" || ifs[2].Name != "eth2" {
		t.Errorf("interfaces %+v", ifs)
	}
	want := []packet{
		{pcapfile.Packet{Time: at, Timed: true, Link: 1, Length: 5}, "hello", "f-1: in"},
		{pcapfile.Packet{Time: at + 1, Timed: true, Interface: 1, Link: 1, Length: 1514}, "hi", ""},
		{pcapfile.Packet{Time: at + 2, Timed: true, Interface: 2, Link: 1, Length: 70000}, long, ""}, // the reader looks at the first 64 KiB of options only
	}
	if fmt.Sprint(list) != fmt.Sprint(want) {
		t.Errorf("got %.300v\nwant %.300v", list, want)
	}
	theirs, err := oracle(out.Bytes())
	if err != nil || len(theirs) != 3 || theirs[2].data != long || theirs[1].Time != at+1 {
		t.Errorf("another reader: %d packets, %v", len(theirs), err)
	}
}

func TestAWriterKeepsItsFirstError(t *testing.T) {
	w := pcapfile.NewWriter(io.Discard)
	w.Packet(0, 0, nil, 0, "")
	w.Packet(-1, 0, nil, 0, "")
	if err := w.Flush(); err == nil || err.Error() != "pcapfile: interface 0 of 0" {
		t.Errorf("got %v", err)
	}
}

func TestResolutions(t *testing.T) {
	for _, c := range []struct {
		resolution byte
		offset     int64
		ticks      uint64
		want       int64
	}{
		{6, 0, 1_500_000, 1.5e9},
		{9, 0, 1_500_000, 1.5e6},
		{0, 0, 3, 3e9},
		{3, -2, 5000, 3e9},
		{12, 1, 5_000_000, 1e9 + 5000},
		{0x80 | 8, 0, 384, 1.5e9},
		{0x80, 0, 3, 3e9},
		{0, 0, 1 << 63, 1<<63 - 1},
		{0x80 | 63, 0, 1 << 63, 1e9},
		{6, 1 << 62, 1_500_000, 1.5e9}, // an offset that is no time is left out
	} {
		var b bytes.Buffer
		le := binary.LittleEndian
		w := pcapfile.NewWriter(&b)
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		file := b.Bytes()
		idb := []byte{1, 0, 0, 0, 44, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, c.resolution, 0, 0, 0, 14, 0, 8, 0}
		idb = le.AppendUint64(idb, uint64(c.offset))
		idb = le.AppendUint32(idb, 0)
		file = append(file, le.AppendUint32(idb, 44)...)
		epb := []byte{6, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0}
		epb = le.AppendUint32(le.AppendUint32(epb, uint32(c.ticks>>32)), uint32(c.ticks))
		file = append(file, append(epb, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0)...)
		if list, _ := mustRead(t, file); len(list) != 1 || list[0].Time != c.want {
			t.Errorf("resolution %#x, offset %d, %d ticks: %v, want %d", c.resolution, c.offset, c.ticks, list, c.want)
		}
	}
}

func TestOtherLinkTypesBecomeEthernet(t *testing.T) {
	made := "\x02\x00\x5e\x00\x00\x0b\x02\x00\x5e\x00\x00\x0a"
	v4, v6 := "\x45rest", "\x60rest"
	for _, c := range []struct {
		link pcapfile.LinkType
		in   string
		want string // empty: it cannot be one
	}{
		{pcapfile.LinkEthernet, "any", "any"},
		{pcapfile.LinkRaw, v4, made + "\x08\x00" + v4},
		{pcapfile.LinkRawBSD, v6, made + "\x86\xdd" + v6},
		{pcapfile.LinkRawOpen, v6, made + "\x86\xdd" + v6},
		{pcapfile.LinkIPv4, v4, made + "\x08\x00" + v4},
		{pcapfile.LinkIPv6, v6, made + "\x86\xdd" + v6},
		{pcapfile.LinkRaw, "\x00", ""},
		{pcapfile.LinkRaw, "", ""},
		{pcapfile.LinkNull, "\x02\x00\x00\x00" + v4, made + "\x08\x00" + v4},
		{pcapfile.LinkLoop, "\x00\x00\x00\x18" + v6, made + "\x86\xdd" + v6},
		{pcapfile.LinkNull, "\x02\x00\x00\x00", ""},
		{pcapfile.LinkSLL, "\x00\x00\x00\x01\x00\x06abcdef\x00\x00\x08\x00" + v4, made + "\x08\x00" + v4}, // a group's address
		{pcapfile.LinkSLL, "\x00\x00\x00\x01\x00\x06\x02bcdef\x00\x00\x08\x00" + v4, made[:6] + "\x02bcdef\x08\x00" + v4},
		{pcapfile.LinkSLL, "\x00\x01\x00\x01\x00\x06\x02bcdef\x00\x00\x08\x06arp", "\xff\xff\xff\xff\xff\xff\x02bcdef\x08\x06arp"},
		{pcapfile.LinkSLL, "\x00\x02\x03\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x86\xdd" + v6, "\x03" + made[1:] + "\x86\xdd" + v6},
		{pcapfile.LinkSLL, "\x00\x00\x00\x01\x00\x06abcdef\x00\x00\x00\x04llc", ""},
		{pcapfile.LinkSLL, "short", ""},
		{pcapfile.LinkSLL2, "\x08\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x06\x02bcdef\x00\x00" + v4, made[:6] + "\x02bcdef\x08\x00" + v4},
		{pcapfile.LinkSLL2, "short", ""},
		{147, "other", ""},
	} {
		got, ok := pcapfile.AppendEthernet([]byte("head"), c.link, []byte(c.in))
		if ok != (c.want != "") || ok && string(got) != "head"+c.want || !bytes.HasPrefix(got, []byte("head")) {
			t.Errorf("%v %q: %q %v, want %q", c.link, c.in, got, ok, c.want)
		}
	}
}
