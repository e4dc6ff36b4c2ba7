package config

import (
	"errors"
	"io/fs"
	"testing"
	"time"
)

func TestChoices(t *testing.T) {
	cfg, problems, err := Load("f", []byte(`version: 1
node: {hash_key_file: /etc/naru/hash.key}
interfaces: [{name: eth0, side: both}]
defaults:
  scheduler: maglev
  slow_start: 30s
  max_connections: 1000
  on_backend_full: refuse
  affinity: {prefix4: 24}
services:
  - name: web
    vip: 192.0.2.10
    ports: [80]
    protocol: tcp
    mode: l2dsr
    hash: 5-tuple
    bounded: 1.25
    mh: {table_size: 251}
    backends:
      - {name: b1, address: 10.0.0.1, max_connections: 10, slow_start: 0s}
      - {name: b2, address: 10.0.0.2, backup: true}
  - name: web2
    vip: 192.0.2.11
    ports: [80]
    protocol: tcp
    mode: l2dsr
    slow_start: 1m
    max_connections: 5
    on_backend_full: overflow
    affinity: off
    backends: [{name: b1, address: 10.0.0.1}]
`))
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if want := (Choice{"5-tuple", 1.25, 251, 30 * time.Second, 1000, "refuse", Affinity{"client-ip", 24, 128, 10 * time.Minute,
		65536}}); cfg.Services[0].Choice != want {
		t.Errorf("%+v, want %+v", cfg.Services[0].Choice, want)
	}
	if want := (Choice{"source", 0, 65537, time.Minute, 5, "overflow", Affinity{}}); cfg.Services[1].Choice != want {
		t.Errorf("%+v, want %+v", cfg.Services[1].Choice, want)
	}
	b := cfg.Services[0].Backends
	if b[0].SlowStart != 0 || b[0].MaxConnections != 10 || b[1].SlowStart != 30*time.Second || !b[1].Backup || b[0].Backup {
		t.Errorf("%+v", b)
	}
}

func TestWrongChoices(t *testing.T) {
	const mode = "    mode: fullnat\n"
	for _, m := range []mistake{
		{
			"keys that have no effect with this scheduler",
			mode, mode + "    hash: source\n    bounded: 1.25\n    mh: {table_size: 65537}\n",
			`
11:5: services[0].hash: hash is for schedulers that hash; rr does not; remove it, or use scheduler: sh or mh
12:5: services[0].bounded: bounded is for schedulers that hash; rr does not; remove it, or use scheduler: sh or mh
13:5: services[0].mh: mh is for scheduler mh; this one is rr; remove it, or use scheduler: mh`,
		},
		{
			"wrong values",
			mode, mode + "    scheduler: mh\n    hash: port\n    bounded: 0.9\n    mh: {table_size: 65536}\n    slow_start: 2h\n" +
				"    max_connections: 0\n    on_backend_full: queue\n    affinity: on\n",
			`
12:11: services[0].hash: "port" is not one of source, 5-tuple, source-port, dest
13:14: services[0].bounded: 0.9 is out of range 1..100; write a number from 1 to 100, as 1.25: a quarter more than its part
14:22: services[0].mh.table_size: 65536 is not a prime number; write 65537, the next prime
15:17: services[0].slow_start: 2h is out of range; write a duration from 0s to 1h
16:22: services[0].max_connections: 0 is out of range 1..16777216; write a whole number from 1 to 16777216
17:22: services[0].on_backend_full: "queue" is not one of overflow, refuse
18:15: services[0].affinity: must be a mapping or off, this is "on"; write "affinity: {by: client-ip, timeout: 10m}" or ` +
				`"affinity: off"`,
		},
		{
			"a bound in words",
			mode, mode + "    scheduler: sh\n    bounded: twice\n",
			`12:14: services[0].bounded: "twice" is not a number; write a number from 1 to 100, as 1.25: a quarter more than its part`,
		},
		{
			"wrong affinity",
			mode, mode + "    affinity: {by: cookie, prefix4: 0, prefix6: 129, timeout: 5, clients: 0}\n",
			`
11:20: services[0].affinity.by: "cookie" is not one of client-ip
11:37: services[0].affinity.prefix4: 0 is out of range 1..32; write a whole number from 1 to 32
11:49: services[0].affinity.prefix6: 129 is out of range 1..128; write a whole number from 1 to 128
11:63: services[0].affinity.timeout: 5 has no unit; write the unit, as "5s"
11:75: services[0].affinity.clients: 0 is out of range 1..16777216; write a whole number from 1 to 16777216`,
		},
		{
			"a table that is too small",
			"    backends:\n", "    scheduler: mh\n    mh: {table_size: 251}\n    backends:\n      - {name: b3, address: 10.0.0.3}\n",
			`
14:22: warning: services[0].mh.table_size: 251 slots for 3 backends are less than 100 each; shares will differ from the weights; ` +
				`write 307`,
		},
		{
			"nobody is ever full, nobody is first",
			"    backends:\n      - {name: b1, address: 10.0.0.1}\n      - {name: b2, address: 10.0.0.2, port: 8080, weight: 3}\n",
			"    on_backend_full: refuse\n    backends:\n      - {name: b1, address: 10.0.0.1, backup: true}\n",
			`
13:22: warning: services[0].on_backend_full: no backend of service web is ever full; give backends max_connections, or remove it
15:7: warning: services[0].backends: all backends of service web are backups; they serve like any others; remove backup: true ` +
				`from those that are to serve first`,
		},
		{
			"a relative file",
			"version: 1\n", "version: 1\nnode: {hash_key_file: hash.key}\n",
			`2:23: node.hash_key_file: "hash.key" is not the absolute path of a file; write it as /etc/naru/hash.key`,
		},
	} {
		m.run(t, base)
	}
}

func TestTheHashKey(t *testing.T) {
	src := "version: 1\nnode: {hash_key_file: /k}\ninterfaces: [{name: eth0, side: both}]\nservices: []\n"
	for _, c := range []struct {
		text string
		err  error
		want string
	}{
		{"000102030405060708090a0b0c0d0e0f\n", nil, ""},
		{"000102030405060708090a0b0c0d0e\n", nil, "/k does not hold 32 hexadecimal digits"},
		{"", nil, "/k does not hold 32 hexadecimal digits"},
		{"", fs.ErrNotExist, "/k: no such file"},
		{"", fs.ErrPermission, "/k: permission denied"},
		{"", errors.New("read /k: is a directory"), "read /k: is a directory"},
	} {
		cfg, _, err := Load("f", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		problems := cfg.ReadSecrets(func(string) ([]byte, error) { return []byte(c.text), c.err })
		if c.want == "" {
			if len(problems) > 0 || *cfg.Node.HashKey != [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} {
				t.Errorf("%v %v", problems, cfg.Node.HashKey)
			}
			continue
		}
		if len(problems) != 1 || problems[0].Message != c.want || problems[0].Position.Line != 2 || problems[0].Fix == "" ||
			cfg.Node.HashKey != nil {
			t.Errorf("%q %v: %+v", c.text, c.err, problems)
		}
	}
}
