package main

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"naru/sched"
)

// server is a backend as IPVS sees it. A connection is active from its SYN on, and a reset of its handshake does not change
// that; one that was closed and is not forgotten yet is inactive.
type server struct {
	number           int
	weight           int
	active, inactive int
}

// rule plays a case by the rules that the documentation states of IPVS. It shares the construction of Maglev's table with
// package sched, and nothing else: so equal choices show that with IPVS's order of slots that is IPVS's table.
type rule struct {
	kind  string
	list  []*server
	all   [backends]*server
	conns map[int]*conn
	now   int // seconds

	last  *server // rr and wrr: the one chosen last, nil before the first of the list
	level int     // wrr
	slots []*server
}

// conn is a connection: inactive ones are forgotten at a time.
type conn struct {
	server    *server
	active    bool
	handshake bool
	ends      int
}

// How long IPVS remembers connections, in seconds.
const (
	afterReset  = 10
	afterFinish = 120
	never       = 1 << 30
)

func playRule(c *Case) Result {
	r := &rule{kind: c.Scheduler, conns: map[int]*conn{}}
	for i, w := range c.Weights {
		r.all[i] = &server{number: i, weight: int(w)}
		r.list = append(r.list, r.all[i])
	}
	r.changed()
	var res Result
	for _, s := range c.Steps {
		switch s.Op {
		case Open, Half:
			res.Choices = append(res.Choices, r.start(s))
		case Reset:
			r.end(s.Conn, afterReset)
		case Finish:
			r.end(s.Conn, afterFinish)
		case Wait:
			r.wait(s.Seconds)
		case Weigh:
			r.all[s.Backend].weight = int(s.Weight)
			r.changed()
		case Add:
			r.all[s.Backend] = &server{number: s.Backend, weight: int(s.Weight)}
			r.list = slices.Insert(r.list, 0, r.all[s.Backend])
			r.changed()
		case Remove:
			r.remove(r.all[s.Backend])
		}
	}
	res.Active, res.Idle = make([]int, backends), make([]int, backends)
	for _, s := range r.list {
		res.Active[s.number], res.Idle[s.number] = s.active, s.inactive
	}
	return res
}

func (r *rule) start(s Step) int {
	to := r.choose(s.Client)
	if to == nil {
		return -1
	}
	to.active++
	r.conns[s.Conn] = &conn{server: to, active: true, handshake: s.Op == Half, ends: never}
	return to.number
}

func (r *rule) end(number, after int) {
	c := r.conns[number]
	if c == nil {
		return
	}
	if after == afterReset && c.handshake {
		return // goes on with its handshake
	}
	if c.active {
		c.active = false
		c.server.active--
		c.server.inactive++
	}
	c.ends = r.now + after
}

func (r *rule) wait(seconds int) {
	r.now += seconds
	for number, c := range r.conns {
		if c.ends <= r.now {
			c.server.inactive--
			delete(r.conns, number)
		}
	}
}

func (r *rule) remove(s *server) {
	i := slices.Index(r.list, s)
	if r.last == s { // the turn is the one's before it
		r.last = nil
		if i > 0 {
			r.last = r.list[i-1]
		}
	}
	r.list = slices.Delete(r.list, i, i+1)
	r.changed()
}

// changed is what IPVS does when the list or a weight changes: wrr starts at the first of the list again, at the level
// where it is; the hashes divide their buckets anew.
func (r *rule) changed() {
	switch r.kind {
	case "wrr":
		step, top := r.levels()
		r.last = nil
		if r.level > top || r.level == 0 {
			r.level = top
		} else if step > 1 {
			r.level = r.level/step*step + 1
		}
	case "sh":
		r.slots = r.buckets()
	case "mh":
		r.slots = r.maglev()
	}
}

func (r *rule) choose(client int) *server {
	switch r.kind {
	case "rr":
		return r.next(1)
	case "wrr":
		return r.turn()
	case "sh":
		return r.at(ipOf(clientAddress(client)) * golden >> 24)
	case "mh":
		return r.at(hash(hashSlot, ipOf(clientAddress(client))))
	}
	return r.least()
}

// at returns who has a slot.
func (r *rule) at(hash uint32) *server {
	if s := r.slots[hash%uint32(len(r.slots))]; s.weight > 0 {
		return s
	}
	return nil
}

// next returns the next in the list whose weight is at least so high, nil at its end for wrr; rr goes round.
func (r *rule) next(weight int) *server {
	for range 2 {
		for _, s := range r.list[slices.Index(r.list, r.last)+1:] {
			if s.weight >= weight {
				r.last = s
				return s
			}
		}
		r.last = nil
		if r.kind == "wrr" {
			break
		}
	}
	return nil
}

