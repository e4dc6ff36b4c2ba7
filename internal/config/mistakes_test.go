package config

import "testing"

// secondNAT is the part of second that decides about local ports.
const secondNAT = "    protocol: udp\n    mode: fullnat\n    nat: {source_pool: [10.0.0.254]}"

func TestWrongKeys(t *testing.T) {
	for _, m := range []mistake{
		{
			"an unknown key at the top",
			"version: 1",
			"version: 1\nservice: []",
			"2:1: service: unknown field (did you mean \"services\"?)",
		},
		{
			"an unknown key far from all others",
			"protocol: tcp",
			"protocol: tcp\n    colour: red",
			"10:5: services[0].colour: unknown field; known here: name, vip, ports, protocol, mode, " +
				"scheduler, nat, l3dsr, timeouts, reject, midstream, health, on_idle, on_backend_down, " +
				"hash, bounded, mh, " +
				"slow_start, max_connections, on_backend_full, affinity, backends",
		},
		{
			"a key in the wrong case",
			"    mode: fullnat",
			"    Mode: fullnat",
			`
6:5: services[0]: "mode" is missing; write "mode: fullnat"
10:5: services[0].Mode: unknown field (did you mean "mode"?)`,
		},
		{
			"a key of a later version in nat",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      client_address: proxy-v2",
			`
13:7: services[0].nat.client_address: "client_address" is not available in this version of naru; remove it`,
		},
		{
			"keys of later versions at the top",
			"version: 1",
			"version: 1\n" +
				"ha: {}\n" +
				"admin: {http: 127.0.0.1:9470}\n" +
				"shutdown: {}",
			`
2:1: ha: "ha" is not available in this version of naru; remove it
3:9: admin.http: "http" is not available in this version of naru; remove it
4:1: shutdown: "shutdown" is not available in this version of naru; remove it`,
		},
		{
			"a key given twice",
			"protocol: tcp",
			"protocol: tcp\n    protocol: udp",
			"10:5: services[0].protocol: given twice, first in line 9; remove one of them",
		},
		{
			"a number for a key",
			"protocol: tcp",
			"protocol: tcp\n    80: tcp",
			"10:5: services[0].80: unknown field; known here: name, vip, ports, protocol, mode, scheduler, " +
				"nat, l3dsr, timeouts, reject, midstream, health, on_idle, on_backend_down, " +
				"hash, bounded, mh, " +
				"slow_start, max_connections, on_backend_full, affinity, backends",
		},
		{
			"a key that would steer a terminal",
			"protocol: tcp",
			"protocol: tcp\n    \"a\\n\\e[31m b\": tcp",
			`10:5: services[0]."a\n\x1b[31m b": unknown field; ` +
				"known here: name, vip, ports, protocol, mode, scheduler, nat, l3dsr, timeouts, reject, midstream, health, on_idle, on_backend_down, " +
				"hash, bounded, mh, " +
				"slow_start, max_connections, on_backend_full, affinity, backends",
		},
		{
			"a list for a key",
			"protocol: tcp",
			"protocol: tcp\n    [a]: tcp",
			"10:8: not valid YAML: found an invalid key for this map; look at the indentation and the " +
				"quotes of this line and the one before",
		},
		{
			"version is missing",
			"version: 1\n",
			"",
			"1:1: \"version\" is missing; write \"version: 1\" as the first line",
		},
		{
			"a version that is not known",
			"version: 1",
			"version: 2",
			"1:10: version: version 2 is not known; this naru reads version 1; write \"version: 1\"",
		},
		{
			"a version in quotes",
			"version: 1",
			"version: \"1\"",
			"1:10: version: must be a number, this is text; write 1 without quotes",
		},
		{
			"an empty service",
			"    vip: 192.0.2.10\n" +
				"    ports: [80]\n" +
				"    protocol: tcp\n" +
				"    mode: fullnat\n" +
				"    nat:\n" +
				"      source_pool: [10.0.0.254]\n" +
				"    backends:\n" +
				"      - {name: b1, address: 10.0.0.1}\n" +
				"      - {name: b2, address: 10.0.0.2, port: 8080, weight: 3}\n",
			"",
			"6:5: services[0]: \"vip\" is missing; write \"vip: 192.0.2.1\"\n" +
				"6:5: services[0]: \"ports\" is missing; write \"ports: [80]\"\n" +
				"6:5: services[0]: \"protocol\" is missing; write \"protocol: tcp\" or \"protocol: udp\"\n" +
				"6:5: services[0]: \"mode\" is missing; write \"mode: fullnat\"\n" +
				"6:5: warning: services[0].backends: service web has no backends; it refuses every connection; " +
				"add \"backends:\" with \"- {name: b1, address: 192.0.2.1}\"",
		},
		{
			"services of the wrong kind",
			"services:\n  - name: web",
			"services: x\nneighbors:\n  - name: web",
			`
5:11: services: must be a list, this is "x"; write it as "- name: web" items, or remove the key
7:5: neighbors[0].name: unknown field; known here: address, mac, interface
7:5: neighbors[0]: "address" is missing; write "address: 192.0.2.1"
7:5: neighbors[0]: "mac" is missing; write "mac: \"02:00:00:00:00:01\""
7:5: neighbors[0]: "interface" is missing; write "interface: eth0", one of "interfaces"
8:5: neighbors[0].vip: unknown field; known here: address, mac, interface
9:5: neighbors[0].ports: unknown field; known here: address, mac, interface
10:5: neighbors[0].protocol: unknown field; known here: address, mac, interface
11:5: neighbors[0].mode: unknown field; known here: address, mac, interface
12:5: neighbors[0].nat: unknown field; known here: address, mac, interface
14:5: neighbors[0].backends: unknown field; known here: address, mac, interface`,
		},
	} {
		m.run(t, base)
	}
}

