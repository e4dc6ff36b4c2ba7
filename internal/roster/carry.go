package roster

import (
	"naru/forwarder"
	"naru/internal/state"
)

// longest is the most bytes of a reason: our own choice.
const longest = 4096

// Carry writes the state of all backends down, or reads it. When reading, the same configurations must have been
// Configured.
func (r *Roster) Carry(c *state.Coder) {
	c.Section("orders and health")
	state.Num(c, &r.now)
	c.Bool(&r.started)
	state.Same(c, len(r.list), "the number of backends")
	for _, b := range r.list {
		state.Num(c, &b.order)
		c.Check(b.order <= Disable, "an order")
		state.All(c, &b.deadline, &b.since, &b.ramp)
		state.Num(c, &b.weight)
		c.Bool(&b.weighted)
		state.Num(c, &b.health)
		c.Check(b.health <= Failed, "the health of a backend")
		c.Bool(&b.trusted)
		c.Text(&b.reason, longest)
		state.Num(c, &b.state)
		c.Check(b.state <= forwarder.Disabled, "the state of a backend")
		c.Bool(&b.ramps)
	}
}
