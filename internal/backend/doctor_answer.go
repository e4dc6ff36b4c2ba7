package backend

import (
	"fmt"
	"net/netip"
	"time"

	"naru/internal/wire"
)

// markState is what is known of the DSCP on the way.
type markState uint8

const (
	markUnknown markState = iota
	markKept
	markChanged
	markWorks // and the backend turned the packet into one for the VIP
)

// seenMark finds out which DSCP arrives at the backend: a datagram to a port where nobody listens comes back inside an
// ICMP error, with the header as the backend saw it.
func (d *doctor) seenMark() (bool, error) {
	if d.t.Way != DSCP {
		return true, nil
	}
	a, err := d.markProbe(64, d.opt.Timeout)
	switch {
	case err != nil:
		return false, err
	case a == nil:
		d.skip("dscp", "no ICMP error comes back; the mark that %s sees is not known", d.t.Backend)
		return true, nil
	}
	seen := a.quoted.tos >> 2
	if seen == d.t.Code {
		d.mark = markKept
		if a.quoted.dst == d.t.VIP {
			d.mark = markWorks
		}
		d.ok("dscp", "sent with %d, seen with %d", d.t.Code, seen)
		return true, nil
	}
	d.mark = markChanged
	where, err := d.whoBleaches()
	d.add(Check{Status: Fail, Name: "dscp", Text: fmt.Sprintf("sent with %d, seen with %d at %s", d.t.Code, seen, d.t.Backend),
		Cause:  "a switch or router on the way rewrites the mark" + where,
		Effect: fmt.Sprintf("%s cannot tell that the packet is for %s and refuses it", d.t.Backend, d.t.VIP),
		Fix:    "let it trust DSCP on the ports in between, or use l3dsr: {encap: ipip}"})
	return true, err
}

// closedPort is where the doctor expects nobody: the range of traceroute(8).
const closedPort = 33435

// markProbe sends a marked datagram to the backend and returns the ICMP error that quotes it.
func (d *doctor) markProbe(ttl uint8, timeout time.Duration) (*answer, error) {
	packet := buildIP(head{src: d.client, dst: d.t.Address, tos: d.t.Code << 2, ttl: ttl, proto: wire.ProtoUDP},
		udpDatagram(d.port.port, closedPort, []byte("naru")))
	return d.seg.ask(timeout, func() error { return d.send(packet) },
		func(a *answer) bool { return d.mine(a) && a.quoted.proto == wire.ProtoUDP })
}

// whoBleaches asks the routers on the way for the mark that they see.
func (d *doctor) whoBleaches() (string, error) {
	const most = 8 // routers; a silent one costs a timeout
	last := "this host"
	for ttl := uint8(1); ttl <= most && !d.onLink; ttl++ {
		a, err := d.markProbe(ttl, d.opt.Timeout/2)
		if err != nil {
			return "", err
		}
		if a == nil {
			continue
		}
		if a.quoted.tos>>2 != d.t.Code {
			return fmt.Sprintf(", between %s and %s", last, a.src), nil
		}
		last = a.src.String()
	}
	return "", nil
}

