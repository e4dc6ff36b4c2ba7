package wiretest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// statusDNAT is IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const statusDNAT = 1 << 5

// ipFamily is what differs between the families in the rules.
type ipFamily struct {
	table     nftables.TableFamily
	number    uint32 // NFPROTO_*
	dstOffset uint32 // of the destination address in the header
}

var ipFamilies = [2]ipFamily{
	{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, 16},
	{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, 24},
}

// rules makes the NAT: the destination of what goes to a service is translated, and with snat the source. What is not
// translated (connection tracking calls it invalid, or it belongs to nothing) is dropped, but without snat a backend is
// reached by its own address too: what it sends then is routed on. The kernel's own sockets hear nothing, unless it is a
// host.
func (o *Oracle) rules(t testing.TB, setup *OracleSetup) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(o.middle.FD()))
	if err != nil {
		t.Fatalf("wiretest: oracle: nftables: %v", err)
	}
	for _, f := range ipFamilies {
		table := c.AddTable(&nftables.Table{Name: "oracle", Family: f.table})
		chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority,
			policy nftables.ChainPolicy) *nftables.Chain {
			return c.AddChain(&nftables.Chain{Name: name, Table: table, Type: kind, Hooknum: hook, Priority: prio,
				Policy: &policy})
		}
		pre := chain("pre", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest,
			nftables.ChainPolicyAccept)
		post := chain("post", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource,
			nftables.ChainPolicyAccept)
		forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter,
			nftables.ChainPolicyDrop)
		if len(setup.Host) == 0 {
			chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter,
				nftables.ChainPolicyDrop)
		}
		for _, s := range setup.Services {
			if s.VIP.Addr().Is4() == (f.number == unix.NFPROTO_IPV4) {
				c.AddRule(&nftables.Rule{Table: table, Chain: pre, Exprs: f.dnat(s)})
			}
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: translated()})
		if setup.SNAT {
			local := setup.IPv4.Local
			if f.number == unix.NFPROTO_IPV6 {
				local = setup.IPv6.Local
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: post, Exprs: f.snat(local)})
			continue
		}
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			c.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: plain(proto)})
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatalf("wiretest: oracle: nftables: %v", err)
	}
	o.trackingSysctls(t)
}

// dnat is "iifname a1 ip daddr VIP meta l4proto P th dport PORT dnat to BACKEND".
func (f ipFamily) dnat(s OracleService) []expr.Any {
	vip := s.VIP.Addr().AsSlice()
	return append(ifName(expr.MetaKeyIIFNAME, oracleIfs[ClientSide]),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dstOffset, Len: uint32(len(vip))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: vip},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{s.Proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: bigEndian(s.VIP.Port())},
		&expr.Immediate{Register: 1, Data: s.Backend.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: bigEndian(s.Backend.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: f.number, RegAddrMin: 1, RegProtoMin: 2})
}

// snat is "oifname b0 snat to LOCAL".
func (f ipFamily) snat(local netip.Addr) []expr.Any {
	return append(ifName(expr.MetaKeyOIFNAME, oracleIfs[BackendSide]),
		&expr.Immediate{Register: 1, Data: local.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.number, RegAddrMin: 1})
}

// translated is "ct status dnat accept".
func translated() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(statusDNAT),
			Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// plain is "iifname b0 meta l4proto P accept".
func plain(proto byte) []expr.Any {
	return append(ifName(expr.MetaKeyIIFNAME, oracleIfs[BackendSide]),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Verdict{Kind: expr.VerdictAccept})
}

func ifName(key expr.MetaKey, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

func bigEndian(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
