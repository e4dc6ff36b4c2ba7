package backend

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"naru/internal/wire"
)

// solicit asks the segment who has an address; from is ours, of the same family.
func (d *doctor) solicit(from, target netip.Addr) error {
	if target.Is4() {
		return d.seg.send(wire.Broadcast, arpRequest(d.seg.mac, from, target))
	}
	b, group := neighbourSolicit(d.seg.mac, from, target)
	return d.seg.send(group, b)
}

// segment makes sure that a backend of L2DSR can be reached by its MAC address at all.
func (d *doctor) segment() (bool, error) {
	if d.onLink || d.t.Way != L2DSR {
		return true, nil
	}
	d.add(Check{Status: Fail, Name: "segment", Text: fmt.Sprintf("%s is behind the router %s", d.t.Address, d.hop),
		Cause:  d.t.Backend + " is on no segment of this machine, and mode l2dsr changes nothing but MAC addresses",
		Effect: "the router sends packets to the VIP back here, or drops them: clients get no answer",
		Fix:    "mode: l3dsr, l3dsr: {encap: ipip}   # in service " + d.t.Service + "; or give it a segment with naru"})
	return false, nil
}

// neighbour finds the MAC address of the next hop.
func (d *doctor) neighbour() (bool, error) {
	a, err := d.seg.ask(d.opt.Timeout, func() error { return d.solicit(d.own, d.hop) },
		func(a *answer) bool { return a.neighbour && a.subject == d.hop })
	if err != nil {
		return false, err
	}
	name := "arp"
	if d.hop.Is6() {
		name = "nd"
	}
	if a != nil {
		if d.hopMAC = a.subjectMAC; d.hopMAC == (wire.MAC{}) {
			d.hopMAC = a.mac
		}
		d.alive = d.onLink
		d.ok(name, "%s answers as %s", d.hop, net.HardwareAddr(d.hopMAC[:]))
		return true, nil
	}
	c := Check{Status: Fail, Name: name, Text: fmt.Sprintf("%s does not answer on %s", d.hop, d.seg.name),
		Cause:  fmt.Sprintf("%s is down, or not on the segment of %s, or has another address", d.t.Backend, d.seg.name),
		Effect: "naru cannot send to it and drops what is for it: neigh_unresolved",
		Fix:    fmt.Sprintf("ip link; ip addr   # on %s: is the interface up, and is %s on it?", d.t.Backend, d.hop)}
	if !d.onLink {
		c.Cause = fmt.Sprintf("the router in front of %s is down, or not on the segment of %s", d.t.Backend, d.seg.name)
		c.Fix = fmt.Sprintf("ip route get %s   # here: is %s the right router?", d.t.Address, d.hop)
	}
	d.add(c)
	return false, nil
}

// rivals finds out who answers for the VIP besides naru. This host does not hear itself.
func (d *doctor) rivals() (bool, error) {
	if !d.onLink && d.t.direct() {
		return true, nil // nobody asks there for the VIP but the backend's own router
	}
	from := d.client
	if err := d.solicit(from, d.t.VIP); err != nil {
		return false, err
	}
	var macs []wire.MAC
	_, err := d.seg.read(d.opt.Timeout/tries, func(a *answer) bool {
		if a.neighbour && a.subject == d.t.VIP && !slices.Contains(macs, a.mac) {
			macs = append(macs, a.mac)
		}
		return false
	})
	if err != nil {
		return false, err
	}
	d.judgeRivals(macs)
	return true, nil
}

