package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"naru/lab"
)

const (
	frameHead  = 14 + 20 + 8 // Ethernet, IPv4, UDP
	floodBatch = 64          // frames a call of sendmmsg
	portsOfOne = 60_000      // flows that share a source address
	firstPort  = 2048
	pace       = 500 * time.Microsecond // a sender with a rate sends what is due this often
)

// A flood are UDP datagrams from many sources to floodPort, sent from a packet socket of the client.
type flood struct {
	fd    int
	msgs  []unix.Mmsghdr
	iovs  []unix.Iovec
	sent  atomic.Uint64
	flows int
	size  int  // bytes a frame
	watch bool // number the flows that witnesses look at
}

// newFlood prepares frames of a size from as many flows, to an address via the balancer. size is that of a frame
// without its checksum, from smallFrame to 1514. It must run in the client's namespace.
func newFlood(l Layout, to netip.Addr, size, flows int) (*flood, error) {
	leg, err := net.InterfaceByName(endLeg)
	if err != nil {
		return nil, fmt.Errorf("bench: flood: %w", err)
	}
	// Protocol 0: the socket receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("bench: flood: %w", err)
	}
	f := &flood{fd: fd, flows: flows, size: size, msgs: make([]unix.Mmsghdr, flows), iovs: make([]unix.Iovec, flows)}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: leg.Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bench: flood: %w", err)
	}
	all := make([]byte, size*flows)
	for i := range flows {
		frame := all[i*size : (i+1)*size]
		fillFrame(frame, l, to, i)
		f.iovs[i].Base = &frame[0]
		f.iovs[i].SetLen(size)
		f.msgs[i].Hdr.Iov = &f.iovs[i]
		f.msgs[i].Hdr.SetIovlen(1)
	}
	return f, nil
}

// flowSource returns the address and port that flow i comes from. Beyond the first portsOfOne the addresses are
// neighbours of the client's that nobody has: the flood wants no answer.
func flowSource(l Layout, i int) (netip.Addr, uint16) {
	a := l.clientAddr().As4()
	a[3] += byte(i / portsOfOne)
	return netip.AddrFrom4(a), uint16(firstPort + i%portsOfOne)
}

// fillFrame writes the frame of a flow. The payload begins with the flow's number and its complement.
func fillFrame(b []byte, l Layout, to netip.Addr, flow int) {
	src, port := flowSource(l, flow)
	dstMAC, srcMAC := lab.MAC(l.gateway()), lab.MAC(l.clientAddr())
	copy(b, dstMAC[:])
	copy(b[6:], srcMAC[:])
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[6] = 0x40 // DF
	copy(ip[12:], src.AsSlice())
	copy(ip[16:], to.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:20], 0))
	udp := ip[20:]
	binary.BigEndian.PutUint16(udp, port)
	binary.BigEndian.PutUint16(udp[2:], floodPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint32(b[flowAt:], uint32(flow))
	binary.BigEndian.PutUint32(b[flowAt+4:], ^uint32(flow))
	finishUDP(ip)
}

// finishUDP writes the checksum of a datagram into the packet that it is.
func finishUDP(ip []byte) {
	udp := ip[20:]
	udp[6], udp[7] = 0, 0
	sum := checksum(udp, pseudoHeader(ip, len(udp)))
	if sum == 0 {
		sum = 0xffff // RFC 768: 0 means none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
}

// pseudoHeader is the sum of what the UDP checksum covers beside the datagram.
func pseudoHeader(ip []byte, udpLen int) uint32 {
	sum := uint32(unix.IPPROTO_UDP + udpLen)
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	return sum
}

// send sends frames of all flows in turn, as many a second as rate says, 0: as many as it can.
func (f *flood) send(c *crew, rate float64) {
	start, at, sent := now(), 0, 0
	for !c.stop.Load() {
		due := floodBatch
		if rate > 0 {
			if due = int(rate*(now()-start).Seconds()) - sent; due <= 0 {
				sleepNow(pace)
				continue
			}
		}
		n := min(due, floodBatch, f.flows-at)
		if f.watch {
			f.number(at, n)
		}
		done, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(f.fd), uintptr(unsafe.Pointer(&f.msgs[at])),
			uintptr(n), 0, 0, 0)
		if e != 0 {
			done = 0 // a full queue: again
		}
		sent += int(done)
		f.sent.Add(uint64(done))
		if at += int(done); at == f.flows {
			at = 0
		}
	}
	runtime.KeepAlive(f)
}

func (f *flood) close() { unix.Close(f.fd) }

// arrived returns how many packets of floods have come to the servers so far.
func (n *network) arrived() (sum uint64, err error) {
	for _, s := range n.sinks {
		c, err := s.count()
		if err != nil {
			return 0, err
		}
		sum += c
	}
	return sum, nil
}
