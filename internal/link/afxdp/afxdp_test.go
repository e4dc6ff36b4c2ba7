package afxdp_test

import (
	"testing"

	"golang.org/x/net/bpf"

	"naru/internal/link"
	"naru/internal/link/afpacket"
	"naru/internal/link/afxdp"
	"naru/internal/link/linktest"
	"naru/internal/wiretest"
)

// nothing lets no frame in.
var nothing = []bpf.RawInstruction{{Op: 0x06, K: 0}}

// quiet makes a namespace whose kernel sends nothing by itself.
func quiet(t *testing.T, hint string) *wiretest.NS {
	t.Helper()
	wiretest.Root(t)
	n := wiretest.NewNS(t, hint)
	n.Sysctl(t, "net/ipv6/conf/all/disable_ipv6", "1")
	n.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	return n
}

// open opens interfaces with taps beside them.
func open(t *testing.T, n *wiretest.NS, filter []bpf.RawInstruction, opt afxdp.Options, names ...string) *afxdp.Interfaces {
	t.Helper()
	var x *afxdp.Interfaces
	n.Do(t, func() {
		var opts []afxdp.Options
		for _, name := range names {
			tap, err := afpacket.Open(name, afpacket.Options{Driver: afpacket.MMsg, Filter: filter})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tap.Close() })
			opt.Beside = tap
			opts = append(opts, opt)
		}
		var err error
		if x, err = afxdp.Open(afxdp.Waiting{}, opts...); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { x.Close() })
	return x
}

func TestDevice(t *testing.T) {
	for name, generic := range map[string]bool{"native": false, "generic": true} {
		t.Run(name, func(t *testing.T) {
			var x *afxdp.Interfaces
			linktest.TestDevice(t, linktest.Driver{
				Plain: true,
				Open: func(t *testing.T) (link.Device, link.Device) {
					n := quiet(t, "x")
					wiretest.Veth(t, n, "v0", n, "v1")
					x = open(t, n, nothing, afxdp.Options{Everything: true, Generic: generic}, "v0", "v1")
					if got := x.Devices[1].Mode(); got.Native == generic || got.ZeroCopy || got.Queues != 1 {
						t.Fatalf("a veth runs as %v", got)
					}
					return x.Devices[0], x.Devices[1]
				},
				Set: func(t *testing.T, devs ...link.Device) link.Set {
					set := x.Set()
					set.Devices = devs
					return set
				},
			})
		})
	}
}

func TestSupportedTellsSoftwareFromHardware(t *testing.T) {
	n := quiet(t, "x")
	wiretest.Veth(t, n, "v0", n, "v1")
	n.Do(t, func() {
		got, err := afxdp.Supported("v0")
		if want := (afxdp.Support{Native: true, Fits: true}); err != nil || got != want {
			t.Errorf("a veth: %+v, %v; want %+v", got, err, want)
		}
		if got, err := afxdp.Supported("lo"); err != nil || got.Native || got.Physical {
			t.Errorf("lo: %+v, %v", got, err)
		}
		if _, err := afxdp.Supported("none0"); err == nil {
			t.Error("an interface that is not there has features")
		}
	})
}