func (d *doctor) judgeRivals(macs []wire.MAC) {
	name := "arp"
	if d.t.VIP.Is6() {
		name = "nd"
	}
	if slices.Contains(macs, d.hopMAC) && d.onLink {
		d.add(Check{Status: Fail, Name: name,
			Text:   fmt.Sprintf("%s answers for %s as %s", d.t.Backend, d.t.VIP, net.HardwareAddr(d.hopMAC[:])),
			Cause:  fmt.Sprintf("the VIP on %s is not silent: it is on an interface, or arp_ignore is 0", d.t.Backend),
			Effect: "routers may send the VIP's packets to this backend alone, past naru",
			Fix:    d.silence()})
		return
	}
	var others []string
	for _, mac := range macs {
		others = append(others, d.nameOf(mac))
	}
	switch {
	case len(macs) == 0:
		d.ok(name, "nobody but this host answers for %s", d.t.VIP)
	case len(macs) == 1 && !d.opt.Director:
		d.ok(name, "%s answers for %s: the director, if naru runs there", others[0], d.t.VIP)
	default:
		d.add(Check{Status: Fail, Name: name,
			Text:   fmt.Sprintf("more than one machine answers for %s: %s", d.t.VIP, strings.Join(others, ", ")),
			Cause:  "another machine holds the VIP: a second director, or a backend that is not silent",
			Effect: "routers send the VIP's packets now here, now there",
			Fix:    "ip addr show to " + d.t.VIP.String() + "   # on the machine with that MAC address; take the VIP off it, or silence ARP"})
	}
}

// silence is the command that keeps the backend from answering for the VIP.
func (d *doctor) silence() string {
	if d.t.VIP.Is6() {
		return fmt.Sprintf("ip addr del %s dev IFACE; ip addr add %[1]s/128 dev lo   # on %s; all of it: %s",
			d.t.VIP, d.t.Backend, d.setup())
	}
	return fmt.Sprintf("sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2   # on %s; all of it: %s",
		d.t.Backend, d.setup())
}

// nameOf returns a MAC address with whose it is, as far as the neighbour table and the configuration tell.
func (d *doctor) nameOf(mac wire.MAC) string {
	text := net.HardwareAddr(mac[:]).String()
	list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return text
	}
	for _, n := range list {
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		virtual := slices.ContainsFunc(d.opt.Others, func(o Target) bool { return o.VIP == ip })
		if !ok || n.HardwareAddr.String() != text || ip == d.t.VIP || virtual {
			continue
		}
		for _, o := range d.opt.Others {
			if o.Address == ip {
				return fmt.Sprintf("%s (%s)", text, o.Backend)
			}
		}
		return fmt.Sprintf("%s (%s)", text, ip)
	}
	return text
}

// life sends an echo request to the backend's own address. Silence means little: many hosts do not answer.
func (d *doctor) life() (bool, error) {
	d.count++
	proto, l4 := echoRequest(d.own, d.port.port, d.count, 64)
	packet := buildIP(head{src: d.own, dst: d.t.Address, proto: proto}, l4)
	a, err := d.seg.ask(d.opt.Timeout, func() error { return d.send(packet) },
		func(a *answer) bool { return d.isEcho(a) && a.src == d.t.Address })
	if err != nil {
		return false, err
	}
	switch {
	case a != nil:
		d.alive = true
		d.ok("host", "%s answers an echo request", d.t.Address)
	case d.onLink:
		d.skip("host", "%s answers no echo request, but lives", d.t.Address)
	default:
		d.skip("host", "%s answers no echo request", d.t.Address)
	}
	return true, nil
}

// isEcho reports whether an answer is the reply to the last echo request.
func (d *doctor) isEcho(a *answer) bool {
	reply := a.proto == wire.ProtoICMP && a.kind == wire.ICMPEchoReply ||
		a.proto == wire.ProtoICMPv6 && a.kind == wire.ICMPv6EchoReply
	return reply && a.id == d.port.port && a.number == d.count
}

// wayBack sees whether replies of a backend in mode nat come to this host: a SYN with the VIP as its source is answered to
// the VIP, and goes where the default route leads.
func (d *doctor) wayBack() (bool, error) {
	if d.t.Way != NAT || d.t.Proto != wire.ProtoTCP || d.segments == 0 {
		return true, nil
	}
	packet := buildIP(head{src: d.t.VIP, dst: d.t.Address, proto: wire.ProtoTCP},
		tcpSegment(d.port.port, d.t.port(), 1, wire.SYN, 536))
	a, err := d.seg.ask(d.opt.Timeout, func() error { return d.send(packet) }, func(a *answer) bool {
		return a.proto == wire.ProtoTCP && a.src == d.t.Address && a.dst == d.t.VIP && a.dport == d.port.port
	})
	if err != nil {
		return false, err
	}
	if a == nil {
		d.add(Check{Status: Fail, Name: "route", Text: "no reply to a client elsewhere came back to this machine",
			Cause:  fmt.Sprintf("the default route of %s is not %s", d.t.Backend, d.own),
			Effect: "clients get replies from an address that they do not know, or none",
			Fix:    fmt.Sprintf("ip route replace default via %s   # on %s; or: %s", d.own, d.t.Backend, d.setup())})
		return true, nil
	}
	d.ok("route", "replies to clients elsewhere come back to this machine")
	reset := tcpSegment(d.port.port, d.t.port(), a.ack, wire.RST, 0)
	return true, d.send(buildIP(head{src: d.t.VIP, dst: d.t.Address, proto: wire.ProtoTCP}, reset))
}

