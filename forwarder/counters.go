package forwarder

import "naru/internal/wire"

// Counters is what an engine has counted since it was made. Packets are counted once, a super-frame is one.
type Counters struct {
	Received    uint64 // frames that came in
	Transmitted uint64 // of them: rewritten and sent
	Consumed    uint64 // of them: answered or used by naru
	Passed      uint64 // of them: not naru's
	Dropped     uint64 // of them: dropped; the sum over the drop reasons
	Held        uint64 // of them: waiting for a next hop now, a gauge

	// ByReason counts the packets that were not transmitted.
	ByReason [wire.NumReasons]uint64

	Sent uint64 // frames handed out to be sent
	Made uint64 // of them: made by naru itself (questions, announcements)

	Connections     uint64 // connections that were made
	Ended           uint64 // connections that ended
	Active          uint64 // connections in the table now, a gauge
	PortReusedEarly uint64 // local ports taken before they had rested
	EvictedClosed   uint64 // closed connections removed early to make room

	EvictedHandshakes uint64 // TCP connections that were not proven and had to make room
	EvictedQuestions  uint64 // UDP connections that were not proven and had to make room
	IdleReset         uint64 // TCP connections that were idle for their time and both of whose ends were told
	DownReset         uint64 // TCP connections of a backend out of service, both of whose ends were told
	DownForgotten     uint64 // connections of a backend out of service that ended in silence
	Stateless         uint64 // packets forwarded in direct server return without an entry, since the table was full

	ForwardedPlain uint64 // packets of backends of mode nat that belong to no connection and were routed on unchanged
	AddressClash   uint64 // packets from another host that uses an address of ours
	HandedOver     uint64 // packets that came to this worker and were given to the one whose connection they are of
	TakenOver      uint64 // packets that other workers gave to this one
}

// Balanced reports whether every packet that came in is accounted for.
func (c *Counters) Balanced() bool {
	var drops uint64
	for r, n := range c.ByReason {
		if wire.Reason(r).Verdict() == wire.Drop {
			drops += n
		}
	}
	return drops == c.Dropped &&
		c.Received+c.TakenOver == c.Transmitted+c.Consumed+c.Passed+c.Dropped+c.Held+c.HandedOver
}

// Add adds the counters of another worker.
func (c *Counters) Add(o *Counters) {
	c.Received += o.Received
	c.Transmitted += o.Transmitted
	c.Consumed += o.Consumed
	c.Passed += o.Passed
	c.Dropped += o.Dropped
	c.Held += o.Held
	for r := range c.ByReason {
		c.ByReason[r] += o.ByReason[r]
	}
	c.Sent += o.Sent
	c.Made += o.Made
	c.Connections += o.Connections
	c.Ended += o.Ended
	c.Active += o.Active
	c.PortReusedEarly += o.PortReusedEarly
	c.EvictedClosed += o.EvictedClosed
	c.EvictedHandshakes += o.EvictedHandshakes
	c.EvictedQuestions += o.EvictedQuestions
	c.IdleReset += o.IdleReset
	c.DownReset += o.DownReset
	c.DownForgotten += o.DownForgotten
	c.Stateless += o.Stateless
	c.ForwardedPlain += o.ForwardedPlain
	c.AddressClash += o.AddressClash
	c.HandedOver += o.HandedOver
	c.TakenOver += o.TakenOver
}
