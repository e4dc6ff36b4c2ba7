package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"naru/lab"
)

// A System forwards traffic: naru in a mode, or somebody else.
type System struct {
	Name   string
	About  string
	Layout Layout
	Naru   bool // this program, not a peer

	udp    bool       // carries UDP
	target netip.Addr // what clients call; the zero Addr: the VIP
	needs  string     // the program that it is; "": none
	start  func(ctx context.Context, n *network) (pids []int, err error)
}

func (s *System) address() netip.Addr {
	if s.target.IsValid() {
		return s.target
	}
	return vip
}

// Missing says which program is not installed, "" if there is all that the system needs.
func (s *System) Missing() string {
	if s.needs == "" {
		return ""
	}
	if _, err := exec.LookPath(s.needs); err != nil {
		return s.needs
	}
	return ""
}

// Systems returns all that can be compared: peers in the order of what they add to each other, then naru in its modes.
func Systems() []System {
	return []System{
		{Name: "kroute", About: "the kernel's routing, to one server by its own address", Layout: TwoLegs, udp: true,
			target: serverAddr(0), start: startRouting},
		{Name: "nft", About: "nftables: DNAT by numgen, and masquerade", Layout: TwoLegs, udp: true, start: startNAT},
		{Name: "nft+rps", About: "nft with receive packet steering to all CPUs but the sender's", Layout: TwoLegs, udp: true,
			start: startNATSpread},
		{Name: "fullnat", About: "naru: full NAT between two legs", Layout: TwoLegs, udp: true, Naru: true,
			start: startNaru("fullnat")},
	}
}

// readyTime is how long a system may take until it forwards.
const readyTime = 10 * time.Second

// raise starts a system and waits until it forwards. The processes are the balancer's.
func (s *System) raise(ctx context.Context, n *network) (pids []int, err error) {
	if pids, err = s.start(ctx, n); err != nil {
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

// startNATSpread is startNAT with receive packet steering on the client's leg.
func startNATSpread(ctx context.Context, n *network) ([]int, error) {
	pids, err := startNAT(ctx, n)
	return pids, errors.Join(err, n.steer(balancerNode, endLeg))
}

// naruConfig is the configuration that naru runs with: what an operator would write, and local addresses for many
// connections.
func naruConfig(mode, dir string, layout Layout) string {
	var b strings.Builder
	b.WriteString("version: 1\ninterfaces:\n")
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
		fmt.Fprintf(&b, "  - name: %s\n    vip: %s\n    ports: [%s]\n    protocol: %s\n    mode: %s\n", s.name, vip, s.ports,
			s.protocol, mode)
		if mode == "fullnat" {
			var pool []string
			for i := range poolSize {
				pool = append(pool, poolAddr(i).String())
			}
			fmt.Fprintf(&b, "    nat: {source_pool: [%s], source_ports: 1024-65535}\n", strings.Join(pool, ", "))
		}
		b.WriteString("    backends:\n")
		for i, name := range serverNodes {
			fmt.Fprintf(&b, "      - {name: %s, address: %s}\n", name, serverAddr(i))
		}
	}
	return b.String()
}

// startNaru returns how naru is started in a mode.
func startNaru(mode string) func(context.Context, *network) ([]int, error) {
	return func(_ context.Context, n *network) ([]int, error) {
		if err := os.WriteFile(n.ConfigFile(), []byte(naruConfig(mode, n.Dir(), n.layout)), 0o644); err != nil {
			return nil, err
		}
		p, err := n.Start(balancerNode, []string{n.Exe(), "run", "-c", n.ConfigFile(), "--log-format", "text"})
		return pidOf(p), err
	}
}

func pidOf(p lab.Process) []int { return []int{p.PID} }
