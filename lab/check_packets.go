package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"naru/lab/server"
)

// packets follows one request on every cable: naru changes what its mode says and nothing else, routers change the TTL,
// and the reply goes the way it must.
func packets(vip netip.Addr) func(*checker) (string, error) {
	return func(c *checker) (string, error) {
		s, err := c.follow(c.ctx, vip)
		if err != nil {
			return "", err
		}
		requests, replies := 0, 0
		for _, j := range s.journeys {
			check, what := c.replyIsRight, "reply"
			if j[0].request() {
				check, what = c.requestIsRight, "request"
				requests++
			} else {
				replies++
			}
			if err := check(j); err != nil {
				return "", fmt.Errorf("%s %s: %w", what, j[0].kind, err)
			}
		}
		if requests < 3 || replies < 2 {
			return "", fmt.Errorf("only %d packets of the request and %d of the reply were seen", requests, replies)
		}
		return fmt.Sprintf("%s; %d packets there, %d back%s", changeWords[c.scenario.Mode], requests, replies,
			map[bool]string{true: ", which naru never sees"}[c.scenario.Mode.direct()]), nil
	}
}

// changeWords say what each mode changes.
var changeWords = map[Mode]string{
	ModeFullNAT: "source, destination, TTL and checksums",
	ModeNAT:     "destination, TTL and checksums",
	ModeL2DSR:   "12 bytes, the MAC addresses",
	ModeDSCP:    "DSCP, destination, TTL and checksums",
	ModeIPIP:    "nothing inside, a header around it",
	ModeGUE:     "nothing inside, headers around it",
}

// requestIsRight looks at a packet of the request on its way from the client over naru to a backend.
func (c *checker) requestIsRight(j journey) error {
	director := c.scenario.Director
	first, last, in, out := &j[0], &j[len(j)-1], j.into(c.Lab, director), j.outOf(c.Lab, director)
	if in == nil || out == nil || !slices.Contains(c.scenario.Backends, c.nodeOf(last.dstMAC)) {
		return fmt.Errorf("it does not travel over naru to a backend: %s", c.way(j))
	}
	if err := sameButTTL(first, in); err != nil {
		return fmt.Errorf("between the client and naru: %w", err)
	}
	if err := sameButTTL(out, last); err != nil {
		return fmt.Errorf("between naru and the backend: %w", err)
	}
	backend := c.topology.Node(c.nodeOf(last.dstMAC)).addr(in.dst.Addr().Is4() != c.Options.CrossFamily)
	switch c.scenario.Mode {
	case ModeL2DSR:
		if !bytes.Equal(in.frame[12:], out.frame[12:]) {
			return errors.New("more than the MAC addresses has changed")
		}
		return nil
	case ModeIPIP, ModeGUE:
		return c.tunnelIsRight(in, out, backend)
	}
	return c.translationIsRight(in, out, backend)
}

// way writes the nodes of a journey.
func (c *checker) way(j journey) string {
	text := c.nodeOf(j[0].srcMAC)
	for i := range j {
		text += " > " + c.nodeOf(j[i].dstMAC)
	}
	return text
}

// translationIsRight looks at what NAT or DSCP marking made of a packet.
func (c *checker) translationIsRight(in, out *sighting, backend netip.Addr) error {
	dscp := in.dscp
	if c.scenario.Mode == ModeDSCP {
		dscp = labDSCP
	}
	switch {
	case out.dst != netip.AddrPortFrom(backend, server.HTTPPort):
		return fmt.Errorf("the destination is %s, not the backend's %s", out.dst, backend)
	case c.scenario.Mode != ModeFullNAT && out.src != in.src:
		return fmt.Errorf("the source %s has become %s", in.src, out.src)
	case c.scenario.Mode == ModeFullNAT && !slices.Contains(c.scenario.Pool(c.Options), out.src.Addr()):
		return fmt.Errorf("the source is %s, not of the pool", out.src)
	case out.ttl != in.ttl-1:
		return fmt.Errorf("the TTL %d has become %d", in.ttl, out.ttl)
	case out.dscp != dscp:
		return fmt.Errorf("the DSCP is %d, not %d", out.dscp, dscp)
	}
	if was, is := checksums(in), checksums(out); was != is || is == wrong {
		return fmt.Errorf("the checksums were %s and are %s", was, is)
	}
	return same(wiped(in, true), wiped(out, true))
}

