package main

import (
	"net"
	"strings"
	"syscall"
	"testing"

	"naru/internal/wiretest"
)

// TestXDPTakesOnlyWhatIsNarus serves by XDP, in the NAT modes, while this host's own connections go on by its kernel,
// without a fence.
func TestXDPTakesOnlyWhatIsNarus(t *testing.T) {
	for _, mode := range []struct {
		name string
		net  func(*testing.T) *liveNet
		text string
	}{{"fullnat", newLiveNet, liveConfig}, {"nat", newNATNet, natConfig}} {
		t.Run(mode.name, func(t *testing.T) {
			n := mode.net(t)
			for _, ns := range []*wiretest.NS{n.client, n.server} {
				ns.Checksumming(t, "eth0", false) // XDP has no words for an unfinished checksum
			}
			n.write(t, strings.Replace(mode.text, "version: 1", "version: 1\nio: {driver: xdp}", 1))
			n.naru.Do(t, func() {
				l, err := net.Listen("tcp", "192.0.2.2:8080")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { l.Close() })
				go echo(l)
			})
			p := n.run(t)
			p.waitFor(t, "XDP takes segmentation offload (TSO)")
			if n.hasFence(t) {
				t.Error("there is a fence though XDP takes away what is naru's")
			}
			through := func() {
				if mode.name == "fullnat" {
					n.mustServe(t, 80)
				} else {
					n.dial(t, "192.0.2.25:80").say(t, "through the VIP")
				}
			}
			for range 20 {
				through()
			}
			n.dial(t, "192.0.2.2:8080").say(t, "to the kernel") // this host itself
			n.write(t, mode.text)
			p.signal(t, syscall.SIGHUP)
			p.waitFor(t, "io: a change needs a restart of naru")
			through()
			if code := p.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
			n.dial(t, "192.0.2.2:8080").say(t, "to the kernel again")
		})
	}
}
