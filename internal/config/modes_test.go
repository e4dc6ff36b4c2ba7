package config

import (
	"strings"
	"testing"
)

// direct is a good file of mode l3dsr; the tests of its mistakes replace a part of it.
const direct = `version: 1
interfaces: [{name: eth0, side: both}]
services:
  - name: web
    vip: 192.0.2.10
    ports: [80]
    protocol: tcp
    mode: l3dsr
    l3dsr: {encap: dscp, dscp: 10}
    backends:
      - {name: b1, address: 10.0.0.1}
      - {name: b2, address: 10.0.0.2}
`

// The lines of a service that say its mode.
const (
	directMode  = "    mode: l3dsr\n    l3dsr: {encap: dscp, dscp: 10}\n"
	natMode     = "    mode: nat\n"
	l2dsrMode   = "    mode: l2dsr\n"
	fullnatMode = "    mode: fullnat\n    nat: {source_pool: [10.0.0.254]}\n"
)

// another returns a second service, with lines from 13 on.
func another(vip, port, mode string, backends ...string) string {
	return direct + "  - name: more\n    vip: " + vip + "\n    ports: [" + port + "]\n    protocol: tcp\n" + mode +
		"    backends: [" + strings.Join(backends, ", ") + "]\n"
}

func TestEveryModeAndEncapsulationIsTaken(t *testing.T) {
	compare(t, problemsOf(t, direct), "")
	for name, mode := range map[string]string{
		"nat": natMode, "l2dsr": l2dsrMode, "fullnat": fullnatMode,
		"ipip": "    mode: l3dsr\n    l3dsr: {encap: ipip}\n",
		"gue":  "    mode: l3dsr\n    l3dsr: {encap: gue, port: 6081, variant: 1, source: 10.1.0.0/24}\n",
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, problemsOf(t, strings.Replace(direct, directMode, mode, 1)), "")
		})
	}
}

func TestWrongL3DSR(t *testing.T) {
	const l3dsr = "l3dsr: {encap: dscp, dscp: 10}"
	for _, m := range []mistake{
		{
			"no l3dsr", "    " + l3dsr + "\n", "",
			"4:5: services[0]: mode l3dsr needs l3dsr.encap: how the backend learns the VIP; " +
				"write \"l3dsr: {encap: ipip}\", or dscp or gue",
		},
		{
			"no encap", l3dsr, "l3dsr: {dscp: 10}",
			"9:12: services[0].l3dsr: mode l3dsr needs l3dsr.encap: how the backend learns the VIP; " +
				"write \"l3dsr: {encap: ipip}\", or dscp or gue",
		},
		{
			"an encap that is not known", l3dsr, "l3dsr: {encap: gre}",
			`9:20: services[0].l3dsr.encap: "gre" is not one of dscp, ipip, gue; did you mean "gue"?`,
		},
		{
			"no DSCP", l3dsr, "l3dsr: {encap: dscp}",
			"9:12: services[0].l3dsr: encap dscp needs l3dsr.dscp; " +
				"write \"dscp: 10\", a value from 1 to 63 that stands for this VIP at its backends",
		},
		{
			"a DSCP that is none", l3dsr, "l3dsr: {encap: dscp, dscp: 0}",
			"9:32: services[0].l3dsr.dscp: 0 is out of range 1..63; write a whole number from 1 to 63",
		},
		{
			"a DSCP of seven bits", l3dsr, "l3dsr: {encap: dscp, dscp: 64}",
			"9:32: services[0].l3dsr.dscp: 64 is out of range 1..63; write a whole number from 1 to 63",
		},
		{
			"keys of tunnels with dscp", l3dsr, "l3dsr: {encap: dscp, dscp: 1, port: 6080, variant: 0, source: 10.1.0.0/16}", `
9:35: services[0].l3dsr.port: encap dscp has no port; the packet is routed to the backend without an outer header; remove "port"
9:47: services[0].l3dsr.variant: encap dscp has no variant; the packet is routed to the backend without an outer header; remove "variant"
9:59: services[0].l3dsr.source: encap dscp has no source; the packet is routed to the backend without an outer header; remove "source"`,
		},
		{
			"keys of others with ipip", l3dsr, "l3dsr: {encap: ipip, dscp: 1, port: 6080}", `
9:26: services[0].l3dsr.dscp: encap ipip has no dscp; the backend finds the VIP in the packet; the outer header copies its DSCP; remove "dscp"
9:35: services[0].l3dsr.port: encap ipip has no port; IP in IP has no ports; remove "port"`,
		},
		{
			"a variant that GUE has not", l3dsr, "l3dsr: {encap: gue, variant: 2, port: 0}", `
9:34: services[0].l3dsr.variant: 2 is out of range 0..1; write a whole number from 0 to 1
9:43: services[0].l3dsr.port: 0 is out of range 1..65535; write a whole number from 1 to 65535`,
		},
		{
			"a source pool", l3dsr, l3dsr + "\n    nat: {source_pool: [10.0.0.254]}",
			"10:5: services[0].nat: mode l3dsr has no source pool; the packet keeps its source; remove \"nat\" or use mode fullnat",
		},
		{
			"another address family without a tunnel", "10.0.0.2", "2001:db8::2",
			"12:29: services[0].backends[1].address: 2001:db8::2 and the VIP 192.0.2.10 differ in address family; " +
				"encap dscp cannot translate that; use an address of the VIP's family, or a tunnel: encap ipip or gue",
		},
		{
			"another port", "address: 10.0.0.2", "address: 10.0.0.2, port: 8080",
			"12:39: services[0].backends[1].port: port translation is not possible in mode l3dsr; " +
				"the backend gets the client's packet with its destination port; remove \"port\" or use mode fullnat",
		},
		{"the same port", "address: 10.0.0.2", "address: 10.0.0.2, port: 80", ""},
		{
			"MTUs that no link has", "address: 10.0.0.1}", "address: 10.0.0.1, mtu: 575}\n      - {name: b3, address: 10.0.0.3, mtu: probe}",
			"11:44: services[0].backends[0].mtu: 575 is out of range 576..65535; write a whole number from 576 to 65535",
		},
	} {
		m.run(t, direct)
	}
}

