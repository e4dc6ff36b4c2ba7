package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// kernelCases are what is put in, by the name of its capture.
var kernelCases = map[string]func(k *kernelCase){
	"tcp4": func(k *kernelCase) { k.tcp(); k.options4() },
	"tcp6": func(k *kernelCase) { k.v6 = true; k.tcp(); k.options6() },
	"dns":  func(k *kernelCase) { k.families(k.dns) },
	"icmp": func(k *kernelCase) { k.families(k.errors) },
	"frag": func(k *kernelCase) { k.gap = 1e6; k.families(k.fragments) },
	"big":  func(k *kernelCase) { k.families(func() { k.tooBig(wiretest.ClientSide) }) },
	"back": func(k *kernelCase) { k.families(func() { k.tooBig(wiretest.BackendSide) }) },
	"host": func(k *kernelCase) { k.families(k.host) },
}

// kernelCase builds what is put in, in one mode.
type kernelCase struct {
	t       *testing.T
	mode    string
	v6, udp bool
	client  uint16 // the client's port
	gap     int64  // nanoseconds from one frame to the next: naru's answers are limited to 20 a second to one network
	steps   []kernelStep
}

// kernelStep is a frame that is put in.
type kernelStep struct {
	what     string
	side     wiretest.Side
	frame    []byte
	fragment bool
	choice   *kernelChoice // nil: what comes out is the same
}

// The MAC addresses of a replay's interfaces, and the next hops of the configurations in testdata/kernel.
var (
	kernelMACs      = [2]wire.MAC{{2, 'n', 'a', 'r', 'u', 1}, {2, 'n', 'a', 'r', 'u', 2}}
	kernelNeighbors = wiretest.OracleNeighbors
)

// families runs f for TCP and UDP over both families, each with a client port of its own.
func (k *kernelCase) families(f func()) {
	for i := range 4 {
		k.v6, k.udp, k.client = i&1 != 0, i&2 != 0, uint16(52000+1000*i)
		f()
	}
}

// dsr reports whether backends answer past naru.
func (k *kernelCase) dsr() bool { return k.mode == "l2dsr" || k.mode == "dscp" }

func (k *kernelCase) name(what string) string {
	family, protocol := "ipv4", "tcp"
	if k.v6 {
		family = "ipv6"
	}
	if k.udp {
		protocol = "udp"
	}
	return family + " " + protocol + " " + what
}

func (k *kernelCase) pick(v4, v6 string) string {
	if k.v6 {
		return v6
	}
	return v4
}

func (k *kernelCase) clientEnd() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(k.pick("203.0.113.5", "2001:db8:1::5")), k.client)
}

func (k *kernelCase) vip() netip.AddrPort {
	if k.udp {
		return netip.MustParseAddrPort(k.pick("192.0.2.2:53", "[2001:db8:2::2]:53"))
	}
	return netip.MustParseAddrPort(k.pick("192.0.2.1:80", "[2001:db8:2::1]:80"))
}

func (k *kernelCase) backend() netip.AddrPort {
	port := uint16(8080)
	if k.udp {
		port = 5353
	}
	return netip.AddrPortFrom(netip.MustParseAddr(k.pick("10.255.2.10", "fd00:b::10")), port)
}

// local is whom a backend answers.
func (k *kernelCase) local() netip.AddrPort {
	if k.mode == "fullnat" {
		return netip.AddrPortFrom(netip.MustParseAddr(k.pick("10.255.2.1", "fd00:b::1")), k.client)
	}
	return k.clientEnd()
}

// add puts a frame in, in direct server return only of clients.
func (k *kernelCase) add(side wiretest.Side, what string, frame []byte, choice *kernelChoice) {
	if side == wiretest.BackendSide && k.dsr() {
		return
	}
	copy(frame, append(kernelMACs[side][:], kernelNeighbors[side][:]...))
	k.steps = append(k.steps, kernelStep{what: k.name(what), side: side, frame: frame, choice: choice,
		fragment: wiretest.Fragment(frame)})
}

