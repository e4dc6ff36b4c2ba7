package replay_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"testing"

	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
)

// order is a byte order that also appends.
type order interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// container is a way to write a tape as a file. The tape that is read from the file is that of take: what the container can
// hold of a tape.
type container struct {
	name  string
	take  func(tp tape) tape
	write func(tp tape) []byte
}

var containers = []container{
	{"pcap, little-endian, microseconds", micro, pcapFile(binary.LittleEndian, 1000, 1, 4, nil)},
	{"pcap, big-endian, microseconds", micro, pcapFile(binary.BigEndian, 1000, 1, 4, nil)},
	{"pcap, little-endian, nanoseconds", inPcap, pcapFile(binary.LittleEndian, 1, 1, 4, nil)},
	{"pcap, big-endian, nanoseconds", inPcap, pcapFile(binary.BigEndian, 1, 1, 4, nil)},
	{"pcap 2.1, its lengths the other way round", micro, pcapFile(binary.BigEndian, 1000, 1, 1, nil)},
	{"pcap in gzip", micro, zipped(pcapFile(binary.LittleEndian, 1000, 1, 4, nil))},
	{"pcapng, little-endian, three interfaces", everything, pcapng(binary.LittleEndian, 0)},
	{"pcapng, big-endian, three interfaces", everything, pcapng(binary.BigEndian, 0)},
	{"pcapng, a section for five packets", everything, pcapng(binary.LittleEndian, 5)},
	{"pcapng in gzip", everything, zipped(pcapng(binary.BigEndian, 7))},
	{"raw IP", bare, pcapFile(binary.LittleEndian, 1000, pcapfile.LinkRaw, 4, behind(14))},
	{"raw IP as most systems wrote it", bare, pcapFile(binary.BigEndian, 1000, pcapfile.LinkRawBSD, 4, behind(14))},
	{"raw IP as OpenBSD wrote it", bare, pcapFile(binary.BigEndian, 1000, pcapfile.LinkRawOpen, 4, behind(14))},
	{"loopback of BSD", bare, pcapFile(binary.LittleEndian, 1000, pcapfile.LinkNull, 4, family(binary.LittleEndian, 30))},
	{"loopback of BSD, big-endian", bare, pcapFile(binary.BigEndian, 1000, pcapfile.LinkNull, 4, family(binary.BigEndian, 24))},
	{"loopback of OpenBSD", bare, pcapFile(binary.LittleEndian, 1000, pcapfile.LinkLoop, 4, family(binary.BigEndian, 24))},
	{"Linux cooked", cooked, pcapFile(binary.LittleEndian, 1000, pcapfile.LinkSLL, 4, sll)},
	{"Linux cooked, version 2", cooked, pcapFile(binary.BigEndian, 1, pcapfile.LinkSLL2, 4, sll2)},
}

func everything(tp tape) tape { return tp }

// picked is a tape of the frames that f returns, nil for one that is left out.
func picked(tp tape, f func(x taped) []byte, unit int64) (out tape) {
	out.name = tp.name
	for _, x := range tp.frames {
		if x.at < 0 || x.at >= 1<<32*1e9 { // the stamps of pcap are unsigned seconds
			continue
		}
		if data := f(x); data != nil {
			x.data, x.at = data, x.at-x.at%unit
			out.frames = append(out.frames, x)
		}
	}
	return out
}

func inPcap(tp tape) tape { return picked(tp, func(x taped) []byte { return x.data }, 1) }
func micro(tp tape) tape  { return picked(tp, func(x taped) []byte { return x.data }, 1000) }

// bare is what is left of IP packets without Ethernet.
func bare(tp tape) tape {
	out := picked(tp, func(x taped) []byte {
		if len(x.data) < 15 {
			return nil
		}
		switch v := x.data[14] >> 4; binary.BigEndian.Uint16(x.data[12:]) {
		case wire.TypeIPv4:
			if v != 4 {
				return nil
			}
		case wire.TypeIPv6:
			if v != 6 {
				return nil
			}
		default:
			return nil
		}
		return headed(pcapfile.MadeDestination, pcapfile.MadeSource, x.data)
	}, 1000)
	return measured(out)
}

