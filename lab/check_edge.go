package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"naru/lab/server"
)

// answerTime is how long an answer to one packet may take.
const answerTime = 3 * time.Second

// pings sends an echo request to an address.
func pings(to netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		ctx, cancel := context.WithTimeout(c.ctx, answerTime)
		defer cancel()
		_, err := c.ping(ctx, c.scenario.Client, to)
		return to.String(), err
	}
}

// echoes sends datagrams of those sizes from an unconnected socket, so that an answer from anybody would arrive.
func echoes(vip netip.Addr, sizes ...int) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		conn, err := c.listenUDP()
		if err != nil {
			return "", err
		}
		defer conn.Close()
		var first string
		for i, size := range sizes {
			backend, err := echo(conn, netip.AddrPortFrom(vip, server.EchoPort), size)
			if err != nil {
				return "", fmt.Errorf("%d bytes: %w", size, err)
			}
			if i == 0 {
				first = backend
			}
			if backend != first {
				return "", fmt.Errorf("one flow, two backends: %s and %s", first, backend)
			}
		}
		return fmt.Sprintf("%d datagrams of %d to %d bytes, all at %s", len(sizes), slices.Min(sizes), slices.Max(sizes),
			first), nil
	}
}

// echo sends one datagram and returns who answered. A path that does not carry it yet may lose it twice, once each way.
func echo(conn *net.UDPConn, to netip.AddrPort, size int) (backend string, err error) {
	payload, buf := strings.Repeat("x", size), make([]byte, 65536)
	for range 3 {
		_ = conn.SetDeadline(time.Now().Add(answerTime / 3))
		if _, err = conn.WriteToUDPAddrPort([]byte(payload), to); err != nil {
			continue
		}
		var n int
		var from netip.AddrPort
		if n, from, err = conn.ReadFromUDPAddrPort(buf); err != nil {
			continue
		}
		if got := netip.AddrPortFrom(from.Addr().Unmap(), from.Port()); got != to {
			return "", fmt.Errorf("the answer comes from %s", got)
		}
		parts := strings.SplitN(string(buf[:n]), " ", 3)
		if len(parts) != 3 || parts[2] != payload {
			return "", fmt.Errorf("answer %.80q", buf[:n])
		}
		return parts[0], nil
	}
	return "", err
}

// listenUDP opens an unconnected UDP socket of both families in the client.
func (c *checker) listenUDP() (conn *net.UDPConn, err error) {
	err = c.Do(c.scenario.Client, func() (err error) {
		conn, err = net.ListenUDP("udp", nil)
		return err
	})
	return conn, err
}

// refusedTCP connects to a port without a service.
func refusedTCP(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		ctx, cancel := context.WithTimeout(c.ctx, answerTime)
		defer cancel()
		conn, err := c.Dial(ctx, c.scenario.Client, "tcp", netip.AddrPortFrom(vip, c.scenario.UnservedPort))
		if err == nil {
			conn.Close()
			return "", errors.New("somebody answers")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return "", fmt.Errorf("want connection refused: %w", err)
		}
		return "connection refused", nil
	}
}

// refusedUDP sends to a port without a service.
func refusedUDP(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		conn, err := c.Dial(c.ctx, c.scenario.Client, "udp", netip.AddrPortFrom(vip, c.scenario.UnservedPort))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(answerTime))
		if _, err := conn.Write([]byte("anybody?")); err != nil {
			return "", err
		}
		_, err = conn.Read(make([]byte, 100))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return "", fmt.Errorf("want port unreachable: %v", err)
		}
		return "port unreachable", nil
	}
}

// hopLimit sends a datagram that lives until naru only: the VIP itself says that it died there.
func hopLimit(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		const hops = 2 // the router is the first
		conn, err := c.Dial(c.ctx, c.scenario.Client, "udp", netip.AddrPortFrom(vip, server.EchoPort))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(answerTime))
		if err := withFD(conn, func(fd int) error { return setHops(fd, vip, hops) }); err != nil {
			return "", err
		}
		if _, err := conn.Write([]byte("how far?")); err != nil {
			return "", err
		}
		if _, err := conn.Read(make([]byte, 100)); !errors.Is(err, syscall.EHOSTUNREACH) {
			return "", fmt.Errorf("want time exceeded: %v", err)
		}
		var e socketError
		if err := withFD(conn, func(fd int) (err error) { e, err = readError(fd); return err }); err != nil {
			return "", err
		}
		if e.from != vip {
			return "", fmt.Errorf("time exceeded comes from %s", e.from)
		}
		return "time exceeded from " + e.from.String(), nil
	}
}

// withFD runs f with a connection's descriptor.
func withFD(conn net.Conn, f func(fd int) error) error {
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = raw.Control(func(fd uintptr) { ferr = f(int(fd)) })
	return errors.Join(err, ferr)
}

// setHops limits how far packets of a socket go and asks for the ICMP errors that come back.
func setHops(fd int, to netip.Addr, hops int) error {
	if to.Is4() {
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TTL, hops),
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1))
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, hops),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1))
}

