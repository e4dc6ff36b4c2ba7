package server

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// listenEcho opens the UDP socket of the echo server, for IPv4 and IPv6 alike. Each datagram comes with the address
// that it was sent to (RFC 3542): a machine with several addresses, such as a VIP on lo, must answer from that one.
func listenEcho(address string) (*net.UDPConn, error) {
	local, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var set error
		err = errors.Join(raw.Control(func(fd uintptr) {
			// A socket of IPv4 alone, where a machine has no IPv6, has its own option.
			if set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); set != nil {
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			}
		}), set)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// serveEcho answers every datagram with the name, the peer and the datagram, from the address that it was sent to.
func serveEcho(c *net.UDPConn, name string) error {
	buf, control := make([]byte, 65536), make([]byte, 128)
	for {
		n, nc, _, from, err := c.ReadMsgUDPAddrPort(buf, control)
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("server: echo: %w", err)
		}
		if err != nil {
			continue // an ICMP error that belongs to an earlier answer
		}
		answer := append([]byte(name+" "+peer(from.String())+" "), buf[:n]...)
		_, _, _ = c.WriteMsgUDPAddrPort(answer, answerFrom(control[:nc]), from) // a lost answer is what UDP may do
	}
}

// answerFrom turns the control message that says where a datagram was sent to into the one that an answer is sent with:
// the same address, by whatever interface the routes say.
func answerFrom(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 16:
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data)})
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:])})
		}
	}
	return nil
}
