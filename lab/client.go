package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// vips returns the VIPs that the scenario has.
func (s *Scenario) vips() []netip.Addr {
	var out []netip.Addr
	for _, a := range []netip.Addr{s.VIP4, s.VIP6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// Dial connects from a node to an address; network is tcp or udp. Addresses are never names.
func (l *Lab) Dial(ctx context.Context, node, network string, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := l.Do(node, func() error {
		var d net.Dialer
		// With a literal address the dialer stays on the calling thread.
		c, err := d.DialContext(ctx, network, to.String())
		conn = c
		return err
	})
	return conn, err
}

// httpClient returns an HTTP client whose connections start in a node and all lead to one address.
func (l *Lab) httpClient(node string, to netip.AddrPort, keepAlive bool) *http.Client {
	return &http.Client{
		Timeout: requestTime,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return l.Dial(ctx, node, "tcp", to)
			},
			DisableKeepAlives:  !keepAlive,
			DisableCompression: true,
			ReadBufferSize:     256 << 10,
			WriteBufferSize:    256 << 10,
		},
	}
}

const (
	requestTime = 60 * time.Second // how long one request may take, the largest transfer included
	smallTime   = 10 * time.Second // how long one small request may take
)

// ping sends one ICMP echo request from a node and returns the round trip time of its answer.
func (l *Lab) ping(ctx context.Context, node string, to netip.Addr) (time.Duration, error) {
	network, local, proto := "udp4", "0.0.0.0", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Is6() {
		network, local, proto = "udp6", "::", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var c *icmp.PacketConn
	err := l.Do(node, func() (err error) {
		c, err = icmp.ListenPacket(network, local)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("lab: ping: %w", err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	data := []byte(fmt.Sprintf("naru lab %d", time.Now().UnixNano()))
	b, err := (&icmp.Message{Type: request, Body: &icmp.Echo{Seq: 1, Data: data}}).Marshal(nil)
	if err != nil {
		return 0, fmt.Errorf("lab: ping: %w", err)
	}
	start := time.Now()
	if _, err := c.WriteTo(b, &net.UDPAddr{IP: to.AsSlice()}); err != nil {
		return 0, fmt.Errorf("lab: ping %s: %w", to, err)
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, fmt.Errorf("lab: ping %s: no answer", to)
		}
		if err != nil {
			return 0, fmt.Errorf("lab: ping %s: %w", to, err)
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && string(e.Data) == string(data) {
			if a, _ := from.(*net.UDPAddr); a == nil || !a.IP.Equal(to.AsSlice()) {
				return 0, fmt.Errorf("lab: ping %s: the answer comes from %s", to, from)
			}
			return time.Since(start), nil
		}
	}
}
