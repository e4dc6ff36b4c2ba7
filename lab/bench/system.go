package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A System forwards traffic: naru in a mode, or somebody else.
type System struct {
	Name   string
	About  string
	Layout Layout
	Naru   bool // this program, not a peer

	mode    string        // of naru
	driver  string        // of naru: as in the configuration, with +busy for busy_poll; "": none is configured
	process bool          // forwards in a process of its own, not in the kernel
	udp     bool          // carries UDP
	target  netip.Addr    // what clients call; the zero Addr: the VIP
	lacks   func() string // says what it needs and is not there; nil: it needs nothing
	start   func(ctx context.Context, n *network) (pids []int, err error)
}

func (s *System) address() netip.Addr {
	if s.target.IsValid() {
		return s.target
	}
	return vip
}

// Missing says what the system needs and is not there, "" if all is.
func (s *System) Missing() string {
	if s.lacks == nil {
		return ""
	}
	return s.lacks()
}

// Systems returns all that can be compared: peers in the order of what they add to each other, then naru in its modes.
func Systems() []System {
	return []System{
		{Name: "kroute", About: "the kernel's routing, to one server by its own address", Layout: TwoLegs, udp: true,
			target: serverAddr(0), start: startRouting},
		{Name: "nft", About: "nftables: DNAT by numgen, and masquerade", Layout: TwoLegs, udp: true, start: startNAT},
		{Name: "nft+rps", About: "nft with receive packet steering to all CPUs but the sender's", Layout: TwoLegs, udp: true,
			start: steered(startNAT)},
		{Name: "haproxy", About: "HAProxy in TCP mode, a thread for each CPU", Layout: TwoLegs, process: true,
			start: startHAProxy,
			lacks: func() string { return missingProgram("haproxy") }},
		{Name: "nginx", About: "nginx's stream module, a worker for each CPU", Layout: TwoLegs, udp: true,
			process: true, start: startNginx, lacks: missingNginx},
		{Name: "nftfwd", About: "nftables: MAC addresses by jhash, and fwd", Layout: OneArm, udp: true,
			start: startForward},
		{Name: "nftfwd+rps", About: "nftfwd with receive packet steering", Layout: OneArm, udp: true,
			start: steered(startForward)},
		{Name: "fullnat", About: "naru: full NAT between two legs", Layout: TwoLegs, udp: true, Naru: true, process: true,
			mode: "fullnat"},
		{Name: "nat", About: "naru: NAT between two legs", Layout: TwoLegs, udp: true, Naru: true, process: true,
			mode: "nat"},
		{Name: "l2dsr", About: "naru: direct server return on one segment", Layout: OneArm, udp: true, Naru: true, process: true,
			mode: "l2dsr"},
		{Name: "dscp", About: "naru: L3DSR by DSCP, on one segment too", Layout: OneArm, udp: true, Naru: true, process: true,
			mode: "dscp"},
	}
}

// readyTime is how long a system may take until it forwards.
const readyTime = 10 * time.Second

