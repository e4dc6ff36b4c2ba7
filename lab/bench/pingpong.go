package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pingBytes = 32
	pingGap   = 500 * time.Microsecond
	pingLimit = time.Second // a datagram without an answer is lost after this time
)

// A pinger sends small messages to the echo port, one at a time.
type pinger struct {
	fd   int
	lost int
	seq  uint64
}

// newPinger opens a socket of a type (unix.SOCK_DGRAM or unix.SOCK_STREAM); it must run in the client's namespace.
func newPinger(typ int, to netip.Addr, limit time.Duration) (*pinger, error) {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bench: ping: %w", err)
	}
	timeout := unix.NsecToTimeval(int64(limit))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
	if typ == unix.SOCK_STREAM {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(to, echoPort))); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bench: ping: %w", err)
	}
	return &pinger{fd: fd}, nil
}

// errNoEcho says that no answer came, or a wrong one.
var errNoEcho = errors.New("no echo")

// ping sends one message and waits for its echo.
func (p *pinger) ping() (time.Duration, error) {
	var out, in [pingBytes]byte
	p.seq++
	binary.BigEndian.PutUint64(out[:], p.seq)
	start := time.Now()
	if _, err := unix.Write(p.fd, out[:]); err != nil {
		return 0, fmt.Errorf("%w: %w", errNoEcho, err)
	}
	for {
		n, err := unix.Read(p.fd, in[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errNoEcho, err)
		}
		took := time.Since(start)
		switch {
		case n == pingBytes && in == out:
			return took, nil
		case n == pingBytes && binary.BigEndian.Uint64(in[:]) < p.seq: // of one that was given up
		default:
			return 0, fmt.Errorf("%w: %d other bytes", errNoEcho, n)
		}
	}
}

// pings sends messages until the crew is to end and returns how long each took, sorted.
func (p *pinger) pings(c *crew) []time.Duration {
	var all []time.Duration
	for !c.stop.Load() {
		if took, err := p.ping(); err == nil {
			all = append(all, took)
		} else {
			p.lost++
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: int64(pingGap)}, nil)
	}
	slices.Sort(all)
	return all
}

func (p *pinger) close() { unix.Close(p.fd) }

// quantile returns the value below which a share of sorted values lies, in microseconds.
func quantile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := min(int(share*float64(len(sorted))), len(sorted)-1)
	return float64(sorted[i]) / float64(time.Microsecond)
}
