package bench

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What clients ask and servers answer.
var (
	askClose = []byte("GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
	askKeep  = []byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")

	answerClose = []byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
	answerKeep  = []byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
)

// bulkChunk is how much a bulk sender writes and a receiver reads at once: what iperf3 does.
const bulkChunk = 128 << 10

// pattern is what bulk streams consist of, again and again. Its length is prime to every chunk's.
var pattern = func() []byte {
	b := make([]byte, 251)
	for i := range b {
		b[i] = byte(i*7 + 3)
	}
	return bytes.Repeat(b, 2*bulkChunk/len(b)+2)
}()

const patternLen = 251

// verifyEvery is the share of reads of a bulk stream that are compared with the pattern.
const verifyEvery = 32

type serverConn struct {
	kind byte
	pos  int // bulk: bytes so far, modulo patternLen
	read int // bulk: reads so far
}

// Kinds of descriptors of a server. The zero value is a descriptor that is not ours.
const (
	kindHTTPListener = iota + 1
	kindBulkListener
	kindEchoListener
	kindEchoUDP
	kindHTTP
	kindBulk
	kindEcho
)

// A server is one thread that serves HTTP, bulk streams and echo in a node.
type server struct {
	crew
	epoll   int
	open    []int
	conns   []serverConn // by descriptor
	buf     []byte
	bulk    atomic.Uint64 // bytes that came
	corrupt atomic.Uint64 // reads that were not the pattern
}

// startServer opens the ports; it must run in the server's namespace.
func startServer() (s *server, err error) {
	s = &server{buf: make([]byte, bulkChunk)}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("bench: server: %w", err)
	}
	for _, p := range []struct {
		kind byte
		typ  int
		port int
	}{
		{kindHTTPListener, unix.SOCK_STREAM, httpPort}, {kindBulkListener, unix.SOCK_STREAM, bulkPort},
		{kindEchoListener, unix.SOCK_STREAM, echoPort}, {kindEchoUDP, unix.SOCK_DGRAM, echoPort},
	} {
		fd, err := listen(p.typ, p.port)
		if err == nil {
			s.open = append(s.open, fd)
			s.set(fd, p.kind)
			err = watch(s.epoll, fd, unix.EPOLLIN)
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("bench: server: port %d: %w", p.port, err)
		}
	}
	s.run(anyCPU, func() { s.events(s.epoll, s.event) })
	return s, nil
}

func listen(typ, port int) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	// One socket answers as the address that was asked, also where that is a VIP on lo.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	if err = unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err == nil && typ == unix.SOCK_STREAM {
		err = unix.Listen(fd, 4096)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

func (s *server) set(fd int, kind byte) {
	for len(s.conns) <= fd {
		s.conns = append(s.conns, serverConn{})
	}
	s.conns[fd] = serverConn{kind: kind}
}

func (s *server) event(fd int, _ uint32) {
	switch c := &s.conns[fd]; c.kind {
	case kindHTTPListener, kindBulkListener, kindEchoListener:
		s.accept(fd, c.kind-kindHTTPListener+kindHTTP)
	case kindEchoUDP:
		s.echoUDP(fd)
	case kindHTTP:
		s.http(fd)
	case kindBulk:
		s.receive(fd, c)
	case kindEcho:
		if n, e := readNow(fd, s.buf); e == 0 && n > 0 {
			_, _ = writeNow(fd, s.buf[:n])
		} else if e != unix.EAGAIN {
			closeNow(fd)
		}
	}
}

func (s *server) accept(listener int, kind byte) {
	for {
		fd, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if e != 0 {
			return // nobody waits any more
		}
		s.set(int(fd), kind)
		if kind == kindEcho {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
		if watch(s.epoll, int(fd), unix.EPOLLIN) != nil {
			closeNow(int(fd))
		}
	}
}

// http answers one request: a request is one segment.
func (s *server) http(fd int) {
	n, e := readNow(fd, s.buf[:4096])
	switch {
	case e == unix.EAGAIN:
	case e != 0 || n == 0:
		closeNow(fd)
	case n == len(askKeep):
		_, _ = writeNow(fd, answerKeep)
	default:
		_, _ = writeNow(fd, answerClose)
		closeNow(fd)
	}
}

// receive reads all there is of a bulk stream and looks at some of it.
func (s *server) receive(fd int, c *serverConn) {
	for !s.stop.Load() {
		n, e := readNow(fd, s.buf)
		if e == unix.EAGAIN {
			return
		}
		if e != 0 || n == 0 {
			closeNow(fd)
			return
		}
		if c.read++; c.read%verifyEvery == 0 && !bytes.Equal(s.buf[:n], pattern[c.pos:c.pos+n]) {
			s.corrupt.Add(1)
		}
		c.pos = (c.pos + n) % patternLen
		s.bulk.Add(uint64(n))
	}
}

func (s *server) echoUDP(fd int) {
	oob := make([]byte, 64)
	for {
		n, on, _, from, err := unix.Recvmsg(fd, s.buf[:2048], oob, unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		// The control message that says where it came to says, sent back, where the answer comes from.
		_, _ = unix.SendmsgN(fd, s.buf[:n], answerFrom(oob[:on]), from, 0)
	}
}

// answerFrom turns the IP_PKTINFO of a datagram into that of its answer.
func answerFrom(oob []byte) []byte {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(list) != 1 || len(list[0].Data) < unix.SizeofInet4Pktinfo {
		return nil
	}
	info := &unix.Inet4Pktinfo{Spec_dst: [4]byte(list[0].Data[8:12])} // its destination
	return unix.PktInfo4(info)
}

// close ends the thread and the listeners. Connections end with their clients or with the network.
func (s *server) close() {
	s.end()
	for _, fd := range s.open {
		unix.Close(fd)
	}
	for fd, c := range s.conns {
		if c.kind >= kindHTTP && stillOurs(s.epoll, fd) {
			unix.Close(fd)
		}
	}
	unix.Close(s.epoll)
}

// stillOurs reports whether a descriptor is in the epoll: the number of one that was closed may be somebody else's.
func stillOurs(epoll, fd int) bool {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_DEL, fd, nil) == nil
}

// sockaddr returns an address as the kernel wants it.
func sockaddr(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}