// turn is wrr: rounds at ever lower levels.
func (r *rule) turn() *server {
	step, top := r.levels()
	if top <= 0 {
		return nil
	}
	for {
		if s := r.next(r.level); s != nil {
			return s
		}
		if r.level -= step; r.level <= 0 {
			r.level = top
		}
	}
}

// levels returns the distance of wrr's levels, and the highest one; the lowest is 1.
func (r *rule) levels() (step, top int) {
	for _, s := range r.list {
		a, b := s.weight, step
		for b != 0 {
			a, b = b, a%b
		}
		step, top = a, max(top, s.weight)
	}
	step = max(step, 1)
	return step, top - (step - 1)
}

// least is lc, wlc, sed and nq. An inactive connection is 1/256 of an active one, and for sed and nq nothing.
func (r *rule) least() (best *server) {
	load := func(s *server) int {
		if r.kind == "lc" || r.kind == "wlc" {
			return s.active<<8 + s.inactive
		}
		return s.active + 1
	}
	for _, s := range r.list {
		if s.weight == 0 {
			continue
		}
		if r.kind == "nq" && s.active == 0 {
			return s
		}
		switch {
		case best == nil, r.kind == "lc" && load(s) < load(best),
			r.kind != "lc" && load(s)*best.weight < load(best)*s.weight:
			best = s
		}
	}
	return best
}

// buckets are the 256 of sh, which the servers fill in turn, each as many as its weight.
func (r *rule) buckets() []*server {
	slots := make([]*server, 0, 256)
	for len(slots) < cap(slots) {
		for _, s := range r.list {
			for range max(s.weight, 1) {
				slots = append(slots, s)
			}
		}
	}
	return slots[:256]
}

// maglevSize is the number of slots in a kernel that is configured as Debian's.
const maglevSize = 4093

// maglev is Maglev's table of the servers by their addresses and ports, hashed with keys that are always the same.
func (r *rule) maglev() []*server {
	var order []sched.Permutation
	var weights []uint64
	for _, s := range r.list {
		id := ipOf(address(s.number)) + backendPort
		order = append(order, sched.Permutation{
			Offset: hash(hashSlot, id) % maglevSize,
			Skip:   hash(hashSkip, id)%(maglevSize-1) + 1,
		})
		weights = append(weights, uint64(s.weight))
	}
	var owners []uint16
	if slices.Min(weights) == slices.Max(weights) {
		owners = sched.MaglevTable(maglevSize, order, weights)
	} else {
		owners = inBlocks(order, weights)
	}
	slots := make([]*server, maglevSize)
	for i, o := range owners {
		slots[i] = r.list[o]
	}
	return slots
}

// inBlocks is IPVS's table with unequal weights: in its turn a server takes as many slots as its weight says, where package
// sched spreads them over several rounds.
func inBlocks(order []sched.Permutation, weights []uint64) []uint16 {
	owners, left := make([]uint16, maglevSize), maglevSize
	taken := make([]bool, maglevSize)
	for {
		for i := range order {
			for range weights[i] {
				for taken[order[i].Offset] {
					order[i].Offset = (order[i].Offset + order[i].Skip) % maglevSize
				}
				taken[order[i].Offset], owners[order[i].Offset] = true, uint16(i)
				if left--; left == 0 {
					return owners
				}
			}
		}
	}
}

// golden is 2^32 divided by the golden ratio, and subtracted from 2^32: the kernel multiplies by it to hash.
const golden = 0x61c88647

// The keys of mh's hashes: where a server's first slot and a client's slot is, and how far it is to the next one.
const (
	hashSlot = 2654435761
	hashSkip = 2654446892
)

// hash is what the kernel calls hsiphash, of four bytes: SipHash-1-3, its lower half, by a key of two equal words.
func hash(key uint64, v uint32) uint32 {
	s := [4]uint64{key ^ 0x736f6d6570736575, key ^ 0x646f72616e646f6d, key ^ 0x6c7967656e657261, key ^ 0x7465646279746573}
	round := func() {
		s[0] += s[1]
		s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
		s[0] = bits.RotateLeft64(s[0], 32)
		s[2] += s[3]
		s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
		s[0] += s[3]
		s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
		s[2] += s[1]
		s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
		s[2] = bits.RotateLeft64(s[2], 32)
	}
	block := 4<<56 | uint64(v)
	s[3] ^= block
	round()
	s[0] ^= block
	s[2] ^= 0xff
	for range 3 {
		round()
	}
	return uint32(s[0] ^ s[1] ^ s[2] ^ s[3])
}

// ipOf is an address as a number.
func ipOf(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
