package conntrack

import "naru/internal/wire"

// Began returns when the connection was made, at most now, to 2^24 nanoseconds (16.8 ms), for a connection younger than
// two years.
func (c *Conn) Began(now wire.Time) wire.Time {
	return max(0, now-wire.Time(stamp(now)-c.Start)<<stampShift) >> stampShift << stampShift
}
