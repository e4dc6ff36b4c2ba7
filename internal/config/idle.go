package config

// onIdles are the words of on_idle.
var onIdles = []string{"silent", "rst"}

// onIdle reads what a service's idle connections get. UDP knows no reset.
func (d *decoder) onIdle(v value, s *Service) {
	word, ok := d.oneOf(v, onIdles...)
	if ok && word == "rst" && s.Protocol == "udp" {
		d.fail(v.path, "remove it", "rst is for tcp; a udp connection ends in silence")
		return
	}
	set(&s.OnIdle)(word, ok)
}

// noEffect reads an idle time that once was planned: files that have it stay valid.
func (d *decoder) noEffect(v value) {
	if _, ok := d.duration(v, minTimeout, maxTimeout); ok {
		d.warn(v.path, "remove it", "has no effect: naru keeps no state of ICMP queries; vips[].echo says who answers ping")
	}
}
