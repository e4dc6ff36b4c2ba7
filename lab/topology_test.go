package lab

import (
	"net/netip"
	"strings"
	"testing"

	"naru/internal/config"
)

func TestScenariosCanBeBuilt(t *testing.T) {
	for _, s := range Scenarios() {
		for _, v := range s.Variants() {
			topology := s.Topology(v.Options)
			if err := topology.Validate(); err != nil {
				t.Errorf("%s, %s: %v", s.Name, v.Name, err)
			}
			for _, name := range append([]string{s.Client, s.Director, s.ClientSide.Node, s.BackendSide.Node}, s.Backends...) {
				if topology.Node(name) == nil {
					t.Errorf("%s, %s: no node %s", s.Name, v.Name, name)
				}
			}
			for _, e := range []End{s.ClientSide, s.BackendSide} {
				if topology.end(e) == nil {
					t.Errorf("%s, %s: no interface %v", s.Name, v.Name, e)
				}
			}
		}
	}
}

func TestScenariosHaveAConfigurationWithoutMistakes(t *testing.T) {
	for _, s := range Scenarios() {
		for _, v := range s.Variants() {
			text := s.Config(v.Options, "/run/naru-lab/x/naru.sock")
			_, warnings, err := config.Load("naru.yaml", []byte(text))
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s, %s: %v, warnings %v\n%s", s.Name, v.Name, err, warnings, text)
			}
		}
	}
}

func TestNobodyHoldsTheVIP(t *testing.T) {
	for _, s := range Scenarios() {
		topology := s.Topology(Options{})
		for _, n := range topology.Nodes {
			for _, i := range n.Interfaces {
				for _, p := range i.Addrs {
					if p.Addr() == s.VIP4 || p.Addr() == s.VIP6 {
						t.Errorf("%s: %s holds %s", s.Name, n.Name, p)
					}
				}
			}
		}
	}
}

func TestDrawingsFitAScreen(t *testing.T) {
	for _, s := range Scenarios() {
		for _, line := range strings.Split(s.Drawing, "\n") {
			if len(line) > demoWidth {
				t.Errorf("%s: %d columns: %s", s.Name, len(line), line)
			}
		}
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	addr := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}
	eth0 := []Interface{{Name: "eth0"}}
	cable := []Link{{End{"a", "eth0"}, End{"b", "eth0"}}}
	with := func(interfaces ...Interface) []Node { return []Node{{Name: "a", Interfaces: interfaces}} }
	tests := []struct {
		name  string
		nodes []Node
		links []Link
		want  string // "" for none
	}{
		{"two nodes and a cable are right",
			[]Node{{Name: "a", Interfaces: eth0}, {Name: "b", Interfaces: eth0}}, cable, ""},
		{"a node's name must be valid", []Node{{Name: "A_"}}, nil, `node "A_"`},
		{"a node's name must be its own", []Node{{Name: "a"}, {Name: "a"}}, nil, `node "a": doubled`},
		{"an interface needs a cable", []Node{{Name: "a", Interfaces: eth0}}, nil, "a/eth0: has 0 cables"},
		{"a cable needs two interfaces", []Node{{Name: "a", Interfaces: eth0}}, cable, "b/eth0: a cable ends"},
		{"an interface's name must fit",
			with(Interface{Name: "interface-1", Macvlan: true}, Interface{Name: "interface-1234567"}), nil, "longer than 15"},
		{"an address is one interface's", with(Interface{Name: "eth0", Addrs: addr}, Interface{Name: "eth1", Addrs: addr}),
			nil, "10.0.0.1 is taken by a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			topology := Topology{Nodes: tt.nodes, Links: tt.links}
			err := topology.Validate()
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"fullnat": true, "a": true, "test1-2": true,
		"": false, "-a": false, "a-": false, "A": false, "a/b": false, "..": false, strings.Repeat("a", 25): false,
	} {
		if got := validName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestMACTellsTheAddress(t *testing.T) {
	if got := MAC(netip.MustParseAddr("10.20.40.80")); got != [6]byte{2, 0, 10, 20, 40, 80} {
		t.Errorf("% x", got)
	}
}
