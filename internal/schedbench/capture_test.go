package schedbench

import (
	"bytes"
	"testing"
	"time"

	"naru/internal/link/pcapfile"
	"naru/internal/wiretest"
)

func TestCapture(t *testing.T) {
	const vip, a, b = "200.100.50.25", "10.20.40.80", "10.20.40.81"
	var file bytes.Buffer
	w := pcapfile.NewWriter(&file)
	leg := w.AddInterface("eth0", "")
	at := int64(1e18)
	put := func(after time.Duration, f wiretest.Frame) {
		at += int64(after)
		p := f.Packet(t)
		w.Packet(leg, at, p.Bytes(), p.Len, "")
	}
	put(0, wiretest.Frame{Src: a + ":5000", Dst: vip + ":80", TCP: "S"})
	put(time.Second, wiretest.Frame{Src: vip + ":80", Dst: a + ":5000", TCP: "SA"})
	put(time.Second, wiretest.Frame{Src: a + ":5000", Dst: vip + ":80", TCP: "A"})
	put(time.Second, wiretest.Frame{Src: b + ":5000", Dst: vip + ":53", UDP: true})
	put(time.Second, wiretest.Frame{Src: vip + ":53", Dst: b + ":5000", UDP: true})
	put(2*time.Minute, wiretest.Frame{Src: a + ":5000", Dst: vip + ":80", TCP: "S"}) // the port again
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	in, err := CaptureInput(bytes.NewReader(file.Bytes()), Equal(2))
	if err != nil {
		t.Fatal(err)
	}
	want := []Arrival{{0, 2 * time.Second, 0}, {3 * time.Second, time.Second, 1}, {2*time.Minute + 4*time.Second, 0, 0}}
	if len(in.Arrivals) != 3 || in.Arrivals[0] != want[0] || in.Arrivals[1] != want[1] || in.Arrivals[2] != want[2] || in.Clients != 2 {
		t.Errorf("%+v, %d clients; want %+v", in.Arrivals, in.Clients, want)
	}
	rr := setup("rr")
	if r := Run(in, &rr); r.Total[0] != 2 || r.Total[1] != 1 {
		t.Errorf("%v", r.Total)
	}
	for _, bad := range []string{"", "no capture at all"} {
		if _, _, err := Capture(bytes.NewReader([]byte(bad))); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
