package record

import (
	"fmt"
	"net"

	"naru/forwarder"
	"naru/internal/conntrack"
	"naru/internal/wire"
)

// Line is one decision record. Addresses are text, without ports; times are seconds since the engine's clock began.
type Line struct {
	Time    float64  `json:"time"`
	Leg     string   `json:"leg"`            // where the packet came in
	Out     string   `json:"out,omitempty"`  // where it, or the answer to it, left
	Flow    string   `json:"flow,omitempty"` // the connection's name, f-1a2b3c4d
	Late    bool     `json:"late,omitempty"` // it was held before, and has a first record
	Verdict string   `json:"verdict"`
	Reason  string   `json:"reason,omitempty"`
	Advice  string   `json:"advice,omitempty"` // what the reason means
	Stages  []string `json:"stages"`

	Before Headers  `json:"before"`
	After  *Headers `json:"after,omitempty"` // of the packet, or of the answer, that left

	Outer *Headers `json:"outer,omitempty"` // of the tunnel around After

	Service       string      `json:"service,omitempty"`
	Mode          string      `json:"mode,omitempty"` // l3dsr with its encapsulation, as l3dsr/gue
	Backend       string      `json:"backend,omitempty"`
	NewConnection bool        `json:"new_connection,omitempty"`
	Direction     string      `json:"direction,omitempty"` // "request" or "reply", with a connection
	State         string      `json:"state,omitempty"`     // of the connection after this packet
	Scheduler     string      `json:"scheduler,omitempty"`
	Candidates    []Candidate `json:"candidates,omitempty"`
	PortsFree     int         `json:"ports_free,omitempty"` // local ports left towards the backend
	PortsAll      int         `json:"ports_all,omitempty"`
	MTU           int         `json:"mtu,omitempty"`
	NextHop       string      `json:"next_hop,omitempty"`
}

// Candidate is a backend that the scheduler looked at.
type Candidate struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    uint16 `json:"port,omitempty"` // 0: the client's destination port
	Weight  uint32 `json:"weight"`
	State   string `json:"state"`
	Share   string `json:"share,omitempty"` // of the weight while it starts slowly, as 25%
	Active  int64  `json:"active"`
	Max     int64  `json:"max_connections,omitempty"`
	Backup  bool   `json:"backup,omitempty"`
	Chosen  bool   `json:"chosen,omitempty"`
}

// Headers are the headers of a frame.
type Headers struct {
	SrcMAC    string `json:"src_mac"`
	DstMAC    string `json:"dst_mac"`
	EtherType uint16 `json:"ether_type"`
	Src       string `json:"src,omitempty"` // IP address
	Dst       string `json:"dst,omitempty"`
	Proto     uint8  `json:"proto,omitempty"`
	Later     bool   `json:"later_fragment,omitempty"` // without a transport header
	SrcPort   uint16 `json:"src_port,omitempty"`       // of ICMP: the type
	DstPort   uint16 `json:"dst_port,omitempty"`       // of ICMP: the code
	TTL       uint8  `json:"ttl,omitempty"`
	DSCP      uint8  `json:"dscp,omitempty"`
	Flags     string `json:"flags,omitempty"` // of TCP: S, S., . and the like, as tcpdump writes them
	Seq       uint32 `json:"seq,omitempty"`
	Ack       uint32 `json:"ack,omitempty"`
	Length    int    `json:"length,omitempty"`  // bytes of the IP packet
	Payload   int    `json:"payload,omitempty"` // bytes behind the TCP or UDP header
	GSOSize   uint16 `json:"gso_size,omitempty"`
	Checksum  uint16 `json:"checksum,omitempty"` // of TCP, UDP or ICMP
	// Unfinished says that Checksum is left to whoever sends the frame onto a wire.
	Unfinished bool `json:"unfinished,omitempty"`
}

// NewLine copies what a record says.
func NewLine(r *forwarder.Record) *Line {
	l := &Line{
		Time: float64(r.Time) / 1e9, Leg: r.Leg, Out: r.Out, Late: r.Late, Verdict: r.Verdict.String(),
		Before: headers(&r.Before), Service: r.Service, Mode: r.ModeName(), Backend: r.Backend, NewConnection: r.NewConn,
		Scheduler: r.Scheduler, PortsFree: r.PortsFree, PortsAll: r.PortsAll, MTU: r.MTU,
	}
	if r.Reason != wire.ReasonNone {
		l.Reason, l.Advice = r.Reason.String(), r.Reason.Advice()
	}
	for _, s := range r.Stages {
		l.Stages = append(l.Stages, s.String())
	}
	if r.Out != "" {
		after := headers(&r.After)
		l.After = &after
	}
	if r.Flow != 0 {
		l.Flow = r.Flow.String()
	}
	if r.Outer.Version != 0 {
		outer := headers(&r.Outer)
		l.Outer = &outer
	}
	if r.NextHop != (wire.Addr{}) {
		l.NextHop = r.NextHop.String()
	}
	if r.Conn != conntrack.None {
		l.Direction = direction(r)
		if r.State != conntrack.Free {
			l.State = r.State.String()
		}
	}
	for _, c := range r.Candidates {
		l.Candidates = append(l.Candidates, Candidate{Name: c.Name, Address: c.Addr.String(), Port: c.Port, Weight: c.Weight,
			State: c.State.String(), Share: share(&c), Active: c.Active, Max: c.Max, Backup: c.Backup, Chosen: c.Chosen})
	}
	return l
}

// direction is "request" or "reply" of a packet of a connection.
func direction(r *forwarder.Record) string {
	switch {
	case r.Conn == conntrack.None:
		return ""
	case r.Dir == conntrack.Reply:
		return "reply"
	}
	return "request"
}

// share says how much of a weight counts, if it is not all.
func share(c *forwarder.Candidate) string {
	if c.Share == 0 || c.Share >= forwarder.FullShare {
		return ""
	}
	return fmt.Sprintf("%d%%", uint64(c.Share)*100/forwarder.FullShare)
}

func headers(h *forwarder.Headers) Headers {
	out := Headers{
		SrcMAC: net.HardwareAddr(h.SrcMAC[:]).String(), DstMAC: net.HardwareAddr(h.DstMAC[:]).String(),
		EtherType: h.EtherType, Proto: h.Proto, Later: h.Later, SrcPort: h.SrcPort, DstPort: h.DstPort, TTL: h.TTL, DSCP: h.DSCP,
		Seq: h.Seq, Ack: h.Ack, Length: h.Length, Payload: h.Payload, GSOSize: h.GSOSize, Checksum: h.Sum,
		Unfinished: h.Unfinished,
	}
	if h.Version != 0 {
		out.Src, out.Dst = h.Src.String(), h.Dst.String()
	}
	if h.Proto == wire.ProtoTCP {
		out.Flags = flags(h.TCPFlags)
	}
	return out
}

// flags writes TCP flags as tcpdump does: the acknowledgement is a dot, behind the others.
func flags(f uint8) string {
	var b []byte
	for _, x := range []struct {
		bit  uint8
		name byte
	}{{wire.FIN, 'F'}, {wire.SYN, 'S'}, {wire.RST, 'R'}, {wire.PSH, 'P'}, {wire.URG, 'U'}, {wire.ACK, '.'}} {
		if f&x.bit != 0 {
			b = append(b, x.name)
		}
	}
	return string(b)
}
