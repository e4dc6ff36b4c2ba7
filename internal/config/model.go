package config

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is a validated configuration with every default filled in. Load makes it; nobody changes it.
type Config struct {
	File       string // as given on the command line; "-" for standard input
	Node       Node
	Interfaces []Interface
	IO         IO
	Fence      string // "nft" or "none"
	Log        Log
	Admin      Admin
	VIPs       []VIP // every VIP of a service, listed or not, in order of first appearance
	Neighbors  []Neighbor
	Services   []Service

	places map[string]Position
}

// Node is the machine and the size of what naru keeps.
type Node struct {
	Name        string // empty: the host's name
	Workers     int    // 0: auto
	CPUs        CPUs
	Connections int // capacity of the connection tables, over all workers
	Limits      Limits
	HashKeyFile string // absolute; empty: the key is drawn at start
	HashKey     *[16]byte
}

// CPUs says which processors the workers run on: those of the list, the i-th for the i-th worker; with Auto naru chooses;
// else none is bound to any.
type CPUs struct {
	Auto bool
	List []int
}

// Interface is one leg.
type Interface struct {
	Name string
	Side string // "client", "backend" or "both"
}

// IO is how packets get in and out, on all interfaces alike.
type IO struct {
	Driver    string        // "auto", "ring", "mmsg" or "xdp"
	RingSlots int           // frames that may wait in a ring
	Batch     int           // frames that move at once
	Spin      time.Duration // how long to look for frames before a sleep, after work
	BusyPoll  bool          // never sleep
}

// Log says what is written down of connections.
type Log struct {
	Flows     string // "off", "file" or "syslog"
	FlowsFile string // absolute; with Flows "file"
	FlowsRate int    // lines a second at most
}

// Admin is the socket for commands.
type Admin struct{ Socket string }

// VIP is an address and who owns it.
type VIP struct {
	Address netip.Addr
	Owner   string // "naru" or "shared"
	Reject  string // for ports without a service: "rst", "icmp" or "drop"
	Echo    string // for echo requests: "answer", "pass" or "drop"
}

// Neighbor is a static next hop.
type Neighbor struct {
	Address   netip.Addr
	MAC       [6]byte
	Interface string
}

// Ports is an inclusive range; "any" is 1-65535.
type Ports struct{ Lo, Hi uint16 }

// String returns the range as it is written in the file: 80, 8000-8099 or any.
func (p Ports) String() string {
	switch {
	case p == (Ports{1, 65535}):
		return "any"
	case p.Lo == p.Hi:
		return fmt.Sprint(p.Lo)
	}
	return fmt.Sprintf("%d-%d", p.Lo, p.Hi)
}

// Service is one load-balanced service.
type Service struct {
	Name      string
	VIP       netip.Addr
	Protocol  string // "tcp" or "udp"
	Ports     []Ports
	Mode      string // "fullnat", "nat", "l2dsr", "l3dsr"
	Scheduler string // the short name
	Choice
	NAT       NAT
	L3DSR     L3DSR
	Timeouts  Timeouts
	Reject    string // "rst", "icmp" or "drop"
	Midstream string // "reject", "drop" or "pickup"
	Health    Health
	Backends  []Backend

	OnIdle        string // "silent" or "rst"
	OnBackendDown OnBackendDown
}

// NAT are the keys of full NAT.
type NAT struct {
	SourcePool     []netip.Addr
	SourcePorts    Ports
	KeepClientPort bool
	PortRest       time.Duration
}

// L3DSR are the keys of mode l3dsr; the zero value in other modes.
type L3DSR struct {
	Encap   string // "dscp", "ipip" or "gue"
	DSCP    int    // 1 to 63 with dscp
	Port    uint16 // the destination port of gue
	Variant int    // 0 or 1, of gue
	// Source are where outer packets come from: at most one IPv4 and one IPv6 prefix, of one address or more. For a family
	// without one it is the address of the interface.
	Source []netip.Prefix
}

// Timeouts are the idle times by state.
type Timeouts struct {
	TCPSyn, TCPEstablished, TCPClosing, UDP, UDPUnreplied time.Duration
}

// Backend is one server of a service.
type Backend struct {
	Name    string
	Address netip.Addr
	Port    uint16 // 0: the client's destination port
	Weight  int
	// SlowStart is how long its share grows after it came into service; 0: it has all of it at once.
	SlowStart      time.Duration
	MaxConnections int  // 0: no limit
	Backup         bool // it gets connections while no other backend can take one
	MTU            int  // bytes of the longest packet that gets there; 0: the interface's
	// ProbeMTU says to find the longest packet that gets there while naru runs; MTU is 0 then.
	ProbeMTU bool
}
