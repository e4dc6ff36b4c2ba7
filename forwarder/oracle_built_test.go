package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// talk is an oracle with one service, TCP or UDP, and the two ends of a conversation.
type talk struct {
	*oracleRun
	v6, udp              bool
	stray                fate // of what a backend sends that belongs to no connection
	client, vip, backend netip.AddrPort
	local                netip.AddrPort // what the backend speaks with: the client itself in mode NAT
	router, host         string         // addresses that send errors, behind and in front
	n                    *int           // packets put in so far, of all clients
}

// natModes are the modes that the kernel's connection tracking has too.
var natModes = map[string]forwarder.Mode{"fullnat": forwarder.FullNAT, "nat": forwarder.NAT}

// talks runs a test for both NAT modes and both families.
func talks(t *testing.T, udp bool, mtu [2]int, f func(t *testing.T, k *talk)) {
	for mode := range natModes {
		for _, v6 := range []bool{false, true} {
			name := fmt.Sprintf("%s ipv%d %s", mode, map[bool]int{false: 4, true: 6}[v6], map[bool]string{false: "tcp", true: "udp"}[udp])
			t.Run(name, func(t *testing.T) {
				k := newTalk(t, natModes[mode], v6, udp, mtu)
				f(t, k)
				k.report()
			})
		}
	}
}

func newTalk(t *testing.T, mode forwarder.Mode, v6, udp bool, mtu [2]int) *talk {
	t.Helper()
	k := &talk{v6: v6, udp: udp, stray: dropped, n: new(int), client: netip.MustParseAddrPort("203.0.113.5:51000"),
		vip: netip.MustParseAddrPort("192.0.2.1:80"), router: "10.9.9.9", host: "198.51.100.7"}
	addrs, proto := wiretest.OracleIPv4, uint8(wire.ProtoTCP)
	if v6 {
		k.client, k.vip = netip.MustParseAddrPort("[2001:db8:1::5]:51000"), netip.MustParseAddrPort("[2001:db8:2::1]:80")
		k.router, k.host = "2001:db8:9::9", "2001:db8:7::7"
		addrs = wiretest.OracleIPv6
	}
	if udp {
		proto = wire.ProtoUDP
	}
	k.backend, k.local = netip.AddrPortFrom(addrs.Backend, 8080), netip.AddrPortFrom(addrs.Local, k.client.Port())
	if mode == forwarder.NAT {
		k.local, k.stray = k.client, equal // it is routed on
	}
	k.oracleRun = newOracleRun(t, mode, mtu, []wiretest.OracleService{{VIP: k.vip, Backend: k.backend, Proto: proto}})
	return k
}

// as makes it another client of the same address.
func (k *talk) as(port uint16) *talk {
	other := *k
	other.client = netip.AddrPortFrom(k.client.Addr(), port)
	other.local = netip.AddrPortFrom(k.local.Addr(), port)
	return &other
}

// up and down build what the client and the backend send.
func (k *talk) up(f wiretest.Frame) []byte {
	f.Src, f.Dst, f.UDP = k.client.String(), k.vip.String(), k.udp
	return f.Bytes(k.t)
}

func (k *talk) down(f wiretest.Frame) []byte {
	f.Src, f.Dst, f.UDP = k.backend.String(), k.local.String(), k.udp
	return f.Bytes(k.t)
}

// want puts a frame in and wants the comparison to say that. It returns the packet that came out, nil for none.
func (k *talk) want(want fate, side wiretest.Side, what string, frame []byte) []byte {
	k.t.Helper()
	*k.n++
	got, out := k.step(*k.n, side, frame)
	if got != want {
		k.t.Errorf("%s: %v, want %v", what, got, want)
	}
	if len(out) == 0 {
		return nil
	}
	return out[0].Frame[wire.EthernetLen:]
}

// upEqual and downEqual want the same bytes to come out.
func (k *talk) upEqual(what string, f wiretest.Frame) []byte {
	k.t.Helper()
	return k.want(equal, wiretest.ClientSide, what, k.up(f))
}

func (k *talk) downEqual(what string, f wiretest.Frame) []byte {
	k.t.Helper()
	return k.want(equal, wiretest.BackendSide, what, k.down(f))
}

var payloadSizes = []int{0, 1, 2, 3, 7, 536, 1399, 1400}

func payload(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 3)
	}
	return b
}

var fullMTU = [2]int{1500, 1500}