func TestWrongValues(t *testing.T) {
	for _, m := range []mistake{
		{
			"a word that is not one of the choices",
			"protocol: tcp",
			"protocol: tpc",
			"9:15: services[0].protocol: \"tpc\" is not one of tcp, udp; did you mean \"tcp\"?",
		},
		{
			"a protocol that no service has",
			"protocol: tcp",
			"protocol: icmp",
			"9:15: services[0].protocol: \"icmp\" is not one of tcp, udp",
		},
		{
			"an unknown mode",
			"mode: fullnat",
			"mode: full-nat",
			`
10:11: services[0].mode: "full-nat" is not one of fullnat, nat, l2dsr, l3dsr; did you mean "fullnat"?`,
		},
		{
			"a scheduler of a later version",
			"mode: fullnat",
			"mode: fullnat\n    scheduler: dh",
			`
11:16: services[0].scheduler: scheduler "dh" is not available in this version of naru; use one of rr, wrr, lc, wlc, sh, mh, sed, nq, twos`,
		},
		{
			"an unknown scheduler",
			"mode: fullnat",
			"mode: fullnat\n    scheduler: roundrobin",
			"11:16: services[0].scheduler: \"roundrobin\" is not one of rr, wrr, lc, wlc, sh, mh, sed, nq, twos; " +
				"did you mean \"round-robin\"?",
		},
		{
			"an empty value",
			"mode: fullnat",
			"mode:",
			"10:5: services[0].mode: is empty, not one of fullnat, nat, l2dsr, l3dsr",
		},
		{
			"ports that are no list",
			"ports: [80]",
			"ports: 80",
			`
8:12: services[0].ports: must be a list, this is the number 80; write it as ports: [80], or remove the key`,
		},
		{
			"no ports",
			"ports: [80]",
			"ports: []",
			"8:12: services[0].ports: there is no port in the list; write \"ports: [80]\"",
		},
		{
			"wrong ports",
			"ports: [80]",
			"ports: [0, 65536, http, 90-80, 080, 1.5, [1], 0-10]",
			"8:13: services[0].ports[0]: the number 0 is not a port; write a port from 1 to 65535, a range " +
				"as \"8000-8099\", or any\n" +
				"8:16: services[0].ports[1]: the number 65536 is not a port; write a port from 1 to 65535, a " +
				"range as \"8000-8099\", or any\n" +
				"8:23: services[0].ports[2]: \"http\" is not a port; write a port from 1 to 65535, a range as " +
				"\"8000-8099\", or any\n" +
				"8:29: services[0].ports[3]: \"90-80\" is not a port; write a port from 1 to 65535, a range as " +
				"\"8000-8099\", or any\n" +
				"8:36: services[0].ports[4]: \"080\" is not a port; write a port from 1 to 65535, a range as " +
				"\"8000-8099\", or any\n" +
				"8:41: services[0].ports[5]: the number 1.5 is not a port; write a port from 1 to 65535, a " +
				"range as \"8000-8099\", or any\n" +
				"8:46: services[0].ports[6]: a list is not a port; write a port from 1 to 65535, a range as " +
				"\"8000-8099\", or any\n" +
				"8:51: services[0].ports[7]: \"0-10\" is not a port; write a port from 1 to 65535, a range as " +
				"\"8000-8099\", or any\n" +
				"15:39: services[0].backends[1].port: a backend's port needs a service with exactly one port; " +
				"remove \"port\" (the port is kept then), or give the service one port",
		},
		{
			"ports that overlap in one service",
			"ports: [80]",
			"ports: [8000-8010, 8005]",
			"8:24: services[0].ports[1]: 8005 overlaps 8000-8010 of the same service; remove one of them\n" +
				"15:39: services[0].backends[1].port: a backend's port needs a service with exactly one port; " +
				"remove \"port\" (the port is kept then), or give the service one port",
		},
		{
			"weights out of range",
			"weight: 3",
			"weight: 65536",
			`
15:59: services[0].backends[1].weight: 65536 is out of range 0..65535; write a whole number from 0 to 65535`,
		},
		{
			"a negative weight",
			"weight: 3",
			"weight: -1",
			`
15:59: services[0].backends[1].weight: -1 is out of range 0..65535; write a whole number from 0 to 65535`,
		},
		{
			"a weight that is no number",
			"weight: 3",
			"weight: heavy",
			`
15:59: services[0].backends[1].weight: "heavy" is not a decimal number; write a whole number from 0 to 65535`,
		},
		{
			"a weight in hexadecimal",
			"weight: 3",
			"weight: 0x10",
			`
15:59: services[0].backends[1].weight: the number 0x10 is not a decimal number; write a whole number from 0 to 65535`,
		},
		{
			"a weight with a fraction",
			"weight: 3",
			"weight: 1.5",
			`
15:59: services[0].backends[1].weight: the number 1.5 is not a decimal number; write a whole number from 0 to 65535`,
		},
		{
			"a weight of many digits",
			"weight: 3",
			"weight: 99999999999999999999999999999999",
			"15:59: services[0].backends[1].weight: 999999999999999999999999... is out of range 0..65535; " +
				"write a whole number from 0 to 65535",
		},
		{
			"a port in quotes",
			"port: 8080",
			"port: \"8080\"",
			"15:45: services[0].backends[1].port: must be a number, this is text; write 8080 without quotes",
		},
		{
			"port 0",
			"port: 8080",
			"port: 0",
			`
15:45: services[0].backends[1].port: 0 is out of range 1..65535; write a whole number from 1 to 65535`,
		},
		{
			"a name in upper case",
			"name: web",
			"name: Web",
			`
6:11: services[0].name: "Web" is not a name; use a-z, 0-9 and -, not - first, at most 63 characters`,
		},
		{
			"a name that is too long",
			"name: web",
			"name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			"6:11: services[0].name: \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\" is not a name; " +
				"use a-z, 0-9 and -, not - first, at most 63 characters",
		},
		{
			"a name that is true",
			"name: web",
			"name: true",
			"6:11: services[0].name: must be text, this is true; write it as web",
		},
		{
			"a name that is empty",
			"name: web",
			"name: \"\"",
			"6:11: services[0].name: must be text, this is \"\"; write it as web",
		},
		{
			"durations",
			"mode: fullnat",
			"mode: fullnat\n" +
				"    timeouts: {tcp_syn: 30, tcp_closing: 0s, udp: -1s, udp_unreplied: 31d, icmp: 5 minutes}",
			`
11:25: services[0].timeouts.tcp_syn: 30 has no unit; write the unit, as "30s"
11:42: services[0].timeouts.tcp_closing: 0s is out of range; write a duration from 1ms to 30d
11:51: services[0].timeouts.udp: -1s is out of range; write a duration from 1ms to 30d
11:71: services[0].timeouts.udp_unreplied: 31d is out of range; write a duration from 1ms to 30d
11:82: services[0].timeouts.icmp: "5 minutes" is not a duration; write it as 30s, 2h4m or 1d (units ms, s, m, h, d)`,
		},
		{
			"a duration of many digits",
			"mode: fullnat",
			"mode: fullnat\n    timeouts: {tcp_established: 99999999999999999999h}",
			`
11:33: services[0].timeouts.tcp_established: 99999999999999999999h is out of range; write a duration from 1ms to 30d`,
		},
		{
			"a boolean that is a word",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      keep_client_port: yes",
			`
13:25: services[0].nat.keep_client_port: "yes" is not true or false; write true or false, without quotes`,
		},
		{
			"a port_rest of a day",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      port_rest: 1d",
			"13:18: services[0].nat.port_rest: 1d is out of range; write a duration from 0s to 1h",
		},
		{
			"source ports from high to low",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      source_ports: 2000-1000",
			"13:21: services[0].nat.source_ports: \"2000-1000\" is not a range of ports; write it as " +
				"1024-32767, from 1 to 65535, the lower port first",
		},
		{
			"too few source ports",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      source_ports: 1024-1086",
			"13:21: services[0].nat.source_ports: 1024-1086 has only 63 ports; give at least 64 ports; each " +
				"worker gets its own part",
		},
		{
			"one source port",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      source_ports: 1024",
			"13:21: services[0].nat.source_ports: \"1024\" is not a range of ports; write it as 1024-32767, " +
				"from 1 to 65535, the lower port first",
		},
		{
			"source ports out of range",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254]\n      source_ports: 60000-70000",
			"13:21: services[0].nat.source_ports: \"60000-70000\" is not a range of ports; write it as " +
				"1024-32767, from 1 to 65535, the lower port first",
		},
		{
			"too many workers, too few connections",
			"version: 1",
			"version: 1\nnode: {name: a b, workers: 65, connections: 100}",
			`
2:14: node.name: "a b" is not a name; use letters, digits, - . and _, at most 63 characters
2:28: node.workers: 65 is out of range 1..64; write a whole number from 1 to 64
2:45: node.connections: 100 is out of range 1024..16777216; write a whole number from 1024 to 16777216`,
		},
		{
			"a reset for UDP",
			"    protocol: tcp",
			"    protocol: udp\n    on_idle: rst\n    timeouts: {icmp: 60s}",
			`
10:14: services[0].on_idle: rst is for tcp; a udp connection ends in silence; remove it
11:22: warning: services[0].timeouts.icmp: has no effect: naru keeps no state of ICMP queries; vips[].echo says who ` +
				"answers ping; remove it",
		},
		{
			"parts of the table that cannot be",
			"version: 1",
			"version: 1\nnode: {limits: {handshakes: 101%, tcp: 5000, udp: half, syn: 0%}, connections: 4096}",
			`
2:29: node.limits.handshakes: "101%" is out of range; write 1% to 100%
2:40: node.limits.tcp: 5000 is out of range 1..4096; write a whole number from 1 to 4096
2:51: node.limits.udp: "half" is not a part of node.connections; write percent of node.connections, as 25%, or a number ` +
				"from 1 to 4096\n" +
				`2:57: node.limits.syn: unknown field; known here: handshakes, tcp, udp`,
		},
		{
			"processors",
			"version: 1",
			"version: 1\nnode: {workers: 2, cpus: [1, 1, x, 2000]}",
			`
2:26: node.cpus: 4 processors for 2 workers; name one for each worker, or write workers: auto
2:30: node.cpus[1]: processor 1 is listed twice, first as node.cpus[0]; name each once: two workers would wait for each other
2:33: node.cpus[2]: "x" is not a decimal number; write a whole number from 0 to 1023
2:36: node.cpus[3]: 2000 is out of range 0..1023; write a whole number from 0 to 1023`,
		},
		{
			"no processors, and a word for them",
			"version: 1",
			"version: 1\nnode: {cpus: all}",
			"2:14: node.cpus: \"all\" is not one of auto, none",
		},
		{
			"io out of range",
			"version: 1",
			"version: 1\nio: {driver: dpdk, ring_slots: 63, batch: 65, spin: 11ms, busy_poll: on}",
			`
2:14: io.driver: "dpdk" is not one of auto, ring, mmsg, xdp
2:32: io.ring_slots: 63 is out of range 64..65536; write a whole number from 64 to 65536
2:43: io.batch: 65 is out of range 1..64; write a whole number from 1 to 64
2:53: io.spin: 11ms is out of range; write a duration from 0s to 10ms
2:70: io.busy_poll: "on" is not true or false; write true or false, without quotes`,
		},
		{
			"log",
			"version: 1",
			"version: 1\nlog: {flows: syslog, flows_file: flows, flows_rate: 0}\n",
			`
2:22: log.flows_file: syslog has files of its own; remove it, or write "flows: file"
2:34: log.flows_file: "flows" is not the absolute path of a file; write it as /var/log/naru/flows.jsonl
2:53: log.flows_rate: 0 is out of range 1..1000000; write a whole number from 1 to 1000000`,
		},
		{
			"io that contradicts itself",
			"version: 1",
			"version: 1\nio: {driver: mmsg, ring_slots: 64, spin: 20us, busy_poll: true}",
			`
2:20: io.ring_slots: driver mmsg has no ring; remove it, or write "driver: ring"
2:36: io.spin: with busy_poll naru never sleeps, so there is nothing to put off; remove one of them`,
		},
		{
			"xdp with what it cannot have",
			"version: 1",
			"version: 1\nio: {driver: xdp, ring_slots: 64, batch: 8}\nnode: {workers: 2}",
			`
2:14: io.driver: xdp works with one worker: the network card shares traffic out, not knowing whose connections it is of; use ring, or one worker
2:19: io.ring_slots: the rings of driver xdp have lengths of their own; remove it, or write "driver: ring"
2:35: io.batch: driver xdp needs no batches; remove it`,
		},
		{
			"workers that are no number",
			"version: 1",
			"version: 1\nnode: {workers: all}",
			"2:17: node.workers: \"all\" is not a number; write auto or a whole number from 1 to 64",
		},
		{
			"a protocol in capitals",
			"protocol: tcp",
			"protocol: TCP",
			"9:15: services[0].protocol: \"TCP\" is not one of tcp, udp; did you mean \"tcp\"?",
		},
		{
			"a relative socket",
			"version: 1",
			"version: 1\nadmin: {socket: naru.sock}",
			`
2:17: admin.socket: "naru.sock" is not the absolute path of a file; write it as /run/naru/naru.sock`,
		},
		{
			"a fence that is not known",
			"version: 1",
			"version: 1\nfence: iptables",
			"2:8: fence: \"iptables\" is not one of nft, none",
		},
	} {
		m.run(t, base)
	}
}

