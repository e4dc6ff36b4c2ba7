package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// httpConns is how many connections an HTTP client has open at a time.
const httpConns = 64

// An httpClient asks one request after the other on each of its connections. It must be made and run in the client's
// namespace, since it opens sockets all the time.
type httpClient struct {
	epoll    int
	to       *unix.SockaddrInet4
	keep     bool // one connection for all requests; else one for each
	asked    []bool
	got      []bool
	buf      []byte
	answers  atomic.Uint64
	failures atomic.Uint64 // connections that were refused, cut, or ended without an answer
	corrupt  atomic.Uint64 // answers that are not what was asked for
}

func newHTTPClient(to netip.Addr, keep bool) (*httpClient, error) {
	c := &httpClient{to: sockaddr(netip.AddrPortFrom(to, httpPort)), keep: keep, buf: make([]byte, 4096)}
	var err error
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("bench: http client: %w", err)
	}
	return c, nil
}

// work opens the connections and keeps them busy. What is open at the end is closed.
func (c *httpClient) work(crew *crew) {
	for range httpConns {
		c.connect()
	}
	crew.events(c.epoll, c.event)
	for fd := range c.asked {
		if stillOurs(c.epoll, fd) {
			unix.Close(fd)
		}
	}
	unix.Close(c.epoll)
}

func (c *httpClient) connect() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.failures.Add(1)
		return
	}
	for len(c.asked) <= fd {
		c.asked, c.got = append(c.asked, false), append(c.got, false)
	}
	c.asked[fd], c.got[fd] = false, false
	err = unix.Connect(fd, c.to)
	if err != nil && !errors.Is(err, unix.EINPROGRESS) ||
		watch(c.epoll, fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP) != nil {
		c.failures.Add(1)
		unix.Close(fd)
	}
}

func (c *httpClient) event(fd int, events uint32) {
	if !c.asked[fd] {
		if events&unix.EPOLLERR != 0 {
			c.again(fd, true)
		} else if events&unix.EPOLLOUT != 0 {
			c.asked[fd] = true
			c.ask(fd)
		}
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	n, e := readNow(fd, c.buf)
	switch {
	case e == unix.EAGAIN:
	case e != 0 || n == 0:
		c.again(fd, !c.got[fd])
	default:
		c.answer(fd, c.buf[:n], events&unix.EPOLLRDHUP != 0)
	}
}

func (c *httpClient) ask(fd int) {
	request := askClose
	if c.keep {
		request = askKeep
	}
	if _, e := writeNow(fd, request); e != 0 {
		c.again(fd, true)
	}
}

// answer takes an answer, which is one segment, and goes on: on the same connection, or with its end on a new one.
func (c *httpClient) answer(fd int, b []byte, last bool) {
	want := answerClose
	if c.keep {
		want = answerKeep
	}
	if !bytes.Equal(b, want) {
		c.corrupt.Add(1)
	}
	c.answers.Add(1)
	switch {
	case c.keep:
		c.ask(fd)
	case last:
		c.again(fd, false)
	default:
		c.got[fd] = true
	}
}

// again replaces a connection.
func (c *httpClient) again(fd int, failed bool) {
	if failed {
		c.failures.Add(1)
	}
	closeNow(fd)
	c.connect()
}

// bulkStreams opens TCP streams to bulkPort; it must run in the client's namespace.
func bulkStreams(to netip.Addr, n int, control string) (fds []int, err error) {
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			fds = append(fds, fd)
			timeout := unix.Timeval{Sec: 3}
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout)
			err = setCongestion(fd, control)
		}
		if err == nil {
			err = unix.Connect(fd, sockaddr(netip.AddrPortFrom(to, bulkPort)))
		}
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("bench: bulk: %w", err)
		}
	}
	return fds, nil
}

// pump writes the pattern into all streams as fast as they take it.
func pump(crew *crew, fds []int) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return // nothing arrives, which the caller sees
	}
	defer unix.Close(epoll)
	pos := map[int]int{}
	for _, fd := range fds {
		if watch(epoll, fd, unix.EPOLLOUT) != nil {
			return
		}
	}
	crew.events(epoll, func(fd int, _ uint32) {
		// A turn is bounded, so that no stream waits for another; then the edge has to be asked for again.
		for range 4 {
			n, e := writeNow(fd, pattern[pos[fd]:pos[fd]+bulkChunk])
			if e != 0 {
				return // full: an event will tell; or broken: nothing arrives any more
			}
			pos[fd] = (pos[fd] + n) % patternLen
		}
		_ = unix.EpollCtl(epoll, unix.EPOLL_CTL_MOD, fd,
			&unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)})
	})
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
