package forwarder_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"naru/forwarder"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// oracleDSCP is a code whose bits are in both bytes of an IPv6 traffic class.
const oracleDSCP = 28

// stateless are an engine in a DSR mode and the kernel's rules of a netdev ingress chain that say the same. The rules
// know nothing but addresses, so they forward everything; whole frames must be the same.
type stateless struct {
	*rig
	oracle *wiretest.Oracle
	ttl    bool // the mode lowers it
	held   [][]byte
	equal  int
	drops  map[wire.Reason]int
	wrong  int
}

// newStateless makes both for all services, whose backends' ports and, in L2DSR, addresses do not matter.
func newStateless(t *testing.T, mode forwarder.Mode, services []wiretest.OracleService) *stateless {
	t.Helper()
	var rules []wiretest.OracleRedirect
	for _, s := range services {
		r := wiretest.OracleRedirect{VIP: s.VIP.Addr()}
		if mode == forwarder.L3DSR {
			r.Backend, r.DSCP = s.Backend.Addr(), oracleDSCP
		}
		if !slices.Contains(rules, r) {
			rules = append(rules, r)
		}
	}
	oracle := wiretest.NewStatelessOracle(t, rules, nil)
	cfg := oracleConfig([2]int{9000, 9000}, oracle.MACs(), services)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		s.Mode, s.L3DSR, s.Locals, s.Backends[0].Port = mode, forwarder.L3DSROptions{DSCP: oracleDSCP}, nil, 0
	}
	return &stateless{rig: newRig(t, cfg), oracle: oracle, ttl: mode == forwarder.L3DSR, drops: map[wire.Reason]int{}}
}

// step puts a frame of a client through both. A later fragment that comes before its first one is compared when naru
// lets it go.
func (s *stateless) step(what string, frame []byte) wire.Reason {
	s.t.Helper()
	s.oracle.Address(wiretest.ClientSide, frame)
	in := bytes.Clone(frame)
	s.now = s.now.Add(time.Millisecond)
	verdict, why, out := s.put(0, wiretest.Packet(frame))
	wait := waitForFrame
	if s.ttl && hops(in) <= 1 || why == wire.FragmentTiny { // the kernel finds no checksum to mend
		wait = waitForNone
	}
	kernel := s.oracle.Step(s.t, wiretest.ClientSide, frame, wait)
	switch {
	case len(kernel) > 1 || len(kernel) == 0 && wait == waitForFrame:
		s.t.Fatalf("%s: %d frames from the kernel; in %x", what, len(kernel), in)
	case verdict == wire.Held:
		s.held = append(s.held, kernel[0].Frame)
		return why
	case verdict != wire.Transmit:
		s.drops[why]++
		return why
	case len(kernel) == 0 || len(out) == 0:
		s.t.Fatalf("%s: the kernel sends %d frames, naru %d; in %x", what, len(kernel), len(out), in)
	}
	s.same(what, in, kernel[0].Frame, &out[0])
	for i := range out[1:] {
		if i < len(s.held) {
			s.same(what+", held before", in, s.held[i], &out[i+1])
		}
	}
	if n := len(out) - 1; n > len(s.held) {
		s.t.Errorf("%s: %d frames came along, %d were held", what, n, len(s.held))
	} else {
		s.held = s.held[n:]
	}
	return why
}

// same wants the frames to be the same from the first byte to the last.
func (s *stateless) same(what string, in, kernel []byte, naru *sent) {
	s.t.Helper()
	if naru.leg == int(wiretest.BackendSide) && bytes.Equal(kernel, naru.bytes) {
		s.equal++
		return
	}
	if s.wrong++; s.wrong > maxReports {
		return
	}
	var fields []string
	for _, d := range wiretest.Differences(kernel, naru.bytes) {
		fields = append(fields, fmt.Sprintf("%s: kernel %s, naru %s", d.Field, d.A, d.B))
	}
	s.t.Errorf("%s: on leg %d, %d bytes from the kernel, %d from naru\n\t%s\n\tin %x", what, naru.leg, len(kernel),
		len(naru.bytes), strings.Join(fields, "\n\t"), in[:min(len(in), 120)])
}

// hops returns the TTL or hop limit of a frame.
func hops(frame []byte) byte {
	ip := frame[wire.EthernetLen:]
	if ip[0]>>4 == 6 {
		return ip[7]
	}
	return ip[8]
}

// directModes are the modes that have a stateless twin.
var directModes = []struct {
	name string
	mode forwarder.Mode
}{{"l2dsr", forwarder.L2DSR}, {"dscp", forwarder.L3DSR}}

