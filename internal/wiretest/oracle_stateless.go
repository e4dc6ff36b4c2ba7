package wiretest

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// OracleRedirect is a rule of the stateless oracle: every packet to VIP goes to the backend's MAC address, and where
// Backend is an address, to it, with that DSCP and the TTL or hop limit less by one.
type OracleRedirect struct {
	VIP, Backend netip.Addr
	DSCP         uint8
}

// NewStatelessOracle makes an oracle of which the middle is no router but a netdev ingress chain on the clients' side: it
// rewrites frames where they come in and hands them to the backend's side, whole. It needs root (see Root). Packets whose
// TTL is used up, and those to no rule's VIP, go nowhere. macs are the kernel's MAC addresses by Side, nil: as it likes.
func NewStatelessOracle(t testing.TB, rules []OracleRedirect, macs *[2]wire.MAC) *Oracle {
	t.Helper()
	o := newOracle(t, [2]int{9000, 9000})
	if macs != nil {
		o.setMACs(t, macs)
	}
	c, err := nftables.New(nftables.WithNetNSFd(o.middle.FD()))
	if err != nil {
		t.Fatalf("wiretest: oracle: nftables: %v", err)
	}
	table := c.AddTable(&nftables.Table{Name: "oracle", Family: nftables.TableFamilyNetdev})
	policy := nftables.ChainPolicyDrop
	chain := c.AddChain(&nftables.Chain{Name: "in", Table: table, Type: nftables.ChainTypeFilter, Policy: &policy,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Device: oracleIfs[ClientSide]})
	lower := [2]*nftables.Set{addLowerTTL(t, c, table, "ttl", 2), addLowerTTL(t, c, table, "hops", 1)}
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(r.rewrite(lower), o.handOver(t)...)})
	}
	if err := c.Flush(); err != nil {
		t.Fatalf("wiretest: oracle: nftables: %v", err)
	}
	return o
}

// addLowerTTL makes a map from a TTL to the one less, since rules cannot subtract. A key of two bytes has the protocol
// behind the TTL: the kernel keeps the checksum of an IPv4 header right for whole words only.
func addLowerTTL(t testing.TB, c *nftables.Conn, table *nftables.Table, name string, bytes int) *nftables.Set {
	t.Helper()
	kind := nftables.TypeInetProto
	if bytes == 2 {
		kind = nftables.TypeInetService
	}
	set := &nftables.Set{Table: table, Name: name, IsMap: true, KeyType: kind, DataType: kind}
	var elements []nftables.SetElement
	for ttl := 2; ttl <= 255; ttl++ {
		for _, proto := range []byte{wire.ProtoICMP, wire.ProtoTCP, wire.ProtoUDP} {
			elements = append(elements, nftables.SetElement{Key: []byte{byte(ttl), proto}[:bytes],
				Val: []byte{byte(ttl - 1), proto}[:bytes]})
			if bytes == 1 {
				break
			}
		}
	}
	if err := c.AddSet(set, elements); err != nil {
		t.Fatalf("wiretest: oracle: map %s: %v", name, err)
	}
	return set
}

// rewrite is "ip daddr VIP ip ttl set ip ttl map @ttl ip dscp set DSCP ip daddr set BACKEND", or the first of it.
func (r OracleRedirect) rewrite(lower [2]*nftables.Set) []expr.Any {
	vip := r.VIP.AsSlice()
	f, family, ttlAt, ttlMap := ipFamilies[0], []byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}, uint32(8), lower[0]
	if r.VIP.Is6() {
		f, family, ttlAt, ttlMap = ipFamilies[1], []byte{unix.ETH_P_IPV6 >> 8, unix.ETH_P_IPV6 & 0xff}, 7, lower[1]
	}
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: family},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dstOffset, Len: uint32(len(vip))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: vip},
	}
	if !r.Backend.IsValid() {
		return rule
	}
	mask, mark := []byte{0xff, 0x03}, []byte{0, r.DSCP << 2}
	if r.VIP.Is6() {
		mask, mark = []byte{0xf0, 0x3f}, []byte{r.DSCP >> 2, r.DSCP << 6}
	}
	return append(rule,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ttlAt, Len: ttlMap.KeyType.Bytes},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: ttlMap.Name, SetID: ttlMap.ID},
		f.write(ttlAt, ttlMap.KeyType.Bytes, 0),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: mark},
		f.write(0, 2, 0),
		&expr.Immediate{Register: 1, Data: r.Backend.AsSlice()},
		f.write(f.dstOffset, uint32(len(vip)), unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR))
}

// write puts register 1 into the IP header and keeps its checksum right, and with the flag that of the transport header.
// The flag goes only with an offset of a header checksum, which IPv6 has not: there it is the written field itself, so that
// what is computed is written over.
func (f ipFamily) write(offset, length, flags uint32) *expr.Payload {
	p := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader,
		Offset: offset, Len: length, CsumFlags: flags, CsumType: expr.CsumTypeInet, CsumOffset: 10}
	if f.number == unix.NFPROTO_IPV6 {
		p.CsumOffset = offset
		if flags == 0 {
			p.CsumType = expr.CsumTypeNone
		}
	}
	return p
}

// handOver is "ether daddr set BACKEND ether saddr set B0 dup to b0 drop".
func (o *Oracle) handOver(t testing.TB) []expr.Any {
	index := o.middle.Link(t, oracleIfs[BackendSide]).Attrs().Index
	write := func(mac wire.MAC, offset uint32) []expr.Any {
		return []expr.Any{&expr.Immediate{Register: 1, Data: mac[:]}, &expr.Payload{OperationType: expr.PayloadWrite,
			SourceRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: 6}}
	}
	return append(append(write(OracleNeighbors[BackendSide], 0), write(o.macs[BackendSide], 6)...),
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(uint32(index))},
		&expr.Dup{RegDev: 1, IsRegDevSet: true},
		&expr.Verdict{Kind: expr.VerdictDrop})
}
