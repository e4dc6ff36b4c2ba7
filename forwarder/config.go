package forwarder

import (
	"net/netip"
	"time"

	"naru/sched"
)

// Mode is how packets of a service reach its backends.
type Mode uint8

// The modes.
const (
	FullNAT Mode = iota // source and destination are rewritten, replies come back through naru
	NAT                 // the destination is rewritten, replies are routed back through naru
	L2DSR               // the destination MAC is rewritten, the backend answers the client itself
	L3DSR               // the packet travels routed or in a tunnel, the backend answers the client itself
)

var modeNames = [...]string{FullNAT: "fullnat", NAT: "nat", L2DSR: "l2dsr", L3DSR: "l3dsr"}

// String returns the mode as the configuration has it.
func (m Mode) String() string { return modeNames[m] }

// Encap is how an L3DSR backend learns which VIP a packet was for.
type Encap uint8

// The encapsulations.
const (
	EncapDSCP Encap = iota // the packet is routed to the backend, its DSCP names the VIP
	EncapIPIP              // the packet travels whole in another IP packet (RFC 2003, RFC 2473, RFC 4213)
	EncapGUE               // the packet travels whole in a UDP datagram (draft-ietf-intarea-gue)
)

var encapNames = [...]string{EncapDSCP: "dscp", EncapIPIP: "ipip", EncapGUE: "gue"}

// String returns the encapsulation as the configuration has it.
func (e Encap) String() string { return encapNames[e] }

// L3DSROptions are the keys of mode L3DSR.
type L3DSROptions struct {
	Encap   Encap
	DSCP    uint8  // 1 to 63, for EncapDSCP
	Port    uint16 // destination port of EncapGUE
	Variant uint8  // 0: with a GUE header, 1: the IP packet directly behind UDP
	// Source4 and Source6 are where outer packets come from: an address, or a prefix over which flows are spread so that
	// receive-side scaling works at the backend. The family used is the backend's.
	Source4, Source6 netip.Prefix
}

// Echo says what an echo request to a VIP gets.
type Echo uint8

// The answers to an echo request.
const (
	EchoAnswer Echo = iota // naru answers
	EchoPass               // the kernel gets it
	EchoDrop               // nobody gets it
)

// Reject says what a packet gets that nobody serves.
type Reject uint8

// The answers to an unserved packet.
const (
	RejectRST  Reject = iota // RST for TCP, port unreachable for everything else
	RejectICMP               // port unreachable for everything
	RejectDrop               // nothing
)

// Midstream says what a TCP segment gets that is no SYN and belongs to no connection.
type Midstream uint8

// The answers to a midstream segment.
const (
	MidstreamReject Midstream = iota // a RST
	MidstreamDrop                    // nothing
	MidstreamPickup                  // a connection is made as if it had been seen from its start
)

// Timeouts are the idle times after which a connection ends, by its state.
type Timeouts struct {
	TCPSyn, TCPEstablished, TCPClosing time.Duration
	UDP, UDPUnreplied                  time.Duration
}

// PortRange is an inclusive range of ports; the zero value is no range, {0, 65535} is "any".
type PortRange struct{ Lo, Hi uint16 }

// Contains reports whether p lies in the range.
func (r PortRange) Contains(p uint16) bool { return r.Lo <= p && p <= r.Hi }

// Config is what the director knows and the engine needs: the configuration, and the state of this host's interfaces,
// routes and neighbours. Compile turns it into a Snapshot.
type Config struct {
	Legs      []Leg // the index is wire.Frame.Leg
	VIPs      []VIP // every VIP of a service must be listed
	Services  []Service
	Routes    []Route
	Neighbors []Neighbor

	// HashKey is the key of what schedulers hash, the same on all nodes that shall choose alike; nil: drawn from the seed.
	HashKey *[16]byte

	// HostAddrs are the addresses that this host's kernel holds on any interface: what is addressed to them is not
	// routed on in mode NAT.
	HostAddrs []netip.Addr

	Limits Limits
}

