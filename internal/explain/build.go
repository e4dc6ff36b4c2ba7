package explain

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"naru/forwarder"
	"naru/internal/wire"
)

// neighborMAC is where a frame comes from when nobody has said who its sender is.
var neighborMAC = wire.MAC{0x02, 0x00, 0x5e, 0x00, 0x00, 0x01}

const mssOption = 4 // bytes of TCP's option

// headers returns the bytes of the IP and transport headers.
func (p *Packet) headers() int {
	n := wire.IPv4Len
	if p.Src.Addr().Is6() {
		n = wire.IPv6Len
	}
	switch {
	case p.Proto == wire.ProtoTCP && p.MSS != 0:
		return n + wire.TCPLen + mssOption
	case p.Proto == wire.ProtoTCP:
		return n + wire.TCPLen
	default:
		return n + wire.UDPLen // of ICMP as well
	}
}

// Frame makes the frame of a packet and says by which leg of the configuration it comes in. The error says that the leg is
// not there.
func (p *Packet) Frame(cfg *forwarder.Config) (frame []byte, leg int, err error) {
	if leg, err = p.leg(cfg); err != nil {
		return nil, 0, err
	}
	from, next := neighborMAC, p.Src.Addr()
	if r := route(cfg, next); r != nil && r.Gateway.IsValid() {
		next = r.Gateway
	}
	for _, n := range cfg.Neighbors {
		if n.Leg == leg && n.Addr == next {
			from = n.MAC
		}
	}
	frame = append(frame, cfg.Legs[leg].MAC[:]...)
	frame = append(frame, from[:]...)
	kind := uint16(wire.TypeIPv4)
	if p.Src.Addr().Is6() {
		kind = wire.TypeIPv6
	}
	return append(binary.BigEndian.AppendUint16(frame, kind), p.ip()...), leg, nil
}

// leg is the one that is named, or the one that leads to the source, or the first.
func (p *Packet) leg(cfg *forwarder.Config) (int, error) {
	if p.Leg != "" {
		i := slices.IndexFunc(cfg.Legs, func(l forwarder.Leg) bool { return l.Name == p.Leg })
		if i < 0 {
			var names []string
			for _, l := range cfg.Legs {
				names = append(names, l.Name)
			}
			return 0, fmt.Errorf("packet: there is no interface %q; there are %v", p.Leg, names)
		}
		return i, nil
	}
	if r := route(cfg, p.Src.Addr()); r != nil && r.Leg >= 0 {
		return r.Leg, nil
	}
	return max(0, slices.IndexFunc(cfg.Legs, func(l forwarder.Leg) bool { return l.Client })), nil
}

// route is the longest match.
func route(cfg *forwarder.Config, to netip.Addr) (best *forwarder.Route) {
	for i := range cfg.Routes {
		if r := &cfg.Routes[i]; r.Prefix.Contains(to) && (best == nil || r.Prefix.Bits() > best.Prefix.Bits()) {
			best = r
		}
	}
	return best
}

// ip makes the IP packet, its checksums right.
func (p *Packet) ip() []byte {
	be := binary.BigEndian
	t := p.transport()
	if p.Src.Addr().Is6() {
		ip := make([]byte, wire.IPv6Len, wire.IPv6Len+len(t))
		be.PutUint32(ip, 6<<28|uint32(p.DSCP)<<22)
		be.PutUint16(ip[4:], uint16(len(t)))
		ip[6], ip[7] = p.Proto, p.TTL
		copy(ip[8:], p.Src.Addr().AsSlice())
		copy(ip[24:], p.Dst.Addr().AsSlice())
		return p.seal(append(ip, t...), wire.IPv6Len)
	}
	ip := make([]byte, wire.IPv4Len, wire.IPv4Len+len(t))
	ip[0], ip[1] = 0x45, p.DSCP<<2
	be.PutUint16(ip[2:], uint16(len(ip)+len(t)))
	be.PutUint16(ip[4:], p.ID)
	if p.DF {
		ip[6] = 0x40
	}
	ip[8], ip[9] = p.TTL, p.Proto
	copy(ip[12:], p.Src.Addr().AsSlice())
	copy(ip[16:], p.Dst.Addr().AsSlice())
	be.PutUint16(ip[10:], ^wire.Fold(wire.Sum(ip, 0)))
	return p.seal(append(ip, t...), wire.IPv4Len)
}

// seal puts the transport's checksum in.
func (p *Packet) seal(ip []byte, l4 int) []byte {
	t := ip[l4:]
	at, sum := 2, uint64(0)
	switch p.Proto {
	case wire.ProtoTCP:
		at = 16
	case wire.ProtoUDP:
		at = 6
	}
	if p.Proto != wire.ProtoICMP {
		sum = wire.PseudoSum(ip, p.Proto, len(t))
	}
	c := ^wire.Fold(wire.Sum(t, sum))
	if p.Proto == wire.ProtoUDP && c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(t[at:], c)
	return ip
}

// transport makes the transport header and the payload, zeroes, without a checksum.
func (p *Packet) transport() []byte {
	be := binary.BigEndian
	switch p.Proto {
	case wire.ProtoTCP:
		t := make([]byte, wire.TCPLen, wire.TCPLen+mssOption+p.Payload)
		be.PutUint16(t, p.Src.Port())
		be.PutUint16(t[2:], p.Dst.Port())
		be.PutUint32(t[4:], p.Seq)
		be.PutUint32(t[8:], p.Ack)
		t[13] = p.Flags
		be.PutUint16(t[14:], p.Window)
		if p.MSS != 0 {
			t = append(t, 2, mssOption, byte(p.MSS>>8), byte(p.MSS))
		}
		t[12] = byte(len(t) / 4 << 4)
		return append(t, make([]byte, p.Payload)...)
	case wire.ProtoUDP:
		t := make([]byte, wire.UDPLen+p.Payload)
		be.PutUint16(t, p.Src.Port())
		be.PutUint16(t[2:], p.Dst.Port())
		be.PutUint16(t[4:], uint16(len(t)))
		return t
	default:
		t := make([]byte, wire.ICMPLen, wire.ICMPLen+p.Payload)
		t[0], t[1] = p.ICMPType, p.ICMPCode
		be.PutUint32(t[4:], p.ICMPMTU)
		if p.Quoted == nil {
			be.PutUint32(t[4:], 1<<16|1) // identifier and sequence number of an echo
			return append(t, make([]byte, p.Payload)...)
		}
		return append(t, p.Quoted.ip()...)
	}
}
