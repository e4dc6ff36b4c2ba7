// Package backend is the backend's half of naru: what a backend needs in a mode, a decapsulator for backends whose
// kernel has none, and a doctor that asks a backend along the real data path.
//
// Contract:
//
//   - NewPlan says what a backend needs as a list of steps, each with its reason, its commands and its undo. Apply and
//     Undo do the same through netlink, nftables and sysctl files, only on the machine that holds the backend's address,
//     and change nothing that is already as it should be.
//   - Decap takes the outer headers off and hands the inner packets to this kernel by a TUN device.
//   - Doctor sends a few packets of its own, from an address of this host, and reports what it saw. It leaves nothing
//     behind: its sockets and its nftables table end with the process, and it resets the connections that it began.
//
// Everything works in the network namespace of the calling thread and needs CAP_NET_ADMIN, Decap and Doctor CAP_NET_RAW
// too. The package reads no configuration file and does not know the engine.
//
// Not done: rules against connection tracking on the backend, which sees both directions of every connection once the
// packet is unwrapped (a stateful firewall between the backend and the client sees replies only, and must be told to let
// them pass); IPv6 has no arp_ignore because Linux answers neighbour solicitations only for addresses of the interface
// that they came in by.
//
// RFC 2003, 2473, 4213 (IP in IP), draft-ietf-intarea-gue (GUE), RFC 6040 (ECN in tunnels), RFC 6935 (UDP checksum zero
// over IPv6), RFC 2474 (DSCP), RFC 826 and 4861 (neighbours), RFC 792 and 4443 (ICMP).
package backend
