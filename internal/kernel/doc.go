// Package kernel is what naru knows of the kernel it lives beside, and the only thing it changes there.
//
// Contract:
//
//   - Own takes the one place that a naru has in a network namespace; Holder names who has it.
//   - Fence keeps the kernel away from what naru owns: an nftables table of the netdev family that drops packets behind
//     the AF_PACKET taps (which see every frame before it) and before the kernel's own IP input. It drops nothing else:
//     ARP, neighbour discovery and ICMP to addresses that the kernel holds go on.
//   - Mirror is a picture of links, addresses, routes and neighbours, renewed when the kernel says that they change.
//   - LocalPortRange reads one sysctl. None is ever written.
//
// Everything works in the network namespace of the calling thread. The package does not know what an engine, a
// configuration file or a packet is. It needs CAP_NET_ADMIN for the fence; the mirror and the lock need nothing.
//
// Of the routing policy only the main table is mirrored, and of a multipath route only its first living next hop.
package kernel
