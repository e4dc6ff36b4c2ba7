// Package wire holds what a frame is made of: header views, the parsed Packet with its offload metadata, flows,
// checksum arithmetic and the closed list of reasons.
//
// Contract: Parse checks a frame once; after it succeeded no accessor of the packet reads outside the frame. Nothing
// here allocates, reads a clock or keeps state. The package does not know connections, services or devices.
//
// RFC 791 and 8200 (IP), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP), 826 (ARP), 4861 (neighbour discovery), 1071 and
// 1624 (checksums), IEEE 802.1Q (tags); struct virtio_net_hdr of linux/virtio_net.h (offload metadata).
package wire