// up and down build what the client and the backend send.
func (k *kernelCase) up(f wiretest.Frame) []byte {
	f.Src, f.Dst, f.UDP = k.clientEnd().String(), k.vip().String(), k.udp
	return f.Bytes(k.t)
}

func (k *kernelCase) down(f wiretest.Frame) []byte {
	f.Src, f.Dst, f.UDP = k.backend().String(), k.local().String(), k.udp
	return f.Bytes(k.t)
}

func (k *kernelCase) request(what string, f wiretest.Frame) {
	k.add(wiretest.ClientSide, what, k.up(f), nil)
}

func (k *kernelCase) reply(what string, f wiretest.Frame) {
	k.add(wiretest.BackendSide, "reply, "+what, k.down(f), nil)
}

func kernelPayload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 3)
	}
	return b
}

// tcp is two connections from the first segment to the last, and what is no connection.
func (k *kernelCase) tcp() {
	k.client = 51000
	k.request("SYN", wiretest.Frame{TCP: "S", Seq: 1000, MSS: 1400, ID: 7, TOS: 0x2e << 2, DF: true})
	k.reply("SYN-ACK", wiretest.Frame{TCP: "SA", Seq: 5000, Ack: 1001, MSS: 1460, TTL: 63})
	k.request("ACK with the last TTL but one", wiretest.Frame{TCP: "A", Seq: 1001, Ack: 5001, TTL: 2})
	client, server := uint32(1001), uint32(5001)
	for _, n := range []int{0, 1, 2, 7, 536, 1400} {
		what := fmt.Sprintf("%d bytes", n)
		k.request(what, wiretest.Frame{TCP: "PA", Seq: client, Ack: server, Payload: kernelPayload(n), ID: uint16(n)})
		client += uint32(n)
		k.reply(what, wiretest.Frame{TCP: "A", Seq: server, Ack: client, Payload: kernelPayload(n), TOS: 3})
		server += uint32(n)
	}
	k.reply("urgent", wiretest.Frame{TCP: "AU", Seq: server, Ack: client, Payload: kernelPayload(5)})
	server += 5
	k.reply("a segment again", wiretest.Frame{TCP: "A", Seq: server - 5, Ack: client, Payload: kernelPayload(5)})
	k.reply("beyond the window", wiretest.Frame{TCP: "A", Seq: server + 1e6, Ack: client, Payload: kernelPayload(5)})
	for i, side := range []func(wiretest.Frame) []byte{k.up, k.down} {
		b := side(wiretest.Frame{TCP: "A", Seq: client, Ack: server, Payload: kernelPayload(40)})
		kernelL4(b)[16] ^= 0x5a
		k.add(wiretest.Side(i), "a wrong checksum", b, nil)
	}
	k.request("FIN", wiretest.Frame{TCP: "FA", Seq: client, Ack: server})
	k.reply("ACK of the FIN", wiretest.Frame{TCP: "A", Seq: server, Ack: client + 1})
	k.reply("data of the half-closed", wiretest.Frame{TCP: "PA", Seq: server, Ack: client + 1, Payload: kernelPayload(9)})
	k.reply("second FIN", wiretest.Frame{TCP: "FA", Seq: server + 9, Ack: client + 1})
	k.request("last ACK", wiretest.Frame{TCP: "A", Seq: client + 1, Ack: server + 10})
	k.reply("FIN again", wiretest.Frame{TCP: "FA", Seq: server + 9, Ack: client + 1})
	k.request("SYN on the closed", wiretest.Frame{TCP: "S", Seq: 90000})
	k.reply("RST of the SYN", wiretest.Frame{TCP: "RA", Ack: 90001})
	k.resets()
	k.firstSegments()
	k.spentTTL()
}

