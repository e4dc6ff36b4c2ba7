package main

import (
	"bytes"
	"strings"
	"testing"

	"naru/internal/backend"
)

const backends = `version: 1
interfaces: [{name: eth0, side: both}]
services:
  - {name: web, vip: 203.0.113.10, ports: [80], protocol: tcp, mode: l2dsr, backends: [{name: b1, address: 10.0.0.11}]}
  - {name: tls, vip: 203.0.113.10, ports: [443], protocol: tcp, mode: l2dsr, backends: [{name: b1, address: 10.0.0.11}]}
  - name: mail
    vip: 203.0.113.25
    ports: [25]
    protocol: tcp
    mode: l3dsr
    l3dsr: {encap: dscp, dscp: 10}
    backends: [{name: m1, address: 192.0.2.41}]
  - {name: ssh, vip: 203.0.113.11, ports: [22], protocol: tcp, mode: nat, backends: [{name: s1, address: 10.0.0.31}]}
`

func TestBackendCommandsNameTheirMistakes(t *testing.T) {
	inFolder(t, map[string]string{"naru.yaml": backends})
	tests := []struct{ line, want string }{
		{"backend", "naru backend: missing argument COMMAND; one of setup, undo, doctor, decap"},
		{"backend setup -c naru.yaml", "naru backend setup: missing argument SERVICE/BACKEND"},
		{"backend setup web -c naru.yaml", `naru backend setup: "web" does not name a backend; write SERVICE/BACKEND`},
		{"backend setup web/b2 -c naru.yaml", "naru backend setup: there is no backend web/b2; did you mean web/b1?"},
		{"backend setup web/b1 x -c naru.yaml", `naru backend setup: too many arguments: "x"; it takes one SERVICE/BACKEND`},
		{"backend setup web/b1 --format freebsd -c naru.yaml", `naru backend setup: backend: format "freebsd" is unknown; use one of`},
		{"backend setup ssh/s1 --via x -c naru.yaml", `naru backend setup: --via "x" is no address`},
		{"backend doctor web/b1 --port 70000 -c naru.yaml", "naru backend doctor: --port 70000 is no port"},
		{"backend doctor web/b1 --port 81 -c naru.yaml", "naru backend doctor: --port 81 is no port of service web"},
		{"backend doctor web/b1 --timeout 0s -c naru.yaml", "naru backend doctor: --timeout 0s is no time to wait"},
		{"backend decap", `naru backend decap: --mode "" is not known; use ipip or gue`},
		{"backend decap --mode gue --port 0", "naru backend decap: --port 0 is no port"},
		{"backend decap --mode ipip --vip x", `naru backend decap: --vip "x" is no address`},
		{"backend decap --mode ipip --from x", `naru backend decap: --from "x" is no prefix`},
		{"backend decap --mode ipip x", `naru backend decap: too many arguments: "x"; it takes none`},
	}
	for _, test := range tests {
		t.Run(test.line, func(t *testing.T) {
			code, stdout, stderr := naru("", test.line)
			if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, test.want) {
				t.Errorf("exit %d, out %q, err %q", code, stdout, stderr)
			}
		})
	}
}

func TestBackendSetupPrintsCommands(t *testing.T) {
	inFolder(t, map[string]string{"naru.yaml": backends})
	for line, want := range map[string]string{
		"backend setup web/b1 -c naru.yaml":                      "\nip addr replace 203.0.113.10/32 dev lo scope host\n",
		"backend setup mail/m1 -c naru.yaml":                     "ip dscp 10 ip daddr 192.0.2.41 counter ip daddr set 203.0.113.25",
		"backend setup mail/m1 -c naru.yaml --format networkd":   "[Address]\nAddress=203.0.113.25/32\n",
		"backend setup ssh/s1 --via 10.0.0.1 -c naru.yaml":       "\nip route replace default via 10.0.0.1 dev $IF\n",
		"backend setup web/b1 --interface eth7 -c naru.yaml":     "\nsysctl -w net/ipv4/conf/eth7/arp_ignore=1\n",
		"backend undo mail/m1 -c naru.yaml":                      "\nip addr del 203.0.113.25/32 dev lo\n",
		"backend undo web/b1 -c naru.yaml":                       "# kept, another service needs it here: VIP on lo\n",
		"backend undo web/b1 --all -c naru.yaml":                 "\nip addr del 203.0.113.10/32 dev lo\n",
		"backend setup web/b1 --format netplan -c naru.yaml":     `addresses: ["203.0.113.10/32"]`,
		"-c naru.yaml backend setup web/b1 --format=ifupdown":    "    up ip addr replace 203.0.113.10/32 dev lo scope host || true\n",
		"backend setup mail/m1 --mtu 1400 -c naru.yaml -q":       "table inet naru.mail.m1 {\n",
		"backend setup mail/m1 --decap kernel -c naru.yaml":      "# proof: naru backend doctor mail/m1\n",
		"backend undo ssh/s1 --via 10.0.0.1 -c naru.yaml":        "\nip route del default via 10.0.0.1 dev $IF\n",
		"backend setup ssh/s1 -c naru.yaml --via 10.0.0.1 -q":    "# default route by 10.0.0.1",
		"backend setup web/b1 -c naru.yaml --decap naru --mtu 9": "# on b1 (10.0.0.11), as root\n",
	} {
		if code, stdout, stderr := naru("", line); code != 0 || !strings.Contains(stdout, want) {
			t.Errorf("%s: exit %d, no %q in %q; %s", line, code, want, stdout, stderr)
		}
	}
}

func TestBackendSetupAppliesOnlyOnTheBackend(t *testing.T) {
	inFolder(t, map[string]string{"naru.yaml": backends})
	code, stdout, stderr := naru("", "backend setup web/b1 --apply -c naru.yaml")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "the backend's address is not on this machine") {
		t.Errorf("exit %d, out %q, err %q", code, stdout, stderr)
	}
}

func TestReportOfTheDoctor(t *testing.T) {
	var out bytes.Buffer
	printReport(&out, backend.Report{Checks: []backend.Check{
		{Status: backend.OK, Name: "arp", Text: "10.0.0.11 answers"},
		{Status: backend.Skip, Name: "mtu", Text: "not known"},
		{Status: backend.Fail, Name: "answer", Text: "RST", Cause: "nobody listens", Effect: "refused", Fix: "ss -ltn"},
	}})
	const want = `ok    arp       10.0.0.11 answers
skip  mtu       not known
FAIL  answer    RST
      cause     nobody listens
      effect    refused
      fix       ss -ltn
1 failed, 1 passed
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}
