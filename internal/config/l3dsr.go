package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Our own choices and those of others for L3DSR.
const (
	defaultGUEPort = 6080 // IANA's for gue
	maxDSCP        = 63   // six bits (RFC 2474 3); 0 is what packets come with
	maxVariant     = 1    // GUE has two (draft-ietf-intarea-gue 3)

	// The widest prefixes of outer sources: naru answers for every address of one, and no backend tells more apart.
	widestSource4 = 16
	widestSource6 = 32
)

// encapRules is what an encapsulation allows and needs.
type encapRules struct {
	dscp  bool // "dscp" has a meaning and is needed
	outer bool // there is an outer header: "source" has a meaning, and the backend may be of any address family
	udp   bool // it has ports: "port" and "variant" have a meaning

	noDSCPWhy, noOuterWhy, noUDPWhy string
}

// encaps are the encapsulations of mode l3dsr.
var encaps = map[string]encapRules{
	"dscp": {
		dscp:       true,
		noOuterWhy: "the packet is routed to the backend without an outer header",
		noUDPWhy:   "the packet is routed to the backend without an outer header",
	},
	"ipip": {
		outer:     true,
		noDSCPWhy: "the backend finds the VIP in the packet; the outer header copies its DSCP",
		noUDPWhy:  "IP in IP has no ports",
	},
	"gue": {
		outer: true, udp: true,
		noDSCPWhy: "the backend finds the VIP in the packet; the outer header copies its DSCP",
	},
}

// encapNames returns the names of the encapsulations, in the order of the documentation.
func encapNames() []string { return []string{"dscp", "ipip", "gue"} }

// l3dsr reads the keys of mode l3dsr.
func (d *decoder) l3dsr(v value, o *L3DSR) {
	d.mapping(v, []field{
		{"encap", func(v value) { set(&o.Encap)(d.oneOf(v, encapNames()...)) }},
		{"dscp", func(v value) { set(&o.DSCP)(d.integer(v, 1, maxDSCP)) }},
		{"port", func(v value) {
			if p, ok := d.integer(v, 1, 65535); ok {
				o.Port = uint16(p)
			}
		}},
		{"variant", func(v value) { set(&o.Variant)(d.integer(v, 0, maxVariant)) }},
		{"source", func(v value) { o.Source = d.sources(v) }},
	})
	if encaps[o.Encap].udp && o.Port == 0 {
		o.Port = defaultGUEPort
	}
}

// sources reads one outer source or a list of them.
func (d *decoder) sources(v value) []netip.Prefix {
	if _, many := v.node.(*ast.SequenceNode); !many {
		return []netip.Prefix{d.source(v)}
	}
	var all []netip.Prefix
	d.list(v, "source: [192.0.2.1]", func(_ int, v value) { all = append(all, d.source(v)) })
	if d.empty[v.path] {
		d.fail(v.path, `write an address or a prefix, or remove the key`, "there is no source in the list")
	}
	return all
}

// source reads an address, or a prefix with nothing behind its length.
func (d *decoder) source(v value) netip.Prefix {
	s, ok := d.word(v, "10.200.0.0/16")
	if !ok || !strings.Contains(s, "/") {
		if !ok {
			return netip.Prefix{}
		}
		a := d.address(v, addressRule{})
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		d.fail(v.path, `write it as 10.200.0.0/16 or "2001:db8::/64"`, "%s is not a prefix", quoted(s))
		return netip.Prefix{}
	}
	widest := widestSource4
	if p.Addr().Is6() {
		widest = widestSource6
	}
	what, fix := unusable(p.Addr(), addressRule{})
	switch {
	case what != "":
		d.fail(v.path, fix, "%s", what)
	case p != p.Masked():
		d.fail(v.path, fmt.Sprintf("write %s, or %s for one address", p.Masked(), p.Addr()),
			"%s has bits behind the length of its prefix", quoted(s))
	case p.Bits() < widest:
		d.fail(v.path, fmt.Sprintf("write a part of it, /%d or longer", widest),
			"%s is too much: every address of it is naru's", p)
	default:
		return p
	}
	return netip.Prefix{}
}

// checkL3DSR checks the keys of "l3dsr".
func (d *decoder) checkL3DSR(path string, s *Service, rules modeRules) {
	at := join(path, "l3dsr")
	_, written := d.keys[at]
	if !rules.l3dsr {
		if written {
			d.failKey(at, rules.noL3DSRWhy+`; remove "l3dsr" or use mode l3dsr`, "mode %s has no encapsulation", s.Mode)
		}
		return
	}
	if _, ok := d.keys[join(at, "encap")]; !ok {
		where := path
		if written {
			where = at
		}
		d.fail(where, `write "l3dsr: {encap: ipip}", or dscp or gue`,
			"mode %s needs l3dsr.encap: how the backend learns the VIP", s.Mode)
		return
	}
	encap, ok := encaps[s.L3DSR.Encap]
	if !ok {
		return
	}
	if _, ok := d.keys[join(at, "dscp")]; !ok && encap.dscp {
		d.fail(at, `write "dscp: 10", a value from 1 to 63 that stands for this VIP at its backends`,
			"encap dscp needs l3dsr.dscp")
	}
	for _, key := range []struct {
		name    string
		allowed bool
		why     string
	}{
		{"dscp", encap.dscp, encap.noDSCPWhy},
		{"source", encap.outer, encap.noOuterWhy},
		{"port", encap.udp, encap.noUDPWhy},
		{"variant", encap.udp, encap.noUDPWhy},
	} {
		name := join(at, key.name)
		if _, written := d.keys[name]; written && !key.allowed {
			d.failKey(name, fmt.Sprintf("%s; remove %q", key.why, key.name), "encap %s has no %s", s.L3DSR.Encap, key.name)
		}
	}
	if encap.outer {
		d.checkSources(join(at, "source"), s)
	}
}

// checkSources checks that each outer source is for backends that there are, and that no family has two.
func (d *decoder) checkSources(at string, s *Service) {
	is4 := func(a netip.Addr) string {
		if a.Is4() {
			return "IPv4"
		}
		return "IPv6"
	}
	for i, p := range s.L3DSR.Source {
		if !p.IsValid() {
			continue
		}
		where, family := at, is4(p.Addr())
		if _, listed := d.keys[at+"[0]"]; listed {
			where = fmt.Sprintf("%s[%d]", at, i)
		}
		same := func(o netip.Prefix) bool { return o.IsValid() && is4(o.Addr()) == family }
		if slices.ContainsFunc(s.L3DSR.Source[:i], same) {
			d.fail(where, "write one address or prefix of each family", "there are two %s sources", family)
			continue
		}
		fits := func(b Backend) bool { return !b.Address.IsValid() || is4(b.Address) == family }
		if len(s.Backends) > 0 && !slices.ContainsFunc(s.Backends, fits) {
			d.fail(where, "write a source of the backends' family, or remove it",
				"%s is %s, and no backend is; the outer header is of the backend's family", printSource(p), family)
		}
	}
}

// printSource returns a source as it is written in the file.
func printSource(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