// largest finds the largest packet that gets through to the VIP and is answered.
func (d *doctor) largest() (bool, error) {
	want := cmpMTU(d.seg.mtu, d.t.MTU) - d.t.overhead()
	const small = 128
	switch passed, err := d.passes(small); {
	case err != nil:
		return false, err
	case !passed:
		d.skip("mtu", "%s answers no echo request; the largest packet is not known", d.t.local())
		return true, nil
	}
	passed, err := d.passes(want)
	if err != nil {
		return false, err
	}
	if passed {
		d.path = want + d.t.overhead()
		d.ok("mtu", "a packet of %d bytes gets there%s", want, d.inside())
		return true, nil
	}
	low, high := small, want
	for high-low > 1 {
		middle := (low + high) / 2
		if passed, err = d.passes(middle); err != nil {
			return false, err
		}
		if passed {
			low = middle
		} else {
			high = middle
		}
	}
	d.path = low + d.t.overhead()
	d.add(Check{Status: Fail, Name: "mtu", Text: fmt.Sprintf("the largest packet that gets there has %d bytes%s, not %d",
		low, d.inside(), want),
		Cause:  "a link on the way carries less than this interface",
		Effect: "larger packets are lost: connections begin and then hang",
		Fix: fmt.Sprintf("mtu: %d   # in the configuration of %s, so that naru tells clients; and: %s", d.path, d.t.Name(),
			d.setup())})
	return true, nil
}

// inside says how much an outer header adds.
func (d *doctor) inside() string {
	if n := d.t.overhead(); n > 0 {
		return fmt.Sprintf(" inside an outer one of %d more", n)
	}
	return ""
}

// passes reports whether an echo request in an IP packet of that size is answered by the service's address. Each waits
// only a part of the timeout: a whole search is a dozen of them.
func (d *doctor) passes(size int) (bool, error) {
	d.count++
	proto, l4 := echoRequest(d.t.local(), d.port.port, d.count, size-headerLen(d.t.local()))
	a, err := d.seg.ask(max(d.opt.Timeout/3, 50*time.Millisecond), func() error { return d.send(d.along(proto, l4)) },
		func(a *answer) bool { return d.isEcho(a) && a.src == d.t.local() })
	return a != nil, err
}

// segmentSize compares the MSS in the backend's SYN-ACK with what the path carries. A client on Ethernet sends no larger
// segments than that allows, whatever the backend says.
func (d *doctor) segmentSize() (bool, error) {
	if d.segments == 0 {
		return true, nil
	}
	path := d.path
	if path == 0 {
		path = cmpMTU(d.seg.mtu, d.t.MTU)
	}
	most := d.t.mss(path)
	used := min(d.segments, defaultMTU-headerLen(d.t.VIP)-wire.TCPLen)
	if used <= most {
		d.ok("mss", "segments of at most %d bytes, which fit", d.segments)
		return true, nil
	}
	d.add(Check{Status: Fail, Name: "mss",
		Text:   fmt.Sprintf("the SYN/ACK asks for segments of %d bytes, %d fit", d.segments, most),
		Cause:  fmt.Sprintf("%s does not know that the way from naru to it carries less", d.t.Backend),
		Effect: "every client must first be told by ICMP to send less; where that is filtered, connections hang",
		Fix: fmt.Sprintf("nft: ip saddr %s tcp flags & (syn|rst) == syn tcp option maxseg size set %d; all of it: %s",
			d.t.VIP, most, d.setup())})
	return true, nil
}