// Leg is one interface of the balancer.
type Leg struct {
	Name    string
	MAC     [6]byte
	MTU     int            // bytes of an IP packet
	Addrs   []netip.Prefix // the kernel's own addresses on the interface, with their prefix length
	Client  bool           // clients are reached by it: VIPs are answered for and announced on it
	Backend bool           // backends are reached by it: local addresses are answered for on it
}

// VIP is an address that services have.
type VIP struct {
	Addr   netip.Addr
	Shared bool   // owner: shared: only the services' ports are ours
	Reject Reject // for ports without a service
	Echo   Echo
}

// Service is a VIP, a protocol and ports, and the backends behind them.
type Service struct {
	Name      string
	VIP       netip.Addr
	Proto     uint8 // wire.ProtoTCP or wire.ProtoUDP
	Ports     []PortRange
	Mode      Mode
	Scheduler sched.Kind
	Choice
	Backends []Backend

	L3DSR L3DSROptions

	// Full NAT.
	Locals         []Local
	SourcePorts    PortRange
	KeepClientPort bool
	PortRest       time.Duration

	Timeouts  Timeouts
	Reject    Reject // no backend, no port, midstream reject
	Midstream Midstream
	OnIdle    OnIdle
	OnDownTCP OnDownTCP
	OnDownUDP OnDownUDP
}

// Local is a source address that full NAT uses towards backends.
type Local struct {
	Addr netip.Addr
	// Kernel says that this host's kernel holds the address: it answers ARP for it and owns its other ports.
	Kernel bool
}

// OnIdle says how a TCP connection ends that was idle for its time.
type OnIdle uint8

// The ends of idle TCP connections.
const (
	IdleSilent OnIdle = iota // nobody is told
	IdleReset                // both ends get a RST
)

// OnDownTCP says what becomes of TCP connections of a backend that is Down.
type OnDownTCP uint8

// The fates of TCP connections of a backend that is Down.
const (
	DownTCPReset      OnDownTCP = iota // both ends get a RST
	DownTCPKeep                        // they go on as if nothing had happened
	DownTCPReschedule                  // the next packet of the client is given to another backend, as a new one
)

// OnDownUDP says what becomes of UDP connections of a backend that is Down.
type OnDownUDP uint8

// The fates of UDP connections of a backend that is Down.
const (
	DownUDPRehash OnDownUDP = iota // the next packet of the client is given to another backend, as a new one
	DownUDPDrop                    // packets are dropped until the connection has been idle for its time
)

// State is whether a backend is in service.
type State uint8

// The states of a backend.
const (
	Up       State = iota // gets new connections
	Draining              // gets no new connections, the old ones go on
	Down                  // does not work: gets no new connections, the old ones have the fate of Service.OnDown*
	Disabled              // gets no new connections, the old ones are ended
)

// String returns the word of the output.
func (s State) String() string { return [...]string{"up", "draining", "down", "disabled"}[s] }

// FullShare is the share of a backend in full service.
const FullShare = 1 << 16

// Backend is one server of a service. Connections follow the name.
type Backend struct {
	Name   string
	Addr   netip.Addr
	Port   uint16 // 0: the client's destination port is kept
	Weight uint32 // 0 drains
	State  State
	// Share is how much of its weight a backend gets while it starts slowly, of FullShare; 0 means all of it.
	Share uint32
	// MaxConnections is the most connections that it gets; 0: no limit.
	MaxConnections int
	// Backup says that it gets connections only while no other backend can take one.
	Backup bool
	// MTU is the longest IP packet that the path to the backend carries, outer header included; 0: that of the leg.
	MTU int
}

// Route is one entry of the routing table. The longest prefix wins, among equals the first.
type Route struct {
	Prefix  netip.Prefix
	Leg     int        // index into Config.Legs; -1: this route leads nowhere we can send
	Gateway netip.Addr // the zero Addr: on-link
}

// Neighbor is one entry of the kernel's neighbour table or a static one.
type Neighbor struct {
	Leg    int
	Addr   netip.Addr
	MAC    [6]byte
	Static bool // never asked for again
}