// resets is a connection that is reset, and what comes after.
func (k *kernelCase) resets() {
	k.client = 51001
	k.request("SYN", wiretest.Frame{TCP: "S", Seq: 1})
	k.reply("SYN-ACK", wiretest.Frame{TCP: "SA", Seq: 1, Ack: 2})
	k.request("ACK", wiretest.Frame{TCP: "A", Seq: 2, Ack: 2})
	k.request("RST", wiretest.Frame{TCP: "R", Seq: 2})
	k.request("SYN after the RST", wiretest.Frame{TCP: "S", Seq: 77})
	k.client = 9
	k.reply("of no connection", wiretest.Frame{TCP: "A", Seq: 1, Ack: 2})
}

// firstSegments are segments of no connection: what can begin one, and what cannot.
func (k *kernelCase) firstSegments() {
	for i, flags := range []string{"S", "A", "PA", "AU", "FA", "R", "RA", "SF", "SR", "F", "", "SFAPRU", "P", "U", "SA"} {
		k.client = uint16(40000 + i)
		var choice *kernelChoice
		switch {
		case k.dsr() && i >= 5: // the rules know no connections
			choice = choiceNoMemory
		case !k.dsr() && flags == "FA":
			choice = choiceFIN
		}
		k.add(wiretest.ClientSide, "first segment "+flags, k.up(wiretest.Frame{TCP: flags, Seq: 9, Ack: 9,
			Payload: kernelPayload(i)}), choice)
	}
}

// spentTTL is a connection that is heard of once too far.
func (k *kernelCase) spentTTL() {
	k.client = 51002
	k.open()
	choice := choiceAnswer
	switch k.mode {
	case "l2dsr":
		choice = nil
	case "dscp":
		choice = choiceRuleTTL
	}
	for _, n := range []int{0, 3, 1400} {
		what := fmt.Sprintf("TTL 1, %d bytes", n)
		f := wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, TTL: 1, Payload: kernelPayload(n)}
		k.add(wiretest.ClientSide, what, k.up(f), choice)
		k.add(wiretest.BackendSide, "reply, "+what, k.down(f), choice)
	}
}

// options4 are IP options, and what follows the packet in its frame.
func (k *kernelCase) options4() {
	k.client = 51003
	k.open()
	nop, end := layers.IPv4Option{OptionType: 1, OptionLength: 1}, layers.IPv4Option{}
	for _, o := range []struct {
		name    string
		options []layers.IPv4Option
		choice  *kernelChoice
	}{
		{"four NOPs", []layers.IPv4Option{nop, nop, nop, nop}, nil},
		{"router alert", []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}, nil},
		{"record route that is full", []layers.IPv4Option{nop, {OptionType: 7, OptionLength: 7,
			OptionData: []byte{8, 192, 0, 2, 9}}}, nil},
		{"record route with room", []layers.IPv4Option{nop, {OptionType: 7, OptionLength: 7,
			OptionData: []byte{4, 0, 0, 0, 0}}}, choiceRoute},
		{"bytes behind the end of the options", []layers.IPv4Option{nop, end, nop, nop}, choiceEOL},
	} {
		if k.dsr() {
			o.choice = nil // rules do not read options
		}
		f := k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, Options: o.options})
		k.add(wiretest.ClientSide, "options, "+o.name, f, o.choice)
	}
	wrong := k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2})
	wrong[wire.EthernetLen+10] ^= 1
	var choice *kernelChoice
	if k.dsr() {
		choice = choiceNoMemory
	}
	k.add(wiretest.ClientSide, "a wrong IP checksum", wrong, choice)
	k.add(wiretest.ClientSide, "bytes behind the packet", append(k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2}), kernelPayload(6)...), nil)
	if k.mode == "fullnat" { // in the others clients keep their ports
		k.client = 51000
		f := wiretest.Frame{Src: "203.0.113.77:51000", Dst: k.vip().String(), TCP: "S", Seq: 1}
		k.add(wiretest.ClientSide, "SYN from a port that is taken", f.Bytes(k.t), choicePort)
	}
}