// answer asks for the service along the data path.
func (d *doctor) answer() (bool, error) {
	d.ok("deliver", "%s sent %s", d.probeName(), d.manner())
	l4 := tcpSegment(d.port.port, d.t.port(), 1, wire.SYN, uint16(max(d.t.mss(d.seg.mtu), 536)))
	if d.t.Proto == wire.ProtoUDP {
		l4 = udpDatagram(d.port.port, d.t.port(), nil)
	}
	lost := false // the backend looked for the VIP elsewhere
	a, err := d.ask(d.t.Proto, l4, func(a *answer) bool {
		if a.asks && a.subject == d.t.VIP && a.mac == d.hopMAC || a.src == d.client && a.dst == d.t.VIP {
			lost = true
		}
		return a.dport == d.port.port && a.proto == d.t.Proto && a.dst == d.client || d.mine(a)
	})
	switch {
	case err != nil:
		return false, err
	case a == nil:
		return true, d.silent(lost)
	case a.quoted != nil:
		d.icmpAnswer(a)
		return true, nil
	case a.src != d.t.local():
		d.wrongSource(a)
		return true, d.reset(a)
	case a.proto == wire.ProtoTCP && a.flags&wire.RST != 0:
		d.closed(fmt.Sprintf("RST from %s", netip.AddrPortFrom(a.src, a.sport)))
		return true, nil
	}
	d.segments = int(a.mss)
	if a.proto == wire.ProtoTCP && a.mss == 0 {
		d.segments = 536 // what a missing option means (RFC 9293 3.7.1)
	}
	d.ok("answer", "%s from %s", d.answerName(a), netip.AddrPortFrom(a.src, a.sport))
	return true, d.reset(a)
}

// reset ends the connection that a SYN of ours began.
func (d *doctor) reset(a *answer) error {
	if a.proto != wire.ProtoTCP || a.flags&wire.RST != 0 {
		return nil
	}
	return d.send(d.along(wire.ProtoTCP, tcpSegment(d.port.port, d.t.port(), a.ack, wire.RST, 0)))
}

func (d *doctor) probeName() string {
	if d.t.Proto == wire.ProtoUDP {
		return "datagram"
	}
	return "SYN"
}

func (d *doctor) answerName(a *answer) string {
	switch {
	case a.proto == wire.ProtoUDP:
		return "datagram"
	case a.flags&wire.RST != 0:
		return "RST"
	}
	return "SYN/ACK"
}

// wanted is the answer that a service that works gives.
func (d *doctor) wanted() string {
	word := "SYN/ACK"
	if d.t.Proto == wire.ProtoUDP {
		word = "datagram"
	}
	return fmt.Sprintf("%s from %s", word, d.t.local())
}

// manner says how the probe travelled.
func (d *doctor) manner() string {
	port := d.t.port()
	switch d.t.Way {
	case L2DSR:
		return fmt.Sprintf("to the VIP, port %d, in a frame to %s", port, d.t.Backend)
	case DSCP:
		return fmt.Sprintf("to %s, port %d, with DSCP %d", d.t.Address, port, d.t.Code)
	case IPIP, GUE:
		return fmt.Sprintf("to the VIP, port %d, inside a packet to %s: %s", port, d.t.Address, tunnelWords(d.t))
	}
	return fmt.Sprintf("to %s, port %d", d.t.Address, port)
}

func (d *doctor) failAnswer(text, cause, effect, fix string) {
	d.add(Check{Status: Fail, Name: "answer", Text: text, Cause: cause, Effect: effect, Fix: fix})
}

// closed says that nobody listens.
func (d *doctor) closed(text string) {
	flag := "-ltn"
	if d.t.Proto == wire.ProtoUDP {
		flag = "-lun"
	}
	d.failAnswer(text+", instead of "+d.wanted(),
		fmt.Sprintf("nothing listens on %s at %s", netip.AddrPortFrom(d.t.local(), d.t.port()), d.t.Backend),
		"clients are refused by this backend",
		fmt.Sprintf("ss %s 'sport = :%d'   # on %s: it must listen on %s or on all addresses", flag, d.t.port(), d.t.Backend,
			d.t.local()))
}

