// Package conntrack is the connection table: which connection a packet belongs to, in what state it is and when it ends.
//
// Contract: one goroutine owns a table. Everything is a plain value in memory that is given at construction and never
// grows, so that the garbage collector has nothing to scan and no insert pauses. A lookup touches one index word and one
// entry; insert, remove and a tick have bounded worst cases. Time is an argument. What a visitor can see (the order in
// which connections end) depends on the packets alone, never on a slot number.
//
// A connection is found under two keys, the 5-tuple of each direction, where replies pass at all. It holds the client's
// address, the ports and the id of an interned Path that has the addresses that many connections share: 88 bytes an entry,
// 8 of list links and 32 of index (at a capacity that is a power of two), IPv4 and IPv6 alike.
//
// It does not know packets' bytes beyond wire.Packet's fields, ports pools, schedulers or next hops.
//
// TCP states and their idle times follow RFC 5382 and RFC 7857, UDP RFC 4787; docs/rfc.md says where we differ and why.
package conntrack

import (
	"errors"
	"math/bits"
	"time"
	"unsafe"

	"naru/internal/wire"
)

// ID names an entry while its connection lives.
type ID uint32

// None is no entry.
const None = ^ID(0)

// Dir is the direction of a packet within its connection.
type Dir uint8

// The directions.
const (
	Original Dir = iota // from the client
	Reply               // from the backend
)

// Flags of a connection.
const (
	finOriginal = 1 << iota // the client sent a FIN
	finReply                // the backend sent a FIN
	synAck                  // the backend answered the SYN
	PortFreed               // the local port went back to its pool; the owner of the pool sets it
	oneSided                // replies pass us by
	Counted                 // the connection counts as active at its backend; the owner of the count sets it
	proven                  // more than one forged packet was needed to bring it where it is
)

// Conn is one connection.
type Conn struct {
	Bytes                  [2]uint64 // of IP packets, a direction
	Client                 wire.Addr
	ClientPort, VIPPort    uint16
	LocalPort, BackendPort uint16
	Path                   PathID
	deadline               uint32    // stamp
	Start                  uint32    // stamp of the first packet
	end                    [2]uint32 // TCP: the sequence number behind the last one sent, a direction
	ack                    [2]uint32 // TCP: the last acknowledgement sent, a direction
	packets                [2]uint32
	packetsHigh            [2]uint8
	shift                  [2]uint8 // TCP: the scale of the windows that a side offers

	// NextHop and NextHopGen are the engine's memory of where replies go, valid while NextHopGen is current.
	NextHopGen uint32
	NextHop    uint16
	State      State
	Flags      uint8
}

// Packets returns the packets seen in a direction.
func (c *Conn) Packets(d Dir) uint64 { return uint64(c.packetsHigh[d])<<32 | uint64(c.packets[d]) }

// count adds a packet of n bytes.
func (c *Conn) count(d Dir, n int) {
	c.Bytes[d] += uint64(n)
	if c.packets[d]++; c.packets[d] == 0 {
		c.packetsHigh[d]++
	}
}

// stampShift makes stamps of nanoseconds: one is 2^24 ns, about 16.8 ms. 32 bits of them are 2.3 years, compared modulo.
const stampShift = 24

func stamp(t wire.Time) uint32 { return uint32(uint64(t) >> stampShift) }

// stamps converts an idle time, rounding up.
func stamps(d time.Duration) uint32 { return uint32((int64(d) + 1<<stampShift - 1) >> stampShift) }

// Memory is what a table lives in; Alloc makes it, or the caller maps it and cuts it to these lengths.
type Memory struct {
	Conns []Conn
	Index []uint64
	Links []Link
}

// Sizes returns the lengths of a Memory for so many connections.
func Sizes(connections int) (conns, index, links int) {
	keys := 2 * connections
	index = 1 << bits.Len(uint(keys+keys/3-1)) // load at most 3/4
	return connections, index, connections + headCount
}

// Alloc makes the memory for so many connections. It is touched only as connections come.
func Alloc(connections int) Memory {
	c, i, l := Sizes(connections)
	return Memory{Conns: make([]Conn, c), Index: make([]uint64, i), Links: make([]Link, l)}
}

// Bytes returns how much memory Place needs for so many connections.
func Bytes(connections int) int {
	c, i, l := Sizes(connections)
	return c*int(unsafe.Sizeof(Conn{})) + i*8 + l*int(unsafe.Sizeof(Link{}))
}

// Place makes the memory for so many connections out of b, which is zero, aligned to 8 bytes and Bytes long: mapped huge
// pages, say. b must not be used otherwise and must stay mapped while the table lives.
func Place(b []byte, connections int) (Memory, error) {
	if len(b) < Bytes(connections) || uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 != 0 {
		return Memory{}, ErrMemory
	}
	c, i, l := Sizes(connections)
	at := func(off int) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b[off:])) }
	links := i*8 + c*int(unsafe.Sizeof(Conn{}))
	return Memory{
		Index: unsafe.Slice((*uint64)(at(0)), i),
		Conns: unsafe.Slice((*Conn)(at(i*8)), c),
		Links: unsafe.Slice((*Link)(at(links)), l),
	}, nil
}

