package backend

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// playNaru makes the director's own traffic to the VIP travel as naru would send it; the director is the client too. In
// l2dsr a route does it: only the frame names the backend.
func (r *rig) playNaru(t *testing.T, tg Target) {
	t.Helper()
	leg := r.director.Link(t, directorLeg).Attrs().Index
	vip := &net.IPNet{IP: tg.VIP.AsSlice(), Mask: net.CIDRMask(tg.VIP.BitLen(), tg.VIP.BitLen())}
	route := &netlink.Route{LinkIndex: leg, Dst: vip, Gw: tg.Address.AsSlice()}
	if tg.tunnel() {
		route = &netlink.Route{LinkIndex: r.encapsulator(t, tg), Dst: vip, Src: own4.AsSlice()}
		if tg.VIP.Is6() {
			route.Src = own6.AsSlice()
		}
	}
	if err := r.director.Handle().RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	if tg.Way == DSCP {
		r.markAndReadress(t, tg)
	}
}

// markAndReadress is naru's part in dscp, done by the director's kernel behind its routing.
func (r *rig) markAndReadress(t *testing.T, tg Target) {
	t.Helper()
	n := networkOf(tg.VIP, tg.Code)
	exprs := append(n.family(), n.address(n.dst, tg.VIP)...)
	exprs = append(exprs,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{^n.dscpMask[0], ^n.dscpMask[1]}, Xor: n.dscpWord},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0,
			Len: 2, CsumType: n.csum, CsumOffset: n.csumOffset},
		&expr.Immediate{Register: 1, Data: tg.Address.AsSlice()},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader,
			Offset: n.dst, Len: n.len, CsumType: n.csum, CsumOffset: n.csumOffset, CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR})
	if err := in(t, r.director, func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "naru", Family: nftables.TableFamilyINet})
		conn.AddChain(&nftables.Chain{Name: "c", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityMangle})
		if err := conn.Flush(); err != nil {
			return err
		}
		return addRawOrNot(tg.VIP.Is6(), conn, table, exprs)
	}); err != nil {
		t.Fatal(err)
	}
}

func addRawOrNot(raw bool, conn *nftables.Conn, table *nftables.Table, exprs []expr.Any) error {
	if raw {
		return addRawRule(table.Name, "c", exprs, comment("test"))
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "c", Table: table}, Exprs: exprs})
	return conn.Flush()
}

// encapsulator is naru's part in a tunnel: a TUN device whose packets are wrapped and sent to the backend.
func (r *rig) encapsulator(t *testing.T, tg Target) (index int) {
	t.Helper()
	mac := wire.MAC(r.server.Link(t, serverLeg).Attrs().HardwareAddr)
	var f *os.File
	var seg *segment
	r.director.Do(t, func() {
		fd, err := unix.Open(tunFile, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := unix.NewIfreq("encap")
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			t.Fatal(err)
		}
		f = os.NewFile(uintptr(fd), "encap")
		l, err := netlink.LinkByName("encap")
		if err != nil {
			t.Fatal(err)
		}
		index = l.Attrs().Index
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		leg, err := netlink.LinkByName(directorLeg)
		if err != nil {
			t.Fatal(err)
		}
		if seg, err = openSegment(t.Context(), leg); err != nil {
			t.Fatal(err)
		}
	})
	from := own4
	if tg.Address.Is6() {
		from = own6
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			if innerProto(tg.VIP) == map[byte]uint8{4: protoIPv4, 6: protoIPv6}[buf[0]>>4] {
				_ = seg.send(mac, tg.wrap(from, 7, buf[:n])) // a packet that is too long is lost, as on a wire
			}
		}
	}()
	t.Cleanup(func() { f.Close(); <-done; seg.close() })
	return index
}

