package backend

import (
	"fmt"
	"slices"
	"strings"
)

// Formats returns the names of the forms in which a plan can be written down.
func Formats() []string { return []string{"sh", "networkd", "ifupdown", "netplan"} }

// Text writes the plan down: "sh" as commands with their reasons and their undo, the others as files that keep it over a
// reboot. An unknown format is an error.
func (p *Plan) Text(format string) (string, error) {
	if !slices.Contains(Formats(), format) {
		return "", fmt.Errorf("backend: format %q is unknown; use one of %s", format, strings.Join(Formats(), ", "))
	}
	w := &writer{}
	w.line("# on %s (%s), as root", p.Target.Backend, p.Target.Address)
	if format == "sh" {
		p.sh(w)
	} else {
		p.files(w, format)
	}
	for _, n := range p.Notes {
		w.line("# note: %s", n)
	}
	w.line("# proof: naru backend doctor %s", p.Target.Name())
	return w.String(), nil
}

// UndoText writes down the commands that take the plan back, but for what other backends need on the same machine.
func (p *Plan) UndoText(opt PlanOptions) string {
	w := &writer{}
	w.line("# on %s (%s), as root", p.Target.Backend, p.Target.Address)
	p.ifLine(w)
	needed := neededBy(p.Target, opt)
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if needed[p.Steps[i].key()] {
			w.line("# kept, another service needs it here: %s", p.Steps[i].What)
			continue
		}
		_, undo := p.Steps[i].shell(p.ifname())
		w.lines("", undo)
	}
	return w.String()
}

type writer struct{ strings.Builder }

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.Builder, format+"\n", args...) }

func (w *writer) lines(indent string, all []string) {
	for _, l := range all {
		w.line("%s%s", indent, l)
	}
}

// ifname is the backend's interface as commands name it.
func (p *Plan) ifname() string {
	if p.Target.Interface != "" {
		return p.Target.Interface
	}
	return "$IF"
}

// ifLine sets $IF if the commands use it.
func (p *Plan) ifLine(w *writer) {
	for _, s := range p.Steps {
		do, _ := s.shell(p.ifname())
		if strings.Contains(strings.Join(do, "\n"), "$IF") {
			w.line("IF=$(ip -o addr show to %s | awk '{print $2; exit}')", p.Target.Address)
			return
		}
	}
}

func (p *Plan) sh(w *writer) {
	p.ifLine(w)
	for _, s := range p.Steps {
		w.line("# %s: %s", s.What, s.Why)
		do, _ := s.shell(p.ifname())
		w.lines("", do)
	}
	if len(p.Steps) == 0 {
		return
	}
	w.line("# undo")
	for i := len(p.Steps) - 1; i >= 0; i-- {
		_, undo := p.Steps[i].shell(p.ifname())
		w.lines("# ", undo)
	}
	w.line("# keep over reboot: --format networkd | ifupdown | netplan")
}

// files writes what the system of a distribution reads at boot. Kernel parameters, rules and the decapsulator are files
// of their own everywhere but with ifupdown, which runs commands.
func (p *Plan) files(w *writer, format string) {
	ifname := p.Target.Interface
	if ifname == "" {
		ifname = "eth0"
		if len(p.Steps) > 0 {
			w.line("# eth0 stands for the interface with %s", p.Target.Address)
		}
	}
	if format == "ifupdown" {
		p.ifupdown(w, ifname)
		return
	}
	for _, s := range p.Steps {
		switch c := s.change.(type) {
		case *addressChange:
			p.comment(w, s)
			addressFile(w, format, c)
		case *routeChange:
			p.comment(w, s)
			routeFile(w, format, ifname, c)
		case *rulesChange:
			p.comment(w, s)
			w.line("# /etc/nftables.d/%s.nft, with include \"/etc/nftables.d/*.nft\" in /etc/nftables.conf", c.table())
			w.lines("", c.lines(0))
		case *decapChange:
			p.comment(w, s)
			p.unit(w, c)
		}
	}
	p.sysctls(w, ifname)
}