func TestWrongAddresses(t *testing.T) {
	for _, m := range []mistake{
		{
			"a name",
			"address: 10.0.0.1",
			"address: server01.naru.test",
			"14:29: services[0].backends[0].address: \"server01.naru.test\" is a name, not an address; " +
				"write its address; naru asks no name server",
		},
		{
			"a prefix",
			"address: 10.0.0.1",
			"address: 10.0.0.1/24",
			`
14:29: services[0].backends[0].address: "10.0.0.1/24" has a prefix length; one address is meant; write 10.0.0.1`,
		},
		{
			"a port",
			"address: 10.0.0.1",
			"address: 10.0.0.1:80",
			`
14:29: services[0].backends[0].address: "10.0.0.1:80" has a port; write 10.0.0.1 here and the port in its own key`,
		},
		{
			"an IPv6 address with a port",
			"address: 10.0.0.1",
			"address: \"[2001:db8::1]:80\"",
			"14:29: services[0].backends[0].address: \"[2001:db8::1]:80\" has a port; write 2001:db8::1 " +
				"here and the port in its own key",
		},
		{
			"too few parts",
			"address: 10.0.0.1",
			"address: 10.0.0",
			`
14:29: services[0].backends[0].address: "10.0.0" is not an address; write it as 192.0.2.1 or "2001:db8::1"`,
		},
		{
			"a part that is too large",
			"address: 10.0.0.1",
			"address: 10.0.0.256",
			`
14:29: services[0].backends[0].address: "10.0.0.256" is not an address; write it as 192.0.2.1 or "2001:db8::1"`,
		},
		{
			"a number",
			"address: 10.0.0.1",
			"address: 10",
			`
14:29: services[0].backends[0].address: "10" is not an address; write it as 192.0.2.1 or "2001:db8::1"`,
		},
		{
			"unspecified",
			"address: 10.0.0.1",
			"address: 0.0.0.0",
			`
14:29: services[0].backends[0].address: 0.0.0.0 is the unspecified address; use the address of one host`,
		},
		{
			"loopback",
			"address: 10.0.0.1",
			"address: 127.0.0.1",
			"14:29: services[0].backends[0].address: 127.0.0.1 is a loopback address; its packets never " +
				"leave the host; use the address of one host",
		},
		{
			"multicast",
			"vip: 192.0.2.10",
			"vip: 224.0.0.1",
			"7:10: services[0].vip: 224.0.0.1 is a multicast address; use the address of one host",
		},
		{
			"broadcast",
			"vip: 192.0.2.10",
			"vip: 255.255.255.255",
			"7:10: services[0].vip: 255.255.255.255 is the broadcast address; use the address of one host",
		},
		{
			"reserved",
			"vip: 192.0.2.10",
			"vip: 240.0.0.1",
			"7:10: services[0].vip: 240.0.0.1 is in a reserved range; use the address of one host",
		},
		{
			"mapped",
			"vip: 192.0.2.10",
			"vip: \"::ffff:192.0.2.10\"",
			"7:10: services[0].vip: ::ffff:192.0.2.10 is IPv4 mapped into IPv6; write 192.0.2.10",
		},
		{
			"a zone",
			"vip: 192.0.2.10",
			"vip: \"2001:db8::1%eth0\"",
			"7:10: services[0].vip: \"2001:db8::1%eth0\" has a zone; write 2001:db8::1",
		},
		{
			"link-local",
			"vip: 192.0.2.10",
			"vip: fe80::1",
			`
7:10: services[0].vip: fe80::1 is link-local and means something else on every interface; use a global address`,
		},
		{
			"another family",
			"address: 10.0.0.1",
			"address: 2001:db8::1",
			"14:29: services[0].backends[0].address: 2001:db8::1 and the VIP 192.0.2.10 differ in address " +
				"family; mode fullnat cannot translate that; use an address of the VIP's family",
		},
		{
			"a source of another family",
			"source_pool: [10.0.0.254]",
			"source_pool: [2001:db8::1]",
			"12:21: services[0].nat.source_pool[0]: 2001:db8::1 and the VIP 192.0.2.10 differ in address " +
				"family; use an address of the VIP's family",
		},
		{
			"a source listed twice",
			"source_pool: [10.0.0.254]",
			"source_pool: [10.0.0.254, 10.0.0.254]",
			"12:33: services[0].nat.source_pool[1]: 10.0.0.254 is listed twice; remove one of them",
		},
		{
			"a backend that is the VIP",
			"address: 10.0.0.1",
			"address: 192.0.2.10",
			"14:29: services[0].backends[0].address: 192.0.2.10 is a VIP (services[0].vip), not the address " +
				"of a backend; write the server's own address",
		},
		{
			"a backend that is naru itself",
			"address: 10.0.0.1",
			"address: 10.0.0.254",
			"14:29: services[0].backends[0].address: 10.0.0.254 is naru's own address " +
				"(services[0].nat.source_pool[0]), not that of a backend; write the server's own address",
		},
		{
			"a source that is the VIP",
			"source_pool: [10.0.0.254]",
			"source_pool: [192.0.2.10]",
			"12:21: services[0].nat.source_pool[0]: 192.0.2.10 is a VIP (services[0].vip); a reply to it " +
				"could not be told from a request; use another address of naru's on the backends' side",
		},
		{
			"a source that is a VIP which no service uses",
			"version: 1",
			"version: 1\nvips: [{address: 10.0.0.254}]",
			"13:21: services[0].nat.source_pool[0]: 10.0.0.254 is a VIP (vips[0].address); a reply to it " +
				"could not be told from a request; use another address of naru's on the backends' side",
		},
	} {
		m.run(t, base)
	}
}

