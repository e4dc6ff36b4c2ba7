package proxies

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"naru/internal/wiretest"
)

// patience is for what must come, however busy the machine is.
const patience = 30 * time.Second

// rig is a namespace with servers in it that tell their clients who they are.
type rig struct {
	t       *testing.T
	ns      *wiretest.NS
	running sync.WaitGroup
	mu      sync.Mutex
	open    [servers]int // connections of each server
	changed *sync.Cond
}

// servers is how many there are; a case has the first of them.
const servers = 5

// serverAddr is where a server listens, proxyAddr where a proxy does.
func serverAddr(i int) string   { return fmt.Sprintf("127.0.0.1:%d", 9000+i) }
func proxyAddr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func newRig(t *testing.T) *rig {
	t.Helper()
	wiretest.Root(t)
	r := &rig{t: t, ns: wiretest.NewNS(t, "proxies")}
	r.changed = sync.NewCond(&r.mu)
	t.Cleanup(r.running.Wait)
	r.ns.Do(t, func() {
		for i := range servers {
			l, err := net.Listen("tcp", serverAddr(i))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			r.running.Go(func() { r.serve(i, l) })
		}
	})
	return r
}

// serve sends everybody the server's number and waits for them to go.
func (r *rig) serve(i int, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		r.count(i, 1)
		r.running.Go(func() {
			defer c.Close()
			if _, err := c.Write([]byte{byte(i)}); err == nil {
				_, _ = io.Copy(io.Discard, c) // to its end, however it ends
			}
			r.count(i, -1)
		})
	}
}

func (r *rig) count(i, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[i] += n
	r.changed.Broadcast()
}

// closeAll closes those of the connections that are meant, which must be all of their servers', and waits until the servers
// know.
func (r *rig) closeAll(list []connection, meant func(connection) bool) {
	r.t.Helper()
	which := map[int]bool{}
	for _, c := range list {
		if meant(c) {
			c.Close()
			which[c.server] = true
		}
	}
	for i := range which {
		r.awaitIdle(i)
	}
}

// awaitIdle waits until a server has no connection.
func (r *rig) awaitIdle(i int) {
	r.t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.open[i] > 0 && !late {
		r.changed.Wait()
	}
	if late {
		r.t.Fatalf("server %d still has %d connections", i, r.open[i])
	}
}

// connection is one through a proxy, and who answered.
type connection struct {
	net.Conn
	server int
}

// connect opens a connection to a proxy from an address of this host. It must run in the namespace.
func (r *rig) connect(port int, from netip.Addr) connection {
	r.t.Helper()
	c, err := dial(port, from)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func dial(port int, from netip.Addr) (connection, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: patience}
	c, err := d.Dial("tcp", proxyAddr(port))
	if err != nil {
		return connection{}, err
	}
	who := make([]byte, 1)
	_ = c.SetReadDeadline(time.Now().Add(patience)) // fails only on a closed connection, and then so does Read
	if _, err := io.ReadFull(c, who); err != nil {
		c.Close()
		return connection{}, err
	}
	return connection{c, int(who[0])}, nil
}

// localhost is where clients are from whose address does not matter.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// choices opens n connections one after the other and returns who got each. With hold they stay until the end of the test
// and are returned too; else each is closed before the next.
func (r *rig) choices(port, n int, hold bool) (who []int, held []connection) {
	r.t.Helper()
	r.ns.Do(r.t, func() {
		for range n {
			c := r.connect(port, localhost)
			who = append(who, c.server)
			if !hold {
				c.Close()
				continue
			}
			held = append(held, c)
			r.t.Cleanup(func() { c.Close() })
		}
	})
	return who, held
}
