package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"naru/internal/config"
	"naru/internal/director"
	"naru/internal/link"
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

// TestAutoIsRingWhereXDPCannotBeOpened: suits stands for network cards that share their memory, which are not here.
func TestAutoIsRingWhereXDPCannotBeOpened(t *testing.T) {
	n := newLiveNet(t)
	cfg, _, err := config.Load("naru.yaml", []byte(liveConfig))
	if err != nil {
		t.Fatal(err)
	}
	fits := func(*config.Config) bool { return true }
	attached := func() bool {
		x := n.naru.Link(t, "eth1").Attrs().Xdp
		return x != nil && x.Attached
	}
	ring := errors.New("ring was asked for")
	var log bytes.Buffer
	options := func() director.Options {
		return director.Options{Log: slog.New(slog.NewTextHandler(&log, nil)),
			Open: func(int, int) (link.Set, error) { return link.Set{}, ring }}
	}
	n.naru.Do(t, func() {
		opt, places := options(), runtime.GOMAXPROCS(0)
		defer runtime.GOMAXPROCS(places)
		drop := useXDP(cfg, &opt, fits)
		if n := runtime.GOMAXPROCS(0); n != places+1 { // else a worker that sleeps would take one from the others
			t.Errorf("%d places in the runtime, %d before", n, places)
		}
		if set, err := opt.Open(0, 1); err != nil || len(set.Devices) != 2 || opt.Own == nil || !attached() || log.Len() == 0 {
			t.Errorf("where XDP can be opened: %v, %v, log %s", set, err, &log)
		}
		if drop(); attached() {
			t.Error("the program is still there")
		}
		if err := n.naru.Handle().LinkSetMTU(n.naru.Link(t, "eth0"), 9000); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		opt = options()
		drop = useXDP(cfg, &opt, fits)
		if _, err := opt.Open(0, 1); err != ring || opt.Own != nil || attached() {
			t.Errorf("where XDP cannot be opened: %v", err)
		}
		if !strings.Contains(log.String(), "io.driver: auto would be xdp here") || !strings.Contains(log.String(), "eth0") {
			t.Errorf("the log says %s", &log)
		}
		drop()
		cfg.IO.Driver = "xdp"
		opt = options()
		defer useXDP(cfg, &opt, fits)()
		if _, err := opt.Open(0, 1); err == nil || !strings.Contains(err.Error(), "io.driver: ring") {
			t.Errorf("xdp that the file asks for: %v", err)
		}
	})
}
