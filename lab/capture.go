package lab

import (
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
		t.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: accept})
		return err
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

// close ends the tap. f is not called after it returns.
func (t *tap) close() {
	_ = t.conn.Close() // the reader ends in any case
	t.done.Wait()
}
