package replay

import (
	"encoding/binary"

	"naru/forwarder"
	"naru/internal/compile"
	"naru/internal/config"
	"naru/internal/wire"
)

// legs says where packets arrive.
type legs struct {
	byName   map[string]uint8
	backends map[wire.Addr]uint8 // the leg that a backend is behind
	vips     map[wire.Addr]bool
	ofMAC    map[wire.MAC]uint8 // the same by MAC address
	client   uint8
	mac      [][6]byte
	mtu      []int
}

func (l *legs) set(cfg *config.Config, compiled *forwarder.Config) {
	*l = legs{byName: map[string]uint8{}, backends: map[wire.Addr]uint8{}, vips: map[wire.Addr]bool{},
		ofMAC:  map[wire.MAC]uint8{},
		client: uint8(compile.LegOf(cfg, "backend"))}
	for i, leg := range compiled.Legs {
		l.byName[leg.Name] = uint8(i)
		l.mac, l.mtu = append(l.mac, leg.MAC), append(l.mtu, leg.MTU)
	}
	for _, n := range compiled.Neighbors {
		l.backends[wire.AddrFrom(n.Addr)], l.ofMAC[n.MAC] = uint8(n.Leg), uint8(n.Leg)
	}
	for _, v := range compiled.VIPs {
		l.vips[wire.AddrFrom(v.Addr)] = true
	}
}

// fate is what becomes of a captured frame before the engine sees it.
type fate uint8

const (
	toNaru   fate = iota
	passesBy      // it never comes near naru
	handled       // a simulated end has taken it over
)

// arrives finds the leg on which a captured frame arrives, and who has sent it.
func (r *Replay) arrives(f *wire.Packet, ifname string) (src wire.Addr, known bool) {
	l := &r.legs
	f.Leg = l.client
	src, known = source(f)
	if leg, ok := l.byName[ifname]; ok && ifname != "" {
		f.Leg = leg
	} else if leg, ok := l.backends[src]; ok && known {
		f.Leg = leg
	}
	return src, known
}

// prepare makes a captured frame, of which so many bytes are missing, one that arrives at naru: on a leg, with its MAC
// address, answers of the VIP as the backend's.
func (r *Replay) prepare(f *wire.Packet, ifname string, missing int) fate {
	l := &r.legs
	src, known := r.arrives(f, ifname)
	if known && r.opt.Backends != AsCaptured && l.vips[src] {
		if where := r.answer(f); where != toNaru {
			return where
		}
	}
	if r.sim != nil && f.Leg == l.client && r.sim.client(f) {
		return handled
	}
	r.adopt(f)
	if missing > 0 {
		f.Offload.Flags, f.Offload.CsumOffset = wire.Cut, uint16(missing)
	}
	return toNaru
}

// adopt sends a frame to naru's MAC address, and tells of a super-frame that it is one.
func (r *Replay) adopt(f *wire.Packet) {
	d := f.Bytes()
	if len(d) < wire.EthernetLen {
		return
	}
	if d[0]&1 == 0 {
		copy(d, r.legs.mac[f.Leg][:])
	}
	if len(d) > wire.EthernetLen+r.legs.mtu[f.Leg] {
		superFrame(f, r.legs.mtu[f.Leg])
	}
}

// superFrame fills in what a device would have said of a TCP segment that is longer than the MTU.
func superFrame(f *wire.Packet, mtu int) {
	p := *f
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Version == 0 ||
		p.Frag != wire.Whole || p.Proto != wire.ProtoTCP || p.End-p.L3 <= mtu || p.End > 65535 {
		return
	}
	t := p.Transport()
	header := p.L4 + int(t[12]>>4)*4
	size := mtu - (header - p.L3)
	if size <= 0 || p.End-header <= size {
		return
	}
	f.Offload = wire.Offload{GSOType: wire.GSOTCPv4, HdrLen: uint16(header), GSOSize: uint16(size)}
	if p.Version == 6 {
		f.Offload.GSOType = wire.GSOTCPv6
	}
}

// source returns the address that an IP packet comes from, or an ARP packet speaks for.
func source(f *wire.Packet) (a wire.Addr, ok bool) {
	d := f.Bytes()
	if len(d) < wire.EthernetLen+wire.IPv4Len {
		return a, false
	}
	etherType, at := binary.BigEndian.Uint16(d[12:]), wire.EthernetLen
	if etherType == wire.TypeVLAN || etherType == wire.TypeQinQ {
		p := wire.Packet{Frame: f.Frame}
		if p.ParseLink() != wire.ReasonNone {
			return a, false
		}
		etherType, at = p.EtherType, p.L3
	}
	d = d[at:]
	switch {
	case etherType == wire.TypeIPv4 && len(d) >= wire.IPv4Len:
		return wire.Addr4(d[12:]), true
	case etherType == wire.TypeIPv6 && len(d) >= wire.IPv6Len:
		return wire.Addr6(d[8:]), true
	case etherType == wire.TypeARP && len(d) >= wire.ARPLen:
		return wire.Addr4(d[14:]), true
	}
	return a, false
}