func TestWrongServices(t *testing.T) {
	for _, m := range []mistake{
		{
			"no source pool",
			"    nat:\n      source_pool: [10.0.0.254]\n",
			"",
			"6:5: services[0]: mode fullnat needs nat.source_pool: the address that backends see and " +
				"answer; write \"nat: {source_pool: [192.0.2.1]}\" with an address of naru's on the backends' " +
				"side",
		},
		{
			"an empty nat",
			"    nat:\n      source_pool: [10.0.0.254]\n",
			"    nat: {}\n",
			"11:10: services[0].nat: mode fullnat needs nat.source_pool: the address that backends see and " +
				"answer; write \"nat: {source_pool: [192.0.2.1]}\" with an address of naru's on the backends' " +
				"side",
		},
		{
			"an empty source pool",
			"    nat:\n      source_pool: [10.0.0.254]\n",
			"    nat: {source_pool: []}\n",
			"11:24: services[0].nat.source_pool: there is no address in the list; write at least one " +
				"address of naru's on the backends' side",
		},
		{
			"a mode without a source pool, and a port that it cannot translate",
			"mode: fullnat",
			"mode: l2dsr",
			"11:5: services[0].nat: mode l2dsr has no source pool; the packet keeps its source; remove " +
				"\"nat\" or use mode fullnat\n" +
				"15:39: services[0].backends[1].port: port translation is not possible in mode l2dsr; the frame " +
				"keeps its destination port; remove \"port\" or use mode fullnat",
		},
		{
			"two services of one name",
			"name: dns",
			"name: web",
			`
16:11: services[1].name: service web is defined twice, first as services[0]; give each service its own name`,
		},
		{
			"two backends of one name",
			"name: b2",
			"name: b1",
			"15:16: services[0].backends[1].name: backend b1 is defined twice, first as " +
				"services[0].backends[0]; give each backend of a service its own name",
		},
		{
			"two services on one port",
			"    vip: 192.0.2.11\n    ports: [53]\n    protocol: udp",
			"    vip: 192.0.2.10\n    ports: [\"70-90\"]\n    protocol: tcp",
			"18:13: services[1].ports[0]: port 70-90 of 192.0.2.10/tcp overlaps port 80 of service web " +
				"(services[0]); a packet belongs to one service; change the ports or the VIP",
		},
		{
			"two services, one of which has any port",
			"    vip: 192.0.2.11\n    ports: [53]\n    protocol: udp",
			"    vip: 192.0.2.10\n    ports: [any]\n    protocol: tcp",
			"18:13: services[1].ports[0]: port any of 192.0.2.10/tcp overlaps port 80 of service web " +
				"(services[0]); a packet belongs to one service; change the ports or the VIP",
		},
		{
			"the port of a backend with a range of ports",
			"ports: [80]",
			"ports: [8080-8081]",
			"15:39: services[0].backends[1].port: a backend's port needs a service with exactly one port; " +
				"remove \"port\" (the port is kept then), or give the service one port",
		},
		{
			"the port of a backend with any port",
			"ports: [80]",
			"ports: [any]",
			"15:39: services[0].backends[1].port: a backend's port needs a service with exactly one port; " +
				"remove \"port\" (the port is kept then), or give the service one port",
		},
		{
			"one source with ranges of ports that overlap",
			secondNAT,
			"    protocol: tcp\n    mode: fullnat\n    nat: {source_pool: [10.0.0.254], source_ports: 2000-3000}",
			"21:52: services[1].nat.source_ports: the ports 2000-3000 of 10.0.0.254 overlap 1024-32767 of services[0]; " +
				"write the same range in both, ranges that do not overlap, or use two addresses",
		},
		{
			"one source with ranges of ports that do not overlap",
			secondNAT,
			"    protocol: tcp\n    mode: fullnat\n    nat: {source_pool: [10.0.0.254], source_ports: 40000-50000}",
			"",
		},
		{
			"one source with two times of rest",
			secondNAT,
			"    protocol: tcp\n    mode: fullnat\n    nat: {source_pool: [10.0.0.254], port_rest: 1s}",
			"21:49: services[1].nat.port_rest: the ports of 10.0.0.254 rest 1s here and 1m in services[0]; they are one pool; " +
				"write the same time in both, or use two addresses",
		},
		{
			"one source for two services",
			secondNAT,
			"    protocol: tcp\n    mode: fullnat\n    nat: {source_pool: [10.0.0.254]}",
			"",
		},
		{
			"a key of the wrong kind",
			"backends: [{",
			"backends: {x: [{",
			"22:15: not valid YAML: could not find flow mapping end token '}'; close the mapping with " +
				"\"}\", and put a comma between its keys",
		},
		{
			"no backends",
			"    backends: [{name: d1, address: 10.0.0.3}]\n",
			"",
			"16:5: warning: services[1].backends: service dns has no backends; it refuses every connection; " +
				"add \"backends:\" with \"- {name: b1, address: 192.0.2.1}\"",
		},
		{
			"an empty list of backends",
			"    backends: [{name: d1, address: 10.0.0.3}]\n",
			"    backends: []\n",
			"22:15: warning: services[1].backends: service dns has no backends; it refuses every " +
				"connection; add \"backends:\" with \"- {name: b1, address: 192.0.2.1}\"",
		},
		{
			"backends of weight 0 only",
			"address: 10.0.0.3",
			"address: 10.0.0.3, weight: 0",
			"22:15: warning: services[1].backends: every backend of service dns has weight 0; it takes no " +
				"new connections; give one backend a weight above 0",
		},
		{
			"one server twice",
			"address: 10.0.0.3",
			"address: 10.0.0.3}, {name: d2, address: 10.0.0.3",
			"22:67: warning: services[1].backends[1].address: the same server as d1 (10.0.0.3); remove one, " +
				"or give one of them more weight",
		},
		{
			"timeouts that make no sense",
			"    protocol: udp",
			"    protocol: udp\n    timeouts: {udp_unreplied: 10m, tcp_established: 10s}",
			"20:31: warning: services[1].timeouts.udp_unreplied: udp_unreplied (10m) is longer than udp " +
				"(5m); make udp_unreplied shorter or udp longer\n" +
				"20:53: warning: services[1].timeouts.tcp_established: tcp_syn (30s) is longer than " +
				"tcp_established (10s); make tcp_syn shorter or tcp_established longer",
		},
		{
			"a backend without a name and one without an address",
			"backends: [{name: d1, address: 10.0.0.3}]",
			"backends: [{address: 10.0.0.3}, {name: d2}, 10.0.0.4]",
			"22:16: services[1].backends[0]: \"name\" is missing; write \"name: b1\"; connections follow " +
				"the name\n" +
				"22:37: services[1].backends[1]: \"address\" is missing; write \"address: 192.0.2.1\"\n" +
				"22:49: services[1].backends[2]: must be a mapping, this is \"10.0.0.4\"; write it as \"key: " +
				"value\" lines, or remove the key",
		},
	} {
		m.run(t, base+second)
	}
}

