package backend

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"naru/internal/wire"
)

// DoctorOptions say whom to ask and how long to wait.
type DoctorOptions struct {
	Target    Target
	Others    []Target      // the other backends of the configuration, to name a machine that should be silent
	Timeout   time.Duration // for one answer, a second question included; 0: one second
	Interface string        // ask by this interface; empty: the one that the routing table names
	Director  bool          // naru runs on this machine: nobody else may answer for the VIP
}

// Status is what came of a check.
type Status string

// The outcomes.
const (
	OK   Status = "ok"
	Fail Status = "fail"
	Skip Status = "skip" // could not be found out, which is nothing wrong
)

// Check is one thing looked at. A failed one has a cause, what it does to clients, and a command.
type Check struct {
	Status Status `json:"status"`
	Name   string `json:"name"`
	Text   string `json:"text"`
	Cause  string `json:"cause,omitempty"`
	Effect string `json:"effect,omitempty"`
	Fix    string `json:"fix,omitempty"`
}

// Report is what the doctor found, in the order of the checks.
type Report struct {
	Service string  `json:"service"`
	Backend string  `json:"backend"`
	Mode    string  `json:"mode"`
	Checks  []Check `json:"checks"`
}

// Failed returns how many checks failed.
func (r *Report) Failed() int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == Fail {
			n++
		}
	}
	return n
}

// doctor is one examination.
type doctor struct {
	opt    DoctorOptions
	t      *Target
	seg    *segment
	hop    netip.Addr // who gets the frames: the backend, or the router in front of it
	onLink bool
	hopMAC wire.MAC
	own    netip.Addr // this host's address in the backend's family
	client netip.Addr // the probes' source address, in the VIP's family
	outer  netip.Addr // where outer packets come from
	port   *reservation
	count  uint16 // of echo requests
	report Report

	alive    bool // the backend has said something
	mark     markState
	segments int // the MSS of its SYN-ACK, 0: none seen
	path     int // bytes of the longest packet that got there, outer header included; 0: not known
}

// Doctor examines one backend from this host, on a thread in the network namespace that leads to it, until it is done or
// ctx ends. An error says that nothing more could be asked (it wraps os.ErrPermission without the capabilities, or is the
// context's); what is wrong with the backend is in the report.
func Doctor(ctx context.Context, opt DoctorOptions) (Report, error) {
	if opt.Timeout <= 0 {
		opt.Timeout = time.Second
	}
	d := &doctor{opt: opt, t: &opt.Target}
	if err := d.t.check(); err != nil {
		return Report{}, err
	}
	d.report = Report{Service: d.t.Service, Backend: d.t.Backend, Mode: string(d.t.Way)}
	if err := d.open(ctx); err != nil {
		return Report{}, fmt.Errorf("backend: doctor: %s: %w", d.t.Name(), err)
	}
	defer d.close()
	err := d.examine()
	return d.report, err
}

func (d *doctor) close() {
	if d.seg != nil {
		d.seg.close()
	}
	if d.port != nil {
		d.port.release()
	}
}

// open finds the way to the backend and the addresses to ask from.
func (d *doctor) open(ctx context.Context) error {
	if name, _ := LocalInterface(d.t.Address); name != "" {
		return fmt.Errorf("%s is an address of this machine; run the doctor on the director", d.t.Address)
	}
	l, err := d.route()
	if err != nil {
		return err
	}
	d.client = d.own
	if d.t.VIP.Is4() != d.own.Is4() {
		if d.client = addressOf(l, d.t.VIP); !d.client.IsValid() {
			return fmt.Errorf("%s has no %s address to ask from, and the VIP is one", l.Attrs().Name, familyName(d.t.VIP))
		}
	}
	d.outer = d.own
	for _, p := range d.t.Source {
		if p.Addr().Is4() == d.t.Address.Is4() {
			d.outer = p.Addr()
		}
	}
	if d.seg, err = openSegment(ctx, l); err != nil {
		return err
	}
	if err := d.seg.listen(d.own, d.client, d.outer, d.t.VIP); err != nil {
		return err
	}
	d.port, err = reserve(d.client)
	return err
}