func TestWrongOuterSources(t *testing.T) {
	for name, c := range map[string]struct{ source, want string }{
		"an address":      {"10.1.0.1", ""},
		"a list of one":   {"[10.1.0.0/24]", ""},
		"no list":         {"[]", "source: there is no source in the list; write an address or a prefix, or remove the key"},
		"a name":          {"lb1", `source: "lb1" is a name, not an address; write its address; naru asks no name server`},
		"no prefix":       {"10.1.0.0/33", `source: "10.1.0.0/33" is not a prefix; write it as 10.200.0.0/16 or "2001:db8::/64"`},
		"bits behind it":  {"10.1.2.3/24", `source: "10.1.2.3/24" has bits behind the length of its prefix; write 10.1.2.0/24, or 10.1.2.3 for one address`},
		"too much":        {"10.0.0.0/15", `source: 10.0.0.0/15 is too much: every address of it is naru's; write a part of it, /16 or longer`},
		"multicast":       {"224.0.0.0/16", `source: 224.0.0.0 is a multicast address; use the address of one host`},
		"two of a family": {"[10.1.0.1, 10.2.0.0/16]", `source[1]: there are two IPv4 sources; write one address or prefix of each family`},
		"of no backend": {"2001:db8::/64", "source: 2001:db8::/64 is IPv6, and no backend is; " +
			"the outer header is of the backend's family; write a source of the backends' family, or remove it"},
		"the VIP in it":         {"192.0.2.0/24", `source: 192.0.2.10 is a VIP, which cannot be the source of outer packets; use other addresses of naru's`},
		"a mapping for a value": {"{a: b}", `source: must be text, this is a mapping; write it as 10.200.0.0/16`},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(direct, "{encap: dscp, dscp: 10}", "{encap: ipip, source: "+c.source+"}", 1)
			got := problemsOf(t, text)
			for i := range got {
				_, got[i], _ = strings.Cut(got[i], "services[0].l3dsr.")
			}
			compare(t, got, c.want)
		})
	}
	const backend = "services[0].backends[0].address: 10.0.0.1 is naru's own address (services[0].l3dsr.source), " +
		"not that of a backend; write the server's own address"
	text := strings.Replace(direct, "{encap: dscp, dscp: 10}", "{encap: ipip, source: 10.0.0.0/31}", 1)
	compare(t, problemsOf(t, text), "11:29: "+backend)
}

func TestWhatAModeHasNoUseFor(t *testing.T) {
	for _, c := range []struct{ name, mode, want string }{
		{"an encapsulation in nat", natMode + "    l3dsr: {encap: ipip}\n",
			"9:5: services[0].l3dsr: mode nat has no encapsulation; the packets are translated; " +
				"remove \"l3dsr\" or use mode l3dsr"},
		{"an encapsulation in l2dsr", l2dsrMode + "    l3dsr: {encap: ipip}\n",
			"9:5: services[0].l3dsr: mode l2dsr has no encapsulation; only the MAC addresses change; " +
				"remove \"l3dsr\" or use mode l3dsr"},
		{"a source pool in nat", natMode + "    nat: {source_pool: [10.0.0.254]}\n",
			"9:5: services[0].nat: mode nat has no source pool; the backends see the client's own address and port; " +
				"remove \"nat\" or use mode fullnat"},
		{"a source pool in l2dsr", l2dsrMode + "    nat: {source_pool: [10.0.0.254]}\n",
			"9:5: services[0].nat: mode l2dsr has no source pool; the packet keeps its source; " +
				"remove \"nat\" or use mode fullnat"},
	} {
		t.Run(c.name, func(t *testing.T) {
			compare(t, problemsOf(t, strings.Replace(direct, directMode, c.mode, 1)), c.want)
		})
	}
	for _, mode := range []string{fullnatMode, natMode, l2dsrMode} {
		text := strings.Replace(direct, directMode, mode, 1)
		text = strings.Replace(text, "address: 10.0.0.2}", "address: \"2001:db8::2\", mtu: 1400}", 1)
		got := strings.Join(problemsOf(t, text), "\n")
		if !strings.Contains(got, "backends[1].mtu: mode ") || !strings.Contains(got, "cannot translate that") {
			t.Errorf("%s: %s", mode, got)
		}
	}
}