// raise starts a system and waits until it forwards. The processes are the balancer's.
func (s *System) raise(ctx context.Context, n *network) (pids []int, err error) {
	start := s.start
	if s.Naru {
		start = s.startNaru
	}
	if pids, err = start(ctx, n); err != nil {
		return nil, fmt.Errorf("bench: %s: %w", s.Name, err)
	}
	typ := unix.SOCK_STREAM
	if s.udp {
		typ = unix.SOCK_DGRAM
	}
	deadline := time.Now().Add(readyTime)
	for {
		err := n.Do(clientNode, func() error {
			p, err := newPinger(typ, s.address(), 100*time.Millisecond)
			if err != nil {
				return err
			}
			defer p.close()
			_, err = p.ping()
			return err
		})
		switch {
		case err == nil:
			return pids, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case time.Now().After(deadline):
			return nil, fmt.Errorf("bench: %s does not forward: %w: %s", s.Name, err, n.LogTail(balancerNode))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sysctl sets a kernel parameter below /proc/sys in a node.
func (n *network) sysctl(node, path, value string) error {
	return n.Do(node, func() error { return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0) })
}

// startRouting makes the balancer's kernel a plain router.
func startRouting(_ context.Context, n *network) ([]int, error) {
	return nil, n.sysctl(balancerNode, "net/ipv4/ip_forward", "1")
}

// startNAT makes the balancer's kernel do with nftables what mode fullnat does.
func startNAT(ctx context.Context, n *network) ([]int, error) {
	if _, err := startRouting(ctx, n); err != nil {
		return nil, err
	}
	return nil, n.Do(balancerNode, func() error { return translate(backendLeg) })
}

// startForward makes the balancer's kernel do with nftables what mode l2dsr does.
func startForward(_ context.Context, n *network) ([]int, error) {
	return nil, n.Do(balancerNode, func() error { return switchFrames(endLeg) })
}

// steered is a start with receive packet steering on the client's leg.
func steered(start func(context.Context, *network) ([]int, error)) func(context.Context, *network) ([]int, error) {
	return func(ctx context.Context, n *network) ([]int, error) {
		pids, err := start(ctx, n)
		return pids, errors.Join(err, n.steer(balancerNode, endLeg))
	}
}

// naruConfig is the configuration that naru runs with: what an operator would write, and local addresses for many
// connections.
func naruConfig(mode, driver, dir string, layout Layout) string {
	var b strings.Builder
	b.WriteString("version: 1\n")
	if driver != "" {
		name, busy := strings.CutSuffix(driver, "+busy")
		fmt.Fprintf(&b, "io: {driver: %s, busy_poll: %t}\n", name, busy)
	}
	b.WriteString("interfaces:\n")
	if layout == OneArm {
		fmt.Fprintf(&b, "  - {name: %s, side: both}\n", endLeg)
	} else {
		fmt.Fprintf(&b, "  - {name: %s, side: client}\n  - {name: %s, side: backend}\n", endLeg, backendLeg)
	}
	fmt.Fprintf(&b, "admin: {socket: %s}\nservices:\n", filepath.Join(dir, "naru.sock"))
	for _, s := range []struct {
		name, protocol string
		ports          string
	}{
		{"streams", "tcp", fmt.Sprintf("%d, %d, %d", httpPort, bulkPort, echoPort)},
		{"datagrams", "udp", fmt.Sprintf("%d, %d", echoPort, floodPort)},
	} {
		word := mode
		if mode == "dscp" {
			word = "l3dsr"
		}
		fmt.Fprintf(&b, "  - name: %s\n    vip: %s\n    ports: [%s]\n    protocol: %s\n    mode: %s\n", s.name, vip, s.ports,
			s.protocol, word)
		switch mode {
		case "fullnat":
			var pool []string
			for i := range poolSize {
				pool = append(pool, poolAddr(i).String())
			}
			fmt.Fprintf(&b, "    nat: {source_pool: [%s], source_ports: 1024-65535}\n", strings.Join(pool, ", "))
		case "dscp":
			fmt.Fprintf(&b, "    l3dsr: {encap: dscp, dscp: %d}\n", dscpCode)
		}
		b.WriteString("    backends:\n")
		for i, name := range serverNodes {
			fmt.Fprintf(&b, "      - {name: %s, address: %s}\n", name, serverAddr(i))
		}
	}
	return b.String()
}

// dscpCode stands for the VIP in mode l3dsr by dscp.
const dscpCode = 10

// startNaru runs naru on the balancer.
func (s *System) startNaru(_ context.Context, n *network) ([]int, error) {
	if s.mode == "dscp" {
		if err := n.readMarks(); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(n.ConfigFile(), []byte(naruConfig(s.mode, s.driver, n.Dir(), n.layout)), 0o644); err != nil {
		return nil, err
	}
	p, err := n.Start(balancerNode, []string{n.Exe(), "run", "-c", n.ConfigFile(), "--log-format", "text"})
	return pidOf(p), err
}

// Drivers are the ways of naru to get packets in and out that can be compared.
func Drivers() []string {
	return []string{"auto", "ring", "mmsg", "xdp", "auto+busy", "ring+busy", "mmsg+busy", "xdp+busy"}
}

// xdp reports whether the system takes frames in by XDP, which has no words for checksums that are still to be finished.
func (s *System) xdp() bool { return strings.HasPrefix(s.driver, "xdp") }

// With returns naru in the same mode with one of Drivers, under a name that tells.
func (s System) With(driver string) System {
	s.Name, s.driver = s.Name+"/"+driver, driver
	return s
}
