// Package pcapfilter reads filters in the language of pcap-filter(7), as tcpdump takes them, and applies them to Ethernet
// frames.
//
// Contract: a filter judges a frame as tcpdump judges the same frame of a file, to the same quirks: "and" and "or" bind
// equally and from left to right, a name without a keyword has those of the one before, ports are not looked for in later
// fragments or behind IPv6 extension headers, "vlan" shifts all that stands behind it, and a frame that ends before what
// is asked about does not fit, not even under "not". Compile is for when there is time; Match allocates nothing, takes
// bounded work and may be called by several goroutines at once.
//
// It has primitives of Ethernet, VLAN, ARP, IPv4, IPv6 and what they carry, and arithmetic on bytes. It looks up no names
// of hosts and networks, and has no protochain, gateway, mpls, pppoe, geneve, ip broadcast, nor other link types: those
// are refused by name.
package pcapfilter
