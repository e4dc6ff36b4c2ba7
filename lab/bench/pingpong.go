package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pingBytes = 32
	pingGap   = 500 * time.Microsecond
	pingLimit = time.Second // a datagram without an answer is lost after this time
)

// A pinger sends small messages to the echo port, one at a time.
type pinger struct {
	fd    int
	limit time.Duration
	lost  int
	seq   uint64
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
	return &pinger{fd: fd, limit: limit}, nil
}

// errNoEcho says that no answer came, or a wrong one.
var errNoEcho = errors.New("no echo")

// ping sends one message and waits for its echo.
func (p *pinger) ping() (time.Duration, error) {
	p.seq++
	if took := echo(p.fd, p.seq, p.limit); took > 0 {
		return took, nil
	}
	return 0, errNoEcho
}

// echo sends the number and returns how long its echo took, 0 if none came in time or something else. It must not yield
// to the runtime, whose turn would be measured too: hence nosplit, which leaves out the question whether to.
//
//go:nosplit
func echo(fd int, seq uint64, limit time.Duration) time.Duration {
	var out, in [pingBytes]byte
	*(*uint64)(unsafe.Pointer(&out)) = seq
	start := now()
	if n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&out)), pingBytes); e != 0 ||
		n != pingBytes {
		return 0
	}
	for {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&in)), pingBytes)
		switch {
		case e == unix.EINTR && now()-start < limit: // the socket's own limit begins anew
		case e != 0 || n != pingBytes:
			return 0
		case in == out:
			return max(now()-start, 1)
		case *(*uint64)(unsafe.Pointer(&in)) >= seq: // less: of one that was given up
			return 0
		}
	}
}

// pings sends messages until the crew is to end and returns how long each took, sorted. At most the given number.
func (p *pinger) pings(c *crew, most int) []time.Duration {
	all := make([]time.Duration, 0, most)
	for !c.stop.Load() && len(all) < most {
		if took, err := p.ping(); err == nil {
			all = append(all, took)
		} else {
			p.lost++
		}
		sleepNow(pingGap)
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
