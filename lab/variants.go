package lab

import "net/netip"

// fullNATVariants are the ways to build the scenario and what must hold in each.
func fullNATVariants(s *Scenario) []Variant {
	all, small := allChecks(s, true), allChecks(s, false)
	return []Variant{
		{"offloads on", Options{}, all},
		{"tso off gso off on the director's interfaces", Options{NoSegment: true}, all},
		{"tx off at the client and the servers: finished checksums", Options{NoChecksum: true}, small},
		{"a source pool that nobody holds", Options{FreePool: true}, all},
		{"the director's interfaces are macvlan", Options{MacvlanLegs: true}, ownershipChecks(s)},
		{"a server calls its own VIP", Options{RecordPackets: true}, hairpinChecks(s)},
	}
}

// natVariants are those of the scenario nat.
func natVariants(s *Scenario) []Variant {
	all := append(allChecks(s, true), ownAddressChecks()...)
	return []Variant{
		{"offloads on", Options{}, all},
		{"finished checksums, tso off gso off at the director", Options{NoSegment: true, NoChecksum: true}, allChecks(s, false)},
		{"a server calls its own VIP", Options{RecordPackets: true}, hairpinChecks(s)},
		{"a server lacks what it needs", Options{}, doctorChecks(s)},
	}
}

// directVariants are those of the scenarios with direct server return.
func directVariants(s *Scenario) []Variant {
	variants := []Variant{
		{"offloads on", Options{}, allChecks(s, true)},
		{"finished checksums, tso off gso off at the director", Options{NoSegment: true, NoChecksum: true}, allChecks(s, false)},
		{"a server calls its own VIP", Options{RecordPackets: true}, hairpinChecks(s)},
		{"a server lacks what it needs", Options{}, doctorChecks(s)},
	}
	switch s.Mode {
	case ModeL2DSR:
		variants = append(variants, Variant{"the director's interface is macvlan", Options{MacvlanLegs: true},
			ownershipChecks(s)})
	case ModeDSCP:
		variants = append(variants, Variant{"a path of 1400 bytes, which the configuration tells",
			Options{PathMTU: 1400}, transferChecks(s)})
	default:
		variants = append(variants,
			Variant{"a path of 1400 bytes", Options{PathMTU: 1400}, transferChecks(s)},
			Variant{"the outer header is of the other IP version", Options{CrossFamily: true}, transferChecks(s)})
	}
	return variants
}

// remoteVariants are those of the scenario remote.
func remoteVariants(s *Scenario) []Variant {
	return []Variant{
		{"offloads on", Options{}, allChecks(s, false)},
		{"a path of 1400 bytes", Options{PathMTU: 1400}, transferChecks(s)},
		{"a server calls its own VIP", Options{RecordPackets: true}, hairpinChecks(s)},
	}
}

// allChecks are all assertions, or all without the largest transfers. Those that look back at the run come last.
func allChecks(s *Scenario, large bool) []check {
	checks := []check{{"www.naru.test resolves in the client's node", resolves, false}}
	for _, vip := range s.vips() {
		checks = append(checks, over(vip, []check{
			{"ping to the VIP is answered", pings(vip), false},
			{"the VIP's neighbour is naru", ownedByDirector(vip), false},
			{"backends see the right client", sees(vip), false},
			{"what changes in a packet", packets(vip), false},
			{"round robin is exact", roundRobin(vip), false},
			{"one connection stays on one backend", keepAlive(vip), false},
			{"many clients at a time", parallel(vip), false},
			{"an upload arrives unchanged", upload(vip, uploadBytes), false},
			{"a half-closed connection still answers", halfClose(vip), false},
			{"UDP answers come from the VIP", echoes(vip, 0, 1, 2, 511, 1400), false},
			{"datagrams in fragments too", echoes(vip, 8192, 2000, 20000, 100), false},
			{"the largest packet that passes", largest(vip), false},
			{"TCP to a port without a service", refusedTCP(vip), false},
			{"UDP to a port without a service", refusedUDP(vip), false},
			{"what passes naru of an answer", passes(vip), false},
		})...)
		if s.Mode != ModeL2DSR { // which keeps the TTL
			checks = append(checks, over(vip, []check{{"a packet that has travelled too far", hopLimit(vip), false}})...)
		}
		if large {
			checks = append(checks, over(vip, largeChecks(s, vip))...)
		}
	}
	return append(checks, lookBackChecks(s)...)
}

// largeChecks are the largest transfers. What the backend sends does not pass naru in direct server return; what it
// gets does.
func largeChecks(s *Scenario, vip netip.Addr) []check {
	checks := []check{{"a download arrives unchanged", download(vip), false}}
	if s.Mode.direct() {
		checks = append(checks, check{"a large upload arrives unchanged", upload(vip, downloadBytes), false})
	}
	return checks
}

// transferChecks are those that a path of another length or kind may break.
func transferChecks(s *Scenario) []check {
	var checks []check
	for _, vip := range s.vips() {
		checks = append(checks, over(vip, []check{
			{"backends see the right client", sees(vip), false},
			{"what changes in a packet", packets(vip), false},
			{"an upload arrives unchanged", upload(vip, uploadBytes), false},
			{"a download arrives unchanged", download(vip), false},
			{"UDP answers come from the VIP", echoes(vip, 0, 1, 2, 511), false},
			{"the largest packet that passes", largest(vip), false},
			{"datagrams in fragments too", echoes(vip, 8192, 2000, 20000, 100), false},
		})...)
	}
	return append(checks, lookBackChecks(s)...)
}

// ownershipChecks are the assertions about addresses: somebody must answer ARP and ND for them.
func ownershipChecks(s *Scenario) []check {
	var checks []check
	for _, vip := range s.vips() {
		checks = append(checks, over(vip, []check{
			{"ping to the VIP is answered", pings(vip), false},
			{"the VIP's neighbour is naru", ownedByDirector(vip), false},
			{"backends see the right client", sees(vip), false},
		})...)
	}
	return append(checks, lookBackChecks(s)...)
}

// hairpinChecks are those of a server that is its own client.
func hairpinChecks(s *Scenario) []check {
	var checks []check
	for _, vip := range s.vips() {
		checks = append(checks, over(vip, []check{
			{"a server calls its own VIP", hairpin(vip), false},
			{"and the client is still answered", sees(vip), false},
		})...)
	}
	return append(checks, check{"naru still runs", stillRuns, true})
}

// ownAddressChecks are those of servers that are called by their own addresses, past every VIP, though their replies
// come to naru. They come after those that look back, since the director's kernel forwards then.
func ownAddressChecks() []check {
	return []check{
		{"a server still answers under its own address", ownAddress(netip.MustParseAddr("10.10.10.1")), true},
		{"and under its IPv6 address", ownAddress(netip.MustParseAddr("2001:db8:10::1")), true},
	}
}

// over puts the IP version before what is asserted.
func over(vip netip.Addr, checks []check) []check {
	version := "IPv4 "
	if vip.Is6() {
		version = "IPv6 "
	}
	for i := range checks {
		checks[i].what = version + checks[i].what
	}
	return checks
}

func lookBackChecks(s *Scenario) []check {
	topology := s.Topology(Options{})
	director := topology.Node(s.Director)
	return []check{
		{"the director's own address still answers ping", pings(director.addr(true)), true},
		{"the director's own IPv6 address too", pings(director.addr(false)), true},
		{"the client got packets from the VIPs only", onlyVIPs, true},
		{"every checksum was right", checksumsRight, true},
		{"the director's kernel stayed out of it", kernelStayedOut, true},
		{"naru still runs", stillRuns, true},
	}
}
