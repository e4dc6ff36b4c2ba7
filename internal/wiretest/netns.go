package wiretest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Root skips a test that needs root (network namespaces, packet sockets) where there is none; with "root" in the
// comma-separated environment variable NARU_REQUIRE the test fails instead.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const missing = "needs root for network namespaces and packet sockets (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW)"
	if Required("root") {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// Required reports whether NARU_REQUIRE lists what: a test must then fail where it would skip for the lack of it.
func Required(what string) bool {
	for _, w := range strings.Split(os.Getenv("NARU_REQUIRE"), ",") {
		if strings.TrimSpace(w) == what {
			return true
		}
	}
	return false
}

// NS is a network namespace of one test. It has no name in the file system: it ends with the last descriptor, socket
// or thread in it, so nothing stays behind however the test ends.
type NS struct {
	name string
	ns   netns.NsHandle
	nl   *netlink.Handle
}

// NewNS makes a network namespace with lo up and IPv6 without duplicate address detection (an address is usable at
// once). hint is what messages call it. It is gone at the end of the test, with all interfaces in it.
func NewNS(t testing.TB, hint string) *NS {
	t.Helper()
	n := &NS{name: fmt.Sprintf("%s-%d", hint, os.Getpid())}
	err := onThread(func() (err error) {
		n.ns, err = netns.New()
		return err
	})
	if err != nil {
		t.Fatalf("wiretest: namespace %s: %v", n.name, err)
	}
	t.Cleanup(func() { n.ns.Close() })
	if n.nl, err = netlink.NewHandleAt(n.ns, unix.NETLINK_ROUTE); err != nil {
		t.Fatalf("wiretest: namespace %s: netlink: %v", n.name, err)
	}
	t.Cleanup(n.nl.Close)
	n.Sysctl(t, "net/ipv6/conf/all/accept_dad", "0")
	n.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	n.Up(t, "lo")
	return n
}

// String returns the hint and the process id.
func (n *NS) String() string { return n.name }

// Handle returns a netlink handle in the namespace; it is closed at the end of the test.
func (n *NS) Handle() *netlink.Handle { return n.nl }

// FD returns the descriptor of the namespace, as setns(2) wants it; it is closed at the end of the test.
func (n *NS) FD() int { return int(n.ns) }

// Do runs f on a thread inside the namespace and waits for it. Sockets that f makes stay in the namespace wherever
// they are used afterwards; goroutines that f starts run outside of it. f may end the test (t.Fatal, t.Skip).
func (n *NS) Do(t testing.TB, f func()) {
	t.Helper()
	finished := false
	err := onThread(func() error {
		if err := netns.Set(n.ns); err != nil {
			return err
		}
		f()
		finished = true
		return nil
	})
	switch {
	case err != nil:
		t.Fatalf("wiretest: enter namespace %s: %v", n.name, err)
	case finished:
	case t.Skipped():
		t.SkipNow()
	default:
		t.FailNow()
	}
}

// onThread runs f in a goroutine with a thread of its own and puts the thread back where it came from. If that fails
// the thread stays locked and ends with the goroutine, so that no other goroutine lands in a foreign namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }() // also when f ends the goroutine
		runtime.LockOSThread()
		var home netns.NsHandle
		if home, err = netns.Get(); err != nil {
			return
		}
		defer func() {
			if netns.Set(home) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}()
		err = f()
	}()
	return <-done
}

// Veth joins two namespaces with a veth pair, both ends up, with the kernel's default offloads.
func Veth(t testing.TB, a *NS, nameA string, b *NS, nameB string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nameA
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerNamespace: netlink.NsFd(b.FD())}
	if err := a.nl.LinkAdd(veth); err != nil {
		t.Fatalf("wiretest: veth %s/%s - %s/%s: %v", a, nameA, b, nameB, err)
	}
	a.Up(t, nameA)
	b.Up(t, nameB)
}

// Link returns the interface with that name.
func (n *NS) Link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := n.nl.LinkByName(name)
	if err != nil {
		t.Fatalf("wiretest: %s/%s: %v", n, name, err)
	}
	return l
}

// Up sets the interface up.
func (n *NS) Up(t testing.TB, name string) {
	t.Helper()
	if err := n.nl.LinkSetUp(n.Link(t, name)); err != nil {
		t.Fatalf("wiretest: %s/%s: set up: %v", n, name, err)
	}
}

// Down sets the interface down.
func (n *NS) Down(t testing.TB, name string) {
	t.Helper()
	if err := n.nl.LinkSetDown(n.Link(t, name)); err != nil {
		t.Fatalf("wiretest: %s/%s: set down: %v", n, name, err)
	}
}

// Addr gives the interface addresses, IPv4 or IPv6, each with its prefix length ("10.0.0.1/24").
func (n *NS) Addr(t testing.TB, name string, prefixes ...string) {
	t.Helper()
	l := n.Link(t, name)
	for _, p := range prefixes {
		addr, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatalf("wiretest: %s/%s: address %s: %v", n, name, p, err)
		}
		if addr.IP.To4() == nil {
			addr.Flags |= unix.IFA_F_NODAD
		}
		if err := n.nl.AddrAdd(l, addr); err != nil {
			t.Fatalf("wiretest: %s/%s: address %s: %v", n, name, p, err)
		}
	}
}

// Sysctl writes a kernel parameter of the namespace, named by its path below /proc/sys ("net/ipv4/ip_forward").
func (n *NS) Sysctl(t testing.TB, path, value string) {
	t.Helper()
	n.Do(t, func() {
		if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0); err != nil {
			t.Fatalf("wiretest: %s: %v", n, err)
		}
	})
}