// wrongSource explains an answer that does not come from the service's address.
func (d *doctor) wrongSource(a *answer) {
	text := fmt.Sprintf("%s from %s instead of %s", d.answerName(a), a.src, d.wanted())
	effect := "clients ignore it: they asked " + d.t.VIP.String()
	switch {
	case a.src != d.t.Address:
		d.failAnswer(text, fmt.Sprintf("the reply's source is rewritten on %s or behind it", d.t.Backend), effect,
			fmt.Sprintf("nft list ruleset   # on %s: take replies from %s out of masquerading", d.t.Backend, d.t.VIP))
	case d.t.Way == DSCP && d.mark == markChanged:
		d.failAnswer(text, "the mark was changed on the way, see dscp", effect,
			"keep DSCP on the way, or use l3dsr: {encap: ipip}")
	case d.t.Way == DSCP && d.mark != markWorks:
		cause := "the DSCP rule is missing at " + d.t.Backend
		if d.mark == markUnknown {
			cause += ", or the mark was changed on the way"
		}
		d.failAnswer(text, cause, effect, fmt.Sprintf("nft add rule … ip dscp %d ip daddr %s ip daddr set %s; all of it: %s",
			d.t.Code, d.t.Address, d.t.VIP, d.setup()))
	case d.t.Proto == wire.ProtoUDP:
		d.failAnswer(text, "the service answers from the first address of the interface, not from the one that was asked",
			effect, fmt.Sprintf("let the service listen on %s itself", d.t.VIP))
	default:
		d.failAnswer(text, fmt.Sprintf("the VIP is not on lo at %s (or the service listens on %s only)", d.t.Backend, a.src),
			effect, d.addVIP())
	}
}

// addVIP is the command that puts the VIP on lo.
func (d *doctor) addVIP() string {
	return fmt.Sprintf("ip addr add %s/%d dev lo; all of it: %s", d.t.VIP, d.t.VIP.BitLen(), d.setup())
}

// icmpAnswer explains an ICMP error.
func (d *doctor) icmpAnswer(a *answer) {
	v4 := a.proto == wire.ProtoICMP
	text := fmt.Sprintf("%s from %s instead of %s", icmpName(a), a.src, d.wanted())
	outerQuoted := d.t.tunnel() && a.quoted.dst == d.t.Address
	prohibited := v4 && a.kind == wire.ICMPUnreachable && (a.code == 9 || a.code == 10 || a.code == 13) ||
		!v4 && a.kind == wire.ICMPv6Unreachable && (a.code == 1 || a.code == 5 || a.code == 6)
	noPort := v4 && a.kind == wire.ICMPUnreachable && a.code == 3 || !v4 && a.kind == wire.ICMPv6Unreachable && a.code == 4
	noProto := v4 && a.kind == wire.ICMPUnreachable && a.code == 2 || !v4 && a.kind == wire.ICMPv6Parameter && a.code == 1
	switch {
	case outerQuoted && (noPort || noProto):
		c := decapChange{target: *d.t, beside: d.opt.Others}
		d.failAnswer(text, fmt.Sprintf("nothing takes the outer header off at %s (%s)", d.t.Backend, tunnelWords(d.t)),
			"everything that naru sends to it is lost", c.command()+"   # on "+d.t.Backend+"; all of it: "+d.setup())
	case prohibited || noPort && d.t.Proto == wire.ProtoTCP:
		d.filtered(text)
	case noPort:
		d.closed(icmpName(a) + " from " + a.src.String())
	case v4 && a.kind == wire.ICMPUnreachable && a.code == 4 || !v4 && a.kind == wire.ICMPv6TooBig:
		d.failAnswer(text, fmt.Sprintf("%s carries at most %d bytes", a.src, a.mtu), "larger packets do not get there",
			fmt.Sprintf("mtu: %d   # in the configuration of %s", a.mtu, d.t.Name()))
	default: // unreachable host or network, a redirect, time exceeded: it was sent on
		d.missing(text, fmt.Sprintf("the VIP is not on lo at %s, which sent the packet on", d.t.Backend))
	}
}

