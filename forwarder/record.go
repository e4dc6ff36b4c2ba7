package forwarder

import (
	"encoding/binary"

	"naru/internal/conntrack"
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

	// Late says that this is the second record of a packet that was held. Before is the packet as it waited: for a next
	// hop, translated already. A fragment that waited in vain for its first one has no second record.
	Late bool

	// Flow names the connection, or the flow of a packet that belongs to none; 0 if it has none.
	Flow wire.FlowID

	// Frame is the beginning of the frame as it came, FrameLen its whole length in bytes and Offload what its device left
	// to do; Sent are the frames that left because of it. Engine.Keep says how much of a frame is kept; Frame and Sent
	// are empty when it is 0. All of it is valid during the call only.
	Frame    []byte
	FrameLen int
	Offload  wire.Offload
	Sent     []*wire.Frame

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
	Affinity   bool // the service sends a client to where it was sent before
	Mode       Mode // of the connection's service, or of the service that was found; means nothing without one
	Encap      Encap

	// Connections and Capacity tell how full the connection table was when it was asked.
	Connections, Capacity int

	// PortsFree and PortsAll tell how full the pool was that the local port is from.
	PortsFree, PortsAll int

	MTU     int       // of the leg it leaves by
	Room    int       // the longest packet that fits, as it came: MTU less what a tunnel adds, or what the path is known for
	Longest int       // of the packets that it becomes on the wire, as they came
	NextHop wire.Addr // whose MAC address it gets

	keep   int // bytes of a frame that are kept
	pieces int // frames that it has become
}

// ModeName returns the mode in a word, with the encapsulation where it has one, as "l3dsr/gue"; empty without a service.
func (r *Record) ModeName() string {
	switch {
	case r.Service == "":
		return ""
	case r.Mode == L3DSR:
		return r.Mode.String() + "/" + r.Encap.String()
	}
	return r.Mode.String()
}

// Stage names a part of the packet's way.
type Stage uint8

// The stages.
const (
	StageParse Stage = iota
	StageLookup
	StageService
	StageSchedule
	StageSource
	StageRoute
	StageMTU
	StageTranslate
	StageNextHop
	StageAnswer
	numStages
)

var stageNames = [numStages]string{"parse", "lookup", "service", "schedule", "source", "route", "mtu", "translate",
	"next hop", "answer"}

// String returns the stage in a word or two.
func (s Stage) String() string { return stageNames[s] }

// Candidate is a backend that the scheduler looked at.
type Candidate struct {
	Name   string
	Addr   wire.Addr
	Port   uint16
	Weight uint32
	State  State
	Share  uint32 // of the weight, of FullShare; 0 means all
	Active int64
	Max    int64 // most connections; 0: no limit
	Backup bool  // serves only while no other backend does
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
	Later            bool   // a later fragment, without a transport header
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
	if h.Later = p.Frag == wire.LaterFragment; !h.Later {
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
