package record

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/pcapfilter"
	"naru/internal/wire"
)

// Filter chooses records. What is empty does not matter; of several values one must fit, of several fields all.
type Filter struct {
	Services []string
	Backends []string     // the name, or SERVICE/NAME
	Client   netip.Prefix // of the connection, or the sender of a packet that belongs to none
	Verdicts []wire.Verdict
	Reasons  []wire.Reason
	Flows    []wire.FlowID
	New      bool               // packets that made a connection
	Words    string             // an expression, see ParseExpression
	Frames   *pcapfilter.Filter // judges the frame as it came and those that left; nil: none. It needs Filter.Bytes of them

	match func(*forwarder.Record) bool // of Words
}

// ParseFilter reads a filter from the parameters of a query, which Query writes. Parameters that are not a filter's are
// left alone; the error names the one that is wrong and says what there is.
func ParseFilter(q url.Values) (f Filter, err error) {
	f.Services, f.Backends, f.New = q["service"], q["backend"], q.Get("new") == "true"
	if text := q.Get("client"); text != "" {
		if f.Client, err = parsePrefix(text); err != nil {
			return f, err
		}
	}
	for _, name := range q["verdict"] {
		v, ok := verdictOf(name)
		if !ok {
			return f, fmt.Errorf("verdict %q is not known; there are drop, pass, consume, transmit and held", name)
		}
		f.Verdicts = append(f.Verdicts, v)
	}
	for _, name := range q["reason"] {
		r, ok := ReasonOf(name)
		if !ok {
			return f, fmt.Errorf("reason %q is not known; docs/counters.md lists them", name)
		}
		f.Reasons = append(f.Reasons, r)
	}
	for _, name := range q["flow"] {
		id, ok := wire.ParseFlowID(name)
		if !ok {
			return f, fmt.Errorf("flow %q is no name of a flow, which is f- and eight hexadecimal digits", name)
		}
		f.Flows = append(f.Flows, id)
	}
	if f.Words = q.Get("expr"); f.Words != "" {
		if f.match, err = ParseExpression(f.Words); err != nil {
			return f, err
		}
	}
	if text := q.Get("bpf"); text != "" {
		f.Frames, err = pcapfilter.Compile(text)
	}
	return f, err
}

// Query writes a filter as the parameters of a query.
func (f *Filter) Query() url.Values {
	q := url.Values{}
	for _, s := range f.Services {
		q.Add("service", s)
	}
	for _, b := range f.Backends {
		q.Add("backend", b)
	}
	if f.Client.IsValid() {
		q.Set("client", f.Client.String())
	}
	for _, v := range f.Verdicts {
		q.Add("verdict", v.String())
	}
	for _, r := range f.Reasons {
		q.Add("reason", r.String())
	}
	for _, id := range f.Flows {
		q.Add("flow", id.String())
	}
	if f.New {
		q.Set("new", "true")
	}
	if f.Words != "" {
		q.Set("expr", f.Words)
	}
	if f.Frames != nil {
		q.Set("bpf", f.Frames.String())
	}
	return q
}

// Bytes returns how many bytes of a frame Match must see.
func (f *Filter) Bytes() int {
	switch {
	case f.Frames == nil:
		return 0
	case f.Frames.Bytes() == 0:
		return wire.MaxFrame
	}
	return f.Frames.Bytes()
}

func parsePrefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is no address and no prefix, as 10.20.0.0/16", text)
	}
	return p.Masked(), nil
}

func verdictOf(name string) (wire.Verdict, bool) {
	for _, v := range []wire.Verdict{wire.Drop, wire.Pass, wire.Consume, wire.Transmit, wire.Held} {
		if v.String() == name {
			return v, true
		}
	}
	return 0, false
}

// ReasonOf returns the reason of a name.
func ReasonOf(name string) (wire.Reason, bool) {
	for r := wire.ReasonNone + 1; r < wire.NumReasons; r++ {
		if r.String() == name {
			return r, true
		}
	}
	return 0, false
}

// Match reports whether a record fits. It allocates nothing.
func (f *Filter) Match(r *forwarder.Record) bool {
	switch {
	case f.New && !r.NewConn,
		!fits(f.Services, r.Service),
		!fits(f.Verdicts, r.Verdict),
		!fits(f.Reasons, r.Reason),
		!fits(f.Flows, r.Flow),
		len(f.Backends) > 0 && !f.backend(r),
		f.Client.IsValid() && !f.Client.Contains(clientOf(r).Netip()),
		f.match != nil && !f.match(r),
		f.Frames != nil && !f.frames(r):
		return false
	}
	return true
}

// frames reports whether one of the frames of a packet fits, as it came or as it left.
func (f *Filter) frames(r *forwarder.Record) bool {
	if !r.Late && f.Frames.Match(r.Frame, r.FrameLen, r.Before.TCI) {
		return true
	}
	for _, s := range r.Sent {
		if f.Frames.Match(s.Bytes(), s.Len, s.TCI) {
			return true
		}
	}
	return false
}

// fits reports whether a value is in a list, or the list is empty.
func fits[T comparable](list []T, v T) bool {
	for _, x := range list {
		if x == v {
			return true
		}
	}
	return len(list) == 0
}

func (f *Filter) backend(r *forwarder.Record) bool {
	if r.Backend == "" {
		return false
	}
	for _, b := range f.Backends {
		if service, name, both := strings.Cut(b, "/"); b == r.Backend || both && service == r.Service && name == r.Backend {
			return true
		}
	}
	return false
}

// clientOf returns who the client of a packet is.
func clientOf(r *forwarder.Record) wire.Addr {
	switch {
	case r.Conn != conntrack.None && r.Dir == conntrack.Reply && r.After.Version != 0:
		return r.After.Dst
	case r.Conn != conntrack.None && r.Dir == conntrack.Reply:
		return r.Before.Dst
	}
	return r.Before.Src
}
