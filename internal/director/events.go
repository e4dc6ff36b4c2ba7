package director

import (
	"fmt"
	"log/slog"
	"net"

	"naru/forwarder"
)

// queueEvent is called on a worker's goroutine and does not wait: what the log has no room for is lost, as a repetition
// of it would be.
func (d *Director) queueEvent(e forwarder.Event) {
	select {
	case d.events <- e:
	default:
	}
}

func (d *Director) logEvent(e forwarder.Event) {
	d.mu.Lock()
	leg := d.cfg.Interfaces[e.Leg].Name
	d.mu.Unlock()
	addr, mac := e.Addr.String(), net.HardwareAddr(e.MAC[:]).String()
	switch e.Kind {
	case forwarder.AddressClash:
		if d.say("clash "+addr+mac, slog.LevelError,
			"another host uses an address that is naru's: connections to it will break",
			"address", addr, "mac", mac, "interface", leg,
			"fix", "take the address from that host, or from the configuration") {
			d.event("clash", fmt.Sprintf("%s on %s uses %s, which is naru's", mac, leg, addr))
		}
	}
}
