package kernel

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

type testNS struct{ h netns.NsHandle }

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if strings.Contains(os.Getenv("NARU_REQUIRE"), "root") {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func newNS(t *testing.T) *testNS {
	t.Helper()
	needRoot(t)
	type result struct {
		h   netns.NsHandle
		err error
	}
	c := make(chan result)
	go func() { // the locked thread dies with the goroutine
		runtime.LockOSThread()
		h, err := netns.New()
		c <- result{h, err}
	}()
	r := <-c
	if r.err != nil {
		t.Fatal(r.err)
	}
	ns := &testNS{r.h}
	t.Cleanup(func() { _ = ns.h.Close() })
	ns.Do(t, func() {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return ns
}

func (ns *testNS) Do(t *testing.T, f func()) {
	t.Helper()
	done := make(chan bool, 1)
	go func() {
		finished := false
		defer func() { done <- finished }() // false also after t.Fatal
		runtime.LockOSThread()
		if err := netns.Set(ns.h); err != nil {
			t.Error(err)
			return
		}
		f()
		finished = true
	}()
	if !<-done {
		t.FailNow()
	}
}
