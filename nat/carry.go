package nat

import "naru/internal/state"

// Carry writes down which ports are in use and in which order the others were freed, or makes a new pool of the same ports
// and seed one in which they are. Ports that were never used are in the order of the seed, before all others.
func (p *Pool) Carry(c *state.Coder) {
	state.Same(c, p.first, "the first port of a pool")
	state.Same(c, len(p.freed), "the size of a pool")
	var used, freed []uint16
	if !c.Reading() {
		for i, stamp := range p.freed {
			if stamp == inUse {
				used = append(used, uint16(i))
			}
		}
		for head, i := uint16(len(p.freed)), p.next[len(p.freed)]; i != head; i = p.next[i] {
			if p.freed[i] != never {
				freed = append(freed, i)
			}
		}
	}
	n := c.Count(len(used), len(p.freed))
	for k := range n {
		p.carryPort(c, used, k)
	}
	n = c.Count(len(freed), len(p.freed))
	for k := range n {
		if i, ok := p.carryPort(c, freed, k); ok {
			state.Num(c, &p.freed[i])
			if c.Reading() {
				c.Check(p.freed[i] != inUse && p.freed[i] != never, "the time of a port")
				p.free++
				p.push(i)
			}
		}
	}
}

// carryPort carries the k-th port of a list, when reading by taking it.
func (p *Pool) carryPort(c *state.Coder, list []uint16, k int) (i uint16, ok bool) {
	if !c.Reading() {
		i = list[k]
	}
	state.Num(c, &i)
	if !c.OK() || int(i) >= len(p.freed) || c.Reading() && p.freed[i] != never {
		c.Fail("a port of a pool")
		return 0, false
	}
	if c.Reading() {
		p.take(i)
	}
	return i, true
}