func TestTrafficWorksInEveryMode(t *testing.T) {
	for _, tg := range directWays() {
		t.Run(caseName(tg), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.server.Sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
			r.setup(t, tg)
			if tg.tunnel() {
				r.decap(t, DecapOptions{Mode: tg.Way, Port: tg.GUEPort, Local: []netip.Addr{tg.Address}, VIPs: []netip.Addr{tg.VIP},
					From: []netip.Prefix{netip.PrefixFrom(own4, 32), netip.PrefixFrom(own6, 128)}})
			}
			r.serve(t, tg.VIP.String())
			r.playNaru(t, tg)
			at := net.JoinHostPort(tg.VIP.String(), "80")
			r.director.Do(t, func() { tcpEcho(t, at); udpEcho(t, at, false) })
			if tg.VIP.Is4() {
				r.director.Do(t, func() { udpEcho(t, at, true) })
			}
		})
	}
}

// tcpEcho sends a megabyte and wants it back.
func tcpEcho(t *testing.T, at string) {
	c, err := net.DialTimeout("tcp", at, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() { _, _ = c.Write(want) }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("TCP: %v; equal %t", err, bytes.Equal(got, want))
	}
}

// udpEcho sends a datagram, on wish without a checksum, and wants it back.
func udpEcho(t *testing.T, at string, noSum bool) {
	c, err := net.DialTimeout("udp", at, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if noSum {
		rc, err := c.(*net.UDPConn).SyscallConn()
		if err == nil {
			err = rc.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 100)
	for range 5 {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("naru"))
		n, err := c.Read(got)
		if err == nil && string(got[:n]) == "naru" {
			return
		}
	}
	t.Errorf("UDP, no checksum %t: no reply", noSum)
}

func TestOuterFragmentsArePutTogetherAndStrangersRefused(t *testing.T) {
	r := newRig(t)
	tg := target(IPIP, vip4, backend4)
	r.setup(t, tg)
	d := r.decap(t, DecapOptions{Mode: IPIP, VIPs: []netip.Addr{vip4}, From: []netip.Prefix{netip.PrefixFrom(own4, 32)}})
	mac := wire.MAC(r.server.Link(t, serverLeg).Attrs().HardwareAddr)
	r.director.Do(t, func() {
		l, err := netlink.LinkByName(directorLeg)
		if err != nil {
			t.Fatal(err)
		}
		seg, err := openSegment(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		defer seg.close()
		proto, echo := echoRequest(vip4, 1, 1, 1480)
		outer := tg.wrap(own4, 1, buildIP(head{src: own4, dst: vip4, proto: proto}, echo))
		for _, f := range halves(outer) {
			if err := seg.send(mac, f); err != nil {
				t.Fatal(err)
			}
		}
		a, err := seg.read(2*time.Second, func(a *answer) bool { return a.proto == wire.ProtoICMP && a.src == vip4 })
		if err != nil || a == nil {
			t.Errorf("no reply to a packet in fragments: %v", err)
		}
		stranger := tg.wrap(netip.MustParseAddr("10.0.0.99"), 1, inner(client4, vip4, nil))
		nested := tg.wrap(own4, 1, tg.wrap(own4, 1, inner(client4, vip4, nil)))
		for _, b := range [][]byte{stranger, nested} {
			if err := seg.send(mac, b); err != nil {
				t.Fatal(err)
			}
		}
	})
	want := map[string]uint64{"delivered": 1, "outer_source": 1, "nested": 1, "received": 3}
	for range 100 {
		bad := false
		for _, c := range d.Counters() {
			bad = bad || c.Packets != want[c.Name]
		}
		if !bad {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("counters %v", d.Counters())
}

// halves cuts an IPv4 packet into two fragments.
func halves(b []byte) [][]byte {
	const cut = 800
	var out [][]byte
	for i, part := range [][]byte{b[20 : 20+cut], b[20+cut:]} {
		f := append(append([]byte{}, b[:20]...), part...)
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		binary.BigEndian.PutUint16(f[4:], 4242)
		binary.BigEndian.PutUint16(f[6:], []uint16{0x2000, cut / 8}[i])
		f[10], f[11] = 0, 0
		binary.BigEndian.PutUint16(f[10:], ^wire.Fold(wire.Sum(f[:20], 0)))
		out = append(out, f)
	}
	return out
}
