// Package afpacket is the device over Linux packet sockets (packet(7)).
//
// Contract: it is a tap before the kernel's own stack and before nftables ingress (ETH_P_ALL), it does not see what
// this host sends (PACKET_IGNORE_OUTGOING), and it never turns promiscuous mode on. The virtio header of every frame
// (PACKET_VNET_HDR: unfinished checksums and super-frames) is carried in wire.Offload both ways, a VLAN tag that the
// kernel took out of the bytes in Frame.TPID and TCI. Frames are received from a ring that the kernel writes to, or by
// recvmmsg, and sent straight from the buffer they are in, in batches by sendmmsg, a lone one by sendto; nothing is
// allocated per frame.
//
// A frame is sent around the queueing discipline (PACKET_QDISC_BYPASS) unless it is a super-frame that the interface
// cannot cut itself; that one takes the way through the queueing discipline, where the kernel cuts it. Frames stay in
// order over both ways.
//
// Open uses the network namespace of the calling thread; afterwards the device may be used from any thread. What the
// package does not do: it does not keep the kernel from handling the same frames, it does not look into packets, and
// it does not wait (NewSet does).
//
// struct virtio_net_hdr: linux/virtio_net.h; struct tpacket_auxdata, PACKET_*: linux/if_packet.h; offload features:
// linux/ethtool.h.
package afpacket