// route asks the routing table for the way to the backend.
func (d *doctor) route() (netlink.Link, error) {
	routes, err := netlink.RouteGetWithOptions(d.t.Address.AsSlice(), &netlink.RouteGetOptions{Oif: d.opt.Interface})
	if err != nil || len(routes) == 0 {
		return nil, fmt.Errorf("there is no route to %s here: ip route get %[1]s", d.t.Address)
	}
	r := routes[0]
	l, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return nil, err
	}
	src, _ := netip.AddrFromSlice(r.Src)
	if d.own = src.Unmap(); !d.own.IsValid() {
		return nil, fmt.Errorf("%s has no address to ask %s from", l.Attrs().Name, d.t.Address)
	}
	d.hop, d.onLink = d.t.Address, true
	if gw, ok := netip.AddrFromSlice(r.Gw); ok {
		d.hop, d.onLink = gw.Unmap(), false
	}
	return l, nil
}

// addressOf returns an address of the interface in the family of another.
func addressOf(l netlink.Link, family netip.Addr) netip.Addr {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); ok && ip.Is4() == family.Is4() && !ip.IsLinkLocalUnicast() {
			return ip
		}
	}
	return netip.Addr{}
}

// examine asks one thing after the other and stops where the rest would only say the same again.
func (d *doctor) examine() error {
	for _, step := range []func() (more bool, err error){
		d.segment, d.neighbour, d.rivals, d.life, d.seenMark, d.answer, d.wayBack, d.largest, d.segmentSize,
	} {
		if more, err := step(); err != nil || !more {
			return err
		}
	}
	return nil
}

func (d *doctor) add(c Check) { d.report.Checks = append(d.report.Checks, c) }

func (d *doctor) ok(name, format string, args ...any) {
	d.add(Check{Status: OK, Name: name, Text: fmt.Sprintf(format, args...)})
}

func (d *doctor) skip(name, format string, args ...any) {
	d.add(Check{Status: Skip, Name: name, Text: fmt.Sprintf(format, args...)})
}

// setup is the command that does everything a backend needs.
func (d *doctor) setup() string {
	line := "naru backend setup " + d.t.Name() + " --apply"
	if d.t.Way == NAT {
		line += " --via " + d.own.String()
	}
	return line + "   # on " + d.t.Backend
}

// along makes the packet that naru would send for a client's packet with that transport header.
func (d *doctor) along(proto uint8, l4 []byte) []byte {
	h := head{src: d.client, dst: d.t.VIP, proto: proto}
	switch d.t.Way {
	case FullNAT, NAT:
		h.dst = d.t.Address
	case DSCP:
		h.dst, h.tos = d.t.Address, d.t.Code<<2
	case IPIP, GUE:
		return d.t.wrap(d.outer, d.port.port, buildIP(h, l4))
	}
	return buildIP(h, l4)
}

func (d *doctor) send(packet []byte) error { return d.seg.send(d.hopMAC, packet) }

// ask sends a packet along the data path and waits for an answer.
func (d *doctor) ask(proto uint8, l4 []byte, take func(*answer) bool) (*answer, error) {
	return d.seg.ask(d.opt.Timeout, func() error { return d.send(d.along(proto, l4)) }, take)
}

// mine reports whether an ICMP error is about a packet of ours.
func (d *doctor) mine(a *answer) bool {
	q := a.quoted
	if q == nil || q.src != d.client && q.src != d.outer && q.src != d.t.VIP {
		return false
	}
	if q.dst != d.t.Address && q.dst != d.t.VIP {
		return false
	}
	return q.transportMissing || q.src != d.client || q.proto != wire.ProtoTCP && q.proto != wire.ProtoUDP ||
		q.sport == d.port.port || d.t.Way == GUE && q.proto == wire.ProtoUDP
}