func TestADSCPStandsForOneVIPAtABackend(t *testing.T) {
	const (
		b2, b3 = "{name: x, address: 10.0.0.2}", "{name: y, address: 10.0.0.3}"
		eleven = "    mode: l3dsr\n    l3dsr: {encap: dscp, dscp: 11}\n"
	)
	for name, c := range map[string]struct{ text, want string }{
		"another VIP, another backend": {another("192.0.2.11", "80", directMode, b3), ""},
		"another VIP, another DSCP":    {another("192.0.2.11", "80", eleven, b2), ""},
		"the same VIP, another port":   {another("192.0.2.10", "81", directMode, b2), ""},
		"another VIP on the same backend": {another("192.0.2.11", "80", directMode, b3, b2),
			"18:32: services[1].l3dsr.dscp: 10 stands for 192.0.2.10 at 10.0.0.2 already, in service web (services[0]); " +
				"give each VIP a value of its own"},
		"the same VIP by two values": {another("192.0.2.10", "81", eleven, b2),
			"18:32: warning: services[1].l3dsr.dscp: 192.0.2.10 is 10 at 10.0.0.2 in service web (services[0]) and 11 here; " +
				"one value a VIP is enough, write the same in both"},
	} {
		t.Run(name, func(t *testing.T) { compare(t, problemsOf(t, c.text), c.want) })
	}
}

func TestTwoServicesThatLookAlikeToABackendAreNamed(t *testing.T) {
	const want = "warning: services[1].backends[0].address: service web sends tcp to port 80 of 10.0.0.2 too (services[0]); " +
		"of two connections from one client port, one through each, naru refuses the second (tuple_clash); " +
		"let the server listen on a port for each, or use mode fullnat"
	const b2, b2p = "{name: x, address: 10.0.0.2}", "{name: x, address: 10.0.0.2, port: 80}"
	for name, c := range map[string]struct{ first, text, want string }{
		"two VIPs":                      {natMode, another("192.0.2.11", "80", natMode, b2), want},
		"two ports, one at the backend": {natMode, another("192.0.2.10", "81", natMode, b2p), want},
		"a range":                       {natMode, another("192.0.2.11", "70-90", natMode, b2), want},
		"two ports":                     {natMode, another("192.0.2.10", "81", natMode, b2), ""},
		"full NAT beside it":            {fullnatMode, another("192.0.2.11", "80", natMode, b2), ""},
		"replies that do not pass":      {l2dsrMode, another("192.0.2.11", "80", l2dsrMode, b2), ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(c.text, directMode, c.first, 1)
			got := strings.Join(problemsOf(t, text), "\n")
			if _, message, _ := strings.Cut(got, ": "); message != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestWhoAnswersEcho(t *testing.T) {
	for echo, want := range map[string]string{
		"owner: naru":                 "",
		"echo: answer":                "",
		"echo: drop":                  "",
		"owner: shared":               "",
		"owner: shared, echo: pass":   "",
		"owner: shared, echo: answer": "1:51: vips[0].echo: answer has no effect with owner: shared; the kernel answers; remove it, or use owner: naru",
		"owner: shared, echo: drop":   "1:51: vips[0].echo: drop has no effect with owner: shared; the kernel answers; remove it, or use owner: naru",
		"echo: pass": "1:36: warning: vips[0].echo: nobody answers: this kernel does not hold an address with owner: naru; " +
			"write drop to say so, answer to let naru answer, or use owner: shared",
		"echo: reply": `1:36: vips[0].echo: "reply" is not one of answer, pass, drop`,
	} {
		text := "vips: [{address: 192.0.2.10, " + echo + "}]\n" + direct
		compare(t, problemsOf(t, text), want)
	}
	cfg, _, err := Load("f", []byte("vips: [{address: 192.0.2.9, owner: shared}]\n"+direct))
	if err != nil || cfg.VIPs[0].Echo != "pass" || cfg.VIPs[1].Echo != "answer" {
		t.Errorf("%+v, %v", cfg, err)
	}
}
