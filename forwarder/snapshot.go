package forwarder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"naru/internal/affinity"
	"naru/internal/conntrack"
	"naru/internal/steer"
	"naru/internal/wire"
	"naru/nat"
	"naru/sched"
)

// Seed is the source of every random choice.
type Seed [32]byte

// words cuts the seed into four words, each mixed with a purpose so that no two uses share a key.
func (s Seed) words(purpose uint64) (w [4]uint64) {
	for i := range w {
		w[i] = mix64(binary.LittleEndian.Uint64(s[8*i:]) + mix64(purpose+uint64(i)))
	}
	return w
}

// The purposes of keys.
const (
	forTable = iota + 1
	forSource
	forNeighbors
	forLimit
	forPorts
	forIDs
	forFragments
	forSteering
	forSchedulers
	forClients
)

// mix64 is the finalizer of MurmurHash3 (Appleby), a bijection that mixes well.
func mix64(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Snapshot is a compiled Config: immutable, but for the state of schedulers, active counts and port pools, which is carried
// from one snapshot to the next by the names and addresses that it belongs to.
type Snapshot struct {
	legs      []Leg
	macs      []uint64 // of the legs, as 48-bit numbers
	owned     map[wire.Addr]*owned
	order     []*owned // of the addresses, for announcements
	services  []*service
	routes    routes
	neighbors []Neighbor

	hosts    map[wire.Addr]bool // what this host's kernel holds
	backends map[wire.Addr]bool
	fenced   map[wire.Addr]bool // backends of mode NAT
	outer    []netip.Prefix     // sources of tunnels, where they are more than one address
	plain    map[endpoint]bool  // backends of mode NAT, whose own traffic naru routes on since the fence stops it

	plan *steer.Plan // how packets are shared out among the workers

	shared map[string]*shared
	limits Limits // a worker's part
	pools  map[poolKey][]*nat.Pool
}

// endpoint is one end of a flow.
type endpoint struct {
	addr  wire.Addr
	port  uint16
	proto uint8
}

// owned is an address that is naru's, wholly or in part.
type owned struct {
	addr   wire.Addr
	vip    bool // else a local address
	kernel bool // the kernel holds it: only our ports are ours, it answers ARP and echo
	reject Reject
	echo   Echo
	ports  []servedPorts // of a VIP
	source []PortRange   // of a local address
}

type servedPorts struct {
	proto   uint8
	ports   PortRange
	service *service
}

// match returns the service of a port, or nil.
func (o *owned) match(proto uint8, port uint16) *service {
	for i := range o.ports {
		if s := &o.ports[i]; s.proto == proto && s.ports.Contains(port) {
			return s.service
		}
	}
	return nil
}

// usesPort reports whether full NAT uses a port of a local address.
func (o *owned) usesPort(port uint16) bool {
	for _, r := range o.source {
		if r.Contains(port) {
			return true
		}
	}
	return false
}

// service is a Service with everything that a new connection needs.
type service struct {
	Service
	vip       wire.Addr
	locals    []wire.Addr
	addrs     []wire.Addr // of the backends
	scheduler sched.Scheduler
	backups   sched.Scheduler // of the backends that are backups; nil without one
	backends  []sched.Backend
	serves    []bool      // of the backends: new connections may come
	load      *sched.Load // of the service
	limit     int64
	hashKey   [2]uint64
	clientKey [2]uint64
	affinity  *affinity.Table // nil without affinity
	ids       []uint32        // of the backends, in affinity
	keys      []pathKey       // of backend b and local l at b*len(locals)+l
	pools     [][]*nat.Pool   // likewise, then by worker
	idle      conntrack.Idle
	index     int
}

// ways is the number of paths to each backend.
func (s *service) ways() int { return max(1, len(s.locals)) }

// pathKey identifies what connections share, over reloads.
type pathKey struct {
	service, backend    string
	vip, local, address wire.Addr
	port                uint16
	proto               uint8
	mode                Mode
	l3dsr               L3DSROptions
}

// poolKey identifies a pool of local ports, over reloads and services.
type poolKey struct {
	local, backend wire.Addr
	port           uint16 // 0: any
	ports          PortRange
	rest           time.Duration
	proto          uint8
}

// Compile makes a snapshot for so many workers. State of services, backends and pools that are still there is taken over
// from prev, which may be nil. The error names the object that is wrong; a validated configuration gives none.
func Compile(cfg Config, workers int, seed Seed, prev *Snapshot) (*Snapshot, error) {
	if workers < 1 || len(cfg.Legs) == 0 || len(cfg.Legs) > 255 {
		return nil, errors.New("forwarder: needs at least one worker and 1 to 255 legs")
	}
	s := &Snapshot{
		legs: slices.Clone(cfg.Legs), owned: map[wire.Addr]*owned{}, routes: compileRoutes(cfg.Routes),
		neighbors: slices.Clone(cfg.Neighbors), hosts: map[wire.Addr]bool{}, plain: map[endpoint]bool{},
		backends: map[wire.Addr]bool{}, fenced: map[wire.Addr]bool{},
		shared: map[string]*shared{}, pools: map[poolKey][]*nat.Pool{}, limits: cfg.Limits.perWorker(workers),
	}
	for i := range cfg.Legs {
		m := &cfg.Legs[i].MAC
		s.macs = append(s.macs, uint64(binary.BigEndian.Uint16(m[:]))<<32|uint64(binary.BigEndian.Uint32(m[2:])))
	}
	for _, a := range cfg.HostAddrs {
		s.hosts[wire.AddrFrom(a)] = true
	}
	for _, v := range cfg.VIPs {
		s.own(v.Addr, &owned{vip: true, kernel: v.Shared, reject: v.Reject, echo: v.Echo})
	}
	c := compiler{s: s, prev: prev, workers: workers, seed: seed, hashKey: cfg.HashKey}
	if prev == nil {
		c.prev = &Snapshot{}
	}
	// The fence keeps what once was a backend of mode NAT from the kernel until naru ends, for the connections that it may
	// still have: so its other traffic is naru's to route until then.
	maps.Copy(s.plain, c.prev.plain)
	maps.Copy(s.fenced, c.prev.fenced)
	for i := range cfg.Services {
		if err := c.service(&cfg.Services[i]); err != nil {
			return nil, fmt.Errorf("forwarder: service %q: %w", cfg.Services[i].Name, err)
		}
	}
	c.keepCounts()
	s.plan = c.steering()
	return s, nil
}

func (s *Snapshot) own(a netip.Addr, o *owned) *owned {
	o.addr = wire.AddrFrom(a)
	if old := s.owned[o.addr]; old != nil {
		return old
	}
	s.owned[o.addr] = o
	s.order = append(s.order, o)
	return o
}

type compiler struct {
	s, prev *Snapshot
	workers int
	seed    Seed
	hashKey *[16]byte
}

func (c *compiler) service(cfg *Service) error {
	svc := &service{Service: *cfg, index: len(c.s.services), vip: wire.AddrFrom(cfg.VIP), idle: conntrack.Idle{
		TCPSyn: cfg.Timeouts.TCPSyn, TCPEstablished: cfg.Timeouts.TCPEstablished, TCPClosing: cfg.Timeouts.TCPClosing,
		UDP: cfg.Timeouts.UDP, UDPUnreplied: cfg.Timeouts.UDPUnreplied}}
	vip := c.s.owned[svc.vip]
	if vip == nil || !vip.vip {
		return fmt.Errorf("VIP %v is not among the VIPs", cfg.VIP)
	}
	for _, r := range cfg.Ports {
		vip.ports = append(vip.ports, servedPorts{cfg.Proto, r, svc})
	}
	for _, l := range cfg.Locals {
		o := c.s.own(l.Addr, &owned{kernel: l.Kernel})
		if o.vip {
			return fmt.Errorf("local address %v is a VIP", l.Addr)
		}
		o.source = append(o.source, cfg.SourcePorts)
		svc.locals = append(svc.locals, o.addr)
	}
	for _, p := range []netip.Prefix{cfg.L3DSR.Source4, cfg.L3DSR.Source6} {
		c.outer(p)
	}
	if err := c.share(svc); err != nil {
		return err
	}
	for _, b := range cfg.Backends {
		svc.addrs = append(svc.addrs, wire.AddrFrom(b.Addr))
		c.s.backends[wire.AddrFrom(b.Addr)] = true
		c.paths(svc, &b)
		if cfg.Mode == NAT {
			c.s.fenced[wire.AddrFrom(b.Addr)] = true
			for _, r := range cfg.Ports {
				c.plain(wire.AddrFrom(b.Addr), b.Port, r, cfg.Proto)
			}
		}
	}
	c.s.services = append(c.s.services, svc)
	return nil
}

// paths adds the paths to a backend: in full NAT one a local address, with its pool of ports, else one.
func (c *compiler) paths(svc *service, b *Backend) {
	addr := wire.AddrFrom(b.Addr)
	if svc.Mode != FullNAT {
		svc.keys = append(svc.keys, pathKey{service: svc.Name, backend: b.Name, vip: svc.vip, address: addr, port: b.Port,
			proto: svc.Proto, mode: svc.Mode, l3dsr: svc.L3DSR})
		svc.pools = append(svc.pools, nil)
		return
	}
	for _, local := range svc.locals {
		svc.keys = append(svc.keys, pathKey{service: svc.Name, backend: b.Name, vip: svc.vip, local: local, address: addr,
			port: b.Port, proto: svc.Proto, mode: svc.Mode})
		svc.pools = append(svc.pools, c.pool(poolKey{
			local, addr, poolPort(svc, b), svc.SourcePorts, svc.PortRest, svc.Proto}))
	}
}

// outer notes where the packets of tunnels come from: naru answers for it, unless the kernel does.
func (c *compiler) outer(p netip.Prefix) {
	switch {
	case !p.IsValid():
	case p.IsSingleIP():
		c.s.own(p.Addr(), &owned{kernel: c.s.hosts[wire.AddrFrom(p.Addr())]})
	default:
		c.s.outer = append(c.s.outer, p.Masked())
	}
}

// outerSource reports whether an address is one of those that tunnels spread their flows over.
func (s *Snapshot) outerSource(a wire.Addr) bool {
	if s.hosts[a] {
		return false
	}
	for _, p := range s.outer {
		if prefixContains(p, a) {
			return true
		}
	}
	return false
}

// plain notes a backend's endpoints of mode NAT.
func (c *compiler) plain(addr wire.Addr, port uint16, r PortRange, proto uint8) {
	switch {
	case port != 0:
		c.s.plain[endpoint{addr, port, proto}] = true
	case r.Lo <= 1 && r.Hi == 65535:
		c.s.plain[endpoint{addr, 0, proto}] = true // all ports
	default:
		for p := int(r.Lo); p <= int(r.Hi); p++ {
			c.s.plain[endpoint{addr, uint16(p), proto}] = true
		}
	}
}

// plainSource reports whether a flow comes from a backend of mode NAT.
func (s *Snapshot) plainSource(f *wire.Flow) bool {
	return len(s.plain) > 0 && (s.plain[endpoint{f.Src, f.SrcPort, f.Proto}] || s.plain[endpoint{f.Src, 0, f.Proto}])
}

// poolPort is the backend port that a pool is for: 0 where one pool must serve many.
func poolPort(svc *service, b *Backend) uint16 {
	if b.Port == 0 && len(svc.Ports) == 1 && svc.Ports[0].Lo == svc.Ports[0].Hi {
		return svc.Ports[0].Lo
	}
	return b.Port
}

func (c *compiler) pool(key poolKey) []*nat.Pool {
	if ps := c.s.pools[key]; ps != nil {
		return ps
	}
	ps := c.prev.pools[key]
	if len(ps) != c.workers {
		ps = newPools(key, c.workers, c.seed)
	}
	c.s.pools[key] = ps
	return ps
}

// newPools makes a pool for each worker.
func newPools(key poolKey, workers int, seeds Seed) []*nat.Pool {
	seed := seeds.words(forPorts)[0]
	for _, part := range [][]byte{key.local[:8], key.local[8:], key.backend[:8], key.backend[8:]} {
		seed = mix64(seed ^ binary.LittleEndian.Uint64(part))
	}
	seed = mix64(seed ^ uint64(key.port)<<8 ^ uint64(key.proto))
	ps := make([]*nat.Pool, workers)
	for i := range ps {
		ps[i] = nat.NewPool(key.ports.Lo, key.ports.Hi, i, workers, key.rest, mix64(seed+uint64(i)))
	}
	return ps
}
