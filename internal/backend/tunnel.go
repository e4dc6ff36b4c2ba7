package backend

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// decapChange is what takes outer headers off: the kernel's own device, or naru as a service of the machine.
type decapChange struct {
	target Target
	by     string // "kernel", "naru" or "auto"
}

func (c *decapChange) key() string {
	return fmt.Sprintf("decap %s %s %d", c.target.Way, c.kind(), c.target.GUEPort)
}

// kind is the kernel's device for the pair of families.
func (c *decapChange) kind() string {
	switch inner, outer := c.target.VIP.Is4(), c.target.Address.Is4(); {
	case inner && outer:
		return "ipip"
	case outer:
		return "sit"
	}
	return "ip6tnl"
}

func (c *decapChange) device() string { return "naru-" + c.kind() }

func (c *decapChange) link() netlink.Link {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.device()
	local := c.target.Address.AsSlice()
	switch c.kind() {
	case "ipip":
		return &netlink.Iptun{LinkAttrs: attrs, Local: local, PMtuDisc: 1, Proto: protoIPv4}
	case "sit":
		return &netlink.Sittun{LinkAttrs: attrs, Local: local, PMtuDisc: 1, Proto: protoIPv6}
	}
	return &netlink.Ip6tnl{LinkAttrs: attrs, Local: local, Remote: make([]byte, 16), EncapLimit: 4}
}

// command is the line that runs naru's own decapsulator.
func (c *decapChange) command() string {
	t := &c.target
	line := fmt.Sprintf("naru backend decap --mode %s --local %s --vip %s", t.Way, t.Address, t.VIP)
	if t.Way == GUE {
		line += fmt.Sprintf(" --port %d", t.GUEPort)
	}
	for _, p := range t.Source {
		if p.Addr().Is4() == t.Address.Is4() {
			line += " --from " + p.String()
		}
	}
	return line
}

// unit is the name of the service that runs the decapsulator.
func (c *decapChange) unit() string { return "naru-decap-" + c.target.Service + "-" + c.target.Backend }

func (c *decapChange) apply(h *host) (bool, error) {
	if c.by == "naru" {
		h.note = "keep this running: " + c.command()
		return false, nil
	}
	changed, err := c.kernelDevice()
	if err != nil && c.by != "kernel" && unsupported(err) {
		h.note = "this kernel has no " + c.kind() + " device; keep this running: " + c.command()
		return false, nil
	}
	return changed, err
}

// unsupported reports whether an error says that the kernel has no such thing.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.ENOENT) ||
		errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "not found")
}

// kernelDevice makes the tunnel device, and for GUE the port in front of it.
func (c *decapChange) kernelDevice() (changed bool, err error) {
	if _, err := netlink.LinkByName(c.device()); err != nil {
		if err := netlink.LinkAdd(c.link()); err != nil {
			return false, err
		}
		changed = true
	}
	if c.target.Way == GUE {
		err := netlink.FouAdd(c.fou())
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EADDRINUSE) {
			if changed {
				return false, errors.Join(err, c.removeDevice())
			}
			return false, err
		}
		changed = changed || err == nil
	}
	l, err := netlink.LinkByName(c.device())
	if err != nil {
		return changed, err
	}
	did, err := loosen(l)
	if err != nil {
		return changed, err
	}
	return changed || did, netlink.LinkSetUp(l)
}

func (c *decapChange) fou() netlink.Fou {
	f := netlink.Fou{Family: unix.AF_INET, Port: int(c.target.GUEPort), EncapType: netlink.FOU_ENCAP_GUE}
	if c.target.Address.Is6() {
		f.Family = unix.AF_INET6
	}
	return f
}

func (c *decapChange) removeDevice() error {
	l, err := netlink.LinkByName(c.device())
	if err != nil {
		return nil
	}
	return netlink.LinkDel(l)
}

func (c *decapChange) undo(h *host) (bool, error) {
	_, err := netlink.LinkByName(c.device())
	if err != nil {
		h.note = "end it, if it runs: " + c.command()
		return false, nil
	}
	if c.target.Way == GUE {
		if err := netlink.FouDel(c.fou()); err != nil && !unsupported(err) {
			return false, err
		}
	}
	return true, c.removeDevice()
}

func (c *decapChange) shell(string) (do, undo []string) {
	if c.by == "naru" {
		return []string{"systemd-run --unit " + c.unit() + " -p Restart=always " + c.command()},
			[]string{"systemctl stop " + c.unit()}
	}
	d := c.device()
	mode := map[string]string{"ipip": "type ipip", "sit": "type sit", "ip6tnl": "type ip6tnl mode any"}[c.kind()]
	do = []string{fmt.Sprintf("ip link add %s %s local %s remote any", d, mode, c.target.Address)}
	undo = []string{"ip link del " + d}
	if c.kind() == "ip6tnl" {
		do[0] = fmt.Sprintf("ip link add %s %s local %s remote ::", d, mode, c.target.Address)
	}
	if c.target.Way == GUE {
		six := ""
		if c.target.Address.Is6() {
			six = " -6"
		}
		do = append([]string{fmt.Sprintf("ip fou add port %d gue%s", c.target.GUEPort, six)}, do...)
		undo = append(undo, fmt.Sprintf("ip fou del port %d%s", c.target.GUEPort, six))
	}
	do = append(do, "sysctl -w net/ipv4/conf/"+d+"/rp_filter=2", "ip addr replace "+dummyAddress+"/32 dev "+d+" scope host",
		"ip link set "+d+" up",
		"# where the kernel has no such device: "+c.command())
	return do, undo
}
