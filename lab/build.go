package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const bridgeName = "br0"

// everywhere are the kernel parameters of every node. They are set before there is an interface.
var everywhere = []Sysctl{
	// Addresses are usable at once: nobody else is there who could have them.
	{"net/ipv6/conf/all/accept_dad", "0"},
	{"net/ipv6/conf/default/accept_dad", "0"},
	{"net/ipv6/conf/default/dad_transmits", "0"},
	{"net/ipv6/conf/all/disable_ipv6", "0"},
	{"net/ipv6/conf/default/disable_ipv6", "0"},
	// Bridged packets are not shown to the packet filter of whoever owns this machine.
	{"net/bridge/bridge-nf-call-iptables", "0"},
	{"net/bridge/bridge-nf-call-ip6tables", "0"},
	{"net/bridge/bridge-nf-call-arptables", "0"},
	{"net/ipv4/ping_group_range", "0 2147483647"}, // ping without privilege
}

// build makes the network of a topology out of nothing. What it has made when it fails is left for the caller to
// remove by name.
func build(ctx context.Context, lab string, t *Topology) error {
	for i := range t.Nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := makeNode(lab, t, &t.Nodes[i]); err != nil {
			return err
		}
	}
	b := &builder{lab: lab, topology: t, handles: map[string]*netlink.Handle{}, namespaces: map[string]netns.NsHandle{},
		made: map[string]int{}}
	defer b.close()
	for _, l := range t.Links {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.cable(l); err != nil {
			return err
		}
	}
	for i := range t.Nodes {
		if err := b.configure(&t.Nodes[i]); err != nil {
			return fmt.Errorf("lab: node %s: %w", t.Nodes[i].Name, err)
		}
	}
	return nil
}

// makeNode makes a node's namespace with its parameters and its files for /etc.
func makeNode(lab string, t *Topology, n *Node) error {
	name := namespaceName(lab, n.Name)
	if err := writeEtc(name, t.Hosts); err != nil {
		return err
	}
	if err := keepNamespaceDir(); err != nil {
		return fmt.Errorf("lab: %s: %w", namespaceDir, err)
	}
	sysctls := append(everywhere[:len(everywhere):len(everywhere)], n.Sysctls...)
	if n.Switch { // speaks on no segment that it joins
		sysctls = append(sysctls, Sysctl{"net/ipv6/conf/all/disable_ipv6", "1"},
			Sysctl{"net/ipv6/conf/default/disable_ipv6", "1"})
	}
	return createNamespace(name, func() error {
		for _, s := range sysctls {
			// /proc/sys/net shows the namespace of the thread that opens the file.
			err := os.WriteFile(filepath.Join("/proc/sys", s.Path), []byte(s.Value), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("lab: node %s: sysctl: %w", n.Name, err)
			}
		}
		return nil
	})
}

// writeEtc writes the files that stand for those of /etc in the namespace: names resolve without a name server, and
// IPv4 comes first, since the scenarios' stories are told with IPv4 addresses.
func writeEtc(namespace string, hosts []Host) error {
	dir := filepath.Join(etcDir, namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s %s\n", h.Addr, h.Name)
	}
	files := map[string]string{
		"hosts":       b.String(),
		"resolv.conf": "# no name server in the lab\n",
		"gai.conf":    "precedence ::ffff:0:0/96 100\n",
	}
	for name, text := range files {
		if _, err := os.Stat(filepath.Join("/etc", name)); err != nil {
			continue // nothing to put it over
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
	}
	return nil
}

// builder keeps a netlink socket in every namespace that it works on.
type builder struct {
	lab        string
	topology   *Topology
	handles    map[string]*netlink.Handle
	namespaces map[string]netns.NsHandle
	made       map[string]int // interfaces that a node has ever had, which is what the kernel numbers them by
}

func (b *builder) close() {
	for _, h := range b.handles {
		h.Close()
	}
	for _, ns := range b.namespaces {
		ns.Close()
	}
}

// in returns the netlink socket and the namespace of a node.
func (b *builder) in(node string) (*netlink.Handle, netns.NsHandle, error) {
	if h := b.handles[node]; h != nil {
		return h, b.namespaces[node], nil
	}
	ns, err := netns.GetFromName(namespaceName(b.lab, node))
	if err != nil {
		return nil, 0, fmt.Errorf("lab: node %s: %w", node, err)
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return nil, 0, fmt.Errorf("lab: node %s: %w", node, err)
	}
	b.handles[node], b.namespaces[node] = h, ns
	return h, ns, nil
}

// cable makes a veth pair whose ends are born in their namespaces: nothing of it is ever seen outside.
func (b *builder) cable(l Link) error {
	h, _, err := b.in(l.A.Node)
	if err != nil {
		return err
	}
	_, peer, err := b.in(l.B.Node)
	if err != nil {
		return err
	}
	if b.made[l.A.Node] == b.made[l.B.Node] {
		// The kernel tells a veth from a real NIC by the numbers of its ends. If they happen to be the same, it takes up
		// to a second until it believes that the cable is plugged in.
		if err := skipNumber(h); err != nil {
			return fmt.Errorf("lab: node %s: %w", l.A.Node, err)
		}
		b.made[l.A.Node]++
	}
	b.made[l.A.Node]++
	b.made[l.B.Node]++
	a, z := b.topology.end(l.A), b.topology.end(l.B)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.lower()
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: z.lower(), PeerNamespace: netlink.NsFd(int(peer))}
	if mac, ok := a.mac(); ok && !a.Macvlan {
		veth.HardwareAddr = mac[:]
	}
	if mac, ok := z.mac(); ok && !z.Macvlan {
		veth.PeerHardwareAddr = mac[:]
	}
	if err := h.LinkAdd(veth); err != nil {
		return fmt.Errorf("lab: cable %s/%s - %s/%s: %w", l.A.Node, l.A.Interface, l.B.Node, l.B.Interface,
			lacks(err, "veth"))
	}
	return nil
}