// tunnelIsRight looks at the packet inside a tunnel's headers, and at these.
func (c *checker) tunnelIsRight(in, out *sighting, backend netip.Addr) error {
	o := out.outer
	if o == nil {
		return errors.New("there is no outer header")
	}
	own := c.topology.Node(c.scenario.Director).addr(backend.Is4())
	switch {
	case o.dst != backend || o.src != own:
		return fmt.Errorf("the outer addresses are %s > %s, not %s > %s", o.src, o.dst, own, backend)
	case o.ttl != 64 || o.dscp != in.dscp:
		return fmt.Errorf("the outer TTL is %d, the DSCP %d; not 64 and %d", o.ttl, o.dscp, in.dscp)
	case checksums(out) != finished:
		return fmt.Errorf("the checksums inside are %s", checksums(out))
	}
	if b := out.frame[ethernetLen:]; o.src.Is4() && sum(0, b[:int(b[0]&15)*4]) != 0xffff {
		return errors.New("the outer header's checksum is wrong")
	}
	a, b := wiped(in, false), wiped(out, false)
	clear(a[transport(a)+16 : transport(a)+18]) // in may be unfinished
	clear(b[transport(b)+16 : transport(b)+18])
	return same(a, b)
}

// replyIsRight looks at a packet of the reply on its way from a backend to the client.
func (c *checker) replyIsRight(j journey) error {
	director, vips := c.scenario.Director, c.scenario.vips()
	first, last, in, out := &j[0], &j[len(j)-1], j.into(c.Lab, director), j.outOf(c.Lab, director)
	switch {
	case !slices.Contains(c.scenario.Backends, c.nodeOf(first.srcMAC)) || c.nodeOf(last.dstMAC) != c.scenario.Client:
		return fmt.Errorf("it does not travel from a backend to the client: %s", c.way(j))
	case !slices.Contains(vips, last.src.Addr()):
		return fmt.Errorf("it reaches the client from %s", last.src)
	case c.scenario.Mode.direct() && (in != nil || out != nil):
		return fmt.Errorf("naru has seen it: %s", c.way(j))
	case c.scenario.Mode.direct():
		return sameButTTL(first, last)
	case in == nil || out == nil:
		return fmt.Errorf("naru has not seen it: %s", c.way(j))
	case out.ttl != in.ttl-1:
		return fmt.Errorf("the TTL %d has become %d", in.ttl, out.ttl)
	}
	if was, is := checksums(in), checksums(out); was != is || is == wrong {
		return fmt.Errorf("the checksums were %s and are %s", was, is)
	}
	return same(wiped(in, true), wiped(out, true))
}

// sameButTTL compares a packet before and behind some routers.
func sameButTTL(a, b *sighting) error {
	if hops := int(a.ttl) - int(b.ttl); a.outer == nil && b.outer == nil && hops < 0 {
		return fmt.Errorf("the TTL has grown from %d to %d", a.ttl, b.ttl)
	}
	return same(wiped(a, false), wiped(b, false))
}

// same tells where two packets differ.
func same(a, b []byte) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d bytes have become %d", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			return fmt.Errorf("byte %d of the IP packet has changed from %#02x to %#02x", i, a[i], b[i])
		}
	}
	return nil
}

// wiped returns the IP packet, that inside a tunnel, without what a router changes and, if translated, without what NAT
// or DSCP marking changes.
func wiped(s *sighting, translated bool) []byte {
	h, _ := readIP(s.frame[s.inner:])
	b := slices.Clone(s.frame[s.inner:min(len(s.frame), s.inner+h.total)])
	t := b[h.length:]
	if h.version == 4 {
		b[8] = 0
		clear(b[10:12])
	} else {
		b[7] = 0
	}
	if !translated {
		return b
	}
	if h.version == 4 {
		b[1] &= 3
		clear(b[12:20])
	} else {
		b[0], b[1] = b[0]&0xf0, b[1]&0x3f
		clear(b[8:40])
	}
	clear(t[:4])
	clear(t[16:18])
	return b
}

// transport returns where the TCP header of an IP packet begins.
func transport(b []byte) int {
	h, _ := readIP(b)
	return h.length
}

// What a packet's checksums can be.
const (
	finished   = "right"
	unfinished = "left to the interface" // the field has the sum of the pseudo-header
	wrong      = "wrong"
)

// checksums judges the checksums of a packet's IPv4 header and of TCP.
func checksums(s *sighting) string {
	b := s.frame[s.inner:]
	h, _ := readIP(b)
	if h.total > len(b) || h.version == 4 && sum(0, b[:h.length]) != 0xffff {
		return wrong
	}
	t := b[h.length:h.total]
	pseudo := sum(uint32(h.proto)+uint32(len(t)), append(h.src.AsSlice(), h.dst.AsSlice()...))
	switch {
	case sum(uint32(pseudo), t) == 0xffff:
		return finished
	case binary.BigEndian.Uint16(t[16:]) == pseudo:
		return unfinished
	}
	return wrong
}

// sum adds bytes to a one's complement sum (RFC 1071).
func sum(start uint32, b []byte) uint16 {
	n := uint64(start)
	for ; len(b) >= 2; b = b[2:] {
		n += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		n += uint64(b[0]) << 8
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return uint16(n)
}
