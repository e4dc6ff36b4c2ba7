package wiretest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"naru/internal/wire"
)

// oracleServices bounds the services that are made of one capture, and firstBackendPort is that of the first. Each
// has a backend port of its own, so that a client port that two services see clashes nowhere.
const (
	oracleServices   = 64
	firstBackendPort = 8080
)

// OracleStep is one packet to put in.
type OracleStep struct {
	Number int // of the packet in its capture
	Side   Side
	Frame  []byte
	// Client is the client's end of the connection that the packet belongs to or quotes; invalid for later fragments.
	Client netip.AddrPort
}

// conversation is a pair of ends, whichever sent first.
type conversation struct {
	low, high netip.AddrPort
	proto     uint8
}

func conversationOf(v *ipView) conversation {
	if v.src.Compare(v.dst) > 0 {
		return conversation{v.dst, v.src, v.proto}
	}
	return conversation{v.src, v.dst, v.proto}
}

// oracleAdapter makes services of a capture, and of its packets what a balancer in the middle would have seen.
type oracleAdapter struct {
	server   map[conversation]netip.AddrPort
	services []OracleService
	snat     bool // backends speak with the oracle's local address
	begun    map[conversation]bool
}

// AdaptCapture chooses the services that a capture speaks with, the busiest first, and returns them with the packets
// of the capture that belong to them, in order. Replies come from the backend to the oracle's local address and the
// client's port, and so does what an ICMP error quotes. Checksums are adapted: what was wrong stays wrong. The
// frames have no MAC addresses yet; see Oracle.Address.
func AdaptCapture(packets []Captured) (services []OracleService, steps []OracleStep) {
	return adapt(packets, true)
}

// AdaptCaptureDNAT is AdaptCapture for NewDNATOracle: replies go to the client, and so does what an ICMP error quotes. What
// a server sends before its client is left out: to the kernel it would begin a connection of the backend's own.
func AdaptCaptureDNAT(packets []Captured) (services []OracleService, steps []OracleStep) {
	return adapt(packets, false)
}

func adapt(packets []Captured, snat bool) (services []OracleService, steps []OracleStep) {
	a := oracleAdapter{server: map[conversation]netip.AddrPort{}, snat: snat, begun: map[conversation]bool{}}
	a.choose(packets)
	for i := range packets {
		if s, ok := a.step(&packets[i]); ok {
			steps = append(steps, s)
		}
	}
	return a.services, steps
}

// Address writes the MAC addresses with which a frame comes in on a side of the oracle.
func (o *Oracle) Address(in Side, frame []byte) {
	copy(frame[:6], o.macs[in][:])
	copy(frame[6:12], OracleNeighbors[in][:])
}

// servers says who is the server of each conversation: who gets the first SYN, else who has the lower port, else who
// is spoken to first. It counts packets.
func (a *oracleAdapter) servers(packets []Captured) map[conversation]int {
	count := map[conversation]int{}
	bySYN := map[conversation]bool{}
	for i := range packets {
		v, ok := viewIP(untagged(packets[i].Frame))
		if !ok || !v.ported {
			continue
		}
		c := conversationOf(&v)
		count[c]++
		syn := v.proto == wire.ProtoTCP && len(v.ip) > v.l4+13 && v.ip[v.l4+13]&(wire.SYN|wire.ACK) == wire.SYN
		_, known := a.server[c]
		switch {
		case syn && !bySYN[c]:
			a.server[c], bySYN[c] = v.dst, true
		case known:
		case v.src.Port() < v.dst.Port():
			a.server[c] = v.src
		default:
			a.server[c] = v.dst
		}
	}
	return count
}

