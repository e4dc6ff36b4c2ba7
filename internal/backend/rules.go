package backend

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"naru/internal/wire"
)

// rulesChange is the nftables table of one service on one backend: the DSCP rule, and a smaller MSS in the SYN-ACKs from
// the VIP. A rule lowers the MSS there because it works for every VIP and every route; a route's advmss would also
// change what has nothing to do with the VIP.
type rulesChange struct {
	target Target
	mtu    int // known before the machine is, or 0
}

// Our own choices.
const (
	defaultMTU = 1500 // of an Ethernet interface that is not known yet
	dscpChain  = "dscp"
	mssChain   = "mss"
)

func (c *rulesChange) key() string { return "rules " + c.target.Name() }

// table is the name of the nftables table. Names of services and backends have no dot.
func (c *rulesChange) table() string { return "naru." + c.target.Service + "." + c.target.Backend }

// segment returns the MSS to announce, 0 for none: only where a packet of the client would not fit.
func (c *rulesChange) segment(ifMTU int) uint16 {
	t := &c.target
	if t.Proto != wire.ProtoTCP || t.overhead() == 0 && t.MTU == 0 {
		return 0
	}
	mtu := cmpMTU(c.mtu, ifMTU)
	if mtu == 0 {
		mtu = defaultMTU
	}
	return uint16(max(t.mss(mtu), 0))
}

func (c *rulesChange) purpose() (what, why string) {
	dscp, mss := c.target.Way == DSCP, c.segment(0) != 0
	switch {
	case dscp && mss:
		return "DSCP rule and MSS", "the mark tells which VIP a packet was for; segments must fit the path's MTU"
	case dscp:
		return "DSCP rule", "the mark tells which VIP a packet was for; the checksum is put right with it, and a UDP packet " +
			"without one stays so"
	case mss:
		return "MSS", "segments must leave room for the outer header, and the SYN-ACK that says so never passes naru"
	}
	return "", ""
}

// apply replaces the table as a whole.
func (c *rulesChange) apply(h *host) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	existed, err := tableExists(conn, c.table())
	if err != nil {
		return false, err
	}
	t := &nftables.Table{Name: c.table(), Family: nftables.TableFamilyINet}
	if existed {
		if same, err := c.stands(conn, t, h.mtu); err != nil || same {
			return false, err
		}
		conn.DelTable(t)
	}
	conn.AddTable(t)
	dscp := c.dscpRule()
	if c.target.Way == DSCP {
		chain := conn.AddChain(&nftables.Chain{Name: dscpChain, Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
		if c.target.VIP.Is4() {
			conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: dscp, UserData: c.dscpComment()})
		}
	}
	if mss := c.segment(h.mtu); mss != 0 {
		chain := conn.AddChain(&nftables.Chain{Name: mssChain, Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle})
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: c.mssRule(mss), UserData: c.mssComment(mss)})
	}
	if err := conn.Flush(); err != nil {
		return true, err
	}
	if c.target.Way == DSCP && c.target.VIP.Is6() {
		return true, addRawRule(t.Name, dscpChain, dscp, c.dscpComment())
	}
	return true, nil
}

// comment makes a rule's comment, as nft(8) shows it. It holds every value in the rule: that is how a rule that stands is
// told from one to be replaced.
func comment(format string, args ...any) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf(format, args...))
}

func (c *rulesChange) dscpComment() []byte {
	return comment("%s by DSCP %d at %s", c.target.VIP, c.target.Code, c.target.Address)
}

func (c *rulesChange) mssComment(mss uint16) []byte { return comment("%s MSS %d", c.target.VIP, mss) }

// stands reports whether the kernel has exactly the rules that apply would make.
func (c *rulesChange) stands(conn *nftables.Conn, t *nftables.Table, mtu int) (bool, error) {
	want := map[string][]byte{}
	if c.target.Way == DSCP {
		want[dscpChain] = c.dscpComment()
	}
	if mss := c.segment(mtu); mss != 0 {
		want[mssChain] = c.mssComment(mss)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	n := 0
	for _, chain := range chains {
		if chain.Table.Name != t.Name {
			continue
		}
		rules, err := conn.GetRules(t, chain)
		if err != nil || len(rules) != 1 || string(rules[0].UserData) != string(want[chain.Name]) {
			return false, err
		}
		n++
	}
	return n == len(want), nil
}

func (c *rulesChange) undo(*host) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, err
	}
	existed, err := tableExists(conn, c.table())
	if err != nil || !existed {
		return false, err
	}
	conn.DelTable(&nftables.Table{Name: c.table(), Family: nftables.TableFamilyINet})
	return true, conn.Flush()
}

