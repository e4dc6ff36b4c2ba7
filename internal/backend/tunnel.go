package backend

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// decapChange is what takes outer headers off: the kernel's own device, or naru as a service of the machine.
type decapChange struct {
	target Target
	by     string   // "kernel", "naru" or "auto"
	beside []Target // other services at the same address: one decapsulator serves them all
}

// served returns the target and those beside it whose packets come in by the same outer header.
func (c *decapChange) served() []Target {
	all := []Target{c.target}
	for _, o := range c.beside {
		same := o.Address == c.target.Address && o.Way == c.target.Way && o.GUEPort == c.target.GUEPort
		if same && o.Name() != c.target.Name() {
			all = append(all, o)
		}
	}
	return all
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
	line := fmt.Sprintf("naru backend decap --mode %s --local %s", t.Way, t.Address)
	var vips, from []string
	anybody := false // sends to one of the services: the address of the director is not known here
	for _, s := range c.served() {
		vips = append(vips, " --vip "+s.VIP.String())
		known := false
		for _, p := range s.Source {
			if p.Addr().Is4() == t.Address.Is4() {
				from, known = append(from, " --from "+p.String()), true
			}
		}
		anybody = anybody || !known
	}
	line += strings.Join(sorted(vips), "")
	if t.Way == GUE {
		line += fmt.Sprintf(" --port %d", t.GUEPort)
	}
	if !anybody {
		line += strings.Join(sorted(from), "")
	}
	return line
}

// sorted returns each once, so that all services of a machine write down the same line.
func sorted(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// unit is the name of the system's service that runs the decapsulator, the same for all that it serves.
func (c *decapChange) unit() string {
	name := "naru-decap-" + string(c.target.Way)
	if c.target.Way == GUE {
		name += fmt.Sprintf("-%d", c.target.GUEPort)
	}
	return name + "-" + strings.NewReplacer(".", "-", ":", "-").Replace(c.target.Address.String())
}

func (c *decapChange) apply(h *host) (bool, error) {
	if c.by == "naru" {
		h.todo("keep this running: " + c.command())
		return false, nil
	}
	changed, err := c.kernelDevice()
	if err != nil && c.by != "kernel" && unsupported(err) {
		h.todo("this kernel has no " + c.lacking(err) + "; keep this running: " + c.command())
		return false, nil
	}
	return changed, err
}

// errNoGUE says that there is a device but no way to take a UDP header off in front of it.
var errNoGUE = errors.New("no module fou, which nothing loads by itself")

// lacking names what an unsupported kernel does not have.
func (c *decapChange) lacking(err error) string {
	if errors.Is(err, errNoGUE) {
		return "GUE without its module (modprobe fou, then repeat this)"
	}
	return c.kind() + " device"
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
		err := c.guePort(netlink.FOU_CMD_ADD)
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EADDRINUSE) {
			if unsupported(err) {
				err = fmt.Errorf("%w: %w", errNoGUE, err)
			}
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

func (c *decapChange) guePort(command uint8) error {
	if c.target.Address.Is6() {
		return guePort(command, c.target.GUEPort, unix.AF_INET6)
	}
	return guePort(command, c.target.GUEPort, unix.AF_INET)
}

func (c *decapChange) removeDevice() error {
	l, err := netlink.LinkByName(c.device())
	if err != nil {
		return nil
	}
	return netlink.LinkDel(l)
}

// undo leaves what other services of this machine come in by: a device is that of bare IP in IP and of every port of GUE,
// and a port that of both inner families.
func (c *decapChange) undo(h *host) (bool, error) {
	port, err := c.removePort()
	if err != nil {
		return false, err
	}
	_, err = netlink.LinkByName(c.device())
	switch there := err == nil; {
	case there && !c.sharesDevice():
		return true, c.removeDevice()
	case port, there && c.target.Way == IPIP, len(c.served()) > 1:
		h.note = "kept what another service needs here"
	default:
		h.todo("end it, if it runs: " + c.command())
	}
	return port, nil
}

// removePort takes GUE's port from the kernel and reports whether it had it.
func (c *decapChange) removePort() (bool, error) {
	if c.target.Way != GUE || c.sharesPort() {
		return false, nil
	}
	err := c.guePort(netlink.FOU_CMD_DEL)
	if err != nil && (unsupported(err) || errors.Is(err, unix.EINVAL)) { // EINVAL is the kernel's "no such port"
		return false, nil
	}
	return err == nil, err
}

func (c *decapChange) sharesDevice() bool {
	return c.shares(func(o *decapChange) bool { return o.kind() == c.kind() })
}

func (c *decapChange) sharesPort() bool {
	return c.shares(func(o *decapChange) bool { return o.target.Way == GUE && o.target.GUEPort == c.target.GUEPort })
}

// shares reports whether another service at the same address has a decapsulator that is alike.
func (c *decapChange) shares(alike func(*decapChange) bool) bool {
	return slices.ContainsFunc(c.beside, func(o Target) bool {
		return o.Name() != c.target.Name() && o.Address == c.target.Address && o.tunnel() && alike(&decapChange{target: o})
	})
}

func (c *decapChange) shell(string) (do, undo []string) {
	if c.by == "naru" {
		if len(c.served()) == 1 {
			undo = []string{"systemctl stop " + c.unit()}
		}
		return []string{"systemd-run --unit " + c.unit() + " -p Restart=always " + c.command()}, undo
	}
	d := c.device()
	mode := map[string]string{"ipip": "type ipip", "sit": "type sit", "ip6tnl": "type ip6tnl mode any"}[c.kind()]
	do = []string{fmt.Sprintf("ip link add %s %s local %s remote any", d, mode, c.target.Address)}
	if !c.sharesDevice() {
		undo = []string{"ip link del " + d}
	}
	if c.kind() == "ip6tnl" {
		do[0] = fmt.Sprintf("ip link add %s %s local %s remote ::", d, mode, c.target.Address)
	}
	if c.target.Way == GUE {
		six := ""
		if c.target.Address.Is6() {
			six = " -6"
		}
		do = append([]string{"modprobe fou", fmt.Sprintf("ip fou add port %d gue%s", c.target.GUEPort, six)}, do...)
		if !c.sharesPort() {
			undo = append(undo, fmt.Sprintf("ip fou del port %d%s", c.target.GUEPort, six))
		}
	}
	do = append(do, "sysctl -w net/ipv4/conf/"+d+"/rp_filter=2", "ip addr replace "+dummyAddress+"/32 dev "+d+" scope host",
		"ip link set "+d+" up",
		"# where the kernel has no such device: "+c.command())
	return do, undo
}
