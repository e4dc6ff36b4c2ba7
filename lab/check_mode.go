package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"naru/internal/record"
	"naru/lab/server"
)

// passes counts what of an answer passes naru: in direct server return not a byte of it.
func passes(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		t, err := c.through(c.ctx, vip)
		if err != nil {
			return "", err
		}
		seen := fmt.Sprintf("of %s bytes %s came from the backend and %s went to the client", thousands(ThroughBytes),
			thousands(t.FromBackend.Bytes), thousands(t.ToClient.Bytes))
		switch {
		case t.FromClient.Frames == 0 || t.ToBackend.Frames == 0:
			return "", fmt.Errorf("no request was seen at naru: %+v", t)
		case c.scenario.Mode.direct() && t.FromBackend.Frames+t.ToClient.Frames != 0:
			return "", errors.New(seen)
		case !c.scenario.Mode.direct() && (t.FromBackend.Bytes < ThroughBytes || t.ToClient.Bytes < ThroughBytes):
			return "", errors.New(seen)
		}
		c.measured(vip, t)
		return seen, nil
	}
}

// measured hands over what passed naru, of the story's IP version.
func (c *checker) measured(vip netip.Addr, t Through) {
	if vip.Is4() && c.report != nil {
		c.report(t)
	}
}

// tunnelOverhead is what the outer headers add to a packet.
func (c *checker) tunnelOverhead(vip netip.Addr) int {
	n := 0
	switch c.scenario.Mode {
	case ModeIPIP:
	case ModeGUE:
		n = 8 + 4 // UDP, and GUE's variant 0
	default:
		return 0
	}
	if vip.Is4() != c.Options.CrossFamily {
		return n + 20
	}
	return n + 40
}

// largest sends datagrams that may not be fragmented, as large as it is told that they may be, until one is answered:
// naru and the routers must say what the path carries, and the answers, which are larger, must find their way too.
func largest(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		conn, err := c.Dial(c.ctx, c.scenario.Client, "udp", netip.AddrPortFrom(vip, server.EchoPort))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		if err := withFD(conn, func(fd int) error { return unfragmented(fd, vip) }); err != nil {
			return "", err
		}
		want, headers := 1500, 20+8
		if c.Options.PathMTU != 0 {
			want = c.Options.PathMTU
		}
		want -= c.tunnelOverhead(vip)
		if vip.Is6() {
			headers = 40 + 8
		}
		size := 1500
		for range 8 {
			_ = conn.SetDeadline(time.Now().Add(answerTime / 3))
			_, err = conn.Write(make([]byte, size-headers))
			if err == nil {
				_, err = conn.Read(make([]byte, 65536))
			}
			switch {
			case err == nil && size == want:
				return fmt.Sprintf("%d bytes", size), nil
			case err == nil:
				return "", fmt.Errorf("a packet of %d bytes was answered, %d should be the largest", size, want)
			case errors.Is(err, syscall.EMSGSIZE):
				var e socketError
				if err := withFD(conn, func(fd int) (err error) { e, err = readError(fd); return err }); err != nil {
					return "", err
				}
				size = int(e.info)
			case !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err):
				return "", err
			}
			if size < want || size > 1500 {
				return "", fmt.Errorf("told that %d bytes are the most, %d should be", size, want)
			}
		}
		return "", fmt.Errorf("no packet of %d bytes is answered, %d should be the largest: %w", size, want, err)
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// unfragmented keeps packets of a socket whole, whatever is known of the path, and asks for the errors that come back.
func unfragmented(fd int, to netip.Addr) error {
	if to.Is4() {
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE),
			unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1))
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE),
		unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1))
}

