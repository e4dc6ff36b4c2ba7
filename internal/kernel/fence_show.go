package kernel

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// FenceState is the fence as the kernel has it.
type FenceState struct {
	Up         bool           `json:"up"`
	Held       bool           `json:"held"`       // a naru runs and holds it
	PID        int            `json:"pid"`        // of that naru; 0 if there is none or it is not visible from here
	Interfaces []string       `json:"interfaces"` // where it drops
	VIPs       []netip.Addr   `json:"vips"`       // addresses that are dropped as a whole
	Pool       []netip.Addr   `json:"pool"`       // local addresses that are dropped as a whole
	Outer      []netip.Prefix `json:"outer"`      // prefixes of outer sources that are dropped as a whole
	Ports      []FenceRule    `json:"ports"`
	Counters   []FenceCounter `json:"counters"`
}

// FenceRule is one rule about ports: "local ports tcp 1024-32767" of these addresses, or "replies tcp 80" from them.
type FenceRule struct {
	What  string       `json:"what"`
	Addrs []netip.Addr `json:"addresses"`
}

// FenceCounter counts what one kind of rule dropped since the fence was put up; an adopted one goes on counting.
type FenceCounter struct {
	Name    string `json:"name"` // vip, pool, service, local_ports, outer or replies
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// ShowFence reads the fence of the calling thread's network namespace. It needs CAP_NET_ADMIN, as nft(8) does.
func ShowFence() (FenceState, error) {
	c := &nftables.Conn{}
	t, err := findTable(c)
	if err != nil {
		return FenceState{}, explain(err)
	}
	s := FenceState{Up: t != nil}
	s.PID, s.Held = Holder()
	if t == nil {
		return s, nil
	}
	for _, read := range []func(*nftables.Conn, *nftables.Table, *FenceState) error{
		readLegs, readSets, readRules, readCounters,
	} {
		if err := read(c, t, &s); err != nil {
			return s, explain(err)
		}
	}
	return s, nil
}

func readLegs(c *nftables.Conn, _ *nftables.Table, s *FenceState) error {
	names, err := chains(c)
	for _, name := range names {
		if ifname, ok := strings.CutPrefix(name, legPrefix); ok {
			s.Interfaces = append(s.Interfaces, ifname)
		}
	}
	return err
}

func readSets(c *nftables.Conn, t *nftables.Table, s *FenceState) error {
	for _, f := range families {
		for name, to := range map[string]*[]netip.Addr{counterVIP: &s.VIPs, counterPool: &s.Pool} {
			addrs, err := setAddrs(c, t, name+f.suffix)
			if err != nil {
				return err
			}
			*to = append(*to, addrs...)
		}
	}
	return nil
}

func readRules(c *nftables.Conn, t *nftables.Table, s *FenceState) error {
	names, err := chains(c)
	if err != nil {
		return err
	}
	var rules []*nftables.Rule
	for _, name := range []string{sharedName, repliesName} {
		if !slices.Contains(names, name) {
			continue
		}
		more, err := c.GetRules(t, &nftables.Chain{Name: name, Table: t})
		if err != nil {
			return err
		}
		rules = append(rules, more...)
	}
	for _, r := range rules {
		what, ok := userdata.GetString(r.UserData, userdata.TypeComment)
		if !ok {
			s.Outer = append(s.Outer, prefixOf(r)...)
			continue
		}
		rule := FenceRule{What: what}
		for _, e := range r.Exprs {
			if l, ok := e.(*expr.Lookup); ok {
				if rule.Addrs, err = setAddrs(c, t, l.SetName); err != nil {
					return err
				}
				break // sets of something else may follow
			}
		}
		s.Ports = append(s.Ports, rule)
	}
	return nil
}

// prefixOf returns the prefix of a rule about one, as transaction.prefixes makes it.
func prefixOf(r *nftables.Rule) []netip.Prefix {
	bits := -1
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Bitwise:
			bits, _ = net.IPMask(e.Mask).Size()
		case *expr.Cmp:
			if a, ok := netip.AddrFromSlice(e.Data); ok && bits >= 0 {
				return []netip.Prefix{netip.PrefixFrom(a, bits)}
			}
		}
	}
	return nil
}

func readCounters(c *nftables.Conn, t *nftables.Table, s *FenceState) error {
	objs, err := c.GetNamedObjects(t)
	for _, o := range objs {
		if n, ok := o.(*nftables.NamedObj); ok {
			if counter, ok := n.Obj.(*expr.Counter); ok {
				s.Counters = append(s.Counters, FenceCounter{n.Name, counter.Packets, counter.Bytes})
			}
		}
	}
	slices.SortFunc(s.Counters, func(a, b FenceCounter) int {
		return slices.Index(counterNames, a.Name) - slices.Index(counterNames, b.Name)
	})
	return err
}

// setAddrs returns the addresses of a set, sorted.
func setAddrs(c *nftables.Conn, t *nftables.Table, name string) ([]netip.Addr, error) {
	elems, err := c.GetSetElements(&nftables.Set{Table: t, Name: name})
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, e := range elems {
		if a, ok := netip.AddrFromSlice(e.Key); ok {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}
