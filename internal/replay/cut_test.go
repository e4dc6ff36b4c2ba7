package replay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"naru/internal/link/pcapfile"
	"naru/internal/replay"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// snapped is the tape as a capture with a snapshot length has it: what there was on the wire is known, not all bytes are.
func (tp tape) snapped(snaplen int) tape {
	out := tape{name: fmt.Sprintf("%s cut to %d", tp.name, snaplen)}
	for _, f := range tp.frames {
		f.data = f.data[:min(len(f.data), snaplen)]
		out.frames = append(out.frames, f)
	}
	return out
}

// rightICMP reports whether no ICMP checksum of a tape is wrong: of one that was captured in part nobody can say it.
func rightICMP(tp tape) bool {
	for _, f := range tp.frames {
		p, ok := parsed(bytes.Clone(f.data))
		if ok && p.Frag == wire.Whole && (p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6) && !p.ICMPRight() {
			return false
		}
	}
	return true
}

// frames are the packets of a capture in memory.
func frames(t *testing.T, file []byte) (list []pcapfile.Packet) {
	r, err := pcapfile.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		var p pcapfile.Packet
		if r.Next(&p) != nil {
			return list
		}
		p.Data, p.Comment = bytes.Clone(p.Data), bytes.Clone(p.Comment)
		list = append(list, p)
	}
}

// whatIsLeft compares what the whole capture became with what the cut one did: the same frames at the same time on the same
// legs with the same comments and lengths, of which the beginning is there.
func whatIsLeft(whole, part []pcapfile.Packet) (text string, cut int) {
	if len(whole) != len(part) {
		return fmt.Sprintf("%d frames, of the whole capture %d", len(part), len(whole)), 0
	}
	for i := range whole {
		a, b := &whole[i], &part[i]
		if a.Interface != b.Interface || a.Time != b.Time || a.Length != b.Length || !bytes.Equal(a.Comment, b.Comment) {
			return fmt.Sprintf("frame %d: leg %d, %d ns, %d bytes, %q; of the whole capture leg %d, %d ns, %d bytes, %q", i+1,
				b.Interface, b.Time, b.Length, b.Comment, a.Interface, a.Time, a.Length, a.Comment), 0
		}
		data := bytes.Clone(b.Data)
		if len(data) < b.Length {
			cut++
			forgive(a, b, data)
		}
		if !bytes.HasPrefix(a.Data, data) {
			return fmt.Sprintf("frame %d, %q: %s", i+1, b.Comment, difference(data, a.Data[:min(len(data), len(a.Data))])), 0
		}
	}
	return "", cut
}

// forgive takes over the checksums that naru makes anew over bytes that were not captured: of ICMP errors that quote them,
// of the segments that it cuts out of a super-frame, and of GUE headers around a piece.
func forgive(whole, part *pcapfile.Packet, data []byte) {
	if !bytes.Contains(part.Comment, []byte(" consume ")) && !bytes.Contains(part.Comment, []byte("l3dsr/")) {
		return
	}
	p, ok := parsed(bytes.Clone(whole.Data))
	if !ok {
		return
	}
	at := []int{checksumAt(&p)}
	if p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6 {
		at[0] = p.L4 + 2
	}
	for _, header := range []int{0, wire.UDPLen, wire.UDPLen + 4} { // what is in a tunnel
		if p.L4+header >= p.End {
			break
		}
		inner := append(make([]byte, 14), p.Bytes()[p.L4+header:p.End]...)
		copy(inner[12:], map[byte]string{4: "\x08\x00", 6: "\x86\xdd"}[inner[14]>>4])
		if q, ok := parsed(inner); ok {
			at = append(at, p.L4+header-14+checksumAt(&q))
		}
	}
	for _, k := range at {
		if k > 0 && k+2 <= len(data) {
			copy(data[k:k+2], whole.Data[k:])
		}
	}
}

