package afxdp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"naru/internal/link/afpacket"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

const xdpRedirect = 4

var owns = Owned{
	Whole:    []netip.Addr{netip.MustParseAddr("200.100.50.25"), netip.MustParseAddr("2001:db8::25")},
	Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.64/28"), netip.MustParsePrefix("2001:db8:2::/64")},
	Ports: []Ports{
		{netip.MustParseAddr("10.0.0.1"), wire.ProtoTCP, 1024, 1030}, {netip.MustParseAddr("2001:db8::1"), wire.ProtoUDP, 53, 53},
	},
	Replies: []Ports{
		{netip.MustParseAddr("10.10.10.1"), wire.ProtoTCP, 80, 81}, {netip.MustParseAddr("2001:db8:1::1"), wire.ProtoUDP, 53, 53},
	},
	Hosts: []netip.Addr{netip.MustParseAddr("10.10.10.254"), netip.MustParseAddr("2001:db8:1::fe")},
}

// programs returns the programs of two interfaces, the second of which looks at replies.
func programs(t *testing.T) (x *Interfaces, client, backend *ebpf.Program) {
	wiretest.Root(t)
	n := wiretest.NewNS(t, "x")
	wiretest.Veth(t, n, "v0", n, "v1")
	n.Do(t, func() {
		var opts []Options
		for _, name := range []string{"v0", "v1"} {
			tap, err := afpacket.Open(name, afpacket.Options{Driver: afpacket.MMsg})
			if err != nil {
				t.Fatal(err)
			}
			opts = append(opts, Options{Beside: tap, Replies: name == "v1"})
		}
		var err error
		if x, err = Open(Waiting{}, opts...); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { x.Close() })
	return x, x.programs[0], x.programs[1]
}

// takes runs a program over a frame and reports whether naru gets it.
func takes(t *testing.T, p *ebpf.Program, frame []byte) bool {
	t.Helper()
	got, _, err := p.Test(frame)
	if err != nil {
		t.Fatal(err)
	}
	if got != xdpPass && got != xdpRedirect {
		t.Fatalf("the program returns %d", got)
	}
	return got == xdpRedirect
}

func TestTheProgramPicksOutWhatIsOwned(t *testing.T) {
	x, client, backend := programs(t)
	if err := x.Own(owns); err != nil {
		t.Fatal(err)
	}
	type f = wiretest.Frame
	for _, tc := range []struct {
		name            string
		frame           f
		client, backend bool
	}{
		{"a VIP, TCP", f{Src: "10.20.40.80:1", Dst: "200.100.50.25:80", TCP: "S"}, true, true},
		{"a VIP, a port that nobody serves", f{Src: "10.20.40.80:1", Dst: "200.100.50.25:9", UDP: true}, true, true},
		{"an IPv6 VIP", f{Src: "[2001:db8:9::1]:1", Dst: "[2001:db8::25]:80", TCP: "S"}, true, true},
		{"somebody else", f{Src: "10.20.40.80:1", Dst: "200.100.50.26:80", TCP: "S"}, false, false},
		{"an address of the prefix", f{Src: "10.20.40.80:1", Dst: "192.0.2.70:80", TCP: "S"}, true, true},
		{"an address behind the prefix", f{Src: "10.20.40.80:1", Dst: "192.0.2.80:80", TCP: "S"}, false, false},
		{"a local port", f{Src: "10.10.10.2:80", Dst: "10.0.0.1:1030", TCP: "A"}, true, true},
		{"a port of the kernel's", f{Src: "10.10.10.2:80", Dst: "10.0.0.1:1031", TCP: "A"}, false, false},
		{"a local port, the other protocol", f{Src: "10.10.10.2:80", Dst: "10.0.0.1:1030", UDP: true}, false, false},
		{"a port of an IPv6 address", f{Src: "[2001:db8:9::1]:1", Dst: "[2001:db8::1]:53", UDP: true}, true, true},
		{"a reply", f{Src: "10.10.10.1:80", Dst: "10.20.40.80:1", TCP: "A"}, false, true},
		{"a reply to this host", f{Src: "10.10.10.1:80", Dst: "10.10.10.254:1", TCP: "A"}, false, false},
		{"what a backend sends of its own", f{Src: "10.10.10.1:4000", Dst: "10.20.40.80:1", TCP: "A"}, false, false},
		{"a reply over IPv6", f{Src: "[2001:db8:1::1]:53", Dst: "[2001:db8:9::1]:1", UDP: true}, false, true},
		{"an IPv6 reply to this host", f{Src: "[2001:db8:1::1]:53", Dst: "[2001:db8:1::fe]:1", UDP: true}, false, false},
	} {
		for _, tagged := range []bool{false, true} {
			d := tc.frame.Bytes(t)
			if tagged {
				d = append(append(append([]byte(nil), d[:12]...), 0x81, 0, 0, 42), d[12:]...)
			}
			if got := takes(t, client, d); got != tc.client {
				t.Errorf("%s, tagged %v, client side: taken %v", tc.name, tagged, got)
			}
			if got := takes(t, backend, d); got != tc.backend {
				t.Errorf("%s, tagged %v, backend side: taken %v", tc.name, tagged, got)
			}
		}
	}
}

func TestFragmentsErrorsAndGroups(t *testing.T) {
	x, _, backend := programs(t)
	if err := x.Own(owns); err != nil {
		t.Fatal(err)
	}
	reply := wiretest.Frame{Src: "10.10.10.1:80", Dst: "10.20.40.80:1", TCP: "A"}.Bytes(t)
	edit := func(d []byte, at int, b ...byte) []byte {
		d = append([]byte(nil), d...)
		copy(d[at:], b)
		return d
	}
	own := wiretest.Frame{Src: "10.10.10.1:4000", Dst: "10.20.40.80:1", TCP: "A"}.Bytes(t)
	for _, tc := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"a reply to a group's MAC address", edit(reply, 0, 0xff), false},
		{"a later fragment", edit(own, 20, 0x00, 0x10), true},
		{"a first fragment of its own", edit(own, 20, 0x20, 0x00), false},
		{"ICMP unreachable", edit(own, 23, 1, 0, 0, 10, 10, 10, 1, 10, 20, 40, 80, 3), true},
		{"an echo request", edit(own, 23, 1, 0, 0, 10, 10, 10, 1, 10, 20, 40, 80, 8), false},
		{"ARP", edit(own, 12, 8, 6), false},
		{"nothing behind the Ethernet header", own[:14], false},
		{"half an IP header", own[:24], false},
	} {
		if got := takes(t, backend, tc.frame); got != tc.want {
			t.Errorf("%s: taken %v", tc.name, got)
		}
	}
}

