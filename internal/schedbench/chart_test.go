package schedbench

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"
)

// drawn checks that a chart is one, and returns the texts of an SVG.
func drawn(t *testing.T, format string, b []byte) string {
	t.Helper()
	if format == "png" {
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil || img.Bounds().Dx() < 200 {
			t.Fatalf("png: %v", err)
		}
		return ""
	}
	var text strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		tok, err := d.Token()
		if err == io.EOF {
			return text.String()
		}
		if err != nil {
			t.Fatalf("svg: %v", err)
		}
		if c, ok := tok.(xml.CharData); ok {
			text.Write(c)
		}
	}
}

func TestCharts(t *testing.T) {
	l := Load{Rate: 100, Duration: 5 * time.Second, Service: "exp", Mean: time.Second, Clients: 100, Seed: 1}
	as, err := l.Arrivals()
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Backends: Equal(3), Arrivals: as, Clients: 100, Bucket: time.Second / 4, End: l.Duration}
	one, two := setup("rr"), setup("mh").bounded(1.25)
	results := []*Result{Run(in, &one), Run(in, &two)}
	for _, format := range Formats() {
		for _, series := range []string{"active", "new", "load"} {
			var b bytes.Buffer
			if err := Chart(&b, format, series, results); err != nil {
				t.Fatal(err)
			}
			if text := drawn(t, format, b.Bytes()); format == "svg" && (!strings.Contains(text, "mh bounded 1.25") || !strings.Contains(text, "b3")) {
				t.Errorf("%s: %q", series, text)
			}
		}
		var b bytes.Buffer
		if err := ChartTables(&b, format, Tables([]int{251, 1009}, 10, 1)); err != nil {
			t.Fatal(err)
		}
		if text := drawn(t, format, b.Bytes()); format == "svg" && !strings.Contains(text, "1009 slots") {
			t.Errorf("tables: %q", text)
		}
	}
	if err := Chart(io.Discard, "pdf", "new", results); err == nil {
		t.Error("a format that is none is taken")
	}
}
