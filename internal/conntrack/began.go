package conntrack

import "naru/internal/wire"

// Began returns when the connection was made, at most now, to 2^24 nanoseconds (16.8 ms), for a connection younger than
// two years.
func (c *Conn) Began(now wire.Time) wire.Time {
	return max(0, now-wire.Time(stamp(now)-c.Start)<<stampShift) >> stampShift << stampShift
}

// Latest returns when the latest packet of a connection came, or the one that closed it, from Began to now and as coarse;
// after a change of the idle times, when that would have been with the new ones.
func (t *Table) Latest(c *Conn, now wire.Time) wire.Time {
	seen := c.deadline - t.paths.at(c.Path).timeouts[c.timeout()]
	ago := max(0, int32(stamp(now)-seen))
	return max(c.Began(now), max(0, now-wire.Time(ago)<<stampShift)>>stampShift<<stampShift)
}
