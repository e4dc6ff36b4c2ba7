package lab

import "net/netip"

// fullNATVariants are the ways to build the scenario and what must hold in each.
func fullNATVariants() []Variant {
	s := fullNAT()
	all, small := fullNATChecks(s, true), fullNATChecks(s, false)
	return []Variant{
		{"offloads on", Options{}, all},
		{"tso off gso off on the director's interfaces", Options{NoSegment: true}, all},
		{"tx off at the client and the servers: finished checksums", Options{NoChecksum: true}, small},
		{"a source pool that nobody holds", Options{FreePool: true}, all},
		{"the director's interfaces are macvlan", Options{MacvlanLegs: true}, ownershipChecks(s)},
	}
}

// fullNATChecks are all assertions, or all without the largest transfer. Those that look back at the run come last.
func fullNATChecks(s *Scenario, large bool) []check {
	checks := []check{{"www.naru.test resolves in the client's node", resolves, false}}
	for _, vip := range s.vips() {
		checks = append(checks, over(vip, []check{
			{"ping to the VIP is answered", pings(vip), false},
			{"the VIP's neighbour is naru", ownedByDirector(vip), false},
			{"backends see naru's address", sees(vip), false},
			{"round robin is exact", roundRobin(vip), false},
			{"one connection stays on one backend", keepAlive(vip), false},
			{"many clients at a time", parallel(vip), false},
			{"an upload arrives unchanged", upload(vip), false},
			{"a half-closed connection still answers", halfClose(vip), false},
			{"UDP answers come from the VIP", echoes(vip), false},
			{"TCP to a port without a service", refusedTCP(vip), false},
			{"UDP to a port without a service", refusedUDP(vip), false},
			{"a packet that has travelled too far", hopLimit(vip), false},
		})...)
		if large {
			checks = append(checks, over(vip, []check{{"a download arrives unchanged", download(vip), false}})...)
		}
	}
	return append(checks, lookBackChecks()...)
}

// ownershipChecks are the assertions about addresses: somebody must answer ARP and ND for them.
func ownershipChecks(s *Scenario) []check {
	var checks []check
	for _, vip := range s.vips() {
		checks = append(checks, over(vip, []check{
			{"ping to the VIP is answered", pings(vip), false},
			{"the VIP's neighbour is naru", ownedByDirector(vip), false},
			{"backends see naru's address", sees(vip), false},
		})...)
	}
	return append(checks, lookBackChecks()...)
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

func lookBackChecks() []check {
	return []check{
		{"the director's own address still answers ping", pings(netip.MustParseAddr("200.100.50.2")), true},
		{"the director's own IPv6 address too", pings(netip.MustParseAddr("2001:db8:50::2")), true},
		{"the client got packets from the VIPs only", onlyVIPs, true},
		{"every checksum was right", checksumsRight, true},
		{"the director's kernel stayed out of it", kernelStayedOut, true},
		{"naru still runs", stillRuns, true},
	}
}
