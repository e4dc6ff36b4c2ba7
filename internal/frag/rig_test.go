package frag_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"naru/internal/frag"
	"naru/internal/wire"
	"naru/internal/wiretest"
)

// part is a fragment to build: bytes from to to of a datagram whose byte number i is i, behind its transport header.
type part struct {
	src      string // of the same family as dst; 192.0.2.1 when empty
	id       uint32
	from, to int
	last     bool
	six      bool // IPv6
	tcp      bool // else UDP
	options  bool // IPv6: destination options stand in the first fragment, so later ones do not tell the protocol
	ports    uint32
}

const data4, data6 = 34, 62 // where the data of a fragment is in its frame

// packet builds the fragment and parses it; why is what wire says of it.
func (s part) packet(t testing.TB) (p wire.Packet, why wire.Reason) {
	t.Helper()
	p = wiretest.Packet(s.frame())
	if why = p.ParseLink(); why == wire.ReasonNone {
		why = p.ParseNetwork()
	}
	return p, why
}

func (s part) frame() []byte {
	be := binary.BigEndian
	word, proto := uint16(s.from), byte(wire.ProtoUDP)
	if s.tcp {
		proto = wire.ProtoTCP
	}
	data := s.payload(proto)[s.from:s.to]
	if s.six {
		if s.options {
			proto = 60
		}
		if !s.last {
			word |= 1
		}
		b := make([]byte, data6, data6+len(data))
		b[12], b[13], b[14], b[20] = 0x86, 0xdd, 0x60, 44
		be.PutUint16(b[18:], uint16(8+len(data)))
		copy(b[22:], []byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
		copy(b[38:], []byte{0x20, 0x01, 0x0d, 0xb8, 15: 2})
		if s.src != "" {
			a := endpoint(s.src)
			copy(b[22:], a[:])
		}
		b[54] = proto
		be.PutUint16(b[56:], word)
		be.PutUint32(b[58:], s.id)
		return append(b, data...)
	}
	word /= 8
	if !s.last {
		word |= 0x2000
	}
	b := make([]byte, data4, data4+len(data))
	b[12], b[14], b[22], b[23] = 8, 0x45, 64, proto
	be.PutUint16(b[16:], uint16(20+len(data)))
	be.PutUint16(b[18:], uint16(s.id))
	be.PutUint16(b[20:], word)
	copy(b[26:], []byte{192, 0, 2, 1, 198, 51, 100, 1})
	if s.src != "" {
		a := endpoint(s.src)
		copy(b[26:], a[12:])
	}
	be.PutUint16(b[24:], ^wiretest.SlowChecksum(b[14:34], 0))
	return append(b, data...)
}

// payload is the datagram that the parts are parts of.
func (s part) payload(proto byte) []byte {
	b := make([]byte, max(64, s.to))
	for i := range b {
		b[i] = byte(i)
	}
	t := b
	if s.options {
		copy(b, []byte{proto, 0, 1, 4, 0, 0, 0, 0})
		t = b[8:]
	}
	if s.ports == 0 {
		s.ports = 0x03e80050 // 1000, 80
	}
	binary.BigEndian.PutUint32(t, s.ports)
	if s.tcp {
		t[12] = 0x50
	}
	return b
}

// outcome is what became of a packet that a rig put in.
type outcome string

const (
	passed outcome = "passed" // with ports
	kept   outcome = "held"

	flood     outcome = "fragment_flood"
	malformed outcome = "fragment_malformed"
)

// rig uses a table as the engine does.
type rig struct {
	testing.TB
	*frag.Table
	now    wire.Time
	held   int
	passed []wire.Packet // of the last call, in order
}

func newRig(t testing.TB, datagrams, held int) *rig {
	return &rig{TB: t, Table: frag.New(datagrams, held, 42)}
}

func (r *rig) after(d time.Duration) { r.now = r.now.Add(d) }

// put puts a fragment in and returns what became of it.
func (r *rig) put(s part) outcome {
	r.Helper()
	p, why := s.packet(r)
	if why != wire.ReasonNone {
		return outcome(why.String())
	}
	return r.take(&p)
}

// take processes one fragment as a batch of its own.
func (r *rig) take(p *wire.Packet) outcome {
	r.Reset()
	r.passed = r.passed[:0]
	if p.Frag == wire.FirstFragment {
		id, why := r.First(r.now, p)
		if why != wire.ReasonNone {
			return outcome(why.String())
		}
		r.passed = append(r.passed, *p)
		for q := r.Release(id); q != nil; q = r.Release(id) {
			r.held--
			r.passed = append(r.passed, *q)
		}
		return passed
	}
	_, known, why := r.Later(r.now, p)
	switch {
	case why != wire.ReasonNone:
		return outcome(why.String())
	case known:
		r.passed = append(r.passed, *p)
		return passed
	case r.Hold(r.now, p):
		r.held++
		return kept
	}
	return outcome(wire.FragmentFlood.String())
}

// lost lets Expire do its work and returns how many held fragments were lost.
func (r *rig) lost() int {
	n := r.Expire(r.now, 1<<20)
	r.held -= n
	return n
}

func endpoint(s string) wire.Addr {
	return wire.AddrFrom(mustAddr(s))
}

// cuts returns the parts of a datagram of so many bytes, cut at random places.
func cuts(rng *rand.Rand, s part, size int) (parts []part) {
	least := 8
	if s.tcp {
		least = 24
	}
	if s.options {
		least += 8
	}
	for s.to = 0; s.to < size; {
		s.from = s.to
		s.to += max(8*(1+rng.IntN(1+size/16)), least)
		least = 8
		if s.last = s.to >= size; s.last {
			s.to = size
		}
		parts = append(parts, s)
	}
	return parts
}
