package backend

import (
	"fmt"
	"net/netip"
	"slices"

	"naru/internal/wire"
)

// Plan is what one backend needs for one service, in the order in which it is done: at no moment does the backend answer
// ARP for the VIP or accept half of what it should.
type Plan struct {
	Target Target
	Steps  []Step
	Notes  []string // what the backend's operator should know besides
}

// Step is one change. What it does it does for Why; the rest says how.
type Step struct {
	What, Why string
	change
}

// change is one thing that can be done, looked at, taken back and written down.
type change interface {
	// key names what is changed: two steps with one key are one, and other services may need it too.
	key() string
	// apply brings it about and reports whether anything had to change.
	apply(h *host) (bool, error)
	// undo takes it back and reports whether anything was there.
	undo(h *host) (bool, error)
	// shell returns the commands that do it and those that undo it.
	shell(ifname string) (do, undo []string)
}

// PlanOptions are the choices that a plan leaves open.
type PlanOptions struct {
	// Decap says who takes the outer header off: "kernel", "naru", or "auto" for the kernel where it can.
	Decap string
	// MTU is that of the backend's interface; 0: 1500 until the interface is known.
	MTU int
	// Others are the other backends of the configuration. What one of them needs on the same machine stays at an undo.
	Others []Target
}

// NewPlan returns what the target needs. The error says which value of the target makes no sense.
func NewPlan(t Target, opt PlanOptions) (*Plan, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	p := &Plan{Target: t}
	switch t.Way {
	case FullNAT:
		p.Notes = append(p.Notes, "mode fullnat needs nothing on the backend: it sees the director's address as the client")
	case NAT:
		if err := p.planNAT(); err != nil {
			return nil, err
		}
	default:
		p.planDirect(opt)
	}
	return p, nil
}

func (p *Plan) add(what, why string, c change) { p.Steps = append(p.Steps, Step{what, why, c}) }

func (p *Plan) planNAT() error {
	t := &p.Target
	if !t.Via.IsValid() {
		return fmt.Errorf("backend: %s: the director's address on the backends' side is not known; "+
			"give it with --via ADDRESS", t.Name())
	}
	if t.Via.Is4() != t.Address.Is4() {
		return fmt.Errorf("backend: %s: %s and %s differ in address family", t.Name(), t.Via, t.Address)
	}
	p.add("default route by "+t.Via.String(),
		"replies must come back through naru, which turns their source into the VIP", &routeChange{t.Via})
	return nil
}

func (p *Plan) planDirect(opt PlanOptions) {
	t := &p.Target
	if t.VIP.Is4() {
		for _, name := range []string{"arp_ignore", "arp_announce"} {
			value, why := "1", "answer ARP only for addresses of the interface that is asked: the VIP on lo stays naru's"
			if name == "arp_announce" {
				value, why = "2", "never name the VIP as the sender of an ARP question: neighbours would learn it"
			}
			p.add(name+"="+value, why, &sysctlChange{family: "ipv4", name: name, value: value, back: "0", all: true})
		}
	}
	if t.tunnel() {
		p.planDecap(opt)
	} else if t.VIP.Is4() {
		p.add("loose reverse path filter",
			"with 1 a packet is dropped whose reply leaves by another interface; the larger of all and the interface counts",
			&sysctlChange{family: "ipv4", name: "rp_filter", value: "2"})
	}
	rules := &rulesChange{target: *t, mtu: cmpMTU(t.MTU, opt.MTU)}
	if what, why := rules.purpose(); what != "" {
		p.add(what, why, rules)
	}
	p.add("VIP on lo", "this backend must accept packets for "+t.VIP.String()+
		" itself; as a host address it is no broadcast's and no other packet's source", &addressChange{t.VIP})
	listen := fmt.Sprintf("the service must listen on %s port %d (or on all addresses)", t.VIP, t.Port)
	if t.Proto == wire.ProtoUDP {
		listen = fmt.Sprintf("the service must listen on %s port %d; one on all addresses must answer from the address "+
			"that was asked", t.VIP, t.Port)
	}
	p.Notes = append(p.Notes, listen,
		"a stateful firewall between this backend and the clients sees replies only: let them pass untracked")
}

// planDecap adds what takes outer headers off.
func (p *Plan) planDecap(opt PlanOptions) {
	t := &p.Target
	p.add("decapsulation", "packets arrive inside others, as "+tunnelWords(t),
		&decapChange{target: *t, by: opt.Decap, beside: opt.Others})
}

func tunnelWords(t *Target) string {
	words := map[Way]string{IPIP: "IP in IP", GUE: fmt.Sprintf("GUE on UDP port %d", t.GUEPort)}[t.Way]
	return fmt.Sprintf("%s (%s in %s)", words, familyName(t.VIP), familyName(t.Address))
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// cmpMTU returns the smaller of the MTUs that are known.
func cmpMTU(mtus ...int) int {
	mtus = slices.DeleteFunc(mtus, func(n int) bool { return n == 0 })
	if len(mtus) == 0 {
		return 0
	}
	return slices.Min(mtus)
}

// neededBy returns the keys of what other services need on the machine of the target.
func neededBy(t Target, opt PlanOptions) map[string]bool {
	keys := map[string]bool{}
	for _, o := range opt.Others {
		if o.Address != t.Address || o.Name() == t.Name() {
			continue
		}
		o.Via = t.Via
		p, err := NewPlan(o, PlanOptions{Decap: opt.Decap, MTU: opt.MTU})
		if err != nil {
			continue // what cannot be planned was never applied
		}
		for _, s := range p.Steps {
			keys[s.key()] = true
		}
	}
	return keys
}