func TestWrongInterfacesAndNeighbors(t *testing.T) {
	for _, m := range []mistake{
		{
			"no interfaces",
			"interfaces:\n  - {name: eth0, side: client}\n  - {name: eth1, side: backend}\n",
			"",
			`
1:1: "interfaces" is missing; write "interfaces: [{name: eth0, side: client}, {name: eth1, side: backend}]"`,
		},
		{
			"an empty list of interfaces",
			"interfaces:\n  - {name: eth0, side: client}\n  - {name: eth1, side: backend}\n",
			"interfaces: []\n",
			`
2:13: interfaces: no interface leads to clients; give one "side: client" or "side: both"
2:13: interfaces: no interface leads to backends; give one "side: backend" or "side: both"`,
		},
		{
			"no way to the backends",
			"side: backend",
			"side: client",
			"3:3: interfaces: no interface leads to backends; give one \"side: backend\" or \"side: both\"",
		},
		{
			"no way to the clients",
			"side: client",
			"side: backend",
			"3:3: interfaces: no interface leads to clients; give one \"side: client\" or \"side: both\"",
		},
		{
			"an interface listed twice",
			"name: eth1",
			"name: eth0",
			"4:12: interfaces[1].name: interface eth0 is listed twice, first as interfaces[0]; name it " +
				"once; \"side: both\" is one interface for both sides",
		},
		{
			"names that Linux does not take",
			"name: eth1",
			"name: abcdefghijklmnop}\n" +
				"  - {name: a/b, side: both}\n" +
				"  - {name: lo, side: both}\n" +
				"  - {name: \"\"",
			`
4:5: interfaces[1]: "side" is missing; write "side: client", "side: backend" or "side: both"
4:12: interfaces[1].name: "abcdefghijklmnop" is too long for an interface; Linux allows at most 15 characters
5:12: interfaces[2].name: "a/b" is not the name of an interface; an interface name has no "/", ":" or space
6:12: interfaces[3].name: naru cannot work on the loopback interface; name the interface that the packets come in by
7:12: interfaces[4].name: must be text, this is ""; write it as eth0`,
		},
		{
			"an interface without a side",
			"name: eth1, side: backend",
			"name: eth1",
			"4:5: interfaces[1]: \"side\" is missing; write \"side: client\", \"side: backend\" or \"side: both\"",
		},
		{
			"nine interfaces",
			"  - {name: eth1, side: backend}\n",
			"  - {name: e0, side: both}\n" +
				"  - {name: e1, side: both}\n" +
				"  - {name: e2, side: both}\n" +
				"  - {name: e3, side: both}\n" +
				"  - {name: e4, side: both}\n" +
				"  - {name: e5, side: both}\n" +
				"  - {name: e6, side: both}\n" +
				"  - {name: e7, side: both}\n",
			"11:5: interfaces[8]: naru works on at most 8 interfaces; remove some",
		},
		{
			"VIPs listed twice",
			"version: 1",
			"version: 1\nvips: [{address: 192.0.2.10}, {address: 192.0.2.10, owner: me}, {owner: naru}]",
			`
2:41: vips[1].address: 192.0.2.10 is listed twice, first as vips[0]; remove one of them
2:60: vips[1].owner: "me" is not one of naru, shared
2:65: vips[2]: "address" is missing; write "address: 192.0.2.1"`,
		},
		{
			"neighbours",
			"version: 1",
			"version: 1\n" +
				"neighbors:\n" +
				"  - {address: 10.0.0.9, mac: \"01:00:00:00:00:01\", interface: eth1}\n" +
				"  - {address: 10.0.0.9, mac: \"00:00:00:00:00:00\", interface: eth1}\n" +
				"  - {address: 10.0.0.8, mac: \"2:0:0:0:0:1\", interface: eth7}\n" +
				"  - {address: 192.0.2.10, mac: ff:ff:ff:ff:ff:ff}\n" +
				"  - {address: 10.0.0.254, mac: 02:00:00:00:00:01, interface: eth1}",
			"3:30: neighbors[0].mac: 01:00:00:00:00:01 is a multicast or broadcast MAC address; write the " +
				"neighbour's own MAC address\n" +
				"4:15: neighbors[1].address: 10.0.0.9 on eth1 is listed twice, first as neighbors[0]; remove " +
				"one of them\n" +
				"4:30: neighbors[1].mac: the MAC address is zero; write the neighbour's own MAC address\n" +
				"5:30: neighbors[2].mac: \"2:0:0:0:0:1\" is not a MAC address; write it as " +
				"\"02:00:00:00:00:01\"\n" +
				"5:56: neighbors[2].interface: interface eth7 is not one of naru's interfaces; name one of " +
				"\"interfaces\", or add it there\n" +
				"6:5: neighbors[3]: \"interface\" is missing; write \"interface: eth0\", one of \"interfaces\"\n" +
				"6:15: neighbors[3].address: 192.0.2.10 is a VIP (services[0].vip), not the address of a " +
				"neighbour; write the server's own address\n" +
				"6:32: neighbors[3].mac: ff:ff:ff:ff:ff:ff is a multicast or broadcast MAC address; write the " +
				"neighbour's own MAC address\n" +
				"7:15: neighbors[4].address: 10.0.0.254 is naru's own address (services[0].nat.source_pool[0]), " +
				"not that of a neighbour; write the server's own address",
		},
	} {
		m.run(t, base)
	}
}

