package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestWrongHealth(t *testing.T) {
	for _, m := range []mistake{
		{
			"a probe of a later version", "protocol: tcp", "protocol: tcp\n    health: {type: http}",
			"10:20: services[0].health.type: the probe \"http\" is not available in this version of naru; use tcp or none",
		},
		{
			"a probe that nobody has", "protocol: tcp", "protocol: tcp\n    health: {type: tpc}",
			"10:20: services[0].health.type: \"tpc\" is not one of tcp, none; did you mean \"tcp\"?",
		},
		{
			"every key wrong", "protocol: tcp",
			"protocol: tcp\n    health: {type: tcp, interval: 5, timeout: 2h, rise: 0, fall: many, port: 0}",
			`
10:35: services[0].health.interval: 5 has no unit; write the unit, as "5s"
10:47: services[0].health.timeout: 2h is out of range; write a duration from 10ms to 1m
10:57: services[0].health.rise: 0 is out of range 1..100; write a whole number from 1 to 100
10:66: services[0].health.fall: "many" is not a decimal number; write a whole number from 1 to 100
10:78: services[0].health.port: 0 is out of range 1..65535; write a whole number from 1 to 65535`,
		},
		{
			"no type", "protocol: tcp", "protocol: tcp\n    health: {interval: 1s}",
			"10:13: warning: services[0].health: without a type nothing is probed; add \"type: tcp\"",
		},
		{
			"an answer may take longer than the time between probes", "protocol: tcp",
			"protocol: tcp\n    health: {type: tcp, timeout: 3s}",
			"10:34: warning: services[0].health.timeout: timeout (3s) is longer than interval (2s); " +
				"a silent backend is probed every 3s; make timeout shorter or interval longer",
		},
		{
			"a port for all services", "version: 1", "version: 1\ndefaults: {health: {port: 80}}",
			"2:21: defaults.health.port: unknown field; known here: type, interval, timeout, rise, fall",
		},
		{
			"a word of TCP for UDP", "protocol: tcp", "protocol: tcp\n    on_backend_down: {tcp: reset, udp: keep}",
			`
10:28: services[0].on_backend_down.tcp: "reset" is not one of rst, keep, reschedule
10:40: services[0].on_backend_down.udp: "keep" is not one of rehash, drop`,
		},
	} {
		m.run(t, base)
	}
}

func TestHealthIsInherited(t *testing.T) {
	const defaults = "\ndefaults: {health: {type: tcp, interval: 1s, fall: 5}, on_backend_down: {tcp: keep}}\n"
	cfg, problems, err := Load("f", []byte(base+second+defaults))
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	a, b := cfg.Services[0], cfg.Services[1]
	got := fmt.Sprintf("%v %v %v %v", a.Health, a.OnBackendDown, b.Health.Type, b.OnBackendDown)
	// A UDP service does not inherit a probe by TCP.
	if want := "{tcp 1s 1s 2 5 0} {keep rehash} none {keep rehash}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAServiceOfManyPortsSaysWhichOneIsProbed(t *testing.T) {
	many := strings.Replace(strings.Replace(base, "ports: [80]", "ports: [80, 443]", 1), ", port: 8080", "", 1)
	mistake{"its own", "protocol: tcp", "protocol: tcp\n    health: {type: tcp}",
		`10:13: services[0].health: the service has many ports; which of them is probed?; write "health: {type: tcp, port: 80}"`,
	}.run(t, many)
	mistake{"inherited", "version: 1", "version: 1\ndefaults: {health: {type: tcp}}",
		`7:5: services[0].health: the service has many ports; which of them is probed?; write "health: {type: tcp, port: 80}"`,
	}.run(t, many)
	mistake{"with a port", "protocol: tcp", "protocol: tcp\n    health: {type: tcp, port: 443}", ""}.run(t, many)
}