// directEnds runs a test for each mode, family and protocol.
func directEnds(t *testing.T, f func(t *testing.T, s *stateless, at *directEnd)) {
	for _, m := range directModes {
		for _, e := range []directEnd{
			{"203.0.113.5:51000", "192.0.2.1:80", false, false}, {"203.0.113.5:51000", "192.0.2.1:80", true, false},
			{"[2001:db8:1::5]:51000", "[2001:db8:2::1]:80", false, true},
			{"[2001:db8:1::5]:51000", "[2001:db8:2::1]:80", true, true},
		} {
			proto, backend := uint8(wire.ProtoTCP), wiretest.OracleIPv4.Backend
			if e.udp {
				proto = wire.ProtoUDP
			}
			if e.v6 {
				backend = wiretest.OracleIPv6.Backend
			}
			t.Run(fmt.Sprintf("%s protocol %d to %s", m.name, proto, e.vip), func(t *testing.T) {
				s := newStateless(t, m.mode, []wiretest.OracleService{{VIP: netip.MustParseAddrPort(e.vip), Proto: proto,
					Backend: netip.AddrPortFrom(backend, 80)}})
				f(t, s, &e)
				if len(s.held) > 0 {
					t.Errorf("%d frames are still held", len(s.held))
				}
				t.Logf("%d equal, drops %v", s.equal, s.drops)
			})
		}
	}
}

type directEnd struct {
	client, vip string
	udp, v6     bool
}

// frame builds what the client sends.
func (e *directEnd) frame(t testing.TB, f wiretest.Frame) []byte {
	f.Src, f.Dst, f.UDP = e.client, e.vip, e.udp
	if f.TCP == "" {
		f.TCP = "A"
	}
	return f.Bytes(t)
}

func TestDirectFramesAreThoseOfTheKernel(t *testing.T) {
	directEnds(t, func(t *testing.T, s *stateless, e *directEnd) {
		s.step("SYN", e.frame(t, wiretest.Frame{TCP: "S", Seq: 1, MSS: 1460, DF: true, ID: 5}))
		for _, n := range payloadSizes {
			s.step(fmt.Sprintf("%d bytes", n), e.frame(t, wiretest.Frame{Payload: payload(n), ID: uint16(n)}))
		}
		for tos := range 256 { // every DSCP with every ECN
			s.step(fmt.Sprintf("TOS %#x", tos), e.frame(t, wiretest.Frame{TOS: uint8(tos), ID: uint16(tos) << 7, Payload: payload(tos)}))
		}
		for _, ttl := range []uint8{2, 3, 64, 128, 255} {
			s.step(fmt.Sprintf("TTL %d", ttl), e.frame(t, wiretest.Frame{TTL: ttl, DF: true}))
		}
		if why := s.step("TTL 1", e.frame(t, wiretest.Frame{TTL: 1})); s.ttl != (why == wire.HopLimitAnswered) {
			t.Errorf("a spent TTL: %v", why)
		}
		for _, n := range []int{1, 6, 17, 100} {
			s.step(fmt.Sprintf("%d bytes behind the packet", n), append(e.frame(t, wiretest.Frame{Payload: payload(1)}), payload(n)...))
		}
		broken := e.frame(t, wiretest.Frame{Payload: payload(40)})
		l4(broken)[map[bool]int{false: 16, true: 6}[e.udp]] ^= 0x5a
		s.step("a wrong transport checksum", broken)
		if !e.v6 {
			nop := layers.IPv4Option{OptionType: 1, OptionLength: 1}
			s.step("options", e.frame(t, wiretest.Frame{Payload: payload(9), Options: []layers.IPv4Option{nop, nop, nop, nop,
				{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}}}}))
		} else {
			s.step("a hop-by-hop header", withHopByHop(e.frame(t, wiretest.Frame{Payload: payload(9)})))
			labelled := e.frame(t, wiretest.Frame{TOS: 0xff, Payload: payload(9)})
			copy(labelled[wire.EthernetLen+1:], []byte{0xfe, 0xdc, 0xba})
			s.step("a flow label", labelled)
		}
	})
}

// withHopByHop puts a hop-by-hop header with padding into an IPv6 frame.
func withHopByHop(frame []byte) []byte {
	at := wire.EthernetLen + wire.IPv6Len
	header := []byte{frame[wire.EthernetLen+6], 0, 1, 4, 0, 0, 0, 0}
	frame = slices.Insert(frame, at, header...)
	frame[wire.EthernetLen+6] = 0
	binary.BigEndian.PutUint16(frame[wire.EthernetLen+4:], uint16(len(frame)-at))
	return frame
}

