package wire

// Verdict is what happened to a packet.
type Verdict uint8

// The verdicts. The zero value is the safe one.
const (
	Drop     Verdict = iota // nobody gets it from us
	Pass                    // not ours: the kernel deals with it
	Consume                 // answered or used by us
	Transmit                // rewritten and sent
	Held                    // kept until its next hop is known; becomes Transmit or Drop
)

var verdictNames = [...]string{Drop: "drop", Pass: "pass", Consume: "consume", Transmit: "transmit", Held: "held"}

// String returns the verdict in lower case.
func (v Verdict) String() string { return verdictNames[v] }

// Reason is the one name for why a packet was not transmitted. Transmit goes with ReasonNone.
type Reason uint8

// The reasons, in the order of the packet's way. Each belongs to one verdict; docs/counters.md says what to do.
const (
	ReasonNone Reason = iota

	// Pass.
	NotOurMAC      // a unicast frame to another MAC address
	Multicast      // a multicast or broadcast frame that is no question to us
	NotIP          // an EtherType that we do not speak
	NotOurAddress  // neither a VIP nor a local address
	NotOurQuestion // ARP or neighbour discovery about somebody else
	NotOurPort     // a port that is the kernel's, on an address that it holds
	EchoPassed     // an echo request to a VIP that the kernel shall answer

	// Consume.
	ARPAnswered      // an ARP question for an address of ours
	NDAnswered       // a neighbour solicitation for an address of ours
	NeighborLearned  // an answer to a question of ours
	EchoAnswered     // an echo request to a VIP
	RejectedRST      // nobody serves it: RST sent
	RejectedICMP     // nobody serves it: ICMP error sent
	HopLimitAnswered // time exceeded sent
	PathMTULearned   // a router tells the MTU of the way to a tunnel's end
	TooBigAnswered   // fragmentation needed or packet too big sent

	// Consume: a new connection was refused with an RST or an ICMP error; without an answer it is the drop of that name.
	TupleClashAnswered
	NoBackendAnswered
	BackendFullAnswered
	ServiceFullAnswered
	PortsExhaustedAnswered

	// Drop.
	FrameTruncated // the frame ends within a header of layer 2
	Loop           // our own MAC address as the source
	IPMalformed    // version, header length or total length wrong
	IPChecksum     // the IPv4 header checksum is wrong
	ExtUnsupported // an IPv6 extension header that cannot be translated, or too many of them
	Fragment       // an IP fragment

	// Drop, of fragments.
	FragmentMalformed // its place or length cannot be
	FragmentTiny      // a first one that does not have all headers
	FragmentOverlap   // of what came already, or of an IPv6 datagram in which fragments overlapped
	FragmentFlood     // of too many datagrams under way, or no room to hold it
	FragmentLost      // it was held, but the first one did not come

	// Drop.
	ARPMalformed    // an ARP packet that breaks RFC 826
	NDMalformed     // neighbour discovery that breaks RFC 4861 (hop limit, checksum, options)
	TCPMalformed    // the TCP header is cut or lies
	UDPMalformed    // the UDP header is cut or lies
	ICMPMalformed   // the ICMP header or the quoted packet is cut
	ICMPChecksum    // the ICMP checksum is wrong
	TCPFlags        // a combination of flags that no connection has
	MartianSource   // a source address that cannot be
	ProtoUnknown    // a protocol that no service can have, to an address of ours
	ICMPIgnored     // an ICMP message that needs no answer
	ICMPNoConn      // an ICMP error that quotes a packet of no connection
	NoConnection    // to a local address, but of no connection
	NoService       // nobody serves it, and it is a RST or reject says drop
	MidstreamTCP    // TCP without a connection that does not start one
	TupleClash      // NAT: the backend has a connection with the same ports from another VIP or port
	Hairpin         // DSR: from a backend to its own VIP
	BackendDown     // of a connection whose backend is out of service
	NoBackend       // no backend may take a new connection
	BackendFull     // each backend, or the one chosen, has as many connections as it may have
	ServiceFull     // the service has as many connections as it may have
	PortsExhausted  // no local port is free towards the backend
	TableFull       // no room for a connection
	HopLimit        // TTL or hop limit used up, and no error may be sent
	TooBig          // longer than the next MTU, and no error may be sent
	NoRoute         // no route to the next hop by an interface of ours
	NeighUnresolved // the next hop does not answer
	NeighFull       // no room for another neighbour
	RateLimited     // an error would have been sent, but too many were
	HandoverFull    // for another worker, and no room in the ring that leads there
	CannotSegment   // a super-frame or fragment that cannot be cut

	NumReasons // the number of reasons, ReasonNone included
)

type reasonInfo struct {
	name    string
	verdict Verdict
	advice  string
}

