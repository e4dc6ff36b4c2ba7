package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
	"naru/internal/neigh"
	"naru/internal/wire"
)

// Record is what can be told about one packet: the stages that it went through, what was found there, and its headers
// before and after. It is filled only while somebody asks; what a stage did not reach is zero.
type Record struct {
	Time    wire.Time
	Leg     string // where it came in
	Out     string // where it left; empty unless it was transmitted, held or answered
	Verdict wire.Verdict
	Reason  wire.Reason

	// Stages are those that the packet reached, in order.
	Stages []Stage

	Before Headers
	After  Headers // valid when frames left: transmitted, held or answered; the inner ones of a tunnel
	Outer  Headers // of a tunnel; Version is 0 without one

	Conn       conntrack.ID // None without a connection
	NewConn    bool         // this packet made it
	Dir        conntrack.Dir
	State      conntrack.State // of the connection, after this packet
	Service    string
	Backend    string // of the connection
	Candidates []Candidate
	Scheduler  string
	Mode       Mode // of the connection's service

	// PortsFree and PortsAll tell how full the pool was that the local port is from.
	PortsFree, PortsAll int

	MTU     int       // of the leg it leaves by
	NextHop wire.Addr // whose MAC address it gets
}

// Stage names a part of the packet's way.
type Stage uint8

// The stages.
const (
	StageParse Stage = iota
	StageLookup
	StageService
	StageSchedule
	StageTranslate
	StageMTU
	StageNextHop
	StageAnswer
	numStages
)

var stageNames = [numStages]string{"parse", "lookup", "service", "schedule", "translate", "mtu", "next hop", "answer"}

// String returns the stage in a word or two.
func (s Stage) String() string { return stageNames[s] }

// Candidate is a backend that the scheduler looked at.
type Candidate struct {
	Name   string
	Addr   wire.Addr
	Port   uint16
	Weight uint32
	Active int64
	Chosen bool
}

// Headers are the fields of a frame that naru may change, and those by which a person recognizes it.
type Headers struct {
	SrcMAC, DstMAC   wire.MAC
	TCI              uint16 // of the VLAN tag outside the bytes
	EtherType        uint16
	Version          uint8
	Src, Dst         wire.Addr
	Proto            uint8
	SrcPort, DstPort uint16 // for ICMP: type and code
	TTL              uint8
	DSCP             uint8
	TCPFlags         uint8
	Seq, Ack         uint32
	Length           int // of the IP packet
	Payload          int // behind the TCP or UDP header
	GSOSize          uint16
	IPSum, Sum       uint16 // of the header (IPv4) and of the transport
	Unfinished       bool   // Sum is unfinished
}

// read takes the headers from a packet.
func (h *Headers) read(p *wire.Packet) {
	d := p.Bytes()
	*h = Headers{EtherType: p.EtherType, TCI: p.TCI}
	if len(d) < wire.EthernetLen {
		return
	}
	h.DstMAC, h.SrcMAC = wire.MAC(d[:6]), wire.MAC(d[6:12])
	if p.Version == 0 {
		return
	}
	ip := d[p.L3:]
	h.Version, h.Proto, h.TTL, h.Length, h.GSOSize = p.Version, p.Proto, p.TTL(), p.End-p.L3, p.Offload.GSOSize
	if p.Version == 4 {
		h.Src, h.Dst = wire.Addr4(ip[12:]), wire.Addr4(ip[16:])
		h.DSCP, h.IPSum = ip[1]>>2, binary.BigEndian.Uint16(ip[10:])
	} else {
		h.Src, h.Dst = wire.Addr6(ip[8:]), wire.Addr6(ip[24:])
		h.DSCP = uint8(binary.BigEndian.Uint16(ip) >> 6 & 0x3f)
	}
	if p.Frag != wire.LaterFragment {
		h.readTransport(p, d)
	}
}