// cooked is what is left of frames behind a Linux cooked header.
func cooked(tp tape) tape {
	out := picked(tp, func(x taped) []byte {
		if len(x.data) < 14 || binary.BigEndian.Uint16(x.data[12:]) < 0x600 {
			return nil
		}
		to, from := pcapfile.MadeDestination, [6]byte(x.data[6:12])
		switch {
		case [6]byte(x.data) == wire.Broadcast:
			to = wire.Broadcast
		case x.data[0]&1 != 0:
			to[0] |= 1
		}
		if from[0]&1 != 0 {
			from = pcapfile.MadeSource
		}
		return headed(to, from, x.data)
	}, 1000)
	return measured(out)
}

func headed(to, from [6]byte, data []byte) []byte {
	return append(append(append(make([]byte, 0, len(data)), to[:]...), from[:]...), data[12:]...)
}

// measured says of frames that they were captured whole: the length on the wire is another one behind another header.
func measured(tp tape) tape {
	for i := range tp.frames {
		tp.frames[i].length = len(tp.frames[i].data)
	}
	return tp
}

// behind leaves out what is in front of a packet.
func behind(n int) func([]byte) []byte { return func(frame []byte) []byte { return frame[n:] } }

// family puts an address family in front of a packet.
func family(o order, six uint32) func([]byte) []byte {
	return func(frame []byte) []byte {
		number := six
		if frame[14]>>4 == 4 {
			number = 2
		}
		return append(o.AppendUint32(nil, number), frame[14:]...)
	}
}

func cookedKind(frame []byte) byte {
	switch {
	case [6]byte(frame) == wire.Broadcast:
		return 1
	case frame[0]&1 != 0:
		return 2
	}
	return 0
}

func sll(frame []byte) []byte {
	h := append([]byte{0, cookedKind(frame), 0, 1, 0, 6}, frame[6:12]...)
	return append(append(h, 0, 0), frame[12:]...)
}

func sll2(frame []byte) []byte {
	h := append(bytes.Clone(frame[12:14]), 0, 0, 0, 0, 0, 7, 0, 1, cookedKind(frame), 6)
	h = append(append(h, frame[6:12]...), 0, 0)
	return append(h, frame[14:]...)
}

// pcapFile writes pcap of version 2.minor.
func pcapFile(o order, unit int64, link pcapfile.LinkType, minor uint16, strip func([]byte) []byte) func(tape) []byte {
	magic := map[int64]uint32{1000: 0xa1b2c3d4, 1: 0xa1b23c4d}[unit]
	return func(tp tape) []byte {
		b := o.AppendUint16(o.AppendUint16(o.AppendUint32(nil, magic), 2), minor)
		b = o.AppendUint32(o.AppendUint32(append(b, make([]byte, 8)...), 262144), uint32(link))
		for _, x := range tp.frames {
			data, length := x.data, x.length
			if strip != nil {
				data = strip(data)
				length = len(data)
			}
			b = o.AppendUint32(o.AppendUint32(b, uint32(x.at/1e9)), uint32(x.at%1e9/unit))
			captured := uint32(len(data))
			if wasLong := uint32(length); minor < 3 {
				b = o.AppendUint32(o.AppendUint32(b, wasLong), captured)
			} else {
				b = o.AppendUint32(o.AppendUint32(b, captured), wasLong)
			}
			b = append(b, data...)
		}
		return b
	}
}