// icmpName returns an ICMP error in words.
func icmpName(a *answer) string {
	if a.proto == wire.ProtoICMP && a.kind == wire.ICMPUnreachable {
		words := map[uint8]string{0: "net", 1: "host", 2: "protocol", 3: "port"}
		if w, ok := words[a.code]; ok {
			return "ICMP " + w + " unreachable"
		}
		if a.code == 4 {
			return "ICMP fragmentation needed"
		}
	}
	if a.proto == wire.ProtoICMPv6 {
		switch {
		case a.kind == wire.ICMPv6Unreachable && a.code == 4:
			return "ICMPv6 port unreachable"
		case a.kind == wire.ICMPv6Parameter && a.code == 1:
			return "ICMPv6 unrecognized next header"
		}
		return fmt.Sprintf("ICMPv6 type %d code %d", a.kind, a.code)
	}
	return fmt.Sprintf("ICMP type %d code %d", a.kind, a.code)
}

func (d *doctor) filtered(text string) {
	d.failAnswer(text, fmt.Sprintf("a firewall on %s or on the way refuses port %d", d.t.Backend, d.t.port()),
		"clients cannot use this backend",
		fmt.Sprintf("nft list ruleset   # on %s: let %s port %d in, and replies out untracked", d.t.Backend, d.t.local(),
			d.t.port()))
}

func (d *doctor) missing(text, cause string) {
	d.failAnswer(text, cause, "everything that naru sends to it is lost", d.addVIP())
}

// silent finds out what silence means.
func (d *doctor) silent(lost bool) error {
	text := "nothing, instead of " + d.wanted()
	if !d.t.direct() {
		if d.t.Proto == wire.ProtoUDP {
			d.skip("answer", "no reply to an empty datagram, and no ICMP error: the port may be open")
			return nil
		}
		d.filtered(text)
		return nil
	}
	if lost {
		d.missing(text, fmt.Sprintf("the VIP is not on lo at %s, which sent the packet on", d.t.Backend))
		return nil
	}
	vip, err := d.vipLives()
	switch {
	case err != nil:
		return err
	case vip.IsValid() && vip != d.t.VIP:
		d.failAnswer(fmt.Sprintf("echo reply from %s instead of %s", vip, d.t.VIP),
			fmt.Sprintf("the reply's source is rewritten on %s or behind it", d.t.Backend),
			"clients ignore it: they asked "+d.t.VIP.String(),
			fmt.Sprintf("nft list ruleset   # on %s: take replies from %s out of masquerading", d.t.Backend, d.t.VIP))
	case vip.IsValid() && d.t.Proto == wire.ProtoUDP:
		d.ok("answer", "%s is there; the service does not reply to an empty datagram", d.t.VIP)
	case vip.IsValid():
		d.filtered(text + ", though the VIP answers otherwise")
	case !d.alive:
		d.failAnswer(text, fmt.Sprintf("%s is down, or nothing from it comes through", d.t.Backend), "no client is served by it",
			fmt.Sprintf("ping %s", d.t.Address))
	default:
		d.missing(text, d.whySilent())
	}
	return nil
}

// whySilent lists what makes a living backend silent for its VIP, the likeliest first.
func (d *doctor) whySilent() string {
	cause := fmt.Sprintf("the VIP is not on lo at %s", d.t.Backend)
	switch {
	case d.t.tunnel():
		cause += ", or nothing takes the outer header off and ICMP is filtered"
	case d.mark == markChanged:
		return "the mark was changed on the way, see dscp"
	}
	return cause + "; or it is there and the reply is filtered (rp_filter, firewall)"
}

// vipLives finds out whether anything answers for the VIP along the data path, and from which address: an echo request,
// then a port where nobody listens.
func (d *doctor) vipLives() (netip.Addr, error) {
	d.count++
	proto, l4 := echoRequest(d.t.VIP, d.port.port, d.count, 64)
	a, err := d.ask(proto, l4, d.isEcho)
	if a != nil || err != nil {
		return source(a), err
	}
	a, err = d.ask(wire.ProtoUDP, udpDatagram(d.port.port, closedPort, nil),
		func(a *answer) bool { return d.mine(a) && a.quoted.dst == d.t.VIP && a.src == d.t.VIP })
	return source(a), err
}

func source(a *answer) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	return a.src
}
