package director

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Our own choices. A size that does not pass costs probeTries times probeWait where no router says so.
const (
	probeTries = 3
	probeWait  = 300 * time.Millisecond
)

// The least that an IP link carries (RFC 791 3.1, RFC 8200 5): the search begins there.
const (
	leastMTU4 = 576
	leastMTU6 = 1280
)

// pathProbe asks one backend with echo requests (RFC 792, RFC 4443 4.1) that nobody may fragment. It believes answers
// only, not routers: one that drops in silence is found like one that speaks (RFC 4821).
type pathProbe struct {
	conn   *net.IPConn
	v6     bool
	id     uint16
	seq    uint16   // one a size: a late answer to an earlier try counts too
	secret [16]byte // an answer has it; who is not on the path cannot know it
	wait   time.Duration
	buf    []byte
}

// Why the path MTU of a backend stays unknown.
var (
	errNoAnswer = errors.New("no echo request is answered")
	errUnsteady = errors.New("what passes changes from one echo request to the next")
)

// probePath returns the longest IP packet, at most ceiling bytes, that addr answers within wait. The error is
// errNoAnswer, errUnsteady, that of the context, or of a socket that cannot be made.
func probePath(ctx context.Context, addr netip.Addr, ceiling int, wait time.Duration) (int, error) {
	p, err := newPathProbe(ctx, addr, ceiling, wait)
	if err != nil {
		return 0, fmt.Errorf("director: probe %s: %w", addr, err)
	}
	defer p.conn.Close()
	defer context.AfterFunc(ctx, func() { p.conn.Close() })()
	mtu, err := p.search(ctx, ceiling)
	if errors.Is(err, errUnsteady) {
		mtu, err = p.search(ctx, ceiling)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return mtu, err
}

// search halves the range between what every link carries and the ceiling. The shortest is first: it may have to wait
// until the kernel knows the next hop.
func (p *pathProbe) search(ctx context.Context, ceiling int) (int, error) {
	lo, hi := leastMTU4, ceiling
	if p.v6 {
		lo = leastMTU6
	}
	switch {
	case !p.passes(ctx, min(lo, ceiling)):
		return 0, errNoAnswer
	case lo >= ceiling || p.passes(ctx, ceiling):
		return ceiling, nil
	}
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; p.passes(ctx, mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	// An outage of a moment looks like a narrow path; but then the next size passes now.
	if p.passes(ctx, hi) {
		return 0, errUnsteady
	}
	return lo, nil
}

func newPathProbe(ctx context.Context, addr netip.Addr, ceiling int, wait time.Duration) (*pathProbe, error) {
	p := &pathProbe{v6: addr.Is6(), wait: wait, buf: make([]byte, ceiling)}
	network := "ip4:icmp"
	if p.v6 {
		network = "ip6:ipv6-icmp"
	}
	dialer := net.Dialer{Control: p.control}
	c, err := dialer.DialContext(ctx, network, addr.String())
	if err != nil {
		return nil, err
	}
	p.conn = c.(*net.IPConn)
	_, _ = rand.Read(p.secret[:])
	p.id = binary.BigEndian.Uint16(p.secret[:])
	return p, nil
}

// control makes the kernel set DF and ignore the path MTU that it knows itself.
func (p *pathProbe) control(_, _ string, raw syscall.RawConn) error {
	level, option, value := unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if p.v6 {
		level, option, value = unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	}
	var err error
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) }); e != nil {
		return e
	}
	return os.NewSyscallError("setsockopt", err)
}

// passes reports whether a packet of so many bytes, IP header included, is answered.
func (p *pathProbe) passes(ctx context.Context, size int) bool {
	p.seq++
	request, err := p.request(size)
	for range probeTries {
		if err != nil || ctx.Err() != nil {
			return false
		}
		if _, err := p.conn.Write(request); err != nil {
			// Longer than the interface carries by now; or an error about an earlier packet, which this call tells.
			continue
		}
		if p.answered(request) {
			return true
		}
	}
	return false
}

func (p *pathProbe) request(size int) ([]byte, error) {
	var kind icmp.Type = ipv4.ICMPTypeEcho
	header := ipv4.HeaderLen
	if p.v6 {
		kind, header = ipv6.ICMPTypeEchoRequest, ipv6.HeaderLen
	}
	data := make([]byte, size-header-8)
	copy(data, p.secret[:])
	// The kernel fills the checksum of ICMPv6.
	return (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: int(p.id), Seq: int(p.seq), Data: data}}).Marshal(nil)
}

// answered waits for the answer to a request. A router's error ends the wait early (ICMP only; the kernel keeps those
// of ICMPv6 to itself), which costs this try and no more: it may be about somebody else's packet.
func (p *pathProbe) answered(request []byte) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(p.wait))
	for {
		n, _, err := p.conn.ReadFromIP(p.buf)
		if err != nil {
			return false
		}
		got := p.buf[:n]
		answer := n == len(request) && (got[0] == byte(ipv4.ICMPTypeEchoReply) && !p.v6 ||
			got[0] == byte(ipv6.ICMPTypeEchoReply) && p.v6)
		if answer && bytes.Equal(got[4:], request[4:]) {
			return true
		}
	}
}