func TestDirectFragmentsAreThoseOfTheKernel(t *testing.T) {
	directEnds(t, func(t *testing.T, s *stateless, e *directEnd) {
		for round, order := range [][]int{{0, 1, 2, 3}, {3, 1, 0, 2}, {2, 3, 1, 0}} {
			f := wiretest.Frame{Src: e.client, Dst: e.vip, UDP: e.udp, TCP: "A", TOS: 0x03, ID: uint16(round + 1), Payload: payload(1700)}
			all := pieces(t, f, 512)
			for _, i := range order {
				b := all[i].Bytes()
				if e.v6 { // a datagram of its own
					b[wire.EthernetLen+wire.IPv6Len+7] = byte(round)
				}
				s.step(fmt.Sprintf("round %d, fragment %d", round, i), b)
			}
		}
		if s.equal != 12 {
			t.Errorf("%d fragments are equal, want 12", s.equal)
		}
	})
}

// TestDirectUDPWithoutChecksum: a zero stays zero. Old kernels break it, those that run this do not.
func TestDirectUDPWithoutChecksum(t *testing.T) {
	directEnds(t, func(t *testing.T, s *stateless, e *directEnd) {
		if !e.udp || e.v6 {
			return
		}
		for n := range 20 {
			s.step(fmt.Sprintf("%d bytes", n), e.frame(t, wiretest.Frame{NoSum: true, Payload: payload(n)}))
		}
	})
}

// TestDirectErrorsAreThoseOfTheKernel puts ICMP errors about replies, which naru never sees, through both.
func TestDirectErrorsAreThoseOfTheKernel(t *testing.T) {
	directEnds(t, func(t *testing.T, s *stateless, e *directEnd) {
		s.step("first packet", e.frame(t, wiretest.Frame{TCP: "S", Payload: payload(3)}))
		reply := wiretest.Frame{Src: e.vip, Dst: e.client, TCP: "SA", UDP: e.udp, Payload: payload(500)}.Bytes(t)[wire.EthernetLen:]
		from, to := "198.51.100.7", netip.MustParseAddrPort(e.vip).Addr().String()
		kinds := [][]byte{{3, 4, 0, 0, 0, 0, 5, 120}, {3, 1, 0, 0, 0, 0, 0, 0}, {11, 0, 0, 0, 0, 0, 0, 0}}
		if e.v6 {
			from = "2001:db8:7::7"
			kinds = [][]byte{{2, 0, 0, 0, 0, 0, 5, 120}, {1, 4, 0, 0, 0, 0, 0, 0}, {3, 0, 0, 0, 0, 0, 0, 0}}
		}
		for _, kind := range kinds {
			for _, n := range []int{60, 61, 200, len(reply)} {
				s.step(fmt.Sprintf("%d/%d quoting %d bytes", kind[0], kind[1], n),
					wiretest.Frame{Src: from, Dst: to, TOS: 0xc0, ICMP: append(bytes.Clone(kind), reply[:n]...)}.Bytes(t))
			}
		}
		if want := 1 + 4*len(kinds); s.equal != want {
			t.Errorf("%d are equal, want %d", s.equal, want)
		}
	})
}

// directRefuses are the reasons for which naru does not forward what rules without a memory forward blindly: flags that
// no stack sends, first segments that cannot begin a connection, used-up TTLs, and fragments too small for a header.
var directRefuses = []wire.Reason{wire.TCPFlags, wire.MidstreamTCP, wire.HopLimitAnswered, wire.FragmentTiny}

// directEqual is how many packets at least come out the same in each mode.
const directEqual = 1850

// TestCapturesDirectAsTheKernelForwardsThem puts what clients sent in captures of other people through both.
func TestCapturesDirectAsTheKernelForwardsThem(t *testing.T) {
	wiretest.Root(t)
	dir := wiretest.Captures(t)
	for _, m := range directModes {
		var equal int
		drops := map[wire.Reason]int{}
		for _, folder := range []string{"tcp4", "tcp6", "dns", "frag", "icmp"} {
			for _, file := range wiretest.CaptureFiles(t, dir, folder) {
				t.Run(m.name+" "+strings.ReplaceAll(file, "/", " "), func(t *testing.T) {
					packets, err := wiretest.ReadCapture(filepath.Join(dir, file))
					if err != nil {
						t.Log(err)
					}
					services, steps := wiretest.AdaptCapture(packets)
					if len(steps) == 0 {
						return
					}
					s := newStateless(t, m.mode, services)
					for _, step := range steps {
						if step.Side == wiretest.ClientSide {
							s.step(fmt.Sprintf("packet %d", step.Number), step.Frame)
						}
					}
					for why := range s.drops {
						if !slices.Contains(directRefuses, why) {
							t.Errorf("refused: %v", why)
						}
					}
					t.Logf("%d equal, %d held, drops %v", s.equal, len(s.held), s.drops)
					equal += s.equal
					for why, n := range s.drops {
						drops[why] += n
					}
				})
			}
		}
		t.Logf("%s: %d equal, drops %v", m.name, equal, drops)
		if equal < directEqual {
			t.Errorf("%s: only %d packets are equal", m.name, equal)
		}
	}
}
