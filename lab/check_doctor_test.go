package lab

import (
	"net/netip"
	"testing"

	"naru/internal/backend"
)

func TestADiagnosisIsTheRightOneAndNoOther(t *testing.T) {
	ok := backend.Check{Status: backend.OK, Name: "arp"}
	right := backend.Check{Status: backend.Fail, Name: "answer", Text: "nothing, instead of SYN/ACK from 192.0.2.1",
		Cause: "the VIP is not on lo at server01; or else", Effect: "lost", Fix: "ip addr add"}
	other := backend.Check{Status: backend.Fail, Name: "mtu", Text: "short", Cause: "a link", Effect: "lost", Fix: "mtu: 1"}
	changed := func(f func(*backend.Check)) backend.Check {
		k := right
		f(&k)
		return k
	}
	a := ailments(ModeL2DSR, netip.MustParseAddr("192.0.2.1"))[0]
	tests := []struct {
		name   string
		checks []backend.Check
		right  bool
	}{
		{"the right one", []backend.Check{ok, right}, true},
		{"nothing found", []backend.Check{ok}, false},
		{"another one", []backend.Check{ok, other}, false},
		{"another one too", []backend.Check{ok, right, other}, false},
		{"by another check", []backend.Check{changed(func(k *backend.Check) { k.Name = "host" })}, false},
		{"with another cause", []backend.Check{changed(func(k *backend.Check) { k.Cause = "a firewall" })}, false},
		{"without a fix", []backend.Check{changed(func(k *backend.Check) { k.Fix = "" })}, false},
		{"without an effect", []backend.Check{changed(func(k *backend.Check) { k.Effect = "" })}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := named(backend.Report{Checks: test.checks}, a); (err == nil) != test.right {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestEveryModeThatNeedsSomethingOfABackendHasAilments(t *testing.T) {
	for _, s := range Scenarios() {
		for _, vip := range s.vips() {
			if got := len(ailments(s.Mode, vip)); (got == 0) != (s.Mode == ModeFullNAT) {
				t.Errorf("%s: %d", s.Name, got)
			}
		}
	}
}
