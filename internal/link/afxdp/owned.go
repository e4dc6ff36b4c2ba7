package afxdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Ports are ports of one address, both ends included.
type Ports struct {
	Addr   netip.Addr
	Proto  uint8 // 6 or 17
	Lo, Hi uint16
}

// Owned says which packets are naru's: the rest is the kernel's. IPv4 and IPv6 addresses may be mixed.
type Owned struct {
	Whole    []netip.Addr   // by their destination
	Prefixes []netip.Prefix // likewise
	Ports    []Ports        // likewise, of addresses that the kernel has too; fragments but the first are the kernel's

	// Replies are naru's by where they come from, unless they are for one of Hosts: with them ICMP errors and later
	// fragments from the same addresses. Only interfaces that were opened for replies look at them.
	Replies []Ports
	Hosts   []netip.Addr
}

// errTooMany says that the maps have no room for what is owned.
var errTooMany = errors.New("too many addresses or ports for the maps of the program")

// Own changes which packets are naru's. What stays naru's is so throughout. It may be called from any goroutine.
func (x *Interfaces) Own(o Owned) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	backends := map[addrKey]bool{}
	for _, p := range o.Replies {
		backends[p.Addr.As16()] = true
	}
	list := []change{
		keys(x.maps.hosts, addrs(o.Hosts)), keys(x.maps.whole, addrs(o.Whole)), keys(x.maps.backends, backends),
		keys(x.maps.ports, ports(o.Ports)), keys(x.maps.replies, ports(o.Replies)), keys(x.maps.prefixes, prefixes(o.Prefixes)),
	}
	// All that is new comes before anything goes: an address may move from one map to another.
	for _, step := range []func(change) error{
		func(c change) error { return c.fits() }, func(c change) error { return c.add() },
		func(c change) error { return c.remove() },
	} {
		for _, c := range list {
			if err := step(c); err != nil {
				return fmt.Errorf("afxdp: what is owned: %w", err)
			}
		}
	}
	return nil
}

func addrs(list []netip.Addr) map[addrKey]bool {
	m := make(map[addrKey]bool, len(list))
	for _, a := range list {
		m[a.As16()] = true
	}
	return m
}

func ports(list []Ports) map[portKey]bool {
	m := map[portKey]bool{}
	for _, p := range list {
		for n := int(p.Lo); n <= int(p.Hi); n++ {
			var k portKey
			addr := p.Addr.As16()
			k[copy(k[:], addr[:])] = p.Proto
			binary.BigEndian.PutUint16(k[keyPort:], uint16(n))
			m[k] = true
		}
	}
	return m
}

func prefixes(list []netip.Prefix) map[prefixKey]bool {
	m := make(map[prefixKey]bool, len(list))
	for _, p := range list {
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		var k prefixKey
		addr := p.Masked().Addr().As16()
		binary.NativeEndian.PutUint32(k[:], uint32(bits))
		copy(k[4:], addr[:])
		m[k] = true
	}
	return m
}

// A change makes the keys of a map other ones, in steps.
type change struct{ fits, add, remove func() error }

// keys is the change that makes the keys of m those of want.
func keys[K comparable](m *ebpf.Map, want map[K]bool) change {
	have := map[K]bool{}
	return change{
		fits: func() error {
			if uint32(len(want)) > m.MaxEntries() {
				return errTooMany
			}
			var k K
			var v uint8
			it := m.Iterate()
			for it.Next(&k, &v) {
				have[k] = true
			}
			return it.Err()
		},
		add: func() error {
			for k := range want {
				if !have[k] {
					if err := m.Put(&k, uint8(1)); err != nil {
						return err
					}
				}
			}
			return nil
		},
		remove: func() error {
			for k := range have {
				if !want[k] {
					if err := m.Delete(&k); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}