// Table is a connection table.
type Table struct {
	conns []Conn
	index []uint64
	mask  uint32
	key   [4]uint64

	ring
	free   ID // first of the freed entries, chained by links
	unused ID // entries from here on were never used
	count  int
	counts [NumClasses]uint32

	changes uint32 // of the index

	paths paths
	last  wire.Time // of the latest call that was told the time
}

// ErrMemory says that a Memory does not have the lengths of Sizes.
var ErrMemory = errors.New("conntrack: memory of the wrong size")

// New makes an empty table in mem. key is the secret of the hash.
func New(mem Memory, key [4]uint64) (*Table, error) {
	c, i, l := Sizes(len(mem.Conns))
	if c == 0 || len(mem.Index) != i || len(mem.Links) != l {
		return nil, ErrMemory
	}
	t := &Table{conns: mem.Conns, index: mem.Index, mask: uint32(i - 1), key: key, free: None}
	t.init(mem.Links, uint32(c))
	return t, nil
}

// Len returns the number of connections, Cap how many there may be.
func (t *Table) Len() int { return t.count }

// Cap returns how many connections there may be.
func (t *Table) Cap() int { return len(t.conns) }

// Conn returns an entry. It must not be kept beyond the connection's life.
func (t *Table) Conn(id ID) *Conn { return &t.conns[id] }

// Insert makes a connection from c, whose addresses, ports, path and State are set, and puts it into the index under the
// original key and, where replies pass, the reply key. It returns None when there is no room. The keys must not be there.
func (t *Table) Insert(now wire.Time, c *Conn, original, reply uint64) ID {
	t.Advance(now)
	id := t.take()
	if id == None {
		return None
	}
	p := t.paths.at(c.Path)
	ref := uint32(id) << 1
	if !t.put(original, ref) {
		t.give(id)
		return None
	}
	if p.Return != ReturnNone && !t.put(reply, ref|1) {
		t.cut(original, ref)
		t.give(id)
		return None
	}
	if p.Return == ReturnNone {
		c.Flags |= oneSided
		c.shift = [2]uint8{maxShift, maxShift} // what the backend offers nobody sees
		if c.State == TCPEstablished {
			c.State = TCPClientOnly
		}
	}
	c.Start = stamp(now)
	c.deadline = c.Start + p.timeouts[c.timeout()]
	t.conns[id] = *c
	p.refs++
	t.count++
	t.place(id, c.class(), c.deadline)
	return id
}

// Remove ends a connection and frees its entry.
func (t *Table) Remove(id ID) {
	c := &t.conns[id]
	p := t.paths.at(c.Path)
	ref := uint32(id) << 1
	f := c.flow(p, Original)
	t.cut(t.Hash(&f), ref)
	if p.Return != ReturnNone {
		f = c.flow(p, Reply)
		t.cut(t.Hash(&f), ref|1)
	}
	t.displace(id, c.class())
	t.paths.release(c.Path)
	t.count--
	c.State = Free
	t.give(id)
}

// take returns an entry that is not in use.
func (t *Table) take() ID {
	if id := t.free; id != None {
		t.free = ID(t.links[id].next)
		return id
	}
	if int(t.unused) == len(t.conns) {
		return None
	}
	t.unused++
	return t.unused - 1
}

func (t *Table) give(id ID) {
	t.links[id].next = uint32(t.free)
	t.free = id
}

// Each calls f for every connection, in no order that means anything. It takes time by the table's size: not for a packet.
func (t *Table) Each(f func(*Conn)) {
	for i := range t.conns[:t.unused] {
		if c := &t.conns[i]; c.State != Free {
			f(c)
		}
	}
}

// flow rebuilds the key of a direction.
func (c *Conn) flow(p *Path, d Dir) wire.Flow {
	if d == Original {
		return wire.Flow{Src: c.Client, Dst: p.VIP, SrcPort: c.ClientPort, DstPort: c.VIPPort, Proto: p.Proto}
	}
	f := wire.Flow{Src: p.Backend, Dst: p.Local, SrcPort: c.BackendPort, DstPort: c.LocalPort, Proto: p.Proto}
	if p.Return == ReturnClient {
		f.Dst = c.Client
	}
	return f
}

// isOriginal reports whether f is the key of the client's packets.
func (c *Conn) isOriginal(p *Path, f *wire.Flow) bool {
	return c.Client == f.Src && c.ClientPort == f.SrcPort && c.VIPPort == f.DstPort && p.VIP == f.Dst && p.Proto == f.Proto
}

// isReply reports whether f is the key of the backend's packets.
func (c *Conn) isReply(p *Path, f *wire.Flow) bool {
	local := &p.Local
	if p.Return == ReturnClient {
		local = &c.Client
	}
	return c.LocalPort == f.DstPort && c.BackendPort == f.SrcPort && p.Backend == f.Src && *local == f.Dst && p.Proto == f.Proto
}
