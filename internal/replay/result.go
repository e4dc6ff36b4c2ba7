package replay

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"

	"naru/forwarder"
	"naru/internal/wire"
)

// Result is what a run came to.
type Result struct {
	Kind       string `json:"kind"` // Replay
	APIVersion string `json:"apiVersion"`
	Seed       uint64 `json:"seed"`

	Packets     uint64    `json:"packets"`      // of the capture
	Cut         uint64    `json:"cut"`          // of them: captured in part
	CutShort    uint64    `json:"cut_short"`    // of these: without all headers, so that nobody can say what naru does
	NotEthernet uint64    `json:"unknown_link"` // of them: of a link type that naru does not know
	PassedBy    uint64    `json:"passed_by"`    // of them: answers that do not come near naru
	Seconds     float64   `json:"seconds"`      // from the first packet to the latest
	Flows       uint64    `json:"flows"`        // connections that were made
	Forwarded   uint64    `json:"forwarded"`    // packets that went on
	Answered    uint64    `json:"answered"`     // packets that naru answered or used
	Passed      uint64    `json:"passed"`       // packets that are not naru's
	Dropped     uint64    `json:"dropped"`
	Reasons     Reasons   `json:"reasons"` // of packets that did not go on
	Counters    Engine    `json:"counters"`
	Services    []Service `json:"services"`

	Loop *Loop `json:"loop,omitempty"` // with simulated backends

	latest int64
	place  map[[2]string]*Backend
	all    forwarder.Counters
}

// Engine are the engine's other counters.
type Engine struct {
	Received        uint64 `json:"received"`
	Held            uint64 `json:"held"`
	Sent            uint64 `json:"sent"` // frames
	Made            uint64 `json:"made"` // of them: by naru itself
	Ended           uint64 `json:"connections_ended"`
	Active          uint64 `json:"connections_active"`
	PortReusedEarly uint64 `json:"port_reused_early"`
	ForwardedPlain  uint64 `json:"forwarded_plain"`
}

// Reasons are packets by the reason why they did not go on, in the order of the packet's way.
type Reasons []Reason

// Reason is the count of one reason.
type Reason struct {
	Name    string
	Verdict string
	Packets uint64
}

// MarshalJSON writes an object in the order of the list.
func (r Reasons) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, x := range r {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		b = append(append(b, name...), ':')
		n, _ := json.Marshal(x.Packets) // a number has no error
		b = append(b, n...)
	}
	return append(b, '}'), nil
}

// Service is what came to one service.
type Service struct {
	Name     string     `json:"name"`
	Mode     string     `json:"mode"`
	Flows    uint64     `json:"flows"`
	Backends []*Backend `json:"backends"`
}

// Backend is what came to one backend.
type Backend struct {
	Name    string `json:"name"`
	Flows   uint64 `json:"flows"`
	Packets uint64 `json:"packets"` // in both directions, as far as they pass naru
	Bytes   uint64 `json:"bytes"`   // of IP packets
}

// begin lists the services and backends of the configuration.
func (r *Result) begin(run *Replay) {
	r.Kind, r.APIVersion, r.Seed = "Replay", "naru/v1", run.opt.Seed
	r.place = map[[2]string]*Backend{}
	for i := range run.compiled.Services {
		s := &run.compiled.Services[i]
		rec := forwarder.Record{Service: s.Name, Mode: s.Mode, Encap: s.L3DSR.Encap}
		out := Service{Name: s.Name, Mode: rec.ModeName(), Backends: []*Backend{}}
		for _, b := range s.Backends {
			out.Backends = append(out.Backends, r.backend(s.Name, b.Name))
		}
		r.Services = append(r.Services, out)
	}
}

func (r *Result) backend(service, name string) *Backend {
	b := &Backend{Name: name}
	r.place[[2]string{service, name}] = b
	return b
}

// count adds a connection to its backend; one of a reloaded configuration gets a place.
func (r *Result) count(c *forwarder.Connection) {
	b := r.place[[2]string{c.Service, c.Backend}]
	if b == nil {
		b = r.backend(c.Service, c.Backend)
		i := slices.IndexFunc(r.Services, func(s Service) bool { return s.Name == c.Service })
		if i < 0 {
			rec := forwarder.Record{Service: c.Service, Mode: c.Mode, Encap: c.Encap}
			i = len(r.Services)
			r.Services = append(r.Services, Service{Name: c.Service, Mode: rec.ModeName()})
		}
		r.Services[i].Backends = append(r.Services[i].Backends, b)
	}
	b.Flows++
	b.Packets += c.Packets[0] + c.Packets[1]
	b.Bytes += c.Bytes[0] + c.Bytes[1]
}

func (r *Result) span(since int64) { r.latest = max(r.latest, since) }

// end logs the living connections and fills in the sums.
func (r *Result) end(run *Replay) {
	var open []forwarder.Connection
	run.engine.Connections(func(c *forwarder.Connection) { open = append(open, *c) })
	slices.SortFunc(open, func(a, b forwarder.Connection) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), slices.Compare(a.Client[:], b.Client[:]),
			cmp.Compare(a.ClientPort, b.ClientPort), slices.Compare(a.VIP[:], b.VIP[:]), cmp.Compare(a.VIPPort, b.VIPPort),
			cmp.Compare(a.Proto, b.Proto))
	})
	for i := range open {
		r.count(&open[i])
		if run.flows != nil && run.opt.StateOut == nil {
			run.flows.write(&open[i], run.numbers.of(&open[i]), run.now, "open", run.sim.ended(&open[i]))
		}
	}
	if run.flows != nil {
		run.fail(run.flows.err)
	}
	r.Seconds = float64(r.latest/1000) / 1e6
	r.sum(run.engine.Counters())
	for i := range r.Services {
		s := &r.Services[i]
		for _, b := range s.Backends {
			s.Flows += b.Flows
		}
		r.Flows += s.Flows
	}
	if run.sim != nil {
		r.Loop = run.sim.report()
	}
}

func (r *Result) sum(c forwarder.Counters) {
	r.all = c
	r.Forwarded, r.Answered, r.Passed, r.Dropped = c.Transmitted, c.Consumed, c.Passed, c.Dropped
	r.Counters = Engine{Received: c.Received, Held: c.Held, Sent: c.Sent, Made: c.Made, Ended: c.Ended, Active: c.Active,
		PortReusedEarly: c.PortReusedEarly, ForwardedPlain: c.ForwardedPlain}
	r.Reasons = Reasons{}
	for i, n := range c.ByReason {
		if n > 0 {
			why := wire.Reason(i)
			r.Reasons = append(r.Reasons, Reason{why.String(), why.Verdict().String(), n})
		}
	}
}

// Balanced reports whether every packet is accounted for.
func (r *Result) Balanced() bool { return r.all.Balanced() }

// WriteJSON writes the result as an indented JSON document.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