func TestTCPAsTheKernelTranslatesIt(t *testing.T) {
	talks(t, false, fullMTU, func(t *testing.T, k *talk) {
		k.upEqual("SYN", wiretest.Frame{TCP: "S", Seq: 1000, MSS: 1400, ID: 7, TOS: 0x2e << 2, DF: true})
		k.downEqual("SYN-ACK", wiretest.Frame{TCP: "SA", Seq: 5000, Ack: 1001, MSS: 1460, TTL: 63})
		k.upEqual("ACK", wiretest.Frame{TCP: "A", Seq: 1001, Ack: 5001, TTL: 2})
		client, server := uint32(1001), uint32(5001)
		for _, n := range payloadSizes {
			what := fmt.Sprintf("%d bytes", n)
			k.upEqual(what, wiretest.Frame{TCP: "PA", Seq: client, Ack: server, Payload: payload(n), ID: uint16(n)})
			client += uint32(n)
			k.downEqual(what, wiretest.Frame{TCP: "A", Seq: server, Ack: client, Payload: payload(n), TOS: 3})
			server += uint32(n)
		}
		k.want(equal, wiretest.ClientSide, "options", withTCPOptions(k.up(wiretest.Frame{TCP: "A", Seq: client, Ack: server,
			Payload: append([]byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}, payload(99)...)})))
		client += 99
		k.downEqual("urgent", wiretest.Frame{TCP: "AU", Seq: server, Ack: client, Payload: payload(5)})
		server += 5
		k.downEqual("a segment again", wiretest.Frame{TCP: "A", Seq: server - 5, Ack: client, Payload: payload(5)})
		k.downEqual("beyond the window", wiretest.Frame{TCP: "A", Seq: server + 1e6, Ack: client, Payload: payload(5)})
		k.upEqual("FIN", wiretest.Frame{TCP: "FA", Seq: client, Ack: server})
		k.downEqual("ACK of the FIN", wiretest.Frame{TCP: "A", Seq: server, Ack: client + 1})
		k.downEqual("data of the half-closed", wiretest.Frame{TCP: "PA", Seq: server, Ack: client + 1, Payload: payload(9)})
		k.downEqual("second FIN", wiretest.Frame{TCP: "FA", Seq: server + 9, Ack: client + 1})
		k.upEqual("last ACK", wiretest.Frame{TCP: "A", Seq: client + 1, Ack: server + 10})
		k.downEqual("FIN again", wiretest.Frame{TCP: "FA", Seq: server + 9, Ack: client + 1})
		k.upEqual("SYN on the closed", wiretest.Frame{TCP: "S", Seq: 90000})
		k.downEqual("RST of the SYN", wiretest.Frame{TCP: "RA", Ack: 90001})

		k = k.as(51001)
		k.upEqual("SYN", wiretest.Frame{TCP: "S", Seq: 1})
		k.downEqual("SYN-ACK", wiretest.Frame{TCP: "SA", Seq: 1, Ack: 2})
		k.upEqual("ACK", wiretest.Frame{TCP: "A", Seq: 2, Ack: 2})
		k.upEqual("RST", wiretest.Frame{TCP: "R", Seq: 2})
		k.upEqual("SYN after the RST", wiretest.Frame{TCP: "S", Seq: 77})
		k.want(k.stray, wiretest.BackendSide, "of no connection", k.as(9).down(wiretest.Frame{TCP: "A", Seq: 1, Ack: 2}))
	})
}

func TestFirstSegmentsAsTheKernelTakesThem(t *testing.T) {
	talks(t, false, fullMTU, func(t *testing.T, k *talk) {
		for i, tt := range []struct {
			flags string
			want  fate
		}{
			{"S", equal}, {"A", equal}, {"PA", equal}, {"AU", equal}, // tcp_loose
			{"R", dropped}, {"RA", dropped}, {"SF", dropped}, {"SR", dropped}, {"F", dropped}, {"", dropped},
			{"SFAPRU", dropped}, {"P", dropped}, {"U", dropped}, {"SA", dropped}, {"FA", explained},
		} {
			if tt.want == explained {
				k.silent = append(k.silent, *k.n+1)
				k.explain = func(o *outcome) string {
					if o.differsAs(whyFIN) {
						return whyFIN
					}
					return ""
				}
			}
			k.as(uint16(40000+i)).want(tt.want, wiretest.ClientSide, "first segment "+tt.flags,
				k.as(uint16(40000+i)).up(wiretest.Frame{TCP: tt.flags, Seq: 9, Ack: 9, Payload: payload(i)}))
		}
	})
}

