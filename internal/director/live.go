package director

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"naru/forwarder"
	"naru/internal/admin"
	"naru/internal/explain"
	"naru/internal/record"
	"naru/internal/wire"
)

// serveLive registers the questions about packets. Frames have what people send to each other in them, so to see them takes
// the role that may change things.
func (d *Director) serveLive(s *admin.Server) {
	s.Stream("GET /v1/trace", admin.Read, func(ctx context.Context, r *http.Request, send func(any) error) error {
		return d.streamRecords(ctx, r.URL.Query(), 0, record.TraceOptions{}, send)
	})
	s.Stream("GET /v1/capture", admin.Write, func(ctx context.Context, r *http.Request, send func(any) error) error {
		q := r.URL.Query()
		bytes := wire.MaxFrame
		if text := q.Get("bytes"); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > wire.MaxFrame {
				return badRequest("bytes=%s is not a number from 1 to %d", text, wire.MaxFrame)
			}
			bytes = n
		}
		opt := record.TraceOptions{Frames: q.Get("frames") != "false", Hex: q.Get("hex") == "true"}
		return d.streamRecords(ctx, q, bytes, opt, send)
	})
	s.Handle("POST /v1/explain", admin.Read, d.postExplain)
	s.Handle("GET /v1/drops", admin.Read, func(*http.Request) (any, error) {
		return d.drops(func(r wire.Reason) bool { return r.Verdict() == wire.Drop }, false), nil
	})
	s.Handle("GET /v1/drops/{reason}", admin.Write, func(r *http.Request) (any, error) {
		reason, ok := record.ReasonOf(r.PathValue("reason"))
		if !ok {
			return nil, notFound("reason " + r.PathValue("reason"))
		}
		return d.drops(func(r wire.Reason) bool { return r == reason }, true), nil
	})
}

// drops sums up the reasons that are wanted.
func (d *Director) drops(wanted func(wire.Reason) bool, bytes bool) admin.Drops {
	last, now := d.samples.get()
	c := &now.counters
	out := admin.Drops{Head: admin.NewHead("Drops"), Received: c.Received, Transmitted: c.Transmitted, Consumed: c.Consumed,
		Passed: c.Passed, Dropped: c.Dropped, Held: c.Held, Balanced: c.Balanced(), Reasons: []admin.Reason{}}
	for _, s := range d.DeviceStats() {
		out.Missed += s.RxMissed
	}
	samples := d.DropSamples()
	for _, row := range reasonsOf(&last.counters, c, seconds(last, now)) {
		reason, _ := record.ReasonOf(row.Reason)
		if !wanted(reason) {
			continue
		}
		if s := samples[reason]; !s.Last.IsZero() {
			at := s.Last.UTC()
			row.Last, row.Samples = &at, s.Samples
		}
		for i := range row.Samples {
			if !bytes {
				row.Samples[i].Hex = ""
			}
		}
		out.Reasons = append(out.Reasons, row)
	}
	return out
}

// streamRecords sends what fits, a record.Traced each.
func (d *Director) streamRecords(ctx context.Context, q url.Values, bytes int, opt record.TraceOptions,
	send func(any) error) error {
	filter, err := record.ParseFilter(q)
	if err != nil {
		return badRequest("%v", err)
	}
	tap := TapOptions{Filter: filter, Bytes: bytes, Ready: func() error { return send(nil) }}
	if text := q.Get("sample"); text != "" {
		if tap.Sample, err = strconv.Atoi(text); err != nil || tap.Sample < 1 {
			return badRequest("sample=%s is not a whole number above 0", text)
		}
	}
	err = d.Follow(ctx, tap, func(r *forwarder.Record, at time.Time, worker int, missed uint64) error {
		t := record.NewTraced(r, at, worker, opt)
		t.Missed = missed
		return send(t)
	})
	if errors.Is(err, ErrBusy) {
		return &admin.Problem{Status: http.StatusServiceUnavailable, Title: "too many listen already",
			Detail: "end one of the others: naru trace, naru capture"}
	}
	return err
}

// postExplain answers what naru would do with a packet.
func (d *Director) postExplain(r *http.Request) (any, error) {
	var in explain.Question
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	var p *explain.Packet
	var err error
	if in.Flow != "" {
		id, ok := wire.ParseFlowID(in.Flow)
		if !ok || in.Packet != "" {
			return nil, badRequest("flow %q is no name of a flow, which is f- and eight hexadecimal digits; and it stands "+
				"instead of a packet", in.Flow)
		}
		p, err = d.Flow(id)
	} else {
		p, err = explain.Parse(in.Packet)
	}
	switch {
	case errors.Is(err, ErrNoFlow):
		return nil, notFound("connection " + in.Flow)
	case errors.Is(err, errStopped):
		return nil, err
	case err != nil:
		return nil, badRequest("%v", err)
	}
	x, err := d.Explain(p)
	if err != nil && !errors.Is(err, errStopped) {
		return nil, badRequest("%v", err)
	}
	return x, err
}
