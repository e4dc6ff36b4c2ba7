package backend

import (
	"strings"
	"testing"
)

func TestUndoLeavesTheKernelsHalfOfADecapsulatorThatOthersComeInBy(t *testing.T) {
	gue, ipip, six, port := target(GUE, vip4, backend4), target(IPIP, vip4, backend4), target(GUE, vip6, backend4),
		target(GUE, vip4, backend4)
	ipip.Service, six.Service, port.Service, port.GUEPort = "ipip", "six", "port", gue.GUEPort+1
	for _, c := range []struct {
		name           string
		others         []Target
		device, socket bool // are undone
	}{
		{"alone", nil, true, true},
		{"beside bare IP in IP: one device", []Target{ipip}, false, true},
		{"beside IPv6 inside: one port", []Target{six}, true, false},
		{"beside another port: one device", []Target{port}, false, true},
		{"beside all", []Target{ipip, six, port}, false, false},
	} {
		p, err := NewPlan(gue, PlanOptions{Others: append(c.others, gue)})
		if err != nil {
			t.Fatal(err)
		}
		s := p.UndoText(PlanOptions{Others: c.others})
		if strings.Contains(s, "ip link del naru-ipip") != c.device || strings.Contains(s, "ip fou del port 6080") != c.socket {
			t.Errorf("%s: want the device undone %t and the port %t:\n%s", c.name, c.device, c.socket, s)
		}
	}
}

func TestUndoEndsNarusDecapsulatorOnlyForTheLastServiceThatItServes(t *testing.T) {
	web, six := target(GUE, vip4, backend4), target(GUE, vip6, backend4)
	six.Service = "six"
	for others, ends := range map[*Target]bool{&web: true, &six: false} {
		opt := PlanOptions{Decap: "naru", Others: []Target{*others}}
		p, err := NewPlan(web, opt)
		if err != nil {
			t.Fatal(err)
		}
		if s := p.UndoText(opt); strings.Contains(s, "systemctl stop") != ends {
			t.Errorf("beside %s: want it ended %t:\n%s", others.Service, ends, s)
		}
	}
}
