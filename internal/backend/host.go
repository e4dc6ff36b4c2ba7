package backend

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// ErrElsewhere says that the backend's address is not one of this machine.
var ErrElsewhere = errors.New("the backend's address is not on this machine; run it there, or without --apply")

// Result is what came of one step.
type Result struct {
	What    string
	Changed bool
	Note    string // what else is to be said or done
	Todo    bool   // the step is not done: the note says what its operator must do
}

// host is the machine that a plan is applied to.
type host struct {
	ifname string
	mtu    int
	note   string // of the step under way
	open   bool   // the step under way is left to the operator
}

// todo leaves the step under way to the operator.
func (h *host) todo(what string) { h.note, h.open = what, true }

// Apply brings the plan about on this machine and says what it had to change; a second run changes nothing. After an
// error the steps in front of it stand.
func (p *Plan) Apply() ([]Result, error) {
	h, err := p.host()
	if err != nil {
		return nil, err
	}
	var done []Result
	for _, s := range p.Steps {
		h.note, h.open = "", false
		changed, err := s.apply(h)
		if err != nil {
			return done, fmt.Errorf("backend: %s: %s: %w", p.Target.Name(), s.What, err)
		}
		done = append(done, Result{s.What, changed, h.note, h.open})
	}
	return done, nil
}

// Undo takes the plan back, the last step first, but for what another backend on this machine needs.
func (p *Plan) Undo(opt PlanOptions) ([]Result, error) {
	h, err := p.host()
	if err != nil {
		return nil, err
	}
	needed := neededBy(p.Target, opt)
	var done []Result
	for i := len(p.Steps) - 1; i >= 0; i-- {
		s := p.Steps[i]
		if needed[s.key()] {
			done = append(done, Result{What: s.What, Note: "kept: another service needs it here"})
			continue
		}
		h.note, h.open = "", false
		changed, err := s.undo(h)
		if err != nil {
			return done, fmt.Errorf("backend: %s: undo %s: %w", p.Target.Name(), s.What, err)
		}
		done = append(done, Result{s.What, changed, h.note, h.open})
	}
	return done, nil
}

// host finds the interface of the backend on this machine.
func (p *Plan) host() (*host, error) {
	name, mtu := LocalInterface(p.Target.Address)
	if name == "" {
		return nil, fmt.Errorf("backend: %s: %s: %w", p.Target.Name(), p.Target.Address, ErrElsewhere)
	}
	if p.Target.Interface != "" {
		name = p.Target.Interface
	}
	return &host{ifname: name, mtu: mtu}, nil
}

// LocalInterface returns the interface of this machine that holds the address, and its MTU in bytes; an empty name if
// none does.
func LocalInterface(addr netip.Addr) (name string, mtu int) {
	links, err := netlink.LinkList()
	if err != nil {
		return "", 0
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if got, ok := netip.AddrFromSlice(a.IP); ok && got.Unmap() == addr {
				return l.Attrs().Name, l.Attrs().MTU
			}
		}
	}
	return "", 0
}

// sysctlRoot shows the network namespace of the thread that opens it.
const sysctlRoot = "/proc/sys"

// writeSysctl writes a value unless it is there already. A parameter that this kernel does not have is no error.
func writeSysctl(path, value string) (changed bool, err error) {
	file := filepath.Join(sysctlRoot, path)
	old, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case strings.TrimSpace(string(old)) == value:
		return false, nil
	}
	return true, os.WriteFile(file, []byte(value), 0)
}

// Towards returns the address of this machine that packets to a backend leave from. It is an error on the backend itself
// and where the backend is not on a segment of this machine: the address is then nobody's next hop.
func Towards(addr netip.Addr) (netip.Addr, error) {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err != nil || len(routes) == 0 {
		return netip.Addr{}, fmt.Errorf("backend: there is no route to %s here", addr)
	}
	src, ok := netip.AddrFromSlice(routes[0].Src)
	if src = src.Unmap(); !ok || src == addr || len(routes[0].Gw) != 0 {
		return netip.Addr{}, fmt.Errorf("backend: this machine is not the director of %s", addr)
	}
	return src, nil
}
