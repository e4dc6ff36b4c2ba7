// Package explain asks an engine what it would do with a packet.
//
// Contract: Parse reads a packet that a person wrote, in one line; Frame makes its bytes for a configuration, with right
// checksums and the MAC addresses that it would come with. A Bench is an engine in memory, without devices, that is asked
// with the time as an argument: the same configuration, seed and packets give the same answers.
//
// It opens no interface and sends nothing. It does not know the command line; internal/record makes the words.
//
// The words of a packet, after the protocol (tcp, udp or icmp), the two ends and ">" between them:
//
//	syn ack fin rst psh urg   flags of TCP, also joined (syn-ack) or as tcpdump writes them ([S.]); syn unless told
//	seq N, ack N, window N, mss N   of TCP; ack with a number sets the flag too
//	ttl N, dscp N, id N, df, nodf   of the IP header; 64, 0, 0, df for TCP and nodf for all else unless told
//	payload N, len N          bytes behind the transport header, or of the whole IP packet
//	echo, reply               ICMP echo request, which is what icmp is unless told, and its reply
//	unreachable net|host|port, ttl-exceeded, too-big MTU   ICMP errors, with "about" and the packet that they quote
//	in LEG                    the interface that it comes in by; unless told, the one that leads to its source
package explain
