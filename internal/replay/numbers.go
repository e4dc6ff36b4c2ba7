package replay

import (
	"cmp"
	"slices"

	"naru/forwarder"
	"naru/internal/state"
	"naru/internal/wire"
)

// numbers counts connections in the order in which they were made, from 1, and knows the numbers of those that live.
type numbers struct {
	latest uint64
	living map[ends]uint64
}

// ends is what makes a connection one of its own among those that live.
type ends struct {
	client, vip         wire.Addr
	clientPort, vipPort uint16
	proto               uint8
}

func newNumbers() *numbers { return &numbers{living: map[ends]uint64{}} }

func endsOf(c *forwarder.Connection) ends {
	return ends{c.Client, c.VIP, c.ClientPort, c.VIPPort, c.Proto}
}

func (n *numbers) begin(c *forwarder.Connection) {
	n.latest++
	n.living[endsOf(c)] = n.latest
}

// of returns the number of a connection that lives.
func (n *numbers) of(c *forwarder.Connection) uint64 { return n.living[endsOf(c)] }

func (n *numbers) forget(c *forwarder.Connection) {
	if n != nil {
		delete(n.living, endsOf(c))
	}
}

// carry carries the numbers of the connections that live, at most so many.
func (n *numbers) carry(c *state.Coder, most int) {
	c.Section("numbers")
	if n == nil { // nobody asks any more
		n = newNumbers()
	}
	state.Num(c, &n.latest)
	list := make([]numbered, 0, len(n.living))
	for e, number := range n.living {
		list = append(list, numbered{e, number})
	}
	slices.SortFunc(list, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	for k := range c.Count(len(list), most) {
		var x numbered
		if !c.Reading() {
			x = list[k]
		}
		c.Fixed(x.client[:])
		c.Fixed(x.vip[:])
		state.All(c, &x.clientPort, &x.vipPort)
		state.Num(c, &x.proto)
		state.Num(c, &x.number)
		c.Check(x.number > 0 && x.number <= n.latest, "the number of a connection")
		if c.Reading() {
			n.living[x.ends] = x.number
		}
	}
}

// numbered is a connection and its number.
type numbered struct {
	ends
	number uint64
}
