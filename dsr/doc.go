// Package dsr hands packets on so that the backend answers the client itself (direct server return).
//
// Every mode ends with Redirect, which gives a frame new Ethernet addresses; for L2DSR that is the whole translation.
// L3DSR by DSCP is Mark: the packet goes to the backend's address and its DSCP names the VIP. L3DSR by tunnel is Wrap:
// the packet travels whole in another one, IP in IP or GUE. A tunnel takes only what is finished, because no offload
// metadata describes a packet within a packet: Finish completes a checksum, a Segmenter cuts a super-frame as the kernel
// does. A Fragmenter cuts what does not fit, and Quoted reads what a router quotes of a tunnel's packet.
//
// Contract: functions on parsed packets and on bytes, in place or into memory of the caller; nothing is written outside
// of it, whatever the packet and its offload metadata say. Nothing here knows connections, services or next hops, decides
// whether a packet fits, sends an ICMP error, reads a clock or allocates.
//
// What the specifications leave open is decided so:
//   - The outer header has TTL or hop limit 64, the inner one's DSCP and ECN (RFC 6040, normal mode), and no options.
//   - The outer DF is the inner one's; an inner IPv6 packet gives DF (RFC 2003 3.1, RFC 4213 3.2). With DF the outer
//     identification is 0, without it the caller's (RFC 6864).
//   - UDP of GUE has the checksum 0 over IPv4 (RFC 768). Over IPv6 it is computed over the whole packet, although a tunnel
//     may do without (RFC 6935, RFC 6936): Linux refuses a zero there unless it is told otherwise.
//   - At most 32 bits of the flow hash leave the machine: as outer source address, source port and flow label (RFC 6438).
//   - Later IPv4 fragments have only the options that must be copied, without the gaps of the others (RFC 791).
//   - Segments count the IPv4 identification up, with DF too, and only the first has CWR, as Linux has it without the
//     knowledge that an identification was fixed, which offload metadata does not carry.
//
// RFC 894 and 2464 (Ethernet), RFC 2474 (DSCP), RFC 2003, 2473 and 4213 (IP in IP), draft-ietf-intarea-gue (GUE), RFC 6040
// (ECN in tunnels), RFC 6864 (identification), RFC 791 and 8200 4.5 (fragments), RFC 2473 7.1 (fragmented tunnel packets).
package dsr
