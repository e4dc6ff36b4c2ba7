package backend

import (
	"fmt"
	"net/netip"

	"naru/internal/wire"
)

// Way is how a service's packets reach the backend: the mode, and for L3DSR the encapsulation.
type Way string

// The ways.
const (
	FullNAT Way = "fullnat"
	NAT     Way = "nat"
	L2DSR   Way = "l2dsr"
	DSCP    Way = "dscp"
	IPIP    Way = "ipip"
	GUE     Way = "gue"
)

// Target is one backend of one service. The zero values of the optional fields mean "unknown" or "not given".
type Target struct {
	Service, Backend string // names
	VIP              netip.Addr
	Proto            uint8 // 6 or 17
	Port             uint16
	Address          netip.Addr // the backend's own
	BackendPort      uint16     // the port at the backend in fullnat and nat; 0: Port
	Way              Way

	Code    uint8          // DSCP, 1 to 63
	GUEPort uint16         // destination port of outer packets
	Variant uint8          // of GUE, 0 or 1
	Source  []netip.Prefix // where outer packets come from, if that is not the director's own address

	Via       netip.Addr // the director's address on the backends' side, for nat
	Interface string     // the backend's interface; empty: the one with Address
	MTU       int        // bytes of the longest packet that reaches the backend, outer header included; 0: its interface's
}

// Name returns SERVICE/BACKEND.
func (t *Target) Name() string { return t.Service + "/" + t.Backend }

// direct reports whether the backend answers the client itself.
func (t *Target) direct() bool { return t.Way != FullNAT && t.Way != NAT }

// tunnel reports whether the client's packet travels inside another.
func (t *Target) tunnel() bool { return t.Way == IPIP || t.Way == GUE }

// port returns the port that the backend must listen on.
func (t *Target) port() uint16 {
	if !t.direct() && t.BackendPort != 0 {
		return t.BackendPort
	}
	return t.Port
}

// local returns the address that the service must listen on.
func (t *Target) local() netip.Addr {
	if t.direct() {
		return t.VIP
	}
	return t.Address
}

// overhead returns the bytes in front of the client's packet.
func (t *Target) overhead() int {
	n := 0
	if t.tunnel() {
		n = headerLen(t.Address)
	}
	if t.Way == GUE {
		n += wire.UDPLen
		if t.Variant == 0 {
			n += gueLen
		}
	}
	return n
}

// mss returns the largest TCP segment that reaches the backend in a path of that MTU.
func (t *Target) mss(mtu int) int { return mtu - t.overhead() - headerLen(t.VIP) - wire.TCPLen }

// outerProto returns the protocol number that says what is in an outer IP packet around packets to the VIP.
func (t *Target) outerProto() uint8 {
	if t.Way == GUE {
		return wire.ProtoUDP
	}
	return innerProto(t.VIP)
}

func (t *Target) check() error {
	for _, a := range []netip.Addr{t.VIP, t.Address} {
		if !a.IsValid() {
			return fmt.Errorf("backend: %s: VIP and backend address are needed", t.Name())
		}
	}
	if !t.tunnel() && t.VIP.Is4() != t.Address.Is4() {
		return fmt.Errorf("backend: %s: %s and %s differ in address family", t.Name(), t.VIP, t.Address)
	}
	switch t.Way {
	case FullNAT, NAT, L2DSR, DSCP, IPIP, GUE:
		return nil
	}
	return fmt.Errorf("backend: %s: unknown way %q", t.Name(), t.Way)
}

func headerLen(a netip.Addr) int {
	if a.Is4() {
		return wire.IPv4Len
	}
	return wire.IPv6Len
}

// innerProto returns how an outer header calls a packet of the address's family.
func innerProto(a netip.Addr) uint8 {
	if a.Is4() {
		return protoIPv4
	}
	return protoIPv6
}

// Protocol numbers of what is in a tunnel (IANA), and the bytes of a GUE header without options.
const (
	protoIPv4 = 4
	protoIPv6 = 41
	gueLen    = 4
)
