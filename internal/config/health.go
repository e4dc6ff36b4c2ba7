package config

import (
	"fmt"
	"time"
)

// Health says how the backends of a service are probed.
type Health struct {
	Type string // "none" or "tcp"
	// Interval is from one probe to the next, Timeout how long an answer may take.
	Interval, Timeout time.Duration
	// Rise and Fall are how many probes in a row must go well, or fail, to change what is known of a backend.
	Rise, Fall int
	Port       uint16 // that is probed at every backend; 0: the one that it serves at
}

// OnBackendDown says what becomes of the connections of a backend that is down.
type OnBackendDown struct {
	TCP string // "rst", "keep" or "reschedule"
	UDP string // "rehash" or "drop"
}

// Our own choices.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	minWait     = 10 * time.Millisecond
	maxWait     = time.Minute
	maxRise     = 100
)

var (
	defaultHealth        = Health{Type: "none", Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	defaultOnBackendDown = OnBackendDown{TCP: "rst", UDP: "rehash"}

	healthTypes  = []string{"tcp", "none"}
	laterHealths = []string{"http", "https", "dns", "udp", "icmp", "ping", "exec", "script", "tls", "grpc"}
	onDownTCP    = []string{"rst", "keep", "reschedule"}
	onDownUDP    = []string{"rehash", "drop"}
)

// health reads the keys of "health" on top of those that h has. defaults names no port: services differ in it.
func (d *decoder) health(v value, h *Health, defaults bool) {
	fields := []field{
		{"type", func(v value) { d.healthType(v, h) }},
		{"interval", func(v value) { set(&h.Interval)(d.duration(v, minInterval, maxInterval)) }},
		{"timeout", func(v value) { set(&h.Timeout)(d.duration(v, minWait, maxWait)) }},
		{"rise", func(v value) { set(&h.Rise)(d.integer(v, 1, maxRise)) }},
		{"fall", func(v value) { set(&h.Fall)(d.integer(v, 1, maxRise)) }},
	}
	if !defaults {
		fields = append(fields, []field{{"port", func(v value) {
			if p, ok := d.integer(v, 1, 65535); ok {
				h.Port = uint16(p)
			}
		}}}...)
	}
	if !d.mapping(v, fields) {
		return
	}
	if h.Timeout > h.Interval {
		d.warn(d.written(v.path, "timeout", "interval"), "make timeout shorter or interval longer",
			"timeout (%s) is longer than interval (%s); a silent backend is probed every %[1]s",
			printDuration(h.Timeout), printDuration(h.Interval))
	}
	if _, ok := d.keys[join(v.path, "type")]; !ok && !defaults && h.Type == "none" {
		d.warn(v.path, `add "type: tcp"`, "without a type nothing is probed")
	}
}

// written returns the path of the first of two keys that is written, or of the mapping.
func (d *decoder) written(path string, keys ...string) string {
	for _, k := range keys {
		if _, ok := d.keys[join(path, k)]; ok {
			return join(path, k)
		}
	}
	return path
}

func (d *decoder) healthType(v value, h *Health) {
	s, _ := d.scalarText(v)
	for _, name := range laterHealths {
		if s == name {
			d.fail(v.path, "use tcp or none", "the probe %q is not available in this version of naru", s)
			return
		}
	}
	set(&h.Type)(d.oneOf(v, healthTypes...))
}

// serviceHealth reads a service's own health. A type that the defaults have is for TCP: a UDP service whose backends refuse
// TCP would be down as a whole.
func (d *decoder) serviceHealth(v value, s *Service) {
	if s.Protocol == "udp" {
		s.Health.Type = "none"
	}
	d.health(v, &s.Health, false)
}

func (d *decoder) onBackendDown(v value, o *OnBackendDown) {
	d.mapping(v, []field{
		{"tcp", func(v value) { set(&o.TCP)(d.oneOf(v, onDownTCP...)) }},
		{"udp", func(v value) { set(&o.UDP)(d.oneOf(v, onDownUDP...)) }},
	})
}

// checkHealth fills in which port of a service is probed, and reports that nobody can tell. path is the service's.
func (d *decoder) checkHealth(path string, s *Service) {
	if _, own := d.keys[join(path, "health")]; !own && s.Protocol == "udp" {
		s.Health.Type = "none"
	}
	if s.Health.Type != "tcp" || s.Health.Port != 0 || len(s.Ports) == 0 {
		return
	}
	if len(s.Ports) > 1 || s.Ports[0].Lo != s.Ports[0].Hi {
		d.fail(join(path, "health"), fmt.Sprintf(`write "health: {type: tcp, port: %d}"`, max(1, s.Ports[0].Lo)),
			"the service has many ports; which of them is probed?")
	}
}