// pcapng writes three interfaces in turn, of different resolutions, and blocks that nobody knows; a section for every so
// many packets, 0 for one, of which every second is in the other byte order.
func pcapng(o order, every int) func(tape) []byte {
	return func(tp tape) (b []byte) {
		o := o
		for i, x := range tp.frames {
			if i == 0 || every > 0 && i%every == 0 {
				if i > 0 && o == order(binary.LittleEndian) {
					o = binary.BigEndian
				} else if i > 0 {
					o = binary.LittleEndian
				}
				b = section(o, b)
			}
			iface := i % 3
			if iface == 0 && x.at%1000 != 0 {
				iface = 1 // the first counts microseconds
			}
			at := uint64(x.at)
			if iface == 0 {
				at /= 1000
			}
			body := o.AppendUint32(o.AppendUint32(o.AppendUint32(nil, uint32(iface)), uint32(at>>32)), uint32(at))
			body = o.AppendUint32(o.AppendUint32(body, uint32(len(x.data))), uint32(max(x.length, len(x.data))))
			body = append(append(body, x.data...), make([]byte, -len(x.data)&3)...)
			b = block(o, b, 6, body)
			if i%4 == 0 {
				b = block(o, b, 0x0bad, []byte("nobody knows me."))
			}
		}
		if len(b) == 0 {
			b = section(o, b)
		}
		return b
	}
}

// section begins a section with three interfaces of Ethernet.
func section(o order, b []byte) []byte {
	b = block(o, b, 0x0a0d0d0a, o.AppendUint64(o.AppendUint16(o.AppendUint16(o.AppendUint32(nil, 0x1a2b3c4d), 1), 0), ^uint64(0)))
	for _, digits := range []byte{6, 9, 9} {
		body := o.AppendUint32(o.AppendUint16(o.AppendUint16(nil, 1), 0), 0)
		body = append(o.AppendUint16(o.AppendUint16(body, 9), 1), digits, 0, 0, 0)
		b = block(o, b, 1, append(body, 0, 0, 0, 0))
	}
	return b
}

func block(o order, b []byte, kind uint32, body []byte) []byte {
	b = o.AppendUint32(o.AppendUint32(b, kind), uint32(len(body)+12))
	return o.AppendUint32(append(b, body...), uint32(len(body)+12))
}

func zipped(write func(tape) []byte) func(tape) []byte {
	return func(tp tape) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(write(tp)) // to memory
		_ = z.Close()
		return b.Bytes()
	}
}

// TestTheContainerOfFramesDoesNotMatter writes each capture in a third of the containers and reads it back; some of that is
// played too, and gives the same bytes. With NARU_FULL it is everything.
func TestTheContainerOfFramesDoesNotMatter(t *testing.T) {
	runs(t)
	modes := replay.AutoModes()
	files, played := 0, 0
	for i, path := range captures(t) {
		_, tp := fileOf(t, path)
		for k, c := range containers {
			if !full() && (i+k)%3 != 0 {
				continue
			}
			want := c.take(tp)
			if len(want.frames) == 0 {
				continue
			}
			files++
			file := c.write(want)
			if got := record(t, tp.name, file); !sameTape(t, tp.name+", "+c.name, got, want) || !full() && (i+k)%9 != 0 {
				continue
			}
			played++
			mode := modes[(i+k)%len(modes)]
			s := newSubject(t, tp.name+", "+c.name, want.auto(t, mode), 0)
			s.run(want)
			fromFile(t, s.name, s, file)
		}
	}
	t.Logf("%d files, %d played", files, played)
	if files < 700 {
		t.Errorf("only %d files", files)
	}
}

// sameTape compares what was read from a container with what was written.
func sameTape(t *testing.T, name string, got, want tape) bool {
	if len(got.frames) != len(want.frames) {
		t.Errorf("%s: %d packets were read, want %d", name, len(got.frames), len(want.frames))
		return false
	}
	for i, g := range got.frames {
		if w := want.frames[i]; g.at != w.at || g.length != w.length || !bytes.Equal(g.data, w.data) {
			t.Errorf("%s packet %d: at %d, %d bytes of %d, want %d, %d of %d: %s", name, i+1, g.at, len(g.data), g.length,
				w.at, len(w.data), w.length, difference(g.data, w.data))
			return false
		}
	}
	return true
}