// options6 are extension headers, and a flow label.
func (k *kernelCase) options6() {
	k.client = 51003
	k.open()
	at := wire.EthernetLen + wire.IPv6Len
	for _, kind := range []byte{0, 60} {
		f := k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, Payload: kernelPayload(9)})
		f = append(append(bytes.Clone(f[:at]), f[at-34], 0, 1, 4, 0, 0, 0, 0), f[at:]...)
		f[at-34] = kind
		binary.BigEndian.PutUint16(f[at-36:], uint16(len(f)-at))
		k.add(wiretest.ClientSide, fmt.Sprintf("an extension header of type %d", kind), f, nil)
	}
	labelled := k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, TOS: 0xff, Payload: kernelPayload(9)})
	copy(labelled[wire.EthernetLen+1:], []byte{0xfe, 0xdc, 0xba})
	k.add(wiretest.ClientSide, "a flow label", labelled, nil)
	atomic := kernelFragments(k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, Payload: kernelPayload(9)}), 1000, 0)[0]
	choice := choiceAtomic
	if k.dsr() {
		choice = nil
	}
	k.add(wiretest.ClientSide, "an atomic fragment", atomic, choice)
	k.add(wiretest.ClientSide, "bytes behind the packet", append(k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2}), kernelPayload(6)...), nil)
}

// open makes a connection.
func (k *kernelCase) open() {
	k.request("first packet", wiretest.Frame{TCP: "S", Seq: 1})
	k.reply("first packet", wiretest.Frame{TCP: "SA", Seq: 1, Ack: 2})
	k.request("second packet", wiretest.Frame{TCP: "A", Seq: 2, Ack: 2})
}

// dns is queries and answers. Of those without a checksum only IPv4 has any.
func (k *kernelCase) dns() {
	if !k.udp {
		return
	}
	for id := range 3 {
		k.client++
		query := append([]byte{0, byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x04naru\x04test\x00\x00\x01\x00\x01"...)
		k.request("query", wiretest.Frame{Payload: query, ID: uint16(id)})
		answer := append(bytes.Clone(query), 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, byte(id))
		answer[2], answer[7] = 0x81, 1
		k.reply("answer", wiretest.Frame{Payload: answer, DF: id == 1})
		k.reply("answer again", wiretest.Frame{Payload: answer, TTL: 2, TOS: 0xb8})
	}
	k.request("no bytes", wiretest.Frame{})
	k.request("1400 bytes", wiretest.Frame{Payload: kernelPayload(1400), DF: true})
	k.reply("1400 bytes", wiretest.Frame{Payload: kernelPayload(1400)})
	if !k.v6 {
		k.request("no checksum", wiretest.Frame{Payload: kernelPayload(9), NoSum: true})
		k.reply("no checksum", wiretest.Frame{Payload: kernelPayload(9), NoSum: true})
	}
	// What comes out has the checksum 0xffff when its payload is the checksum that it has with a payload of zeros.
	zeros := make([]byte, 2)
	after := wiretest.Frame{Src: k.local().String(), Dst: k.backend().String(), UDP: true, Payload: zeros}.Bytes(k.t)
	k.request("a checksum that is computed as zero", wiretest.Frame{Payload: bytes.Clone(kernelL4(after)[6:8])})
	after = wiretest.Frame{Src: k.vip().String(), Dst: k.clientEnd().String(), UDP: true, Payload: zeros}.Bytes(k.t)
	k.reply("a checksum that is computed as zero", wiretest.Frame{Payload: bytes.Clone(kernelL4(after)[6:8])})
	for i, side := range []func(wiretest.Frame) []byte{k.up, k.down} {
		wrong := side(wiretest.Frame{Payload: kernelPayload(10)})
		kernelL4(wrong)[6] ^= 0x11
		k.add(wiretest.Side(i), "a wrong checksum", wrong, nil)
	}
	k.client = 9
	k.reply("of no connection", wiretest.Frame{Payload: kernelPayload(3)})
}

// kernelL4 returns what follows the IP header of a frame without extension headers.
func kernelL4(frame []byte) []byte {
	ip := frame[wire.EthernetLen:]
	if ip[0]>>4 == 6 {
		return ip[wire.IPv6Len:]
	}
	return ip[int(ip[0]&0xf)*4:]
}
