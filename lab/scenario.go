package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// Options are the variants of a scenario. The zero value is the scenario as it is documented.
type Options struct {
	NoNaru        bool `json:"no_naru,omitempty"`        // the network and the servers only
	FreePool      bool `json:"free_pool,omitempty"`      // a source pool that no kernel holds
	NoSegment     bool `json:"no_segment,omitempty"`     // tso off gso off on the director's interfaces
	NoChecksum    bool `json:"no_checksum,omitempty"`    // tx off on the client's and the servers' interfaces
	MacvlanLegs   bool `json:"macvlan_legs,omitempty"`   // the director's interfaces are macvlan
	NoForwarding  bool `json:"no_forwarding,omitempty"`  // the director's kernel does not route
	RecordPackets bool `json:"record_packets,omitempty"` // naru run writes its decision records
	PathMTU       int  `json:"path_mtu,omitempty"`       // of a cable in the middle of the path to the backends
	CrossFamily   bool `json:"cross_family,omitempty"`   // the tunnels' outer headers are of the other IP version
}

// Scenario is one lab that can be built: its network, the configuration of naru in it, what it must do.
type Scenario struct {
	Name    string
	Summary string // one line for lists
	Drawing string // the network in ASCII, at most 100 columns
	Mode    Mode

	// Topology returns the network for the options.
	Topology func(Options) Topology

	// Config returns naru's configuration (YAML) for the options and the path of its admin socket.
	Config func(o Options, socket string) string

	// Client and Director are the names of the nodes that traffic comes from and that naru runs in, Router is the one
	// that asks for the VIP's MAC address.
	Client, Director, Router string

	// ClientSide and BackendSide are the interfaces of other nodes that are cabled to the director's: what naru sends is
	// seen there, since its own sockets bypass the taps of its own interfaces. With one arm they are the same.
	ClientSide, BackendSide End

	VIP4, VIP6   netip.Addr
	Pool         func(Options) []netip.Addr // the source pool of full NAT; nil where backends see the client itself
	Backends     []string                   // node names, in the order of the configuration
	PortLo       uint16                     // first and last source port of full NAT towards the backends
	PortHi       uint16
	UnservedPort uint16 // a port of the VIPs without a service

	// Via4 and Via6 are the director's addresses towards the backends, in mode nat their default gateway.
	Via4, Via6 netip.Addr

	// Variants are the ways to build the scenario that Test tries, with what must hold in each.
	Variants func() []Variant
}

// Mode is a way across naru, as its configuration calls it.
type Mode string

// The modes; those of L3DSR with what tells the backend the VIP.
const (
	ModeFullNAT Mode = "fullnat"
	ModeNAT     Mode = "nat"
	ModeL2DSR   Mode = "l2dsr"
	ModeDSCP    Mode = "l3dsr by dscp"
	ModeIPIP    Mode = "l3dsr by ipip"
	ModeGUE     Mode = "l3dsr by gue"
)

// direct reports whether backends answer the client themselves.
func (m Mode) direct() bool { return m != ModeFullNAT && m != ModeNAT }

// tunnel reports whether packets travel whole inside others.
func (m Mode) tunnel() bool { return m == ModeIPIP || m == ModeGUE }

// scenarios are all scenarios, in the order of lists.
func scenarios() []*Scenario {
	return []*Scenario{fullNAT(), nat(), l2dsr(), l3dsr(ModeDSCP), l3dsr(ModeIPIP), l3dsr(ModeGUE), remote()}
}

// Scenarios returns all scenarios, in the order of lists.
func Scenarios() []*Scenario { return scenarios() }

// FindScenario returns the scenario of that name. The error names those that exist.
func FindScenario(name string) (*Scenario, error) {
	var names []string
	for _, s := range scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return nil, fmt.Errorf("lab: no scenario %q; there is: %s", name, strings.Join(names, ", "))
}
