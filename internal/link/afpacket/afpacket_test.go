package afpacket

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"naru/internal/link"
	"naru/internal/link/linktest"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// quiet makes a namespace whose kernel sends nothing by itself: no IPv6, so no router solicitations and no MLD.
func quiet(t *testing.T, hint string) *wiretest.NS {
	t.Helper()
	wiretest.Root(t)
	n := wiretest.NewNS(t, hint)
	n.Sysctl(t, "net/ipv6/conf/all/disable_ipv6", "1")
	n.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	return n
}

// open opens a device in a namespace; it is closed at the end of the test.
func open(t *testing.T, n *wiretest.NS, name string, opt Options) *Device {
	t.Helper()
	var d *Device
	n.Do(t, func() {
		var err error
		if d, err = Open(name, opt); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { d.Close() })
	return d
}

// wired returns two namespaces joined by v0 - v1.
func wired(t *testing.T) (a, b *wiretest.NS) {
	t.Helper()
	a, b = quiet(t, "a"), quiet(t, "b")
	wiretest.Veth(t, a, "v0", b, "v1")
	return a, b
}

func newSet(t *testing.T, devs ...*Device) link.Set {
	t.Helper()
	set, err := NewSet(Waiting{}, devs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

// drivers calls f with each driver.
func drivers(t *testing.T, f func(t *testing.T, driver Driver)) {
	t.Run("ring", func(t *testing.T) { f(t, Ring) })
	t.Run("mmsg", func(t *testing.T) { f(t, MMsg) })
}

// driver is what linktest needs.
func driver(opt Options, how Waiting) linktest.Driver {
	return linktest.Driver{
		Open: func(t *testing.T) (link.Device, link.Device) {
			a, b := wired(t)
			return open(t, a, "v0", opt), open(t, b, "v1", opt)
		},
		Set: func(t *testing.T, devs ...link.Device) link.Set {
			var ds []*Device
			for _, d := range devs {
				ds = append(ds, d.(*Device))
			}
			set, err := NewSet(how, ds...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { set.Close() })
			return set
		},
	}
}

func TestDevice(t *testing.T) {
	wiretest.Root(t)
	t.Run("ring", func(t *testing.T) {
		linktest.TestDevice(t, driver(Options{Driver: Ring, Slots: 600}, Waiting{}))
	})
	t.Run("mmsg", func(t *testing.T) {
		linktest.TestDevice(t, driver(Options{Driver: MMsg, Batch: 4}, Waiting{Spin: time.Millisecond}))
	})
}

func TestSetThatSpins(t *testing.T) {
	wiretest.Root(t)
	t.Run("for a while", func(t *testing.T) {
		linktest.TestSet(t, driver(Options{}, Waiting{Spin: time.Millisecond}))
	})
	t.Run("always", func(t *testing.T) { linktest.TestSet(t, driver(Options{}, Waiting{Busy: true})) })
}

// frame makes a frame of n bytes with a local experimental EtherType.
func frame(from, to *Device, n int, mark byte) *wire.Frame {
	f := &wire.Frame{Buf: make([]byte, wire.Headroom+max(n, wire.MinBuffer)), Off: wire.Headroom, Len: n}
	src, dst := from.Info().MAC, to.Info().MAC
	copy(f.Bytes(), dst[:])
	copy(f.Bytes()[6:], src[:])
	f.Bytes()[12], f.Bytes()[13], f.Bytes()[14] = 0x88, 0xb5, mark
	return f
}

func send(t *testing.T, d *Device, fs ...*wire.Frame) {
	t.Helper()
	if err := d.Send(fs); err != nil {
		t.Fatalf("Send: %v", err)
	}
}

// receive returns copies of the next n frames that arrive.
func receive(t *testing.T, d *Device, n int) []wire.Packet {
	t.Helper()
	set, err := NewSet(Waiting{}, d)
	if err != nil {
		t.Fatal(err)
	}
	var got []wire.Packet
	batch := make([]wire.Packet, 64)
	for end := time.Now().Add(10 * time.Second); len(got) < n && time.Now().Before(end); {
		k, err := d.Recv(batch[:min(len(batch), n-len(got))])
		if err != nil {
			t.Fatalf("Recv: %v", err)
		}
		for i := range batch[:k] {
			p := batch[i]
			p.Buf = append([]byte(nil), p.Buf...)
			got = append(got, p)
		}
		if k == 0 {
			set.Wait(20 * time.Millisecond)
		}
	}
	if len(got) != n {
		t.Fatalf("%d frames arrived, want %d", len(got), n)
	}
	return got
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	n := quiet(t, "open")
	other := quiet(t, "other")
	wiretest.Veth(t, n, "v0", other, "v1")
	wiretest.Veth(t, n, "down0", other, "down1")
	n.Down(t, "down0")
	for _, tc := range []struct{ name, want string }{
		{"nope0", "nope0: no such interface (there are: lo, "},
		{"nope0", "v0"},
		{"down0", "down0: interface is down"},
		{"lo", "lo: not an Ethernet interface"},
	} {
		n.Do(t, func() {
			d, err := Open(tc.name, Options{})
			if err == nil {
				d.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open(%q): %v, want %q in it", tc.name, err, tc.want)
			}
		})
	}
}

func TestOpenNeedsTheRawCapabilityAndNoOther(t *testing.T) {
	for _, tc := range []struct {
		name string
		caps uint32
		ok   bool
	}{
		{"no capability", 0, false},
		{"CAP_NET_RAW", 1 << unix.CAP_NET_RAW, true},
	} {
		a, _ := wired(t)
		a.Do(t, func() {
			d, err := openWith(t, tc.caps, "v0")
			if err == nil {
				d.Close()
			}
			if tc.ok && err != nil {
				t.Errorf("Open with %s: %v", tc.name, err)
			}
			if !tc.ok && (!errors.Is(err, os.ErrPermission) ||
				!strings.Contains(err.Error(), "needs CAP_NET_RAW (and CAP_NET_ADMIN)")) {
				t.Errorf("Open with %s: %v", tc.name, err)
			}
		})
	}
}

// openWith opens a device with these effective capabilities only. They belong to the thread, which is the caller's
// alone.
func openWith(t *testing.T, caps uint32, name string) (*Device, error) {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, few [2]unix.CapUserData
	if err := unix.Capget(&hdr, &all[0]); err != nil {
		t.Fatal(err)
	}
	few = all
	few[0].Effective, few[1].Effective = caps, 0
	if err := unix.Capset(&hdr, &few[0]); err != nil {
		t.Fatal(err)
	}
	d, err := Open(name, Options{})
	if err := unix.Capset(&hdr, &all[0]); err != nil {
		t.Fatal(err)
	}
	return d, err
}

// TestSocketsStayOutOfTheRuntimesPoller looks at every epoll instance of the process: one that watches our socket
// would wake a thread at each arrival.
func TestSocketsStayOutOfTheRuntimesPoller(t *testing.T) {
	a, _ := wired(t)
	d := open(t, a, "v0", Options{})
	watched := func() (n int) {
		var fd int
		d.rx.sock.control(func(f int) error { fd = f; return nil })
		files, err := filepath.Glob("/proc/self/fdinfo/*")
		if err != nil || len(files) == 0 {
			t.Fatalf("no descriptors: %v", err)
		}
		for _, file := range files {
			info, _ := os.ReadFile(file) // one that is closed meanwhile is none of ours
			for line := range strings.Lines(string(info)) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" && f[1] == strconv.Itoa(fd) {
					n++
				}
			}
		}
		return n
	}
	set := newSet(t, d)
	if err := set.Wait(time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if n := watched(); n != 0 {
		t.Errorf("%d epoll instances watch the socket of a set", n)
	}
}

func TestInterfaceDownIsNoErrorAndUpGoesOn(t *testing.T) {
	drivers(t, func(t *testing.T, driver Driver) {
		a, b := wired(t)
		da, db := open(t, a, "v0", Options{Driver: driver}), open(t, b, "v1", Options{Driver: driver})
		b.Down(t, "v1")
		batch := make([]wire.Packet, 4)
		for range 3 {
			if n, err := db.Recv(batch); n != 0 || err != nil {
				t.Errorf("Recv on an interface that is down = %d, %v", n, err)
			}
		}
		send(t, db, frame(db, da, 100, 1), frame(db, da, 100, 2))
		if got := db.Stats().TxDropped; got != 2 {
			t.Errorf("TxDropped on an interface that is down = %d, want 2", got)
		}
		b.Up(t, "v1")
		waitCarrier(t, a, "v0")
		send(t, da, frame(da, db, 100, 3))
		if got := receive(t, db, 1); got[0].Bytes()[14] != 3 {
			t.Error("another frame arrived")
		}
	})
}

// waitCarrier waits until the interface can send.
func waitCarrier(t *testing.T, n *wiretest.NS, name string) {
	t.Helper()
	for range 500 {
		if n.Link(t, name).Attrs().OperState == netlink.OperUp {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s/%s does not come up", n, name)
}

func TestInterfaceThatIsRemovedIsErrGone(t *testing.T) {
	drivers(t, func(t *testing.T, driver Driver) {
		a, b := wired(t)
		da, db := open(t, a, "v0", Options{Driver: driver}), open(t, b, "v1", Options{Driver: driver})
		set := newSet(t, db)
		if err := b.Handle().LinkDel(b.Link(t, "v1")); err != nil {
			t.Fatal(err)
		}
		if err := set.Wait(10 * time.Second); err != nil {
			t.Errorf("Wait: %v", err)
		}
		for range 2 {
			if _, err := db.Recv(make([]wire.Packet, 4)); !errors.Is(err, link.ErrGone) {
				t.Errorf("Recv on a removed interface: %v, want link.ErrGone", err)
			}
			if err := db.Send([]*wire.Frame{frame(db, da, 100, 1)}); !errors.Is(err, link.ErrGone) {
				t.Errorf("Send on a removed interface: %v, want link.ErrGone", err)
			}
			if err := db.Refresh(); !errors.Is(err, link.ErrGone) {
				t.Errorf("Refresh of a removed interface: %v, want link.ErrGone", err)
			}
		}
	})
}

func TestInterfaceRemovedAfterDownWasSeenIsErrGone(t *testing.T) {
	drivers(t, func(t *testing.T, driver Driver) {
		_, b := wired(t)
		db := open(t, b, "v1", Options{Driver: driver})
		b.Down(t, "v1")
		if _, err := db.Recv(make([]wire.Packet, 4)); err != nil {
			t.Fatal(err)
		}
		if err := b.Handle().LinkDel(b.Link(t, "v1")); err != nil {
			t.Fatal(err)
		}
		var err error
		for i := 0; i < 2*ringQuiet && err == nil; i++ { // a ring tells after a while, if nobody waits
			_, err = db.Recv(make([]wire.Packet, 4))
		}
		if !errors.Is(err, link.ErrGone) {
			t.Errorf("Recv on a removed interface: %v, want link.ErrGone", err)
		}
	})
}

func TestFramesThatFindNoRoomAreCountedAsMissed(t *testing.T) {
	for _, opt := range []Options{{Driver: Ring, Slots: 50}, {Driver: MMsg, RecvBuffer: 16 << 10}} {
		a, b := wired(t)
		da, db := open(t, a, "v0", Options{}), open(t, b, "v1", opt)
		const total = 200
		for i := range total {
			send(t, da, frame(da, db, 1000, byte(i)))
		}
		var got int
		batch := make([]wire.Packet, 64)
		for range 100 {
			n, err := db.Recv(batch)
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch[:n] {
				if mark := int(batch[i].Bytes()[14]); mark != got+i {
					t.Fatalf("frame %d arrives in place of %d", mark, got+i)
				}
			}
			got += n
			if s := db.Stats(); uint64(got)+s.RxMissed == total {
				break
			}
			time.Sleep(time.Millisecond)
		}
		db.Stats() // reading resets the kernel's counter, not ours
		if s := db.Stats(); got == 0 || s.RxMissed == 0 || s.RxFrames+s.RxMissed != total {
			t.Errorf("%+v: %d frames sent, %d received, Stats() = %+v", opt, total, got, s)
		}
		db.Recv(batch) // a ring's frames are lent until now
		send(t, da, frame(da, db, 1000, 201))
		if p := receive(t, db, 1); p[0].Bytes()[14] != 201 {
			t.Errorf("%+v: another frame arrives after the loss", opt)
		}
	}
}

func TestFrameThatDoesNotFitABufferIsCountedAsTruncated(t *testing.T) {
	a, b := wired(t)
	da, db := open(t, a, "v0", Options{}), open(t, b, "v1", Options{Driver: MMsg})
	for i := range db.rx.iovs {
		db.rx.iovs[i].SetLen(vnetLen + 500)
	}
	send(t, da, frame(da, db, 501, 1), frame(da, db, 500, 2), frame(da, db, 600, 3))
	got := receive(t, db, 1)
	if got[0].Len != 500 || got[0].Bytes()[14] != 2 {
		t.Errorf("a frame of %d bytes with mark %d arrived", got[0].Len, got[0].Bytes()[14])
	}
	db.Recv(make([]wire.Packet, 4))
	if s := db.Stats(); s.RxTruncated != 2 || s.RxFrames != 1 {
		t.Errorf("Stats() = %+v", s)
	}
}

// TestSuperFramesBeyondTheRingsBufferAreCountedAsTruncated fills the socket's queue with what is longer than a slot.
func TestSuperFramesBeyondTheRingsBufferAreCountedAsTruncated(t *testing.T) {
	a, b := wired(t)
	da, db := open(t, a, "v0", Options{}), open(t, b, "v1", Options{RecvBuffer: 20 << 10})
	var fs []*wire.Frame
	for i := range 20 {
		s := super(da, db, 20)
		binary.BigEndian.PutUint32(s.Bytes()[38:], uint32(i))
		fs = append(fs, s, frame(da, db, 100, byte(i)))
	}
	send(t, da, fs...)
	batch := make([]wire.Packet, 64)
	n, err := db.Recv(batch)
	if err != nil {
		t.Fatal(err)
	}
	s := db.Stats()
	if s.RxTruncated == 0 || s.RxTruncated == 20 || s.RxFrames != uint64(n) || s.RxFrames+s.RxTruncated != 40 {
		t.Errorf("Recv() = %d, Stats() = %+v", n, s)
	}
	small := 0
	for i, seq := range sequences(batch[:n]) {
		if seq >= 0 && (seq != small || batch[i].Len != fs[0].Len) {
			t.Errorf("super-frame %d of %d bytes arrives behind %d small ones", seq, batch[i].Len, small)
		}
		if seq < 0 {
			small++
		}
	}
}

// fanoutProgram returns the parity of the UDP source port; offsets count from the network header.
var fanoutProgram = []bpf.Instruction{
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 0, Size: 2},
	bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 1},
	bpf.RetA{},
}

func udp(from, to *Device, port uint16) *wire.Frame {
	f := frame(from, to, 60, 0)
	b := f.Bytes()
	b[12], b[13] = 0x08, 0x00
	b[14], b[17], b[22], b[23] = 0x45, 46, 64, 17
	b[34], b[35] = byte(port>>8), byte(port)
	return f
}

func TestFanoutGivesEachFrameToTheMemberThatTheProgramNames(t *testing.T) {
	a, b := wired(t)
	da := open(t, a, "v0", Options{})
	opt := Options{Fanout: &Fanout{Group: 77, Program: fanoutProgram}}
	members := []*Device{open(t, b, "v1", opt), open(t, b, "v1", opt)}
	for port := range uint16(20) {
		send(t, da, udp(da, members[0], 1000+port))
	}
	for parity, m := range members {
		for i, p := range receive(t, m, 10) {
			if got, want := int(p.Bytes()[34])<<8|int(p.Bytes()[35]), 1000+2*i+parity; got != want {
				t.Errorf("member %d, frame %d: port %d, want %d", parity, i, got, want)
			}
		}
	}
	// The tag makes a super-frame leave through the queueing discipline, where the kernel shows it to its taps.
	tagged := super(members[0], da, 2)
	tagged.TPID, tagged.TCI = 0x8100, 42
	send(t, members[0], udp(members[0], da, 2000), tagged)
	receive(t, da, 2)
	for i, m := range members {
		if n, err := m.Recv(make([]wire.Packet, 4)); n != 0 || err != nil {
			t.Errorf("member %d receives what the group sent: %d, %v", i, n, err)
		}
	}
}

// TestFanoutMembersKeepTheirNumbers takes the interface down, and sets another program.
func TestFanoutMembersKeepTheirNumbers(t *testing.T) {
	drivers(t, func(t *testing.T, driver Driver) {
		a, b := wired(t)
		da := open(t, a, "v0", Options{})
		// The result is the last byte of the source port.
		number := []bpf.Instruction{bpf.LoadMemShift{Off: 0}, bpf.LoadIndirect{Off: 1, Size: 1}, bpf.RetA{}}
		fanouts := []*Fanout{{Program: []bpf.Instruction{bpf.RetConstant{}}}, {Program: []bpf.Instruction{bpf.RetConstant{}}}}
		other := open(t, b, "v1", Options{Driver: driver, Fanout: fanouts[1]}) // a group of its own
		var members []*Device
		for range 3 {
			members = append(members, open(t, b, "v1", Options{Driver: driver, Fanout: fanouts[0]}))
		}
		if fanouts[0].Group == fanouts[1].Group {
			t.Fatalf("both groups have number %d", fanouts[0].Group)
		}
		raw, err := bpf.Assemble(number)
		if err != nil {
			t.Fatal(err)
		}
		if err := members[1].Steer(raw); err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"at first", "after the interface was down"} {
			for i := range uint16(9) {
				send(t, da, udp(da, members[0], 256+i%3))
			}
			for i, m := range members {
				for _, p := range receive(t, m, 3) {
					if got := int(p.Bytes()[35]); got != i {
						t.Errorf("%s: member %d receives what is member %d's", when, i, got)
					}
				}
			}
			receive(t, other, 9)
			b.Down(t, "v1")
			b.Up(t, "v1")
			batch := make([]wire.Packet, 8)
			for _, d := range append(members, other) {
				for range 3 { // what came with the change of the link, and its being down
					if _, err := d.Recv(batch); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if err := da.Steer(raw); err == nil {
			t.Error("a device that is in no group takes a program")
		}
		members[2].Close()
		if err := members[2].Steer(raw); !errors.Is(err, link.ErrClosed) {
			t.Errorf("Steer after Close: %v", err)
		}
	})
}

func TestFanoutWithoutProgramIsRefused(t *testing.T) {
	_, b := wired(t)
	b.Do(t, func() {
		d, err := Open("v1", Options{Fanout: &Fanout{Group: 1}})
		if err == nil {
			d.Close()
			t.Error("Open succeeded")
		}
	})
}

// TestJoinOpensTheFilterOfMacvlan runs over macvlan because veth does not filter at all. Its filter is a hash, so a
// group may come through by chance: the test takes one of several that does not.
func TestJoinOpensTheFilterOfMacvlan(t *testing.T) {
	a, b := wired(t)
	c := quiet(t, "c")
	mv := &netlink.Macvlan{LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.MACVLAN_MODE_BRIDGE}
	mv.Name, mv.ParentIndex, mv.Namespace = "m0", b.Link(t, "v1").Attrs().Index, netlink.NsFd(c.FD())
	if err := b.Handle().LinkAdd(mv); err != nil {
		t.Skipf("this kernel has no macvlan: %v", err)
	}
	c.Up(t, "m0")
	da, dc := open(t, a, "v0", Options{}), open(t, c, "m0", Options{})
	broadcast := [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

	to := func(mac [6]byte, mark byte) *wire.Frame {
		f := frame(da, dc, 100, mark)
		copy(f.Bytes(), mac[:])
		return f
	}
	var group *[6]byte
	for i := byte(1); i < 9 && group == nil; i++ {
		mac := [6]byte{0x33, 0x33, 0xff, i, 2 * i, 3 * i}
		send(t, da, to(mac, 1), to(broadcast, 2))
		if got := receive(t, dc, 1); got[0].Bytes()[14] == 2 {
			group = &mac
			continue
		}
		receive(t, dc, 1)
	}
	if group == nil {
		t.Fatal("every group came through before Join")
	}
	if err := dc.Join(*group); err != nil {
		t.Fatal(err)
	}
	send(t, da, to(*group, 3), to(broadcast, 4))
	got := receive(t, dc, 2)
	if got[0].Bytes()[14] != 3 || got[1].Bytes()[14] != 4 {
		t.Error("the frame to the group that was joined did not arrive")
	}
}

func TestMembershipsCountAndEndWithTheDevice(t *testing.T) {
	drivers(t, func(t *testing.T, driver Driver) {
		_, b := wired(t)
		d := open(t, b, "v1", Options{Driver: driver})
		group := [6]byte{0x33, 0x33, 0xff, 0x11, 0x22, 0x33}
		member := func() bool {
			var list []byte
			b.Do(t, func() {
				var err error
				if list, err = os.ReadFile("/proc/thread-self/net/dev_mcast"); err != nil {
					t.Fatal(err)
				}
			})
			return strings.Contains(string(list), "3333ff112233")
		}
		for _, step := range []struct {
			name string
			f    func() error
			want bool
		}{
			{"Join", func() error { return d.Join(group) }, true},
			{"Join again", func() error { return d.Join(group) }, true},
			{"Leave", func() error { return d.Leave(group) }, true},
			{"Leave again", func() error { return d.Leave(group) }, false},
			{"Join", func() error { return d.Join(group) }, true},
			{"Close", d.Close, false},
		} {
			if err := step.f(); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			if got := member(); got != step.want {
				t.Errorf("after %s the interface is in the group: %v, want %v", step.name, got, step.want)
			}
		}
	})
}

func TestRefreshSeesNewMTUAndName(t *testing.T) {
	a, _ := wired(t)
	d := open(t, a, "v0", Options{})
	h := a.Handle()
	if err := h.LinkSetMTU(a.Link(t, "v0"), 1400); err != nil {
		t.Fatal(err)
	}
	if err := h.LinkSetName(a.Link(t, "v0"), "renamed0"); err != nil {
		t.Skipf("this kernel does not rename an interface that is up: %v", err)
	}
	if got := d.Info().MTU; got != 1500 {
		t.Errorf("MTU before Refresh = %d", got)
	}
	if err := d.Refresh(); err != nil {
		t.Fatal(err)
	}
	if got := d.Info(); got.MTU != 1400 || got.Name != "renamed0" {
		t.Errorf("Info() after Refresh = %+v", got)
	}
	if !d.feat.Load().tcp4 {
		t.Error("features were not read under the new name")
	}
	d.Close()
	if err := d.Refresh(); !errors.Is(err, link.ErrClosed) {
		t.Errorf("Refresh after Close: %v", err)
	}
}
