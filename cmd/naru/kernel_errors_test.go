package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"naru/internal/wire"
	"naru/internal/wiretest"
)

// errors are ICMP errors of routers on both sides about a packet and its reply, of which they quote more and less.
func (k *kernelCase) errors() {
	k.request("first packet", wiretest.Frame{TCP: "S", Seq: 1, Payload: kernelPayload(600)})
	k.reply("first packet", wiretest.Frame{TCP: "SA", Seq: 1, Ack: 2, Payload: kernelPayload(600)})
	request := wiretest.Frame{Src: k.local().String(), Dst: k.backend().String(), UDP: k.udp, TCP: "S", Seq: 1, TTL: 63,
		Payload: kernelPayload(600)}.Bytes(k.t)[wire.EthernetLen:]
	reply := wiretest.Frame{Src: k.vip().String(), Dst: k.clientEnd().String(), UDP: k.udp, TCP: "SA", Seq: 1, Ack: 2, TTL: 63,
		Payload: kernelPayload(600)}.Bytes(k.t)[wire.EthernetLen:]
	extra := 0
	if k.v6 {
		extra = wire.IPv6Len - wire.IPv4Len
	}
	for i, e := range k.errorKinds() {
		for _, n := range []int{548, 41, 40, 38, 36, 32, 28, 24, 20} {
			if i > 0 && n > 200 { // once is enough
				n = 64
			}
			what := fmt.Sprintf("error %d/%d quoting %d bytes", e[0], e[1], n+extra)
			var choice, choiceBack *kernelChoice
			switch {
			case !k.udp && n == 38 && !k.dsr():
				choice, choiceBack = choiceQuote, choiceQuote
			case k.dsr() && n < 28:
				choiceBack = choiceNoMemory
			case k.mode == "dscp":
				choiceBack = choiceRouter
			}
			k.add(wiretest.BackendSide, what+" of a request", k.quote(k.pick("10.9.9.9", "2001:db8:9::9"),
				k.local().Addr().String(), e, request, n+extra), choice)
			k.add(wiretest.ClientSide, what+" of a reply", k.quote(k.pick("198.51.100.7", "2001:db8:7::7"),
				k.vip().Addr().String(), e, reply, n+extra), choiceBack)
		}
	}
	k.errorsUnbelieved(request)
}

// errorKinds are too big, unreachable and spent TTL: type, code, four bytes.
func (k *kernelCase) errorKinds() [][]byte {
	if k.v6 {
		return [][]byte{{2, 0, 0, 0, 5, 120}, {1, 3, 0, 0, 0, 0}, {1, 4, 0, 0, 0, 0}, {3, 0, 0, 0, 0, 0}}
	}
	return [][]byte{{3, 4, 0, 0, 5, 120}, {3, 1, 0, 0, 0, 0}, {3, 3, 0, 0, 0, 0}, {11, 0, 0, 0, 0, 0}}
}

// quote makes an ICMP error about a packet, of which it quotes n bytes.
func (k *kernelCase) quote(from, to string, kind, packet []byte, n int) []byte {
	message := append([]byte{kind[0], kind[1], 0, 0}, kind[2:]...)
	return wiretest.Frame{Src: from, Dst: to, TOS: 0xc0, ICMP: append(message, packet[:min(n, len(packet))]...)}.Bytes(k.t)
}

// errorsUnbelieved are errors about nothing that is, or that are broken.
func (k *kernelCase) errorsUnbelieved(request []byte) {
	kind := k.errorKinds()[1]
	router, host := k.pick("10.9.9.9", "2001:db8:9::9"), k.pick("198.51.100.7", "2001:db8:7::7")
	wrong := k.quote(router, k.local().Addr().String(), kind, request, 200)
	kernelL4(wrong)[3] ^= 1
	k.add(wiretest.BackendSide, "an error with a wrong checksum", wrong, nil)
	other := append(make([]byte, wire.EthernetLen), request...)
	binary.BigEndian.PutUint16(kernelL4(other), 7) // the source port
	k.add(wiretest.BackendSide, "an error about an unknown flow",
		k.quote(router, k.local().Addr().String(), kind, other[wire.EthernetLen:], 200), nil)
	var choice *kernelChoice
	if k.dsr() {
		choice = choiceNoMemory
	}
	k.add(wiretest.ClientSide, "an error about what a client never saw",
		k.quote(host, k.vip().Addr().String(), kind, request, 200), choice)
}

