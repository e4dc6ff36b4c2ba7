package schedbench

import (
	"fmt"
	"image/color"
	"io"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Formats are the formats of charts.
func Formats() []string { return []string{"svg", "png"} }

// Our own choices.
const (
	panelWidth  = 9 * vg.Centimeter
	panelHeight = 6.5 * vg.Centimeter
	columns     = 3
	named       = 10 // more lines than that are drawn without a legend
)

// colors can be told apart by most people with and without full colour vision (Okabe and Ito).
var colors = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xd5, 0x5e, 0x00, 0xff}, color.RGBA{0xcc, 0x79, 0xa7, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	color.RGBA{0x99, 0x88, 0x22, 0xff}, color.RGBA{0x00, 0x00, 0x00, 0xff},
}

// Chart draws results as "active" or "new" connections over time, a panel each and a line a backend, or as "load": bars of
// the connections that each backend had in the mean. The format is one of Formats.
func Chart(w io.Writer, format, series string, results []*Result) error {
	var panels []*plot.Plot
	top := 0.0
	for _, r := range results {
		p, err := panel(r, series)
		if err != nil {
			return fmt.Errorf("schedbench: chart: %w", err)
		}
		top = max(top, p.Y.Max)
		panels = append(panels, p)
	}
	for _, p := range panels {
		p.Y.Max = top * 1.25 // room for the legend; panels are to be compared
	}
	return write(w, format, panels)
}

// newPanel returns an empty panel.
func newPanel(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(4)
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(7)
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
	p.Add(plotter.NewGrid())
	return p
}

// ticks are the usual ones, with as few digits as they need.
type ticks struct{}

// Ticks implements plot.Ticker.
func (ticks) Ticks(lo, hi float64) []plot.Tick {
	ts := plot.DefaultTicks{}.Ticks(lo, hi)
	for i := range ts {
		if ts[i].Label != "" {
			ts[i].Label = strconv.FormatFloat(ts[i].Value, 'f', -1, 64)
		}
	}
	return ts
}

func panel(r *Result, series string) (*plot.Plot, error) {
	if series == "load" {
		return bars(r)
	}
	words := map[string]string{"active": "connections", "new": "new connections a second"}
	p := newPanel(r.Name, "seconds", words[series])
	perSecond := 1.0
	if series == "new" {
		perSecond = 1 / r.in.Bucket.Seconds()
	}
	for b := range r.in.Backends {
		pts := make(plotter.XYs, 0, len(r.Buckets))
		for _, k := range r.Buckets {
			y := float64(k.Active[b])
			if series == "new" {
				y = float64(k.New[b]) * perSecond
			}
			pts = append(pts, plotter.XY{X: k.At.Seconds(), Y: y})
		}
		if err := line(p, r.in.Backends[b].Name, b, pts, len(r.in.Backends) <= named); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// line adds a line.
func line(p *plot.Plot, name string, number int, pts plotter.XYs, legend bool) error {
	l, err := plotter.NewLine(pts)
	if err != nil {
		return err
	}
	l.Color, l.Width = colors[number%len(colors)], vg.Points(1.2)
	p.Add(l)
	if legend {
		p.Legend.Add(name, l)
	}
	return nil
}

// bars draws the mean load of each backend.
func bars(r *Result) (*plot.Plot, error) {
	p := newPanel(fmt.Sprintf("%s: max/mean %.2f", r.Name, r.LoadMaxMean), "backend", "connections in the mean")
	var values plotter.Values
	var names []string
	for b := range r.in.Backends {
		values = append(values, r.active[b]/float64(max(1, r.present[b])))
		names = append(names, r.in.Backends[b].Name)
	}
	width := panelWidth * 0.6 / vg.Length(max(1, len(values)))
	chart, err := plotter.NewBarChart(values, width)
	if err != nil {
		return nil, err
	}
	chart.Color, chart.LineStyle.Width = colors[0], 0
	p.Add(chart)
	if len(names) <= named {
		p.NominalX(names...)
	}
	return p, nil
}

// ChartTables draws how much of each table changes when backends leave, and how evenly it is shared out.
func ChartTables(w io.Writer, format string, tables []TableSize) error {
	p := newPanel(fmt.Sprintf("%d backends: what changes when some leave", tables[0].Backends), "backends that leave",
		"% of the slots")
	var sizes plotter.Values
	var names []string
	for i, t := range tables {
		pts := plotter.XYs{{}}
		for _, l := range t.Leaves {
			pts = append(pts, plotter.XY{X: float64(l.Backends), Y: 100 * l.Changed})
		}
		if err := line(p, fmt.Sprintf("%d slots", t.Slots), i, pts, true); err != nil {
			return fmt.Errorf("schedbench: chart: %w", err)
		}
		sizes = append(sizes, 100*(t.MaxMean-1))
		names = append(names, fmt.Sprint(t.Slots))
	}
	needed := plotter.XYs{{}}
	for _, l := range tables[len(tables)-1].Leaves {
		needed = append(needed, plotter.XY{X: float64(l.Backends), Y: 100 * l.Needed})
	}
	if err := line(p, "what had to", len(tables), needed, true); err != nil {
		return fmt.Errorf("schedbench: chart: %w", err)
	}
	balance := newPanel("the largest part above the mean", "slots", "%")
	chart, err := plotter.NewBarChart(sizes, vg.Points(30))
	if err != nil {
		return fmt.Errorf("schedbench: chart: %w", err)
	}
	chart.Color, chart.LineStyle.Width = colors[0], 0
	balance.Add(chart)
	balance.NominalX(names...)
	balance.X.Min, balance.X.Max, balance.Y.Max = -0.5, float64(len(sizes))-0.5, balance.Y.Max*1.1
	return write(w, format, []*plot.Plot{p, balance})
}

// write draws the panels in rows.
func write(w io.Writer, format string, panels []*plot.Plot) error {
	cols := min(columns, len(panels))
	rows := (len(panels) + cols - 1) / cols
	width, height := panelWidth*vg.Length(cols), panelHeight*vg.Length(rows)
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	switch format {
	case "svg":
		canvas = vgsvg.New(width, height)
	case "png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.New(width, height)}
	default:
		return fmt.Errorf("schedbench: chart: %q is no format", format)
	}
	tiles := draw.Tiles{Rows: rows, Cols: cols, PadTop: vg.Points(4), PadBottom: vg.Points(4), PadLeft: vg.Points(4),
		PadRight: vg.Points(8), PadX: vg.Points(10), PadY: vg.Points(10)}
	dc := draw.New(canvas)
	for i, p := range panels {
		p.Draw(tiles.At(dc, i%cols, i/cols))
	}
	if _, err := canvas.WriteTo(w); err != nil {
		return fmt.Errorf("schedbench: chart: %w", err)
	}
	return nil
}