func TestUDPAsTheKernelTranslatesIt(t *testing.T) {
	talks(t, true, fullMTU, func(t *testing.T, k *talk) {
		for _, n := range payloadSizes {
			what := fmt.Sprintf("%d bytes", n)
			k.upEqual(what, wiretest.Frame{Payload: payload(n), ID: uint16(n), DF: true})
			k.downEqual(what, wiretest.Frame{Payload: payload(n)})
		}
		k.upEqual("no checksum", wiretest.Frame{Payload: payload(9), NoSum: true})
		k.downEqual("no checksum", wiretest.Frame{Payload: payload(9), NoSum: true})
		// What comes out has the checksum 0xffff when its payload is the checksum that it has with a payload of
		// zeros.
		zeros := make([]byte, 2)
		after := wiretest.Frame{Src: k.local.String(), Dst: k.backend.String(), UDP: true, Payload: zeros}.Bytes(t)
		out := k.upEqual("computed zero", wiretest.Frame{Payload: udpSum(after[wire.EthernetLen:])})
		if !bytes.Equal(udpSum(out), []byte{0xff, 0xff}) {
			t.Errorf("the checksum came out as %x", udpSum(out))
		}
		after = wiretest.Frame{Src: k.vip.String(), Dst: k.client.String(), UDP: true, Payload: zeros}.Bytes(t)
		out = k.downEqual("computed zero", wiretest.Frame{Payload: udpSum(after[wire.EthernetLen:])})
		if !bytes.Equal(udpSum(out), []byte{0xff, 0xff}) {
			t.Errorf("the checksum came out as %x", udpSum(out))
		}
		wrong := k.up(wiretest.Frame{Payload: payload(10)})
		l4(wrong)[6] ^= 0x11
		k.want(equal, wiretest.ClientSide, "wrong checksum", wrong)
		k.want(k.stray, wiretest.BackendSide, "of no connection", k.as(9).down(wiretest.Frame{Payload: payload(3)}))
	})
}

func TestFragmentsAsTheKernelTranslatesThem(t *testing.T) {
	for _, udp := range []bool{false, true} {
		talks(t, udp, fullMTU, func(t *testing.T, k *talk) {
			k.open()
			orders := [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}}
			for round, order := range orders {
				f := wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, ID: uint16(round + 1), TOS: uint8(round), Payload: payload(1400)}
				for side, whole := range [][]byte{k.up(f), k.down(f)} {
					all := cutFrame(whole, 512)
					for _, i := range order {
						b := all[i].Bytes()
						if k.v6 { // a datagram of its own
							b[wire.EthernetLen+wire.IPv6Len+7] = byte(round)
						}
						k.want(inParts, wiretest.Side(side), fmt.Sprintf("round %d fragment %d", round, i), b)
					}
				}
			}
			want := 2 * len(orders)
			if k.stray == equal { // a backend is reached by its own address
				want++
				for i, p := range cutFrame(k.as(9).down(wiretest.Frame{TCP: "A", ID: 99, Payload: payload(1000)}), 512) {
					k.want(inParts, wiretest.BackendSide, fmt.Sprintf("stray fragment %d", i), p.Bytes())
				}
			}
			if same, more := k.joinParts(); same != want || more != 0 {
				t.Errorf("%d datagrams are the same, want %d; the kernel has %d more", same, want, more)
			}
		})
	}
}

func TestWrongChecksumsAsTheKernelTreatsThem(t *testing.T) {
	talks(t, false, fullMTU, func(t *testing.T, k *talk) {
		right := k.upEqual("SYN", wiretest.Frame{TCP: "S", Seq: 1})
		for _, x := range []byte{0x01, 0xff} {
			b := k.up(wiretest.Frame{TCP: "S", Seq: 1})
			l4(b)[16] ^= x
			l4(b)[17] ^= x
			out := k.want(equal, wiretest.ClientSide, "wrong TCP checksum", b)
			if bytes.Equal(out, right) {
				t.Error("a wrong checksum was mended")
			}
		}
		if k.v6 {
			return
		}
		b := k.up(wiretest.Frame{TCP: "S", Seq: 1})
		b[wire.EthernetLen+10] ^= 1
		k.want(dropped, wiretest.ClientSide, "wrong IP checksum", b)
	})
}

