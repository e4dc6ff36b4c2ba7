package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"naru/internal/admin"
	"naru/internal/wiretest"
)

// TestTrafficGoesOnAfterInterfacesChange changes interfaces under traffic, with each driver: the MTU while requests come,
// a cable whose far end is down, so that what is sent finds no carrier, and an interface that is removed and made anew.
func TestTrafficGoesOnAfterInterfacesChange(t *testing.T) {
	for _, driver := range []string{"ring", "mmsg", "xdp"} {
		t.Run(driver, func(t *testing.T) {
			n := newLiveNet(t)
			socket := filepath.Join(t.TempDir(), "naru.sock")
			n.write(t, strings.Replace(liveConfig, "version: 1",
				fmt.Sprintf("version: 1\nio: {driver: %s}\nadmin: {socket: %s}", driver, socket), 1))
			finish := func() { // XDP has no words for an unfinished checksum
				for _, ns := range []*wiretest.NS{n.client, n.server} {
					ns.Checksumming(t, "eth0", driver != "xdp")
				}
			}
			finish()
			p := n.run(t)
			leg := func() admin.Interface {
				t.Helper()
				var s admin.Status
				if err := admin.NewClient(socket).Get(t.Context(), admin.Path("status"), &s); err != nil {
					t.Fatal(err)
				}
				return s.Interfaces[1]
			}
			n.mustServe(t, 80)
			n.throughMTUs(t)
			await(t, "the new MTU", func() bool { return leg().MTU == 1400 })

			before := leg().TxDropped
			n.server.Down(t, "eth0")
			var wg sync.WaitGroup
			for range 4 { // their SYNs are for nobody
				wg.Go(func() { _, _ = n.request(t, 80) })
			}
			await(t, "frames that cannot be sent", func() bool { return leg().TxDropped > before })
			n.server.Up(t, "eth0")
			wg.Wait()
			await(t, "answers after the cable is whole again", func() bool {
				got, err := n.request(t, 80)
				return err == nil && strings.HasPrefix(got, "10.10.10.254:")
			})

			if err := n.naru.Handle().LinkDel(n.naru.Link(t, "eth1")); err != nil {
				t.Fatal(err)
			}
			if code := p.code(t); code != exitFailed || !strings.Contains(p.stderr.String(), "eth1") {
				t.Errorf("without eth1: exit code %d", code)
			}
			if n.hasFence(t) {
				t.Error("a fence is left behind")
			}
			wiretest.Veth(t, n.naru, "eth1", n.server, "eth0")
			n.naru.Addr(t, "eth1", "10.10.10.254/24")
			n.server.Addr(t, "eth0", "10.10.10.1/24")
			finish()
			p = n.run(t)
			n.mustServe(t, 80)
			if code := p.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// throughMTUs makes requests while the MTU of the backends' leg changes; it ends with 1400.
func (n *liveNet) throughMTUs(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, mtu := range []int{1300, 1500, 1280, 1400} {
			for _, end := range []struct {
				ns   *wiretest.NS
				name string
			}{{n.server, "eth0"}, {n.naru, "eth1"}} {
				if err := end.ns.Handle().LinkSetMTU(end.ns.Link(t, end.name), mtu); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	for changing := true; changing; {
		select {
		case <-done:
			changing = false
		default:
		}
		n.mustServe(t, 80)
	}
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}