// choose picks services so that no VIP is a client of another: an address that naru owns never comes as a source.
func (a *oracleAdapter) choose(packets []Captured) {
	type candidate struct {
		vip     netip.AddrPort
		proto   uint8
		clients map[netip.Addr]bool
		packets int
	}
	var list []*candidate
	for c, n := range a.servers(packets) {
		vip, client := a.server[c], c.low
		if client == vip {
			client = c.high
		}
		i := slices.IndexFunc(list, func(k *candidate) bool { return k.vip == vip && k.proto == c.proto })
		if i < 0 {
			i, list = len(list), append(list, &candidate{vip: vip, proto: c.proto, clients: map[netip.Addr]bool{}})
		}
		list[i].packets += n
		list[i].clients[client.Addr()] = true
	}
	slices.SortFunc(list, func(x, y *candidate) int {
		return cmp.Or(cmp.Compare(y.packets, x.packets), x.vip.Compare(y.vip), cmp.Compare(x.proto, y.proto))
	})
	vips, clients := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, k := range list {
		vip := k.vip.Addr()
		unfit := !vip.IsGlobalUnicast() || vip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || clients[vip]
		for client := range k.clients {
			unfit = unfit || vips[client]
		}
		if unfit || len(a.services) == oracleServices {
			continue
		}
		vips[vip] = true
		for client := range k.clients {
			clients[client] = true
		}
		backend := OracleIPv6.Backend
		if vip.Is4() {
			backend = OracleIPv4.Backend
		}
		a.services = append(a.services, OracleService{VIP: k.vip, Proto: k.proto,
			Backend: netip.AddrPortFrom(backend, firstBackendPort+uint16(len(a.services)))})
	}
}

// find returns the service that has an end of a conversation as its VIP.
func (a *oracleAdapter) find(v *ipView, end netip.AddrPort) *OracleService {
	for i := range a.services {
		if s := &a.services[i]; s.VIP == end && s.Proto == v.proto && a.server[conversationOf(v)] == end {
			return s
		}
	}
	return nil
}

// step turns a captured packet into one that the balancer sees; false means that it is none of its business.
func (a *oracleAdapter) step(p *Captured) (OracleStep, bool) {
	ip := untagged(p.Frame)
	v, ok := viewIP(ip)
	if !ok {
		return OracleStep{}, false
	}
	s := OracleStep{Number: p.Number}
	etherType := binary.BigEndian.AppendUint16(make([]byte, 12, wire.EthernetLen+len(ip)), wire.TypeIPv6)
	if v.v4 {
		binary.BigEndian.PutUint16(etherType[12:], wire.TypeIPv4)
	}
	s.Frame = append(etherType, ip...)
	v, _ = viewIP(s.Frame[wire.EthernetLen:])
	switch t := v.ip[v.l4:]; {
	case v.later:
		return s, a.laterFragment(&v, &s)
	case v.ported:
		return s, a.segment(&v, &s)
	case v.icmpError(t):
		return s, a.icmpError(&v, &s)
	}
	return s, false
}

func (a *oracleAdapter) segment(v *ipView, s *OracleStep) bool {
	if a.find(v, v.dst) != nil {
		s.Client = v.src
		a.begun[conversationOf(v)] = true
		return true
	}
	service := a.find(v, v.src)
	if service == nil || !a.snat && !a.begun[conversationOf(v)] {
		return false
	}
	s.Side, s.Client = BackendSide, v.dst
	v.readdress(service.Backend, netip.AddrPortFrom(a.local(v.dst), v.dst.Port()))
	return true
}

// laterFragment goes by addresses alone: the first service with the VIP.
func (a *oracleAdapter) laterFragment(v *ipView, s *OracleStep) bool {
	for i := range a.services {
		service := &a.services[i]
		switch vip := service.VIP.Addr(); {
		case service.Proto != v.proto:
		case vip == v.dst.Addr():
			return true
		case vip == v.src.Addr():
			s.Side = BackendSide
			v.readdress(service.Backend, netip.AddrPortFrom(a.local(v.dst), 0))
			return true
		}
	}
	return false
}