func TestIPOptionsAsTheKernelKeepsThem(t *testing.T) {
	talks(t, false, fullMTU, func(t *testing.T, k *talk) {
		if k.v6 {
			return
		}
		nop := layers.IPv4Option{OptionType: 1, OptionLength: 1}
		for _, tt := range []struct {
			name    string
			options []layers.IPv4Option
			want    fate
		}{
			{"four NOPs", []layers.IPv4Option{nop, nop, nop, nop}, equal},
			{"router alert", []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}, equal},
			{"record route that is full", []layers.IPv4Option{nop, {OptionType: 7, OptionLength: 7,
				OptionData: []byte{8, 192, 0, 2, 9}}}, equal},
			{"record route with room", []layers.IPv4Option{nop, {OptionType: 7, OptionLength: 7,
				OptionData: []byte{4, 0, 0, 0, 0}}}, explained},
		} {
			k.explain = func(o *outcome) string {
				if tt.want == explained && slices.Equal(fieldsOf(o), []string{"ip checksum", "ip options"}) {
					return "the kernel records its address in a route option with room, naru does not"
				}
				return ""
			}
			k.want(tt.want, wiretest.ClientSide, tt.name, k.up(wiretest.Frame{TCP: "S", Seq: 1, Options: tt.options}))
		}
	})
}

// open makes a connection.
func (k *talk) open() {
	k.t.Helper()
	k.upEqual("first packet", wiretest.Frame{TCP: "S", Seq: 1})
	k.downEqual("reply", wiretest.Frame{TCP: "SA", Seq: 1, Ack: 2})
	k.upEqual("second packet", wiretest.Frame{TCP: "A", Seq: 2, Ack: 2})
}

func TestSpentTTLAsTheKernelAnswersIt(t *testing.T) {
	for _, udp := range []bool{false, true} {
		talks(t, udp, fullMTU, func(t *testing.T, k *talk) {
			k.want(answered, wiretest.ClientSide, "first packet", k.up(wiretest.Frame{TCP: "S", Seq: 1, TTL: 1}))
			k.open()
			k.upEqual("the last hop but one", wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, TTL: 2})
			if k.stray == equal {
				k.want(answered, wiretest.BackendSide, "of no connection", k.as(9).down(wiretest.Frame{TCP: "A", TTL: 1}))
			}
			for _, n := range payloadSizes {
				what := fmt.Sprintf("%d bytes", n)
				k.want(answered, wiretest.ClientSide, what, k.up(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, TTL: 1,
					Payload: payload(n)}))
				k.want(answered, wiretest.BackendSide, what+" of the backend", k.down(wiretest.Frame{TCP: "A", Seq: 2, Ack: 2,
					TTL: 1, Payload: payload(n)}))
			}
		})
	}
}

func TestTooBigAsTheKernelAnswersIt(t *testing.T) {
	const big, small = 1400, 1380
	for _, udp := range []bool{false, true} {
		talks(t, udp, [2]int{big, small}, func(t *testing.T, k *talk) {
			k.open()
			f := wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, DF: true}
			f.Payload = payload(small - len(k.up(f)) + wire.EthernetLen)
			k.upEqual("as big as fits", f)
			f.Payload = append(f.Payload, 0)
			k.want(answered, wiretest.ClientSide, "too big by one", k.up(f))
			f.Payload = append(f.Payload, payload(big-small-1)...)
			k.want(answered, wiretest.ClientSide, "too big", k.up(f))
			if f.DF = false; !k.v6 {
				k.want(equal, wiretest.ClientSide, "too big without DF", k.up(f))
			}
		})
		talks(t, udp, [2]int{small, big}, func(t *testing.T, k *talk) {
			k.open()
			f := wiretest.Frame{TCP: "A", Seq: 2, Ack: 2, DF: true}
			f.Payload = payload(big - len(k.down(f)) + wire.EthernetLen)
			k.want(answered, wiretest.BackendSide, "too big reply", k.down(f))
		})
	}
}

// quote makes an ICMP error of type and code about a packet, of which it quotes n bytes.
func (k *talk) quote(from, to string, kind, code uint8, word uint32, packet []byte, n int) []byte {
	msg := binary.BigEndian.AppendUint32([]byte{kind, code, 0, 0}, word)
	return wiretest.Frame{Src: from, Dst: to, ICMP: append(msg, packet[:min(n, len(packet))]...)}.Bytes(k.t)
}