func tableExists(conn *nftables.Conn, name string) (bool, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	for _, t := range tables {
		if t.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// network is what differs between the families in a rule.
type network struct {
	number             byte
	src, dst, len      uint32 // offsets and length of the addresses
	dscpMask, dscpWord []byte // in the first two bytes of the header
	csum               expr.PayloadCsumType
	csumOffset         uint32
}

func networkOf(a netip.Addr, code uint8) network {
	if a.Is4() {
		return network{unix.NFPROTO_IPV4, 12, 16, 4, []byte{0, 0xfc}, []byte{0, code << 2}, expr.CsumTypeInet, 10}
	}
	// The traffic class lies across the two bytes (RFC 8200 3).
	return network{unix.NFPROTO_IPV6, 8, 24, 16, []byte{0x0f, 0xc0}, binary.BigEndian.AppendUint16(nil, uint16(code)<<6),
		expr.CsumTypeNone, 0}
}

// family is "meta nfproto ipv4".
func (n network) family() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{n.number}}}
}

// address is "ip saddr A" or "ip daddr A".
func (n network) address(offset uint32, a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n.len},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()}}
}

// dscpRule is "ip dscp CODE ip daddr BACKEND counter ip daddr set VIP": before connection tracking, which must see the
// VIP. The pseudo header's part of the transport checksum is put right by the kernel.
func (c *rulesChange) dscpRule() []expr.Any {
	t := &c.target
	n := networkOf(t.VIP, t.Code)
	out := append(n.family(), n.address(n.dst, t.Address)...)
	return append(out,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: n.dscpMask, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: n.dscpWord},
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: t.VIP.AsSlice()},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader,
			Offset: n.dst, Len: n.len, CsumType: n.csum, CsumOffset: n.csumOffset, CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR})
}

// mssRule is "ip saddr VIP tcp sport PORT tcp flags & (syn|rst) == syn tcp option maxseg size > N … set N". It covers
// every port of the VIP: services of one VIP on one backend have one path.
func (c *rulesChange) mssRule(mss uint16) []expr.Any {
	n := networkOf(c.target.VIP, 0)
	value := binary.BigEndian.AppendUint16(nil, mss)
	option := func(dst, src uint32) *expr.Exthdr {
		return &expr.Exthdr{DestRegister: dst, SourceRegister: src, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt}
	}
	out := append(n.family(), n.address(n.src, c.target.VIP)...)
	return append(out,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{wire.SYN | wire.RST}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{wire.SYN}},
		option(1, 0),
		&expr.Cmp{Op: expr.CmpOpGt, Register: 1, Data: value},
		&expr.Counter{},
		&expr.Immediate{Register: 1, Data: value},
		option(0, 1))
}

// lines returns the table in the language of nft(8).
func (c *rulesChange) lines(ifMTU int) []string {
	t, ip := &c.target, "ip"
	if t.VIP.Is6() {
		ip = "ip6"
	}
	out := []string{"table inet " + c.table() + " {"}
	if t.Way == DSCP {
		out = append(out, "  chain "+dscpChain+" {", "    type filter hook prerouting priority raw;",
			fmt.Sprintf("    %s dscp %d %[1]s daddr %[3]s counter %[1]s daddr set %[4]s", ip, t.Code, t.Address, t.VIP), "  }")
	}
	if mss := c.segment(ifMTU); mss != 0 {
		out = append(out, "  chain "+mssChain+" {", "    type filter hook output priority mangle;",
			fmt.Sprintf("    %s saddr %s tcp flags & (syn|rst) == syn tcp option maxseg size > %d counter "+
				"tcp option maxseg size set %[3]d", ip, t.VIP, mss), "  }")
	}
	return append(out, "}")
}

func (c *rulesChange) shell(string) (do, undo []string) {
	name := "table inet " + c.table()
	do = append([]string{"nft -f - <<'END'", name + " {}", "delete " + name}, c.lines(0)...)
	return append(do, "END"), []string{"nft delete " + name}
}
