package afxdp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"naru/internal/link/afpacket"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// wired opens the two ends of a veth pair that has so many queues at each end; what is to 192.0.2.0/24 is owned.
func wired(t *testing.T, queues uint32) (n *wiretest.NS, a, b *Device) {
	n = cable(t, queues)
	a, b = opened(t, n)
	return n, a, b
}

// cable makes the pair.
func cable(t *testing.T, queues uint32) *wiretest.NS {
	wiretest.Root(t)
	n := wiretest.NewNS(t, "x")
	n.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = "v0", int(queues), int(queues)
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "v1", PeerNumTxQueues: queues, PeerNumRxQueues: queues}
	if err := n.Handle().LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	n.Up(t, "v0")
	n.Up(t, "v1")
	return n
}

// opened opens its ends.
func opened(t *testing.T, n *wiretest.NS) (a, b *Device) {
	var x *Interfaces
	n.Do(t, func() {
		var opts []Options
		for _, name := range []string{"v0", "v1"} {
			tap, err := afpacket.Open(name, afpacket.Options{Driver: afpacket.MMsg, Filter: BesideFilter()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { tap.Close() })
			opts = append(opts, Options{Beside: tap})
		}
		var err error
		if x, err = Open(Waiting{}, opts...); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { x.Close() })
	if err := x.Own(Owned{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}); err != nil {
		t.Fatal(err)
	}
	return x.Devices[0], x.Devices[1]
}

// ours is a frame to d that the program picks out; with beside it goes to the kernel.
func ours(t *testing.T, d *Device, n int, beside bool) *wire.Frame {
	f := wiretest.Frame{Src: "10.0.0.1:1", Dst: "192.0.2.9:80", UDP: true, DstMAC: d.Info().MAC, Payload: make([]byte, n)}.Packet(t).Frame
	if beside {
		binary.BigEndian.PutUint16(f.Bytes()[12:], wire.TypeARP)
	}
	return &f
}

// account looks whether every chunk is in one place. It returns how many the kernel has to send, and how many are lent.
func account(t *testing.T, m *memory) (sending, lending int) {
	t.Helper()
	free := make([]int, len(m.uses))
	for _, n := range m.free {
		free[n]++
	}
	for n, u := range m.uses {
		want := 0
		switch {
		case u == idle:
			want = 1
		case u == sent:
			sending++
		case u >= lent:
			lending++
		}
		if free[n] != want {
			t.Fatalf("chunk %d, of use %d, is %d times among the free", n, u, free[n])
		}
	}
	return sending, lending
}

// TestNoChunkIsLost moves frames in every way in which a chunk changes hands.
func TestNoChunkIsLost(t *testing.T) {
	_, a, b := wired(t, 1)
	m := a.x.memory
	r := rand.New(rand.NewPCG(1, 2))
	batch := make([]wire.Packet, 64)
	devs := []*Device{a, b}
	var came, beside int
	for round := range 2000 {
		from := devs[r.IntN(2)]
		to := devs[r.IntN(2)]
		if round%3 == 0 {
			var fresh []*wire.Frame
			for range r.IntN(100) {
				fresh = append(fresh, ours(t, to, r.IntN(1400), r.IntN(8) == 0))
			}
			if err := from.Send(fresh); err != nil {
				t.Fatal(err)
			}
		}
		n, err := to.Recv(batch[:r.IntN(65)])
		if err != nil {
			t.Fatal(err)
		}
		came += n
		var onward []*wire.Frame
		for i := range batch[:n] {
			f := &batch[i].Frame
			if _, chunk := m.find(f.Buf); !chunk {
				beside++
			}
			switch r.IntN(8) {
			case 0: // dropped
				continue
			case 1:
				f.TPID, f.TCI = wire.TypeVLAN, 7
			case 2: // a tunnel's header
				head := f.Off - 20
				copy(f.Buf[head:], f.Bytes()[:34])
				f.Off, f.Len = head, f.Len+20
			case 3:
				f.Offload = wire.Offload{Flags: wire.NeedsCsum, CsumStart: 34, CsumOffset: 6}
			case 4:
				f.Offload = wire.Offload{GSOType: wire.GSOUDPL4, GSOSize: 100}
			case 5: // a copy
				c := *f
				c.Buf = append([]byte(nil), f.Buf...)
				f = &c
			case 6: // twice
				onward = append(onward, f)
			}
			onward = append(onward, f)
		}
		if err := devs[r.IntN(2)].Send(onward); err != nil {
			t.Fatal(err)
		}
		if round%50 == 0 {
			account(t, m)
		}
	}
	for end := time.Now().Add(5 * time.Second); ; {
		n := 0
		for _, d := range devs {
			k, err := d.Recv(batch)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
		sending, lending := account(t, m)
		if n+sending+lending == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("with nothing under way %d chunks are being sent and %d lent", sending, lending)
		}
	}
	if came < 15_000 || beside < 300 {
		t.Errorf("%d frames came, %d of them beside", came, beside)
	}
	for _, d := range devs {
		if st := d.Stats(); st.TxDropped < 300 {
			t.Errorf("%s: %+v", d.name, st)
		}
	}
}

// TestALentChunkIsGivenBackOnce sends a chunk, which comes back by the other device before the first one receives again.
func TestALentChunkIsGivenBackOnce(t *testing.T) {
	_, a, b := wired(t, 1)
	m := a.x.memory
	n, _ := m.get(a.lends)
	a.lent = append(a.lent, n)
	m.put(n) // it was sent, and is idle again
	if again, _ := m.get(b.lends); again != n {
		t.Fatalf("chunk %d is lent, want %d", again, n)
	}
	b.lent = append(b.lent, n)
	batch := make([]wire.Packet, 1)
	for i, d := range []*Device{a, b} {
		if _, err := d.Recv(batch); err != nil {
			t.Fatal(err)
		}
		if _, lending := account(t, m); lending != 1-i {
			t.Errorf("after %s received: %d chunks lent", d.name, lending)
		}
	}
}

// TestOverload fills the rings with nobody receiving: what does not fit is counted, and afterwards everything works.
func TestOverload(t *testing.T) {
	_, a, b := wired(t, 1)
	m := a.x.memory
	var fs []*wire.Frame
	for range 64 {
		fs = append(fs, ours(t, b, 100, false))
	}
	const total = 200 * 64
	for range 200 {
		if err := a.Send(fs); err != nil {
			t.Fatal(err)
		}
	}
	batch := make([]wire.Packet, 64)
	drain := func() (n int) {
		for idle := 0; idle < 100; idle++ {
			k, err := b.Recv(batch)
			if err != nil {
				t.Fatal(err)
			}
			if n += k; k > 0 {
				idle = 0
			}
			time.Sleep(10 * time.Microsecond)
		}
		return n
	}
	n := drain()
	if missed := b.Stats().RxMissed; n < ringSize/2 || uint64(n)+missed+a.Stats().TxDropped != total {
		t.Errorf("%d came, %d were missed, %d not sent, of %d", n, missed, a.Stats().TxDropped, total)
	}
	for range 10 {
		if err := a.Send(fs); err != nil {
			t.Fatal(err)
		}
		if n := drain(); n != len(fs) {
			t.Fatalf("after the overload %d of %d frames came", n, len(fs))
		}
	}
	if _, err := a.Recv(batch); err != nil {
		t.Fatal(err)
	}
	if sending, lending := account(t, m); sending+lending > 0 {
		t.Errorf("%d chunks are being sent and %d lent", sending, lending)
	}
}

// TestDownAndUp takes the interface down and up, and its carrier away.
func TestDownAndUp(t *testing.T) {
	n, a, b := wired(t, 1)
	batch := make([]wire.Packet, 64)
	exchange := func(when string) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); ; {
			if err := a.Send([]*wire.Frame{ours(t, b, 300, false)}); err != nil {
				t.Fatal(when, err)
			}
			k, err := b.Recv(batch)
			if err != nil {
				t.Fatal(when, err)
			}
			if k > 0 && batch[0].Len == 342 {
				return
			}
			if time.Now().After(end) {
				t.Fatal(when, ": nothing arrives")
			}
		}
	}
	exchange("at first")
	for _, name := range []string{"v0", "v1"} {
		before := a.Stats()
		n.Down(t, name)
		for range 100 {
			if err := a.Send([]*wire.Frame{ours(t, b, 100, false)}); err != nil {
				t.Fatal(err)
			}
			for _, d := range []*Device{a, b} {
				if _, err := d.Recv(batch); err != nil {
					t.Fatal(err)
				}
			}
		}
		st := a.Stats()
		// One may be in the ring.
		if dropped := st.TxDropped - before.TxDropped; dropped < 99 || dropped+st.TxFrames-before.TxFrames != 100 {
			t.Errorf("%s down: %d of 100 frames dropped, %d sent", name, dropped, st.TxFrames-before.TxFrames)
		}
		n.Up(t, name)
		exchange(name + " up again")
	}
}

func TestEveryQueueHasASocket(t *testing.T) {
	_, a, b := wired(t, 2)
	if a.mode.Queues != 2 || len(b.socks) != 2 {
		t.Fatalf("%d queues, %d sockets", a.mode.Queues, len(b.socks))
	}
	// A veth keeps the number of the queue, and an AF_XDP socket sends on its own one.
	got := map[int]int{}
	for flow := range 64 {
		f := ours(t, b, 50, false)
		binary.BigEndian.PutUint16(f.Bytes()[34:], uint16(flow))
		s := a.socks[flow%2]
		if !a.post(s, f) {
			t.Fatal("no chunk")
		}
		if err := a.flush(s); err != nil {
			t.Fatal(err)
		}
	}
	batch := make([]wire.Packet, 64)
	for end := time.Now().Add(5 * time.Second); len(got) < 64 && time.Now().Before(end); {
		k, err := b.Recv(batch)
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch[:k] {
			got[int(binary.BigEndian.Uint16(batch[i].Bytes()[34:]))]++
		}
	}
	if len(got) != 64 {
		t.Errorf("%d of 64 frames came", len(got))
	}
	for _, s := range b.socks {
		if s.rx.own == 0 {
			t.Error("a queue had no frame")
		}
	}
}