// errors are the types and codes that routers and hosts send: too big, unreachable, spent TTL.
func (k *talk) errors() []icmpKind {
	if k.v6 {
		return []icmpKind{{2, 0, 1400}, {1, 3, 0}, {1, 4, 0}, {3, 0, 0}}
	}
	return []icmpKind{{3, 4, 1400}, {3, 1, 0}, {3, 3, 0}, {11, 0, 0}}
}

type icmpKind struct {
	kind, code uint8
	word       uint32
}

func TestICMPErrorsAsTheKernelTranslatesThem(t *testing.T) {
	for _, udp := range []bool{false, true} {
		talks(t, udp, fullMTU, func(t *testing.T, k *talk) {
			sent := k.upEqual("first packet", wiretest.Frame{TCP: "S", Seq: 1, Payload: payload(1100)})
			got := k.downEqual("reply", wiretest.Frame{TCP: "SA", Seq: 1, Ack: 2, Payload: payload(1100)})
			k.explain = func(o *outcome) string {
				if slices.Equal(fieldsOf(o), []string{"icmp checksum", "quoted tcp checksum"}) {
					return "the kernel mends a quoted TCP checksum when the whole header is quoted, naru when it is there"
				}
				return ""
			}
			extra := 0
			if k.v6 {
				extra = wire.IPv6Len - wire.IPv4Len
			}
			for _, e := range k.errors() {
				for _, n := range []int{1040, 41, 40, 38, 36, 32, 28, 24, 20} {
					want := equal
					switch {
					case n < 28:
						want = dropped
					case n == 38 && !udp: // the checksum is the last that is there
						want = explained
					}
					what := fmt.Sprintf("%d/%d quoting %d bytes", e.kind, e.code, n+extra)
					k.want(want, wiretest.BackendSide, what+" of a packet",
						k.quote(k.router, k.local.Addr().String(), e.kind, e.code, e.word, sent, n+extra))
					k.want(want, wiretest.ClientSide, what+" of a reply",
						k.quote(k.host, k.vip.Addr().String(), e.kind, e.code, e.word, got, n+extra))
				}
			}
			k.icmpDropped(sent)
		})
	}
}

// icmpDropped are the errors that neither believes.
func (k *talk) icmpDropped(sent []byte) {
	k.t.Helper()
	e := k.errors()[1]
	wrong := k.quote(k.router, k.local.Addr().String(), e.kind, e.code, e.word, sent, 200)
	l4(wrong)[3] ^= 1
	k.want(dropped, wiretest.BackendSide, "wrong ICMP checksum", wrong)
	frame := append(make([]byte, wire.EthernetLen), sent...)
	binary.BigEndian.PutUint16(l4(frame), 7) // the source port
	unknown := frame[wire.EthernetLen:]
	k.want(dropped, wiretest.BackendSide, "unknown flow",
		k.quote(k.router, k.local.Addr().String(), e.kind, e.code, e.word, unknown, 200))
	k.want(dropped, wiretest.ClientSide, "quoting what went to the backend, sent to the VIP",
		k.quote(k.host, k.vip.Addr().String(), e.kind, e.code, e.word, sent, 200))
	spent := k.quote(k.router, k.local.Addr().String(), e.kind, e.code, e.word, sent, 200)
	ttl := spent[wire.EthernetLen:]
	if k.v6 {
		ttl[7] = 1
	} else {
		ttl[8], ttl[10], ttl[11] = 1, 0, 0
		binary.BigEndian.PutUint16(ttl[10:], ^wiretest.SlowChecksum(ttl[:wire.IPv4Len], 0))
	}
	k.want(dropped, wiretest.BackendSide, "an error with a spent TTL", spent)
}

// l4 returns what follows the IP header of a frame without extension headers.
func l4(frame []byte) []byte {
	ip := frame[wire.EthernetLen:]
	if ip[0]>>4 == 6 {
		return ip[wire.IPv6Len:]
	}
	return ip[int(ip[0]&0xf)*4:]
}

// udpSum returns the checksum of a UDP packet.
func udpSum(ip []byte) []byte { return l4(append(make([]byte, wire.EthernetLen), ip...))[6:8] }

// withTCPOptions makes the first twelve bytes of the payload of a segment options.
func withTCPOptions(frame []byte) []byte {
	t := l4(frame)
	be := binary.BigEndian
	before := be.Uint16(t[12:])
	t[12] += 12 / 4 << 4
	sum := uint32(^be.Uint16(t[16:])) + uint32(^before) + uint32(be.Uint16(t[12:]))
	be.PutUint16(t[16:], ^wiretest.SlowChecksum(nil, sum))
	return frame
}