// What is owned changes while the program runs; what is no longer owned is the kernel's again.
func TestTheProgramAndTheMapsAgreeOnRandomPackets(t *testing.T) {
	x, client, _ := programs(t)
	r := rand.New(rand.NewPCG(1, 2))
	frame := wiretest.Frame{Src: "10.20.40.80:1", Dst: "200.100.50.25:80", TCP: "S"}.Bytes(t)
	for range 20 {
		var o Owned
		for range 1 + r.IntN(8) {
			o.Whole = append(o.Whole, netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}))
			o.Ports = append(o.Ports, Ports{netip.AddrFrom4([4]byte{10, 0, 1, byte(r.IntN(4))}), wire.ProtoTCP, 80, 80 + uint16(r.IntN(3))})
		}
		if err := x.Own(o); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			dst, port := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(16))}), uint16(79+r.IntN(5))
			a := dst.As4()
			copy(frame[30:], a[:])
			binary.BigEndian.PutUint16(frame[36:], port)
			want := addrs(o.Whole)[dst.As16()]
			for _, p := range o.Ports {
				want = want || p.Addr == dst && p.Lo <= port && port <= p.Hi
			}
			if got := takes(t, client, frame); got != want {
				t.Fatalf("to %v port %d with %+v: taken %v", dst, port, o, got)
			}
		}
	}
}

// TestAnAddressThatMovesBetweenMapsStaysOwned asks the program all the time while a VIP becomes one that is shared, and back.
func TestAnAddressThatMovesBetweenMapsStaysOwned(t *testing.T) {
	x, client, _ := programs(t)
	vip := netip.MustParseAddr("200.100.50.25")
	frame := wiretest.Frame{Src: "10.20.40.80:1", Dst: "200.100.50.25:80", TCP: "S"}.Bytes(t)
	whole := Owned{Whole: []netip.Addr{vip}}
	shared := Owned{Ports: []Ports{{vip, wire.ProtoTCP, 80, 80}, {vip, wire.ProtoTCP, 20000, 26000}}}
	if err := x.Own(whole); err != nil {
		t.Fatal(err)
	}
	changed := make(chan error)
	go func() {
		for range 4 {
			for _, o := range []Owned{shared, whole} {
				if err := x.Own(o); err != nil {
					changed <- err
					return
				}
			}
		}
		changed <- nil
	}()
	for asked := 0; ; asked++ {
		select {
		case err := <-changed:
			if err != nil || asked < 20 {
				t.Errorf("asked %d times, %v", asked, err)
			}
			return
		default:
		}
		if !takes(t, client, frame) {
			t.Error("for a moment the kernel gets a packet to the VIP")
			<-changed
			return
		}
	}
}

// TestWhatNoSocketServesIsLost: what is naru's must not come to the kernel, which would answer, on a queue that is new.
func TestWhatNoSocketServesIsLost(t *testing.T) {
	x, client, _ := programs(t)
	if err := x.Own(owns); err != nil {
		t.Fatal(err)
	}
	if err := x.tables[0].Delete(uint32(0)); err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]uint32{"200.100.50.25:80": xdpDrop, "200.100.50.26:80": xdpPass} {
		got, _, err := client.Test(wiretest.Frame{Src: "10.20.40.80:1", Dst: dst, TCP: "S"}.Bytes(t))
		if err != nil || got != want {
			t.Errorf("to %s: %d, %v, want %d", dst, got, err, want)
		}
	}
}
