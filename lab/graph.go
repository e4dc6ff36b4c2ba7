package lab

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
)

// GraphFormats returns the formats of Graph; the first is for a terminal.
func GraphFormats() []string { return []string{"ascii", "dot", "mermaid"} }

// Graph draws a scenario's network: as ASCII with a table of all interfaces, or as a graph for dot(1) or Mermaid, whose
// lines are the cables.
func Graph(s *Scenario, o Options, format string) (string, error) {
	t := s.Topology(o)
	switch format {
	case "ascii":
		return s.Drawing + "\n\n" + t.table(), nil
	case "dot":
		return t.dot(s), nil
	case "mermaid":
		return t.mermaid(s), nil
	}
	return "", fmt.Errorf("lab: %q is not a format of the graph; use %s", format, strings.Join(GraphFormats(), ", "))
}

// table lists the interfaces with their addresses.
func (t *Topology) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tINTERFACE\tMAC\tADDRESSES")
	for _, n := range t.Nodes {
		for _, i := range n.Interfaces {
			if mac, ok := i.mac(); ok {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, i.Name, net.HardwareAddr(mac[:]), i.addresses(" "))
			}
		}
	}
	_ = w.Flush() // a strings.Builder does not fail
	return b.String()
}

// addresses writes the interface's addresses with their prefix lengths.
func (i *Interface) addresses(between string) string {
	var parts []string
	for _, p := range i.Addrs {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, between)
}

// label is what a graph says in a node.
func (n *Node) label(s *Scenario, newline string) string {
	lines := []string{n.Name}
	switch {
	case n.Balancer:
		lines = append(lines, "naru, "+string(s.Mode), "VIP "+s.VIP4.String(), "VIP "+s.VIP6.String())
	case n.Switch:
		lines = append(lines, "switch")
	}
	for i := range n.Interfaces {
		if len(n.Interfaces[i].Addrs) > 0 {
			lines = append(lines, n.Interfaces[i].Name+" "+n.Interfaces[i].addresses(" "))
		}
	}
	if n.Servers && s.Mode.direct() {
		lines = append(lines, "VIPs on lo")
	}
	return strings.Join(lines, newline)
}

func (t *Topology) dot(s *Scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "graph %q {\n  rankdir=LR;\n  node [shape=box, fontname=monospace];\n", s.Name)
	for i := range t.Nodes {
		shape := ""
		if t.Nodes[i].Switch {
			shape = ", shape=ellipse"
		}
		fmt.Fprintf(&b, "  %q [label=\"%s\"%s];\n", t.Nodes[i].Name, t.Nodes[i].label(s, `\n`), shape)
	}
	for _, l := range t.Links {
		fmt.Fprintf(&b, "  %q -- %q;\n", l.A.Node, l.B.Node)
	}
	b.WriteString("}\n")
	return b.String()
}

func (t *Topology) mermaid(s *Scenario) string {
	var b strings.Builder
	b.WriteString("graph LR\n")
	id := func(node string) string {
		i := slices.IndexFunc(t.Nodes, func(n Node) bool { return n.Name == node })
		return fmt.Sprintf("n%d", i)
	}
	for i := range t.Nodes {
		open, end := "[", "]"
		if t.Nodes[i].Switch {
			open, end = "([", "])"
		}
		fmt.Fprintf(&b, "  n%d%s\"%s\"%s\n", i, open, t.Nodes[i].label(s, "<br>"), end)
	}
	for _, l := range t.Links {
		fmt.Fprintf(&b, "  %s --- %s\n", id(l.A.Node), id(l.B.Node))
	}
	return b.String()
}