// counted is a result without what tells that packets were cut.
func counted(t *testing.T, counters []byte) string {
	var m map[string]any
	if err := json.Unmarshal(counters, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "cut")
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// cutBeside plays a tape as it is and as a snapshot length leaves it, and returns how many frames were cut; 0 where headers
// were, which changes what comes after.
func cutBeside(t *testing.T, tp tape, mode string, snaplen int) int {
	cfg, part := tp.auto(t, mode), tp.snapped(snaplen)
	name := part.name + " " + mode
	whole, left := newSubject(t, tp.name+" "+mode, cfg, 0).run(tp), newSubject(t, name, cfg, 0xa5).run(part)
	if left.result.CutShort > 0 {
		return 0
	}
	text, n := whatIsLeft(frames(t, whole.frames), frames(t, left.frames))
	if text != "" {
		t.Errorf("%s: %s", name, text)
	}
	if !bytes.Equal(whole.flows, left.flows) {
		t.Errorf("%s: other flows than of the whole capture", name)
	}
	if a, b := counted(t, whole.counters), counted(t, left.counters); a != b {
		t.Errorf("%s: counters\n%s\nof the whole capture\n%s", name, b, a)
	}
	if a, b := autoText(t, tp, mode), autoText(t, part, mode); a != b {
		t.Errorf("%s: --vip auto makes\n%s\nof the whole capture\n%s", name, b, a)
	}
	return n
}

func TestACaptureThatWasCutGivesWhatIsLeftOfTheWholeOne(t *testing.T) {
	runs(t)
	modes := replay.AutoModes()
	gone, played := map[string]int{}, 0
	for i, path := range captures(t) {
		_, tp := fileOf(t, path)
		if len(tp.frames) > 2000 || !rightICMP(tp) {
			continue
		}
		for k, mode := range modes {
			if full() || (i+k)%3 == 0 {
				played++
				gone[mode] += cutBeside(t, tp, mode, []int{64, 70, 96, 128}[(i+k)/3%4])
			}
		}
	}
	for _, mode := range modes {
		if gone[mode] < 100 {
			t.Errorf("%s: only %d frames were cut", mode, gone[mode])
		}
	}
	t.Logf("%d runs; frames that were cut: %v", played, gone)
}

func autoText(t *testing.T, tp tape, mode string) string {
	text, err := replay.Auto(source(t, tp.file(t)), mode)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text)
}

// built is a tape of frames a millisecond apart.
func built(name string, frames ...[]byte) tape {
	tp := tape{name: name}
	for i, f := range frames {
		tp.frames = append(tp.frames, taped{int64(i) * 1e6, f, len(f)})
	}
	return tp
}

func TestPiecesOfACutPacketHaveWhatWasCaptured(t *testing.T) {
	client, vip := "10.20.40.80:4000", "200.100.50.25:80"
	syn := wiretest.Frame{Src: client, Dst: vip, TCP: "S", Seq: 99}.Bytes(t)
	super := wiretest.Frame{Src: client, Dst: vip, TCP: "PA", Seq: 100, Ack: 1, Payload: bytes.Repeat([]byte("abc"), 7000)}
	long := wiretest.Frame{Src: client, Dst: vip, UDP: true, Payload: bytes.Repeat([]byte("abcd"), 700)}
	six := wiretest.Frame{Src: "[2001:db8::80]:4000", Dst: "[2001:db8::25]:80", UDP: true, Payload: make([]byte, 1200)}
	df := long
	df.DF = true
	whole, _ := parsed(long.Bytes(t))
	parts := cut(&whole, 1000, 7)
	for _, mode := range replay.AutoModes() {
		for name, tp := range map[string]tape{
			"a super-frame":         built("a super-frame", syn, super.Bytes(t)),
			"to be fragmented":      built("to be fragmented", long.Bytes(t)),
			"too long":              built("too long", df.Bytes(t)),
			"IPv6 in a tunnel":      built("IPv6 in a tunnel", six.Bytes(t)),
			"fragments":             built("fragments", parts...),
			"fragments, last first": built("fragments, last first", parts[2], parts[1], parts[0]),
		} {
			if cutBeside(t, tp, mode, 96) == 0 {
				t.Errorf("%s, %s: nothing was cut", name, mode)
			}
		}
	}
}
