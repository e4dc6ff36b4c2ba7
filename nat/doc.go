// Package nat translates packets of full NAT, and hands out the local ports that it needs.
//
// A connection of full NAT is two flows. With the client's C, the VIP's V, the local address L and the backend B:
//
//	original   C:c > V:v   becomes   L:l > B:b
//	reply      B:b > L:l   becomes   V:v > C:c
//
// Contract: functions on a parsed packet, in place, whole or not at all; checksums change by what changed (RFC 1624), so
// that one which was wrong stays wrong by the same amount, and an unfinished one stays unfinished. Nothing here knows the
// connection table, services or next hops, reads a clock or allocates for a packet.
//
// RFC 3022 (traditional NAT), RFC 5508 (ICMP), RFC 4787 and RFC 5382 (behaviour; docs/rfc.md), RFC 6056 (ports).
package nat