// socketError is the ICMP error at the head of a socket's error queue.
type socketError struct {
	from netip.Addr // who sent it
	info uint32     // of "too big": the MTU
}

// readError reads the ICMP error at the head of a socket's error queue: struct sock_extended_err and the address after
// it (linux/errqueue.h).
func readError(fd int) (socketError, error) {
	const extendedErr = 16
	buf, oob := make([]byte, 512), make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if err != nil {
		return socketError{}, fmt.Errorf("error queue: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return socketError{}, fmt.Errorf("error queue: %w", err)
	}
	for _, m := range messages {
		if len(m.Data) < extendedErr+24 {
			m.Data = append(m.Data, make([]byte, 24)...)
		}
		e := socketError{info: binary.NativeEndian.Uint32(m.Data[8:])}
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR:
			e.from = netip.AddrFrom4([4]byte(m.Data[extendedErr+4:]))
			return e, nil
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR:
			e.from = netip.AddrFrom16([16]byte(m.Data[extendedErr+8:]))
			return e, nil
		}
	}
	return socketError{}, errors.New("error queue: no error")
}

// ownedByDirector looks at the neighbour table of the node before naru: it must find naru, every time that it asks who
// has the VIP.
func ownedByDirector(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		want := MAC(c.topology.end(c.peerOf(c.scenario.ClientSide)).Addrs[0].Addr())
		const times = 3
		for range times {
			if err := c.forget(c.scenario.Router, vip); err != nil {
				return "", err
			}
			if _, err := pings(vip)(c); err != nil {
				return "", err
			}
			found, err := c.neighbour(c.scenario.Router, vip)
			if err != nil {
				return "", err
			}
			if string(found) != string(want[:]) {
				return "", fmt.Errorf("%s believes that %s is at %q, naru is at %s", c.scenario.Router, vip,
					found.String(), net.HardwareAddr(want[:]))
			}
		}
		return fmt.Sprintf("%s is at %s, asked %d times", vip, net.HardwareAddr(want[:]), times), nil
	}
}

// peerOf returns the other end of the cable.
func (c *checker) peerOf(e End) End {
	for _, l := range c.topology.Links {
		switch e {
		case l.A:
			return l.B
		case l.B:
			return l.A
		}
	}
	return End{}
}

// onlyVIPs looks at whose packets have reached the client so far: the VIPs', and those of the routers on the way.
func onlyVIPs(c *checker) (string, error) {
	allowed := c.scenario.vips()
	for _, n := range c.topology.Nodes {
		if n.Servers {
			continue
		}
		for _, i := range n.Interfaces {
			for _, p := range i.Addrs {
				if !slices.Contains(c.pool(), p.Addr()) {
					allowed = append(allowed, p.Addr())
				}
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for src, n := range c.sources {
		if !slices.Contains(allowed, src) && !src.IsLinkLocalUnicast() {
			return "", fmt.Errorf("%d packets from %s reached the client", n, src)
		}
	}
	total := 0
	for _, vip := range c.scenario.vips() {
		if c.sources[vip] == 0 {
			return "", fmt.Errorf("no packet from %s was seen at the client", vip)
		}
		total += c.sources[vip]
	}
	return fmt.Sprintf("%d packets", total), nil
}

// kernelStayedOut compares the director kernel's counters with those before the traffic.
func kernelStayedOut(c *checker) (string, error) {
	after, err := c.kernelCounters(c.scenario.Director)
	if err != nil {
		return "", err
	}
	var moved []string
	for _, name := range untouched {
		was, known := c.before[name]
		if !known {
			return "", fmt.Errorf("this kernel has no counter %s", name)
		}
		if after[name] != was {
			moved = append(moved, fmt.Sprintf("%s %d -> %d", name, was, after[name]))
		}
	}
	if moved != nil {
		return "", errors.New(strings.Join(moved, ", "))
	}
	return "no RST, no ICMP error, nothing forwarded", nil
}

// checksumsRight looks whether the kernel of the client or of a backend has refused a packet. Those kernels are as old
// as the lab: their counters began at 0.
func checksumsRight(c *checker) (string, error) {
	for _, node := range append([]string{c.scenario.Client}, c.scenario.Backends...) {
		counters, err := c.kernelCounters(node)
		if err != nil {
			return "", err
		}
		for _, name := range wrongChecksums {
			if n, known := counters[name]; n != 0 || !known {
				return "", fmt.Errorf("%s: %s is %d", node, name, n)
			}
		}
	}
	return "at the client and the backends", nil
}

// stillRuns looks whether naru is still the process that was started.
func stillRuns(c *checker) (string, error) {
	for _, p := range c.Processes {
		if p.Role == roleNaru && !p.alive() {
			return "", fmt.Errorf("pid %d has ended: %w", p.PID, os.ErrProcessDone)
		}
	}
	return "", nil
}
