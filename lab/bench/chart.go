package bench

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Sizes of a chart.
const (
	chartWidth  = 28 * vg.Centimeter
	chartHeight = 11 * vg.Centimeter // of one layout
	barWidth    = 10 * vg.Millimeter // at most
	chartDPI    = 120
	labelSize   = 7 * vg.Length(1) // of the values above bars, in points
	labelWidth  = 2.3 * labelSize  // of four characters, and some space
)

// Colours of bars: peers are grey and sand, naru is not.
var (
	peerColors = []color.Color{color.Gray{0x60}, color.Gray{0x90}, color.Gray{0xb8}, color.RGBA{0xc9, 0xb0, 0x8a, 255},
		color.RGBA{0xe0, 0xd2, 0xb8, 255}}
	naruColors = []color.Color{color.RGBA{0x00, 0x7c, 0x89, 255}, color.RGBA{0x4f, 0xb3, 0xbf, 255},
		color.RGBA{0x9a, 0xd5, 0xdb, 255}}
)

// ChartFormat returns the format that a chart's file name asks for, ".svg" or ".png", "" for any other.
func ChartFormat(file string) string {
	if ext := strings.ToLower(filepath.Ext(file)); ext == ".svg" || ext == ".png" {
		return ext
	}
	return ""
}

// WriteChart draws the report into a file, as SVG or PNG by its name: a group of bars for each metric, each bar how many
// times as good as the first system in the same place, so that longer is better also where less is.
func (r *Report) WriteChart(file string) error {
	var plots []*plot.Plot
	for _, l := range []Layout{TwoLegs, OneArm} {
		if c := r.chartOf(l); len(c.systems) > 0 {
			p, err := c.plot(l)
			if err != nil {
				return fmt.Errorf("bench: chart: %w", err)
			}
			plots = append(plots, p)
		}
	}
	if len(plots) == 0 {
		return fmt.Errorf("bench: chart: there is nothing to compare")
	}
	w, h := chartWidth, chartHeight*vg.Length(len(plots))
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	if ChartFormat(file) == ".svg" {
		canvas = vgsvg.New(w, h)
	} else {
		canvas = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(w, h), vgimg.UseDPI(chartDPI))}
	}
	dc := draw.New(canvas)
	for i, p := range plots {
		top := vg.Length(len(plots)-i) * chartHeight
		p.Draw(draw.Crop(dc, vg.Millimeter*4, -vg.Millimeter*4, top-chartHeight+vg.Millimeter*4, top-h-vg.Millimeter*4))
	}
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("bench: chart: %w", err)
	}
	_, err = canvas.WriteTo(out)
	if closed := out.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("bench: chart: %w", err)
	}
	return nil
}

// A chart are the ratios of one layout.
type chart struct {
	metrics []string
	systems []string
	naru    map[string]bool
	times   map[string][]float64 // by system, for each metric; NaN where there is none
	base    string
}

// chartOf works out how many times as good as the first each system is, by the first figure of each metric.
func (r *Report) chartOf(l Layout) *chart {
	c := &chart{naru: r.naru, times: map[string][]float64{}}
	for _, x := range r.Results {
		if x.Layout == l && !slices.Contains(c.systems, x.System) {
			c.systems = append(c.systems, x.System)
		}
	}
	slices.SortFunc(c.systems, func(a, b string) int { return slices.Index(r.Systems, a) - slices.Index(r.Systems, b) })
	if len(c.systems) < 2 {
		return &chart{}
	}
	c.base = c.systems[0]
	for _, x := range r.Results {
		if x.Layout != l || x.System != c.base || x.Figure != r.firstFigure(x.Metric) || x.Median == 0 {
			continue
		}
		c.metrics = append(c.metrics, title(&x))
		for _, s := range c.systems {
			times := math.NaN()
			if y := r.result(x.Metric, x.Figure, s); y != nil && y.Median > 0 {
				if times = y.Median / x.Median; x.LessBetter {
					times = 1 / times
				}
			}
			c.times[s] = append(c.times[s], times)
		}
	}
	return c
}

func (c *chart) plot(l Layout) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s: times as good as %s (longer is better)", l, c.base)
	p.Title.Padding = vg.Millimeter * 4
	p.Title.TextStyle.Font.Variant, p.Legend.TextStyle.Font.Variant = "Sans", "Sans"
	p.X.Tick.Label.Font.Variant, p.Y.Tick.Label.Font.Variant = "Sans", "Sans"
	p.X.Tick.Label.Font.Size = vg.Points(11)
	p.Legend.Top, p.Legend.Left, p.Legend.XOffs, p.Legend.Padding = true, false, vg.Millimeter*2, vg.Millimeter*0.7
	p.Y.Min = 0
	// A group takes four fifths of its place, and the legend a place of its own on the right.
	group := (chartWidth - 3*vg.Centimeter) / vg.Length(len(c.metrics)+1) * 0.8
	width := min(barWidth, group/vg.Length(len(c.systems)))
	peer, own := 0, 0
	for i, s := range c.systems {
		values, labels := make(plotter.Values, len(c.metrics)), plotter.XYLabels{}
		for j, times := range c.times[s] {
			if !math.IsNaN(times) {
				values[j] = times
				if s == c.base {
					continue // it is 1
				}
				labels.XYs = append(labels.XYs, plotter.XY{X: float64(j), Y: times})
				labels.Labels = append(labels.Labels, fmt.Sprintf("%.2f", times))
			}
		}
		bars, err := plotter.NewBarChart(values, width*0.92)
		if err != nil {
			return nil, err
		}
		bars.Offset = width * (vg.Length(i) - vg.Length(len(c.systems)-1)/2)
		bars.LineStyle.Width = 0
		if c.naru[s] {
			bars.Color, own = naruColors[own%len(naruColors)], own+1
		} else {
			bars.Color, peer = peerColors[peer%len(peerColors)], peer+1
		}
		p.Add(bars)
		p.Legend.Add(s, bars)
		if err := addLabels(p, labels, bars.Offset, width < labelWidth); err != nil {
			return nil, err
		}
		p.Y.Max = max(p.Y.Max, 1.15*slices.Max(values))
	}
	one := plotter.NewFunction(func(float64) float64 { return 1 })
	one.Dashes = []vg.Length{vg.Points(3), vg.Points(3)}
	p.Add(one)
	p.NominalX(c.metrics...)
	p.X.Max = float64(len(c.metrics)) + 0.1
	return p, nil
}

// addLabels writes the values above their bars, upwards where the bars are narrower than what is written.
func addLabels(p *plot.Plot, labels plotter.XYLabels, offset vg.Length, upwards bool) error {
	l, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	style := text.Style{XAlign: text.XCenter, YAlign: text.YBottom}
	if upwards {
		style = text.Style{XAlign: text.XLeft, YAlign: text.YCenter, Rotation: math.Pi / 2}
	}
	style.Font = font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, labelSize)
	for i := range l.TextStyle {
		style.Color, style.Handler = l.TextStyle[i].Color, l.TextStyle[i].Handler
		l.TextStyle[i] = style
	}
	l.Offset = vg.Point{X: offset, Y: vg.Points(1.5)}
	p.Add(l)
	return nil
}
