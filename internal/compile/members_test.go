package compile_test

import (
	"fmt"
	"strings"
	"testing"

	"naru/internal/compile"
	"naru/internal/config"
)

func TestMembersTellWhatIsProbed(t *testing.T) {
	const text = `version: 1
interfaces: [{name: eth0, side: both}]
services:
  - {name: own, vip: 192.0.2.1, ports: [80], protocol: tcp, mode: nat, health: {type: tcp},
     backends: [{name: b1, address: 10.0.0.1, port: 8080, weight: 3, slow_start: 5s}, {name: b2, address: 10.0.0.2}]}
  - {name: one, vip: 192.0.2.2, ports: [any], protocol: udp, mode: nat, health: {type: tcp, port: 53},
     backends: [{name: b1, address: 10.0.0.1}]}
  - {name: none, vip: "2001:db8::1", ports: [80], protocol: tcp, mode: nat, backends: [{name: b1, address: "2001:db8::2"}]}
`
	cfg, _, err := config.Load("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range compile.Members(cfg) {
		got = append(got, fmt.Sprintf("%v %d %v %q", m.Key, m.Weight, m.SlowStart, m.Probed))
	}
	want := `own/b1 3 5s "tcp 10.0.0.1:8080", own/b2 1 0s "tcp 10.0.0.2:80", one/b1 1 0s "tcp 10.0.0.1:53", none/b1 1 0s ""`
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("%s\nwant %s", s, want)
	}
}