// fragments are datagrams cut in three, in order and out of order.
func (k *kernelCase) fragments() {
	k.open()
	for round, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {0, 2, 1}} {
		f := wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, ID: uint16(round + 1), TOS: uint8(round), Payload: kernelPayload(1400)}
		for side, whole := range [][]byte{k.up(f), k.down(f)} {
			parts := kernelFragments(whole, 512, byte(round))
			for _, i := range order {
				k.add(wiretest.Side(side), fmt.Sprintf("datagram %d, fragment %d", round, i), parts[i], nil)
			}
		}
	}
}

// kernelFragments cuts a datagram into fragments with n bytes each; id is the identification over IPv6.
func kernelFragments(frame []byte, n int, id byte) (out [][]byte) {
	v6 := frame[wire.EthernetLen]>>4 == 6
	head := wire.EthernetLen + wire.IPv4Len
	if v6 {
		head = wire.EthernetLen + wire.IPv6Len
	}
	data := frame[head:]
	for at := 0; at < len(data); at += n {
		part, more := data[at:min(len(data), at+n)], uint16(0)
		f := bytes.Clone(frame[:head])
		if at+n < len(data) {
			more = 1
		}
		if v6 {
			h := binary.BigEndian.AppendUint16([]byte{f[20], 0}, uint16(at)|more)
			f = slices.Concat(f, h, []byte{0, 0, 0x12, id}, part)
			f[20] = 44
			binary.BigEndian.PutUint16(f[18:], uint16(len(f)-head))
		} else {
			f = append(f, part...)
			binary.BigEndian.PutUint16(f[16:], uint16(len(f)-wire.EthernetLen))
			binary.BigEndian.PutUint16(f[20:], uint16(at/8)|more<<13)
			f[24], f[25] = 0, 0
			binary.BigEndian.PutUint16(f[24:], ^wiretest.SlowChecksum(f[wire.EthernetLen:head], 0))
		}
		out = append(out, f)
	}
	return out
}

// tooBig are datagrams that do not fit the other side. Of TCP, a capture with longer segments has super-frames.
func (k *kernelCase) tooBig(side wiretest.Side) {
	if !k.udp {
		return
	}
	k.open()
	build := k.up
	if side == wiretest.BackendSide {
		build = k.down
	}
	f := wiretest.Frame{DF: true}
	f.Payload = kernelPayload(kernelMTU - len(build(f)) + wire.EthernetLen)
	fits := len(f.Payload)
	k.add(side, "as big as fits", build(f), nil)
	for _, more := range []int{1, 100, 1400} {
		f.Payload, f.DF = kernelPayload(fits+more), true
		k.add(side, fmt.Sprintf("too big by %d", more), build(f), choiceAnswer)
		if f.DF = false; !k.v6 {
			k.add(side, fmt.Sprintf("too big by %d, without DF", more), build(f), nil)
		}
	}
}

// host is what a host answers that has the VIP and no listener.
func (k *kernelCase) host() {
	to := k.vip()
	if !k.udp {
		kind := byte(8)
		if k.v6 {
			kind = 128
		}
		for n := range 4 {
			k.add(wiretest.ClientSide, fmt.Sprintf("echo with %d bytes", n*17), wiretest.Frame{Src: k.clientEnd().Addr().String(),
				Dst: to.Addr().String(), TTL: uint8(1 + n), TOS: uint8(n << 2), ICMP: append([]byte{kind, 0, 0, 0, 1, 2, 0, byte(n)},
					kernelPayload(n*17)...)}.Bytes(k.t), choiceAnswer)
		}
	}
	for i, flags := range []string{"S", "SA", "A", "FA", "R", ""} {
		if k.udp && flags != "S" {
			break
		}
		f := wiretest.Frame{Src: k.clientEnd().String(), Dst: netip.AddrPortFrom(to.Addr(), 4444).String(), UDP: k.udp, TCP: flags, Seq: 1000, Ack: 7000,
			Payload: kernelPayload(i * 3)}
		choice := map[bool]*kernelChoice{true: choiceAnswer}[k.udp || k.v6 && flags != "R"]
		if flags == "" {
			choice = choiceNoFlags
		}
		k.add(wiretest.ClientSide, "to a closed port "+flags, f.Bytes(k.t), choice)
	}
}
