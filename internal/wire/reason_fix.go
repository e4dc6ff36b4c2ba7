package wire

// Fix says in one sentence what an operator can do about a reason; empty where nothing is wrong. Advice says what the reason
// means; docs/counters.md has both.
func (r Reason) Fix() string { return fixes[r] }

var fixes = [NumReasons]string{
	RejectedRST:      "if it should be served: add a service for the port; late segments end by themselves",
	RejectedICMP:     "if it should be served: add a service for the port and protocol",
	HopLimitAnswered: "if it is no traceroute: look for routers that send the VIP back and forth",
	PathMTULearned:   "none needed; backends[].mtu saves the errors",
	TooBigAnswered:   "none needed; senders that follow the path MTU send less from now on",

	TupleClashAnswered:  "give each service its own backend port, or use mode fullnat",
	NoBackendAnswered:   "mend a backend, give one a weight, or add one",
	BackendFullAnswered: "raise max_connections of the backends, add one, or let on_backend_full say overflow",
	ServiceFullAnswered: "raise max_connections of the service",
	PortsExhaustedAnswered: "add addresses to nat.source_pool or widen nat.source_ports; more backends, or backend ports, " +
		"share the ports out",

	FrameTruncated: "find the host by its MAC address",
	Loop:           "look for two bridges in a circle, and for a second host with naru's MAC address",
	IPMalformed:    "find the sender by its MAC address: tcpdump -e on the interface",
	IPChecksum:     "look at the error counters of the switches and cables on the way: ethtool -S",
	ExtUnsupported: "let the sender leave out routing headers and home addresses",
	Fragment:       "look for the reason of the datagram's first fragment; send pings that fit the MTU",

	FragmentMalformed: "filter the sender, if there are many",
	FragmentTiny:      "filter the sender",
	FragmentOverlap:   "look for a link that doubles packets; else filter the sender",
	FragmentFlood:     "find the loss on the way from this sender, or filter it",
	FragmentLost:      "find the loss on the way; lower the sender's MTU so that it need not fragment",

	ARPMalformed:  "find the sender by its MAC address",
	NDMalformed:   "find the sender by its MAC address",
	TCPMalformed:  "filter the sender, if there are many",
	UDPMalformed:  "filter the sender, if there are many",
	ICMPMalformed: "filter the sender, if there are many",
	ICMPChecksum:  "look at the error counters on the way, if there are many",
	TCPFlags:      "filter the sender, if there are many",
	MartianSource: "filter at the edge; look whether naru's own addresses are used elsewhere",
	ProtoUnknown:  "call the service by TCP or UDP, or let another address carry this protocol",
	ICMPNoConn:    "none needed while there are few",
	NoConnection:  "if there are many: do the backends answer later than the timeouts allow?",
	NoService:     "add a service for the port, or say reject: rst so that clients hear of it",
	MidstreamTCP:  "midstream: pickup takes such connections over; timeouts.tcp_established keeps idle ones longer",
	TupleClash:    "give each service its own backend port, or use mode fullnat",
	Hairpin:       "use mode fullnat for clients that are backends; else put the VIP on the backend's lo: naru backend setup",
	BackendDown:   "mend the backend, or enable it; on_backend_down says what becomes of its connections",
	NoBackend:     "mend a backend, give one a weight, or add one",
	BackendFull:   "raise max_connections of the backends, add one, or let on_backend_full say overflow",
	ServiceFull:   "raise max_connections of the service",
	PortsExhausted: "add addresses to nat.source_pool or widen nat.source_ports; more backends, or backend ports, " +
		"share the ports out",
	TableFull:       "raise node.connections, or lower the timeouts",
	HopLimit:        "look for routers that send the VIP back and forth",
	TooBig:          "let ICMP errors reach the sender, or lower its MTU",
	NoRoute:         "ip route get ADDRESS: the route must leave by one of naru's interfaces; in l2dsr without a router",
	NeighUnresolved: "is the next hop up, and on this segment? naru backend doctor SERVICE/BACKEND",
	NeighFull:       "put a router between naru and so many hosts",
	RateLimited:     "find who is answered so often: naru trace --verdict consume",
	HandoverFull:    "more workers, or filter who sends so many fragments; lower their sender's MTU",
	CannotSegment:   "ethtool -K the sending interface: gso off, tso off",
}
