package dsr_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"naru/internal/link/afpacket"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// listen opens a UDP socket in a namespace; it is closed at the end of the test.
func listen(t *testing.T, n *wiretest.NS, address string) *net.UDPConn {
	t.Helper()
	var conn net.PacketConn
	n.Do(t, func() {
		var err error
		if conn, err = net.ListenPacket("udp", address); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

// ready waits until datagrams to a socket arrive: an IPv6 address takes its time.
func ready(t *testing.T, dev *afpacket.Device, f wiretest.Frame, to *net.UDPConn) {
	t.Helper()
	f.Payload = []byte("ready?")
	p := f.Packet(t)
	got := make([]byte, 100)
	for range 100 {
		if err := dev.Send([]*wire.Frame{&p.Frame}); err != nil {
			t.Fatal(err)
		}
		to.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := to.Read(got); err == nil {
			return
		}
	}
	t.Fatalf("nothing arrives at %v", to.LocalAddr())
}

// read returns the next datagram that is long.
func read(conn *net.UDPConn, b []byte) (n int, err error) {
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for n < 100 && err == nil {
		n, err = conn.Read(b)
	}
	return n, err
}

func TestTheKernelPutsFragmentsTogether(t *testing.T) {
	wiretest.Root(t)
	left, right := wiretest.NewNS(t, "left"), wiretest.NewNS(t, "right")
	wiretest.Veth(t, left, "v0", right, "v1")
	right.Addr(t, "v1", "198.51.100.1/24", "192.0.2.2/24", "2001:db8:1::1/64", "2001:db8::2/64")
	var dev *afpacket.Device
	left.Do(t, func() {
		var err error
		if dev, err = afpacket.Open("v0", afpacket.Options{}); err != nil {
			t.Fatal(err)
		}
	})
	defer dev.Close()
	v4, v6 := listen(t, right, "198.51.100.1:80"), listen(t, right, "[2001:db8:1::1]:80")
	mac := wire.MAC(right.Link(t, "v1").Attrs().HardwareAddr)
	for i, tc := range []struct {
		wiretest.Frame
		mtu  int
		to   *net.UDPConn
		twin bool // every fragment is cut once more
	}{
		{udp4(5000), 1500, v4, false},
		{udp4(5001), 577, v4, true},
		{udp4(65507), 1500, v4, false},
		{with(udp4(3000), func(f *wiretest.Frame) {
			f.Options = []layers.IPv4Option{{OptionType: 0x44, OptionLength: 4, OptionData: []byte{5, 0}},
				{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
		}), 600, v4, true},
		{udp6(5000), 1280, v6, false},
		{udp6(65000), 1281, v6, false},
	} {
		tc.DstMAC, tc.ID = mac, uint16(i+1)
		var frames []*wire.Frame
		add := func(d []byte) { p := wiretest.Packet(d); frames = append(frames, &p.Frame) }
		for _, d := range fragments(t, tc.Bytes(t), 14, tc.mtu, uint32(i+1)) {
			if !tc.twin {
				add(d)
				continue
			}
			for _, d := range fragments(t, d, 14, 500, 0) {
				add(d)
			}
		}
		for i, j := 0, len(frames)-1; i < j; i, j = i+1, j-1 { // the other way round, it must not matter
			frames[i], frames[j] = frames[j], frames[i]
		}
		ready(t, dev, tc.Frame, tc.to)
		if err := dev.Send(frames); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 1<<16)
		n, err := read(tc.to, got)
		if err != nil || !bytes.Equal(got[:n], tc.Payload) {
			t.Errorf("case %d: of %d bytes in %d fragments came %d: %v", i, len(tc.Payload), len(frames), n, err)
		}
	}
}
