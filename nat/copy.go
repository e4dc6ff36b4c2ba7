package nat

// Copy makes a pool of the same ports hold what another one holds, without sharing anything with it. It reports false, and
// does nothing, when the ports are others.
func (p *Pool) Copy(from *Pool) bool {
	if p.first != from.first || p.step != from.step || len(p.freed) != len(from.freed) {
		return false
	}
	p.free, p.rest = from.free, from.rest
	copy(p.next, from.next)
	copy(p.prev, from.prev)
	copy(p.freed, from.freed)
	return true
}