var reasons = [NumReasons]reasonInfo{
	ReasonNone:     {"none", Transmit, ""},
	NotOurMAC:      {"not_our_mac", Pass, "normal on a bridge that floods or a promiscuous interface"},
	Multicast:      {"multicast", Pass, "normal"},
	NotIP:          {"not_ip", Pass, "normal: LLDP, spanning tree and the like"},
	NotOurAddress:  {"not_our_address", Pass, "normal: traffic of this host or routed by its kernel"},
	NotOurQuestion: {"not_our_question", Pass, "normal: the kernel answers for its own addresses"},
	NotOurPort:     {"not_our_port", Pass, "normal: traffic of this host"},
	EchoPassed:     {"echo_passed", Pass, "normal: vips[].echo says pass"},

	ARPAnswered:      {"arp_answered", Consume, "normal"},
	NDAnswered:       {"nd_answered", Consume, "normal"},
	NeighborLearned:  {"neighbor_learned", Consume, "normal"},
	EchoAnswered:     {"echo_answered", Consume, "normal: somebody pings a VIP"},
	RejectedRST:      {"rejected_rst", Consume, "a client asks for a port without a service, or a late segment came"},
	RejectedICMP:     {"rejected_icmp", Consume, "a client asks for a port without a service"},
	HopLimitAnswered: {"hop_limit_answered", Consume, "somebody runs traceroute, or there is a routing loop"},
	PathMTULearned:   {"path_mtu_learned", Consume, "normal where the path to a backend is narrower than the leg"},
	TooBigAnswered:   {"too_big_answered", Consume, "normal where the MTU of the legs differs"},

	TupleClashAnswered:     {"tuple_clash_answered", Consume, "as tuple_clash, and the client was told"},
	NoBackendAnswered:      {"no_backend_answered", Consume, "as no_backend, and the client was told"},
	BackendFullAnswered:    {"backend_full_answered", Consume, "as backend_full, and the client was told"},
	ServiceFullAnswered:    {"service_full_answered", Consume, "as service_full, and the client was told"},
	PortsExhaustedAnswered: {"source_ports_exhausted_answered", Consume, "as source_ports_exhausted, and the client was told"},

	FrameTruncated: {"frame_truncated", Drop, "a broken sender"},
	Loop:           {"loop", Drop, "a frame of ours came back, or another host has our MAC address"},
	IPMalformed:    {"ip_malformed", Drop, "a broken or hostile sender"},
	IPChecksum:     {"ip_checksum", Drop, "damage on the way, or a broken sender"},
	ExtUnsupported: {"ext_unsupported", Drop, "an IPv6 packet with a routing header still to go, a home address or a long chain of headers"},
	Fragment:       {"fragment", Drop, "of a datagram that was not forwarded, or of a protocol that is not followed in pieces (ICMP)"},

	FragmentMalformed: {"fragment_malformed", Drop, "a broken or hostile sender"},
	FragmentTiny:      {"fragment_tiny", Drop, "a hostile sender: no network needs fragments this short"},
	FragmentOverlap:   {"fragment_overlap", Drop, "a network that sends packets twice, or a hostile sender"},
	FragmentFlood:     {"fragment_flood", Drop, "one source leaves many datagrams unfinished: loss on the way, or a flood"},
	FragmentLost:      {"fragment_lost", Drop, "the first fragment was lost on the way, or came more than a second late"},

	ARPMalformed:  {"arp_malformed", Drop, "a broken or hostile neighbour"},
	NDMalformed:   {"nd_malformed", Drop, "a broken or hostile neighbour; discovery from beyond a router is refused"},
	TCPMalformed:  {"tcp_malformed", Drop, "a broken or hostile sender"},
	UDPMalformed:  {"udp_malformed", Drop, "a broken or hostile sender"},
	ICMPMalformed: {"icmp_malformed", Drop, "a broken or hostile sender"},
	ICMPChecksum:  {"icmp_checksum", Drop, "damage on the way, or a forged error"},
	TCPFlags:      {"tcp_flags", Drop, "a port scan"},
	MartianSource: {"martian_source", Drop, "a forged source address (RFC 2827), or one of naru's own"},
	ProtoUnknown:  {"proto_unknown", Drop, "services carry TCP and UDP only"},
	ICMPIgnored:   {"icmp_ignored", Drop, "normal"},
	ICMPNoConn:    {"icmp_no_connection", Drop, "a late or forged ICMP error"},
	NoConnection:  {"no_connection", Drop, "a late reply of a backend; normal below 1 %"},
	NoService:     {"no_service", Drop, "a port without a service, and no answer: it is a RST itself, or reject says drop"},
	MidstreamTCP:  {"midstream", Drop, "late segments, or connections from before a restart"},
	TupleClash: {"tuple_clash", Drop,
		"a client uses one port for two services that share a backend port: the backend could not tell them apart"},
	Hairpin:     {"hairpin", Drop, "a backend calls its own VIP, or has sent the VIP's packet back because it does not have the VIP"},
	BackendDown: {"backend_down", Drop, "of a connection whose backend is down or disabled"},
	BackendFull: {"backend_full", Drop,
		"every backend has its max_connections, or with on_backend_full: refuse the one chosen"},
	ServiceFull:    {"service_full", Drop, "the service has its max_connections"},
	NoBackend:      {"no_backend", Drop, "every backend of the service is down or has weight 0, or there is none"},
	PortsExhausted: {"source_ports_exhausted", Drop, "every local port towards the backend is in use"},
	TableFull:      {"table_full", Drop, "there is no room for another connection"},
	HopLimit:       {"hop_limit", Drop, "a routing loop, or traceroute faster than the rate limit"},
	TooBig:         {"too_big", Drop, "the sender ignores the path MTU"},
	NoRoute:        {"no_route", Drop, "there is no route to the next hop by one of naru's interfaces, in l2dsr one without a router"},
	NeighUnresolved: {"neigh_unresolved", Drop,
		"the next hop does not answer ARP or neighbour discovery"},
	NeighFull:     {"neigh_full", Drop, "too many neighbours on one segment"},
	RateLimited:   {"rate_limited", Drop, "somebody provokes many errors: a scan or a forged flood"},
	HandoverFull:  {"handover_full", Drop, "a flood of fragments, or a worker that is far behind"},
	CannotSegment: {"cannot_segment", Drop, "a device that lies about a super-frame, or more of them at once than there is room for"},
}

// String returns the name under which the reason is counted.
func (r Reason) String() string { return reasons[r].name }

// Verdict returns the verdict that the reason belongs to.
func (r Reason) Verdict() Verdict { return reasons[r].verdict }

// Advice says in a few words what the reason means for an operator.
func (r Reason) Advice() string { return reasons[r].advice }