// hairpin calls the VIP from a server. In full NAT it is answered; elsewhere the reply could not come back through naru,
// which refuses it by name.
func hairpin(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		node := c.scenario.Backends[0]
		if c.scenario.Mode == ModeFullNAT {
			return c.hairpinAnswered(node, vip)
		}
		own := c.topology.Node(node).addr(vip.Is4())
		if err := c.sendSYN(node, netip.AddrPortFrom(own, hairpinPort), netip.AddrPortFrom(vip, server.HTTPPort)); err != nil {
			return "", err
		}
		for limit := time.Now().Add(answerTime); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
			lines, err := readRecords(c.RecordFile())
			if err != nil {
				return "", err
			}
			for i := range lines {
				if l := &lines[i]; l.Before.Src == own.String() && l.Before.SrcPort == hairpinPort {
					return "refused: " + l.Reason, refusedAs(l, "hairpin")
				}
			}
		}
		return "", errors.New("naru has not seen it")
	}
}

// hairpinPort is the port that a server calls its own VIP from.
const hairpinPort = 41000

// refusedAs reports a record of another decision than a drop with this reason.
func refusedAs(l *record.Line, reason string) error {
	if l.Verdict != "drop" || l.Reason != reason {
		return fmt.Errorf("naru decided %s %s, not drop %s", l.Verdict, l.Reason, reason)
	}
	return nil
}

// hairpinAnswered calls the VIP from a server over naru.
func (c *checker) hairpinAnswered(node string, vip netip.Addr) (seen string, err error) {
	if len(c.topology.Node(node).Routes) == 0 {
		via := c.scenario.Via4
		if vip.Is6() {
			via = c.scenario.Via6
		}
		remove, err := c.addRouteIn(node, vip, via)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	client := c.httpClient(node, netip.AddrPortFrom(vip, server.HTTPPort), false)
	for range c.scenario.Backends { // one of them is itself
		a, err := get(c.ctx, client, vip, "/")
		if err != nil {
			return "", err
		}
		if err := c.rightClient(a); err != nil {
			return "", err
		}
		seen += " " + a.backend
	}
	return node + " was answered by" + seen, nil
}

// sendSYN sends a SYN from a node's first interface as its kernel would if the VIP were not its own.
func (c *checker) sendSYN(node string, from, to netip.AddrPort) error {
	n := c.topology.Node(node)
	src, _ := n.Interfaces[0].mac()
	gateway := c.topology.gateway(n, from.Addr().Is4())
	if c.scenario.Mode == ModeL2DSR || c.scenario.Mode == ModeNAT {
		gateway = MAC(c.scenario.Via4)
	}
	etherType, ip := layers.EthernetTypeIPv4, gopacket.SerializableLayer(&layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()})
	if from.Addr().Is6() {
		etherType, ip = layers.EthernetTypeIPv6, &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(),
			DstIP: to.Addr().AsSlice()}
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: 1, SYN: true,
		Window: 65535}
	if err := tcp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		return fmt.Errorf("lab: SYN: %w", err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: src[:], DstMAC: gateway[:], EthernetType: etherType}, ip, tcp)
	if err != nil {
		return fmt.Errorf("lab: SYN: %w", err)
	}
	return c.sendFrame(End{node, n.Interfaces[0].Name}, b.Bytes())
}

// gateway returns the MAC address of a node's first gateway of an IP version.
func (t *Topology) gateway(n *Node, is4 bool) (mac [6]byte) {
	for _, r := range n.Routes {
		if r.Via.Is4() != is4 {
			continue
		}
		for i := range t.Nodes {
			for j := range t.Nodes[i].Interfaces {
				for _, p := range t.Nodes[i].Interfaces[j].Addrs {
					if p.Addr() == r.Via {
						mac, _ = t.Nodes[i].Interfaces[j].mac()
					}
				}
			}
		}
	}
	return mac
}

// ownAddress calls a server by its own address: in mode nat naru gets the reply, finds no connection and routes it on.
func ownAddress(server01 netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		a, err := get(c.ctx, c.web(server01, false), server01, "/")
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s saw %s", a.backend, a.client), c.rightClient(a)
	}
}
