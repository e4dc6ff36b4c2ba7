package replay

import (
	"naru/forwarder"
	"naru/internal/wire"
	"naru/nat"
)

// answer deals with a packet that the VIP sent in the capture, where it is not taken as it is. In the NAT modes a packet of
// a connection is made one of the connection's backend; in direct server return it does not come near naru. What belongs
// to no connection stays as it is. Simulated backends answer themselves.
func (r *Replay) answer(f *wire.Packet) fate {
	p := *f
	if p.ParseLink() != wire.ReasonNone || p.ParseNetwork() != wire.ReasonNone || p.Version == 0 || p.Frag != wire.Whole ||
		p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return toNaru
	}
	if r.sim != nil {
		r.sim.heard(&p)
		return passesBy
	}
	client := p.Flow.Reverse()
	c, ok := r.engine.Connection(&client)
	if !ok {
		return toNaru
	}
	if c.Mode != forwarder.FullNAT && c.Mode != forwarder.NAT {
		return passesBy
	}
	readdress(&p, &c)
	f.Leg = r.legs.backends[c.Address]
	return toNaru
}

// readdress makes a packet of the VIP one of the backend of its connection. Its TTL and the state of its checksums stay.
func readdress(p *wire.Packet, c *forwarder.Connection) {
	to := nat.Tuple{Src: &c.Address, Dst: &c.Local, SrcPort: c.BackendPort, DstPort: c.LocalPort}
	if c.Mode == forwarder.NAT {
		to.Dst, to.DstPort = &c.Client, c.ClientPort
	}
	nat.Translate(p, &to)
	raiseTTL(p)
}

// raiseTTL takes back that a router lowered the TTL.
func raiseTTL(p *wire.Packet) {
	ip := p.IP()
	if p.Version == 6 {
		ip[7]++
		return
	}
	old := uint16(ip[8])<<8 | uint16(ip[9])
	sum := wire.Delta(0).Add16(old, old+0x100).Apply(uint16(ip[10])<<8 | uint16(ip[11]))
	ip[8]++
	ip[10], ip[11] = byte(sum>>8), byte(sum)
}

// ended is called for every connection that ends.
func (r *Replay) ended(c *forwarder.Connection) {
	r.result.count(c)
	outcome := r.sim.ended(c)
	if r.flows != nil {
		r.flows.write(c, r.numbers.of(c), r.now, c.HowEnded(), outcome)
	}
	r.numbers.forget(c)
}
