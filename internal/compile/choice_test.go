package compile

import (
	"testing"
	"time"

	"naru/forwarder"
	"naru/internal/config"
	"naru/sched"
)

func TestChoiceAndKeyGoToTheEngine(t *testing.T) {
	cfg, problems, err := config.Load("f", []byte(`version: 1
node: {hash_key_file: /k}
interfaces: [{name: eth0, side: both}]
services:
  - name: web
    vip: 192.0.2.10
    ports: [80]
    protocol: tcp
    mode: l2dsr
    scheduler: mh
    hash: 5-tuple
    bounded: 1.25
    mh: {table_size: 251}
    max_connections: 1000
    on_backend_full: refuse
    affinity: {prefix4: 24, prefix6: 56, timeout: 5m, clients: 100}
    backends:
      - {name: b1, address: 10.0.0.1, max_connections: 10}
      - {name: b2, address: 10.0.0.2, backup: true}
`))
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if wrong := cfg.ReadSecrets(func(string) ([]byte, error) { return []byte("01000000000000000000000000000000"), nil }); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	out, err := Config(cfg, Offline(cfg))
	if err != nil {
		t.Fatal(err)
	}
	s := &out.Services[0]
	want := forwarder.Choice{Hash: forwarder.HashTuple, Bounded: sched.ShareAll * 5 / 4, TableSize: 251, MaxConnections: 1000,
		RefuseFull: true, Affinity: forwarder.Affinity{Timeout: 5 * time.Minute, Prefix4: 24, Prefix6: 56, Clients: 100}}
	if s.Choice != want {
		t.Errorf("%+v, want %+v", s.Choice, want)
	}
	if b := s.Backends; b[0].MaxConnections != 10 || b[0].Backup || !b[1].Backup || b[1].MaxConnections != 0 {
		t.Errorf("%+v", b)
	}
	if *out.HashKey != [16]byte{1} {
		t.Errorf("key %v", out.HashKey)
	}
	for word, hash := range hashes {
		cfg.Services[0].Hash = word
		if out, _ := Config(cfg, Offline(cfg)); out.Services[0].Hash != hash {
			t.Errorf("%s: %d", word, out.Services[0].Hash)
		}
	}
}