func (h *Headers) readTransport(p *wire.Packet, d []byte) {
	be := binary.BigEndian
	t := d[min(p.L4, p.End):p.End]
	switch {
	case p.Proto == wire.ProtoTCP && len(t) >= wire.TCPLen:
		h.SrcPort, h.DstPort = be.Uint16(t), be.Uint16(t[2:])
		h.Seq, h.Ack, h.TCPFlags, h.Sum = be.Uint32(t[4:]), be.Uint32(t[8:]), t[13]&0x3f, be.Uint16(t[16:])
		h.Payload = max(0, len(t)-int(t[12]>>4)*4)
	case p.Proto == wire.ProtoUDP && len(t) >= wire.UDPLen:
		h.SrcPort, h.DstPort, h.Sum = be.Uint16(t), be.Uint16(t[2:]), be.Uint16(t[6:])
		h.Payload = len(t) - wire.UDPLen
	case (p.Proto == wire.ProtoICMP || p.Proto == wire.ProtoICMPv6) && len(t) >= wire.ICMPLen:
		h.SrcPort, h.DstPort, h.Sum = uint16(t[0]), uint16(t[1]), be.Uint16(t[2:])
	}
	h.Unfinished = p.Unfinished()
}

func (r *Record) reach(s Stage) { r.Stages = append(r.Stages, s) }

// start begins the record of a packet that was parsed.
func (r *Record) start(e *Engine, p *wire.Packet) {
	*r = Record{Time: e.now, Leg: e.snap.legs[p.Leg].Name, Conn: conntrack.None,
		Stages: r.Stages[:0], Candidates: r.Candidates[:0]}
	r.Before.read(p)
	r.reach(StageParse)
}

func (r *Record) lookup(e *Engine, id conntrack.ID, dir conntrack.Dir) {
	r.reach(StageLookup)
	r.Conn, r.Dir = id, dir
	if id != conntrack.None {
		r.path(e, e.table.Conn(id))
	}
}

func (r *Record) path(e *Engine, c *conntrack.Conn) {
	pi := &e.paths[c.Path]
	r.Service, r.Backend = pi.key.service, pi.key.backend
	r.Mode = pi.key.mode
	if pi.pool != nil {
		r.PortsFree, r.PortsAll = pi.pool.Free(), pi.pool.Size()
	}
}

func (r *Record) service(svc *service) {
	r.reach(StageService)
	r.Service = svc.Name
}

func (r *Record) pick(svc *service, chosen int) {
	r.reach(StageSchedule)
	r.Scheduler = svc.Scheduler.String()
	for i, b := range svc.Backends {
		r.Candidates = append(r.Candidates, Candidate{Name: b.Name, Addr: svc.addrs[i], Port: b.Port, Weight: b.Weight,
			Active: svc.backends[i].Active.Load(), Chosen: i == chosen})
	}
}

func (r *Record) translate(e *Engine, c *conntrack.Conn, id conntrack.ID, dir conntrack.Dir) {
	r.reach(StageTranslate)
	r.NewConn = r.Conn == conntrack.None
	r.Conn, r.Dir, r.State = id, dir, c.State
	r.path(e, c)
}

// wrapped notes the headers of a packet that was wrapped: overhead bytes were put in front of it.
func (r *Record) wrapped(p *wire.Packet, overhead int) {
	outer := wire.Packet{Frame: p.Frame}
	if outer.ParseLink() != wire.ReasonNone || outer.ParseNetwork() != wire.ReasonNone ||
		outer.Frag != wire.Whole {
		return
	}
	r.Outer.read(&outer)
	inner := *p
	inner.L3, inner.L4 = inner.L3+overhead, inner.L4+overhead
	r.After.read(&inner)
}

// finish ends the record and hands it over.
func (r *Record) finish(e *Engine, p *wire.Packet, hop neigh.ID) {
	r.Verdict, r.Reason = p.Verdict, p.Reason
	switch {
	case hop != neigh.None:
		r.reach(StageMTU)
		r.reach(StageNextHop)
		leg := &e.snap.legs[e.neigh.Leg(hop)]
		r.Out, r.MTU, r.NextHop = leg.Name, leg.MTU, e.neigh.Addr(hop)
		if r.Outer.Version == 0 {
			r.After.read(p)
		}
		if mac := e.neigh.Peek(hop); mac != nil && r.Verdict == wire.Transmit {
			r.After.DstMAC, r.After.SrcMAC = *mac, leg.MAC // of all frames that the packet has become
			if r.Outer.Version != 0 {
				r.Outer.DstMAC, r.Outer.SrcMAC = *mac, leg.MAC
			}
		}
	case p.Verdict == wire.Consume && p.Reason != wire.NeighborLearned:
		r.reach(StageAnswer)
		r.Out = e.snap.legs[p.Leg].Name
		r.After.read(p)
	}
	e.trace(r)
}
