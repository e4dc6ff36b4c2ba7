package director

import (
	"fmt"

	"naru/internal/link"
)

// queueWatch is what is known of the receive queues of interfaces whose driver serves them one by one. It belongs to the
// goroutine that takes samples.
type queueWatch map[string]int

// watchQueues says when an interface has got more receive queues, or lost some (ethtool -L): what comes on a queue that no
// socket serves is lost, and the sockets are made at the start.
func (d *Director) watchQueues() {
	for _, dev := range d.workers[0].set.Devices {
		r, ok := dev.(link.Ringed)
		if !ok {
			continue
		}
		name, k := dev.Info().Name, r.Rings()
		before, known := d.queues[name]
		if !known {
			before = k.Queues
		}
		d.queues[name] = k.QueuesNow
		if k.QueuesNow == before || k.Queues == 0 {
			continue
		}
		text := fmt.Sprintf("%s has %d receive queues now, of which naru serves %d", name, k.QueuesNow, min(k.Queues, k.QueuesNow))
		d.event("interface", text)
		if k.QueuesNow > k.Queues {
			d.log.Error("what comes on the new receive queues is lost", "interface", name, "queues", k.QueuesNow,
				"served", k.Queues, "fix", fmt.Sprintf("restart naru, or ethtool -L %s combined %d", name, k.Queues))
		} else {
			d.log.Warn("the number of receive queues has changed", "interface", name, "queues", k.QueuesNow, "served", k.Queues)
		}
	}
}
