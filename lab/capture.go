package lab

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// tap reads copies of the frames that pass an interface, in both directions. It sees what an AF_PACKET socket sees: a
// frame that was sent around the queues of this very interface (PACKET_QDISC_BYPASS) is only seen at its other end.
type tap struct {
	conn *packet.Conn
	done sync.WaitGroup
}

// openTap hands every frame that passes an interface of a node to f, on one goroutine; the bytes are only lent. Frames
// longer than length are cut.
func (l *Lab) openTap(at End, length int, f func(now time.Time, frame []byte)) (*tap, error) {
	t := &tap{}
	err := l.Do(at.Node, func() error {
		ifi, err := net.InterfaceByName(at.Interface)
		if err != nil {
			return err
		}
		accept, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: uint32(length)}})
		if err != nil {
			return err
		}
		if t.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: accept}); err != nil {
			return err
		}
		return enlarge(t.conn)
	})
	if err != nil {
		return nil, fmt.Errorf("lab: capture at %s/%s: %w", at.Node, at.Interface, err)
	}
	t.done.Go(func() {
		buf := make([]byte, length)
		for {
			n, _, err := t.conn.ReadFrom(buf)
			if err != nil {
				return // closed, or the interface is gone
			}
			f(time.Now(), buf[:n])
		}
	})
	return t, nil
}

// tapBuffer keeps what arrives while the reader waits for a processor: some hundred super-frames.
const tapBuffer = 64 << 20

// enlarge gives a socket a receive buffer beyond the limit that net.core.rmem_max sets.
func enlarge(conn *packet.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer)
	})
	return errors.Join(err, set)
}

// close ends the tap. f is not called after it returns.
func (t *tap) close() {
	_ = t.conn.Close() // the reader ends in any case
	t.done.Wait()
}

// sendFrame sends one frame from a node's interface.
func (l *Lab) sendFrame(at End, frame []byte) error {
	err := l.Do(at.Node, func() error {
		ifi, err := net.InterfaceByName(at.Interface)
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		return err
	})
	if err != nil {
		return fmt.Errorf("lab: frame at %s/%s: %w", at.Node, at.Interface, err)
	}
	return nil
}