func TestTextsThatAreNoConfiguration(t *testing.T) {
	for _, m := range []struct{ name, text, want string }{
		{
			"nothing", "",
			"1:1: there is no configuration in this file; start with: naru config example",
		},
		{
			"only comments", "# nothing\n",
			"1:1: there is no configuration in this file; start with: naru config example",
		},
		{
			"only a document start", "---\n",
			"1:1: there is no configuration in this file; start with: naru config example",
		},
		{
			"a list", "- version: 1\n",
			"1:1: the file is a list, not a configuration; the top level is a mapping, as \"version: 1\"",
		},
		{
			"a word", "version\n",
			"1:1: the file is \"version\", not a configuration; the top level is a mapping, as \"version: 1\"",
		},
		{
			"a number", "1\n",
			"1:1: the file is the number 1, not a configuration; the top level is a mapping, as \"version: 1\"",
		},
		{
			"two documents", "version: 1\n---\nversion: 1\n",
			`
2:1: a second YAML document; a configuration is one document; remove the line "---" and merge what follows it`,
		},
		{
			"a tab", "interfaces:\n\t- name: eth0\n  \tx: 1\n",
			`
2:1: a tab in the indentation; indent with spaces
3:3: a tab in the indentation; indent with spaces`,
		},
		{
			"bytes that are not UTF-8", "version: 1\nnode: {name: \"a\xffb\"}\n",
			"2:16: byte 0xff is not UTF-8; save the file as plain text in UTF-8",
		},
		{
			"UTF-16", "\xff\xfev\x00e\x00",
			"1:1: byte 0xff is not UTF-8; save the file as plain text in UTF-8",
		},
		{
			"a control character", "version: 1 \x1b[31m\n",
			"1:12: control character U+001B; save the file as plain text in UTF-8",
		},
		{
			"a zero byte", "version: 1\x00\n",
			"1:11: control character U+0000; save the file as plain text in UTF-8",
		},
		{
			"an old Mac's line ends", "version: 1\rnode: {}\r",
			"1:11: control character U+000D; save the file as plain text in UTF-8",
		},
		{
			"an anchor, an alias and a merge key", "version: &v 1\nnode: *v\nadmin: {<<: *v}\n",
			`
1:10: anchors are not supported; write the value out, or put it into "defaults"
2:7: aliases are not supported; write the value out, or put it into "defaults"
3:9: merge keys are not supported; write the keys out, or put them into "defaults"
3:13: aliases are not supported; write the value out, or put it into "defaults"`,
		},
		{
			"a tag", "version: !!int 1\n",
			"1:10: tags are not supported; remove the tag",
		},
		{
			"a directive", "%YAML 1.2\n---\nversion: 1\n",
			"1:1: directives are not supported; remove the line",
		},
		{
			"a question mark", "? version\n: 1\n",
			"1:1: \"?\" keys are not supported; write \"key: value\"",
		},
		{
			"a list that is not closed", "version: 1\ninterfaces: [eth0,\n",
			`
2:13: not valid YAML: sequence end token ']' not found; close the list with "]", and put a comma between its items`,
		},
		{
			"a mapping that is not closed", "node: {name: a\n",
			"1:7: not valid YAML: could not find flow mapping end token '}'; close the mapping with \"}\", " +
				"and put a comma between its keys",
		},
		{
			"a quote that is not closed", "node: {name: \"a\n",
			"1:14: not valid YAML: could not find end character of double-quoted text; close the quote",
		},
		{
			"no space after a colon", "version:1\nnode: {}\n",
			"1:1: not valid YAML: unexpected key name; write \"key: value\", with a space after the colon",
		},
		{
			"a bad indentation", "version: 1\n  node: {}\n",
			"1:10: not valid YAML: mapping value is not allowed in this context; put a value with \":\" in " +
				"quotes, and indent all keys of a mapping alike",
		},
		{
			"a list indented in two ways", "interfaces:\n- a\n - b\n",
			`
1:1: "version" is missing; write "version: 1" as the first line
1:1: warning: there are no services; naru forwards nothing; add "services:"
3:5: interfaces[0]: must be a mapping, this is "a - b"; write it as "key: value" lines, or remove the key`,
		},
		{
			"an IPv6 address that looks like a key", "services:\n  - vip: 2001:db8::\n    name: x\n",
			"2:10: not valid YAML: mapping value is not allowed in this context; put a value with \":\" in " +
				"quotes, and indent all keys of a mapping alike",
		},
		{
			"a reserved character", "node: {name: @a}\n",
			"1:14: not valid YAML: '@' is a reserved character; put the value in quotes",
		},
		{
			"a value with a colon", "node: {name: a: b}\n",
			`
1:1: "version" is missing; write "version: 1" as the first line
1:1: "interfaces" is missing; write "interfaces: [{name: eth0, side: client}, {name: eth1, side: backend}]"
1:1: warning: there are no services; naru forwards nothing; add "services:"
1:14: node.name: "a: b" is not a name; use letters, digits, - . and _, at most 63 characters`,
		},
	} {
		t.Run(m.name, func(t *testing.T) { compare(t, problemsOf(t, m.text), m.want) })
	}
}