// lacks says which feature a kernel has not that knows nothing of a kind of interface.
func lacks(err error, kind string) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("this kernel has no %s: load the module of that name: %w", kind, err)
	}
	return err
}

// skipNumber uses up the next interface number of a namespace.
func skipNumber(h *netlink.Handle) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "skip"
	skip := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(skip); err != nil {
		return lacks(err, "bridge")
	}
	return h.LinkDel(skip)
}

// end returns the interface at the end of a cable; Validate has seen that it is there.
func (t *Topology) end(e End) *Interface { return t.Node(e.Node).Interface(e.Interface) }

// configure gives a node its bridge, addresses and routes and sets everything up.
func (b *builder) configure(n *Node) error {
	h, _, err := b.in(n.Name)
	if err != nil {
		return err
	}
	if err := linkUp(h, "lo"); err != nil {
		return err
	}
	if n.Switch {
		if err := makeBridge(h, n); err != nil {
			return err
		}
	}
	for i := range n.Interfaces {
		if err := b.configureInterface(h, n, &n.Interfaces[i]); err != nil {
			return fmt.Errorf("interface %s: %w", n.Interfaces[i].Name, err)
		}
	}
	for _, r := range n.Routes {
		if err := addRoute(h, r); err != nil {
			return fmt.Errorf("route %s via %s: %w", r.To, r.Via, err)
		}
	}
	return nil
}

func addRoute(h *netlink.Handle, r Route) error {
	route := &netlink.Route{Dst: ipNet(r.To), Gw: r.Via.AsSlice()}
	if r.Dev != "" {
		link, err := h.LinkByName(r.Dev)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Dev, err)
		}
		route.LinkIndex = link.Attrs().Index
	}
	return h.RouteAdd(route)
}

func (b *builder) configureInterface(h *netlink.Handle, n *Node, i *Interface) error {
	if i.Macvlan {
		if err := makeMacvlan(h, i); err != nil {
			return err
		}
	}
	err := inNamespace(namespaceName(b.lab, n.Name), func() (err error) {
		if i.NoSegmentation {
			err = segmentationOff(i.Name)
		}
		if i.NoChecksum {
			err = errors.Join(err, checksumOff(i.Name))
		}
		return err
	})
	if err != nil {
		return err
	}
	link, err := h.LinkByName(i.Name)
	if err != nil {
		return err
	}
	if i.MTU != 0 {
		if err := h.LinkSetMTU(link, i.MTU); err != nil {
			return fmt.Errorf("mtu %d: %w", i.MTU, err)
		}
	}
	for _, p := range i.Addrs {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = ifaNoDAD
		}
		if err := h.AddrAdd(link, a); err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	return linkUp(h, i.Name)
}

// ifaNoDAD is IFA_F_NODAD of linux/if_addr.h: use the address without asking whether somebody has it.
const ifaNoDAD = 0x02

func linkUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("%s: up: %w", name, err)
	}
	return nil
}

// makeBridge makes a plain learning switch: no spanning tree, and no snooping, which would need a querier to be right.
func makeBridge(h *netlink.Handle, n *Node) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	off := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	if err := h.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge: %w", lacks(err, "bridge"))
	}
	for _, i := range n.Interfaces {
		port, err := h.LinkByName(i.Name)
		if err != nil {
			return fmt.Errorf("bridge port %s: %w", i.Name, err)
		}
		if err := h.LinkSetMaster(port, bridge); err != nil {
			return fmt.Errorf("bridge port %s: %w", i.Name, err)
		}
	}
	return linkUp(h, bridgeName)
}

func makeMacvlan(h *netlink.Handle, i *Interface) error {
	parent, err := h.LinkByName(i.lower())
	if err != nil {
		return fmt.Errorf("%s: %w", i.lower(), err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = i.Name
	attrs.ParentIndex = parent.Attrs().Index
	if mac, ok := i.mac(); ok {
		attrs.HardwareAddr = mac[:]
	}
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		return fmt.Errorf("macvlan: %w", lacks(err, "macvlan"))
	}
	return linkUp(h, i.lower())
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
