// Package pcapfile reads and writes capture files.
//
// Contract of the reader: pcap in both byte orders, with micro- and nanoseconds, of version 2.0 and later, and pcapng with
// any number of sections, interfaces and resolutions, both also compressed with gzip. It reads a stream once, from front to
// end, so a pipe will do; memory is bounded by one packet of MaxPacket bytes and MaxInterfaces interfaces whatever a file
// claims. A file that ends in the middle of a packet gives ErrTruncated behind the packets before it, any other fault an
// Error with its place. Nothing in a file makes it panic or run longer than the file is long.
//
// AppendEthernet makes an Ethernet frame of a packet of another link type. The writer makes pcapng with one section, as many
// interfaces as it is told, nanoseconds and a comment a packet; the same calls give the same bytes.
//
// It does not decode packets, seek, follow a growing file, or read name resolution, statistics and secrets, which are
// passed over.
//
// Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, https://www.tcpdump.org/linktypes.html, RFC 1952.
package pcapfile
