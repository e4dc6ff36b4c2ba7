package director

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"naru/internal/config"
	"naru/internal/kernel"
)

// HostProblem is something on this host that does not go with the configuration.
type HostProblem struct {
	Path    string // of the key in the configuration, as services[0].nat.source_pool[1]
	Message string // what is wrong
	Fix     string // what to do about it
	Warning bool   // naru works all the same, perhaps not as meant
}

// String returns the problem in one line.
func (p HostProblem) String() string { return p.Path + ": " + p.Message + "; " + p.Fix }

// HostError is what New and Reload return for a host on which the configuration cannot run.
type HostError struct {
	Problems []HostProblem // at least one; no warnings
}

// Error returns all problems, one a line.
func (e *HostError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// PortRange are the ports, both ends included, that the kernel takes for connections of its own.
type PortRange struct{ Lo, Hi uint16 }

// CheckHost compares the configuration with a host. It reports everything it finds, in the order of the file.
func CheckHost(cfg *config.Config, host *kernel.State, ephemeral PortRange) []HostProblem {
	c := hostCheck{cfg: cfg, host: host, ephemeral: ephemeral}
	c.interfaces()
	c.vips()
	for i := range cfg.Services {
		c.locals(i)
		c.backends(i)
		c.segment(i)
		c.outer(i)
	}
	return c.found
}

type hostCheck struct {
	cfg       *config.Config
	host      *kernel.State
	ephemeral PortRange
	found     []HostProblem
	strange   []netip.Addr // local addresses that a warning names already: many services share one
}

func (c *hostCheck) problem(path, message, fix string) {
	c.found = append(c.found, HostProblem{Path: path, Message: message, Fix: fix})
}

func (c *hostCheck) warn(path, message, fix string) {
	c.found = append(c.found, HostProblem{Path: path, Message: message, Fix: fix, Warning: true})
}

func (c *hostCheck) interfaces() {
	var names []string
	for _, l := range c.host.Links {
		if l.MAC != ([6]byte{}) {
			names = append(names, l.Name)
		}
	}
	for i, ifc := range c.cfg.Interfaces {
		if _, ok := c.host.Link(ifc.Name); ok {
			continue
		}
		fix := "this host has " + strings.Join(names, ", ")
		if names == nil {
			fix = "this host has no Ethernet interface"
		}
		c.problem(fmt.Sprintf("interfaces[%d].name", i), "there is no interface "+ifc.Name, fix)
	}
}

func (c *hostCheck) vips() {
	for i, v := range c.cfg.VIPs {
		l, p, held := c.host.HoldsAddress(v.Address)
		if !held || v.Owner == "shared" {
			continue
		}
		c.problem(c.vipPath(i),
			fmt.Sprintf("this host's kernel holds %s on %s and would answer beside naru", v.Address, l.Name),
			fmt.Sprintf("ip addr del %s dev %s, or list it under vips with owner: shared", p, l.Name))
	}
}

// vipPath returns where the VIP stands in the file: at a service, unless only "vips" has it.
func (c *hostCheck) vipPath(i int) string {
	addr := c.cfg.VIPs[i].Address
	if j := slices.IndexFunc(c.cfg.Services, func(s config.Service) bool { return s.VIP == addr }); j >= 0 {
		return fmt.Sprintf("services[%d].vip", j)
	}
	return fmt.Sprintf("vips[%d].address", i)
}

// locals checks the source pool of one service.
func (c *hostCheck) locals(i int) {
	nat := &c.cfg.Services[i].NAT
	ports, eph := nat.SourcePorts, c.ephemeral
	for j, a := range nat.SourcePool {
		path := fmt.Sprintf("services[%d].nat.source_pool[%d]", i, j)
		switch l, _, held := c.host.HoldsAddress(a); {
		case held && ports.Lo <= eph.Hi && eph.Lo <= ports.Hi:
			c.problem(fmt.Sprintf("services[%d].nat.source_ports", i),
				fmt.Sprintf("%d-%d overlaps %d-%d, from which the kernel takes ports for its own connections, "+
					"and the kernel holds %s (on %s)", ports.Lo, ports.Hi, eph.Lo, eph.Hi, a, l.Name),
				overlapFix(ports, eph, a))
		case !held && !c.onLink(a) && !slices.Contains(c.strange, a):
			c.strange = append(c.strange, a)
			c.warn(path, fmt.Sprintf("%s is in the subnet of no interface, and this host does not hold it", a),
				"replies reach naru only if the backends' routers send it here")
		}
	}
}

// backends finds servers on this host: what naru sends leaves by an interface and never comes back to its own host.
func (c *hostCheck) backends(i int) {
	for j, b := range c.cfg.Services[i].Backends {
		if l, _, held := c.host.HoldsAddress(b.Address); held {
			c.problem(fmt.Sprintf("services[%d].backends[%d].address", i, j),
				fmt.Sprintf("this host's kernel holds %s on %s; naru's packets do not reach their own host", b.Address, l.Name),
				"run the server on another host, or in a network namespace of its own")
		}
	}
}

// overlapFix proposes the larger part of the range that the kernel leaves, if there is a useful one.
func overlapFix(ports config.Ports, eph PortRange, a netip.Addr) string {
	const useful = 1024
	other := fmt.Sprintf("or take an address for source_pool that this host does not hold instead of %s", a)
	below, above := int(eph.Lo)-int(ports.Lo), int(ports.Hi)-int(eph.Hi)
	switch {
	case below >= max(above, useful):
		return fmt.Sprintf("source_ports: %d-%d, %s", ports.Lo, eph.Lo-1, other)
	case above >= useful:
		return fmt.Sprintf("source_ports: %d-%d, %s", eph.Hi+1, ports.Hi, other)
	}
	return "narrow net.ipv4.ip_local_port_range, " + other
}

// onLink reports whether an interface of ours has a subnet with the address.
func (c *hostCheck) onLink(a netip.Addr) bool {
	for _, ifc := range c.cfg.Interfaces {
		l, _ := c.host.Link(ifc.Name)
		for _, held := range c.host.Addrs {
			if held.Link == l.Index && held.Prefix.Contains(a) {
				return true
			}
		}
	}
	return false
}

// hostError returns the problems that are no warnings as an error, nil if there are none.
func hostError(found []HostProblem) error {
	e := &HostError{}
	for _, p := range found {
		if !p.Warning {
			e.Problems = append(e.Problems, p)
		}
	}
	if e.Problems == nil {
		return nil
	}
	return e
}