func (p *Plan) comment(w *writer, s Step) {
	w.line("")
	w.line("# %s: %s", s.What, s.Why)
}

func (p *Plan) sysctls(w *writer, ifname string) {
	first := true
	for _, s := range p.Steps {
		c, ok := s.change.(*sysctlChange)
		if !ok {
			continue
		}
		if first {
			w.line("")
			w.line("# /etc/sysctl.d/90-naru-%s-%s.conf", p.Target.Service, p.Target.Backend)
			first = false
		}
		w.line("# %s", s.Why)
		for _, path := range c.paths(ifname) {
			w.line("%s = %s", path, c.value)
		}
	}
}

func addressFile(w *writer, format string, c *addressChange) {
	if format == "netplan" {
		w.line("# /etc/netplan/90-naru-%s.yaml", strings.NewReplacer(".", "-", ":", "-").Replace(c.vip.String()))
		w.lines("", []string{"network:", "  version: 2", "  ethernets:", "    lo:", "      match: {name: lo}",
			"      addresses: [\"" + c.prefix().String() + "\"]"})
		return
	}
	w.line("# /etc/systemd/network/90-naru-lo.network (one such file for lo: put further addresses into it)")
	w.lines("", []string{"[Match]", "Name=lo", "[Address]", "Address=" + c.prefix().String()})
	if c.vip.Is4() {
		w.line("Scope=host")
	} else {
		w.lines("", []string{"DuplicateAddressDetection=none", "AddPrefixRoute=no"})
	}
}

func routeFile(w *writer, format, ifname string, c *routeChange) {
	if format == "netplan" {
		w.line("# /etc/netplan/90-naru-route.yaml")
		w.lines("", []string{"network:", "  version: 2", "  ethernets:", "    " + ifname + ":",
			"      routes:", "        - {to: default, via: \"" + c.via.String() + "\", metric: 1}"})
		return
	}
	w.line("# in the .network file of %s", ifname)
	w.lines("", []string{"[Route]", "Gateway=" + c.via.String(), "Metric=1"})
}

// unit writes a service of systemd for naru's decapsulator; the kernel's device needs commands, which differ.
func (p *Plan) unit(w *writer, c *decapChange) {
	w.line("# /etc/systemd/system/%s.service", c.unit())
	w.lines("", []string{"[Unit]", "Description=naru decapsulator at " + p.Target.Address.String(),
		"After=network-online.target",
		"Wants=network-online.target", "[Service]", "ExecStart=/usr/bin/" + c.command(), "Restart=always",
		"AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW", "[Install]", "WantedBy=multi-user.target"})
}

func (p *Plan) ifupdown(w *writer, ifname string) {
	if len(p.Steps) == 0 {
		return
	}
	family := "inet"
	if p.Target.VIP.Is6() {
		family = "inet6"
	}
	w.line("# /etc/network/interfaces.d/naru-%s-%s", p.Target.Service, p.Target.Backend)
	w.line("iface lo %s loopback", family)
	for _, s := range p.Steps {
		w.line("    # %s: %s", s.What, s.Why)
		do, undo := s.shell(ifname)
		switch c := s.change.(type) {
		case *rulesChange:
			do = []string{"nft -f /etc/nftables.d/" + c.table() + ".nft"}
		case *decapChange:
			do = []string{"systemctl start " + c.unit()}
			undo = []string{"systemctl stop " + c.unit()}
		}
		for _, l := range do {
			w.line("    up %s || true", l)
		}
		for _, l := range undo {
			w.line("    down %s || true", l)
		}
	}
	for _, s := range p.Steps {
		switch c := s.change.(type) {
		case *rulesChange:
			w.line("# /etc/nftables.d/%s.nft", c.table())
			w.lines("", c.lines(0))
		case *decapChange:
			p.unit(w, c)
		}
	}
}