// icmpError is about a reply, and comes from the clients' side as it is, or about a packet to the VIP; then its
// quote must be what the backend's side had seen.
func (a *oracleAdapter) icmpError(v *ipView, s *OracleStep) bool {
	q, ok := viewIP(v.ip[v.l4+wire.ICMPLen : max(min(v.end, len(v.ip)), v.l4+wire.ICMPLen)])
	if !ok || !q.ported {
		return false
	}
	if service := a.find(&q, q.src); service != nil {
		s.Client = q.dst
		return v.dst.Addr() == service.VIP.Addr()
	}
	service := a.find(&q, q.dst)
	if service == nil {
		return false
	}
	s.Side, s.Client = BackendSide, q.src
	right := wrongTransport(v.ip[:min(v.end, len(v.ip))]) == nil
	local := a.local(q.src)
	q.readdress(netip.AddrPortFrom(local, q.src.Port()), service.Backend)
	from := v.src
	if from.Addr() == service.VIP.Addr() {
		from = netip.AddrPortFrom(service.Backend.Addr(), 0)
	}
	v.readdress(from, netip.AddrPortFrom(local, 0))
	if right {
		v.sealICMP()
	}
	return true
}

// local returns the address that backends have a client's packets from.
func (a *oracleAdapter) local(client netip.AddrPort) netip.Addr {
	switch {
	case !a.snat:
		return client.Addr()
	case client.Addr().Is4():
		return OracleIPv4.Local
	default:
		return OracleIPv6.Local
	}
}

// readdress writes the ends of a packet and adapts the checksums that are there, by RFC 1624 in its plainest form.
func (v *ipView) readdress(src, dst netip.AddrPort) {
	at := 8
	if v.v4 {
		at = 12
	}
	addrs := v.ip[at : at+2*src.Addr().BitLen()/8]
	oldAddrs := bytes.Clone(addrs)
	copy(addrs, append(src.Addr().AsSlice(), dst.Addr().AsSlice()...))
	if v.v4 {
		adjust(v.ip[10:12], oldAddrs, addrs)
	}
	v.src = netip.AddrPortFrom(src.Addr(), v.src.Port())
	v.dst = netip.AddrPortFrom(dst.Addr(), v.dst.Port())
	if !v.ported {
		return
	}
	ports := v.ip[v.l4 : v.l4+4]
	oldPorts := bytes.Clone(ports)
	binary.BigEndian.PutUint16(ports, src.Port())
	binary.BigEndian.PutUint16(ports[2:], dst.Port())
	sumAt := v.l4 + 16
	if v.proto == wire.ProtoUDP {
		sumAt = v.l4 + 6
	}
	if len(v.ip) < sumAt+2 {
		return
	}
	sum := v.ip[sumAt : sumAt+2]
	if v.proto == wire.ProtoUDP && sum[0] == 0 && sum[1] == 0 {
		return
	}
	adjust(sum, oldAddrs, addrs)
	adjust(sum, oldPorts, ports)
	if v.proto == wire.ProtoUDP && sum[0] == 0 && sum[1] == 0 {
		sum[0], sum[1] = 0xff, 0xff
	}
}

// adjust changes a checksum for bytes that changed.
func adjust(sum, old, now []byte) {
	s := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(old); i += 2 {
		s += uint32(^binary.BigEndian.Uint16(old[i:])) + uint32(binary.BigEndian.Uint16(now[i:]))
	}
	binary.BigEndian.PutUint16(sum, ^slowFold(s))
}

func (v *ipView) sealICMP() {
	t := v.ip[v.l4:min(v.end, len(v.ip))]
	t[2], t[3] = 0, 0
	var pseudo uint32
	if !v.v4 {
		pseudo = slowSum(v.ip[8:40], uint32(len(t)+wire.ProtoICMPv6))
	}
	binary.BigEndian.PutUint16(t[2:], ^slowFold(slowSum(t, pseudo)))
}
