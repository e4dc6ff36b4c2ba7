package kernel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// The named counters of the table; a packet that the fence dropped is in exactly one.
const (
	counterVIP     = "vip"         // to a VIP
	counterPool    = "pool"        // to a local address that the kernel does not hold
	counterService = "service"     // to a service's port of a shared VIP
	counterLocal   = "local_ports" // to our local ports on an address that the kernel holds
	counterOuter   = "outer"       // to the prefix that tunnelled packets come from
	counterReplies = "replies"     // from a backend that answers through naru
)

var counterNames = []string{counterVIP, counterPool, counterService, counterLocal, counterOuter, counterReplies}

// hostName begins the names of the sets with this host's addresses.
const hostName = "host"

// Our own choices.
const (
	elementsPerMessage = 512     // keeps a list of set elements inside one netlink attribute (64 KiB)
	transactionBuffer  = 4 << 20 // bytes; some ten thousand addresses
)

// family is what differs between IPv4 and IPv6 in the rules.
type family struct {
	suffix    string
	etherType uint16
	keyType   nftables.SetDatatype
	srcOffset uint32 // of the source address in the header
	dstOffset uint32 // of the destination address
	addrLen   uint32
	is        func(netip.Addr) bool

	laterFragment []expr.Any   // matches fragments but the first
	icmpErrors    [][]expr.Any // match ICMP errors
}

var families = [2]family{
	{"4", unix.ETH_P_IP, nftables.TypeIPAddr, 12, 16, 4, netip.Addr.Is4,
		append([]expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2}},
			anyBit(0x1fff)...),
		[][]expr.Any{icmpTypes(unix.IPPROTO_ICMP, 3, 3), icmpTypes(unix.IPPROTO_ICMP, 11, 12)}}, // RFC 792
	{"6", unix.ETH_P_IPV6, nftables.TypeIP6Addr, 8, 24, 16, netip.Addr.Is6,
		append([]expr.Any{&expr.Exthdr{DestRegister: 1, Type: 44, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}},
			anyBit(0xfff8)...),
		[][]expr.Any{icmpTypes(unix.IPPROTO_ICMPV6, 1, 127)}}, // RFC 4443 2.1
}

// anyBit matches two bytes that are loaded when a bit of the mask is set.
func anyBit(mask uint16) []expr.Any {
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: be16(mask), Xor: be16(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: be16(0)},
	}
}

// icmpTypes matches ICMP messages with a type in the range.
func icmpTypes(proto, lo, hi uint8) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{lo}},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{hi}},
	}
}

// transaction collects the messages that turn the table in the kernel into the spec.
type transaction struct {
	c     *nftables.Conn
	t     *nftables.Table
	fresh bool // there is no table, or the one that is there goes first
	chain *nftables.Chain
	err   error
}

// transact does it all or nothing. With anew the table that is there is deleted in the same transaction.
func transact(spec FenceSpec, anew bool) error {
	c, err := nftables.New(nftables.WithSockOptions(bigBuffers))
	if err != nil {
		return err
	}
	tx := &transaction{c: c, t: &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}}
	old, err := findTable(tx.c)
	if err != nil {
		return err
	}
	tx.fresh = old == nil || anew
	if old != nil && anew {
		tx.c.DelTable(tx.t)
	}
	tx.c.AddTable(tx.t)
	for _, name := range counterNames {
		tx.c.AddObj(&nftables.NamedObj{Table: tx.t, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	tx.begin(sharedName)
	for _, f := range families {
		tx.wholeAddresses(f, counterVIP, spec.VIPs)
		tx.wholeAddresses(f, counterPool, spec.Pool)
		tx.ports(f, counterService, "service", spec.Services)
		tx.ports(f, counterLocal, "local ports", spec.LocalPorts)
		tx.prefixes(f, spec.Outer)
	}
	if spec.hasReplies() {
		tx.begin(repliesName)
		for _, f := range families {
			tx.replies(f, &spec)
		}
	}
	tx.baseChains(&spec)
	if tx.err != nil {
		return tx.err
	}
	return tx.c.Flush()
}

// begin makes the chain that rules are added to from now on.
func (tx *transaction) begin(name string) {
	tx.chain = tx.c.AddChain(&nftables.Chain{Name: name, Table: tx.t})
	if !tx.fresh {
		tx.c.FlushChain(tx.chain)
	}
}

// bigBuffers makes room for a transaction, which is one message, and for its echo. A limit below it is the kernel's to
// report.
func bigBuffers[C interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}](c C) error {
	_ = c.SetReadBuffer(transactionBuffer)
	_ = c.SetWriteBuffer(transactionBuffer)
	return nil
}

// wholeAddresses drops what is to the addresses, by a named set.
func (tx *transaction) wholeAddresses(f family, counter string, addrs []netip.Addr) {
	set := &nftables.Set{Table: tx.t, Name: counter + f.suffix, KeyType: f.keyType}
	tx.syncSet(set, keys(f, addrs))
	tx.rule(f, "", counter, append(f.loadAddr(f.dstOffset), &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}))
}

// syncSet changes only what differs, so that an address that stays is found at every moment.
func (tx *transaction) syncSet(set *nftables.Set, want [][]byte) {
	var have [][]byte
	if !tx.fresh {
		elems, _ := tx.c.GetSetElements(set) // an error: the set is new, or it will show when the batch is sent
		for _, e := range elems {
			have = append(have, e.Key)
		}
	}
	tx.keep(tx.c.AddSet(set, nil))
	tx.elements(set, missing(want, have), tx.c.SetDeleteElements)
	tx.elements(set, missing(have, want), tx.c.SetAddElements)
}

func (tx *transaction) elements(set *nftables.Set, list [][]byte, do func(*nftables.Set, []nftables.SetElement) error) {
	for part := range slices.Chunk(list, elementsPerMessage) {
		tx.keep(do(set, elements(part)))
	}
}

// portGroup are the addresses of which the same ports are dropped: one rule.
type portGroup struct {
	proto  uint8
	lo, hi uint16
	addrs  []netip.Addr
}

// ports drops what is to ports of addresses. Fragments behind the first carry no port and go to the kernel.
func (tx *transaction) ports(f family, counter, what string, ports []FencePorts) {
	for _, g := range group(f, ports) {
		tx.rule(f, comment(what, g), counter, tx.portMatch(f, f.dstOffset, dstPort, g))
	}
}

// Offsets of the ports in the headers of TCP and UDP.
const (
	srcPort = 0
	dstPort = 2
)

// portMatch matches addresses and ports of a group, both of the source or both of the destination.
func (tx *transaction) portMatch(f family, addrOffset, portOffset uint32, g portGroup) []expr.Any {
	exprs := append(f.loadAddr(addrOffset),
		tx.oneOf(f.keyType, keys(f, g.addrs)),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{g.proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2})
	return append(exprs, inRange(g.lo, g.hi)...)
}

// oneOf matches what is loaded against a set without a name.
func (tx *transaction) oneOf(keyType nftables.SetDatatype, keys [][]byte) expr.Any {
	set := &nftables.Set{Table: tx.t, Anonymous: true, Constant: true, KeyType: keyType}
	tx.keep(tx.c.AddSet(set, elements(keys)))
	return &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}
}

// prefixes drops what is to a prefix.
func (tx *transaction) prefixes(f family, list []netip.Prefix) {
	for _, p := range list {
		if !f.is(p.Addr()) {
			continue
		}
		tx.rule(f, "", counterOuter, append(f.loadAddr(f.dstOffset),
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.addrLen,
				Mask: net.CIDRMask(p.Bits(), 8*int(f.addrLen)), Xor: make([]byte, f.addrLen)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()}))
	}
}

// replies drops what backends send from their service's ports, but to this host, and what may belong to that and does not
// tell by a port: later fragments and ICMP errors.
func (tx *transaction) replies(f family, spec *FenceSpec) {
	host := &nftables.Set{Table: tx.t, Name: hostName + f.suffix, KeyType: f.keyType}
	tx.syncSet(host, keys(f, spec.Host))
	drop := func(comment string, match []expr.Any) {
		match = append(match, &expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.PACKET_HOST}})
		match = append(match, f.loadAddr(f.dstOffset)...)
		tx.rule(f, comment, counterReplies,
			append(match, &expr.Lookup{SourceRegister: 1, SetName: host.Name, SetID: host.ID, Invert: true}))
	}
	var addrs []netip.Addr
	for _, g := range group(f, spec.Replies) {
		drop(comment("replies", g), tx.portMatch(f, f.srcOffset, srcPort, g))
		addrs = append(addrs, g.addrs...)
	}
	if len(addrs) == 0 {
		return
	}
	from := func() []expr.Any { return append(f.loadAddr(f.srcOffset), tx.oneOf(f.keyType, keys(f, addrs))) }
	drop("later fragments of replies", append(from(), f.laterFragment...))
	for _, match := range f.icmpErrors {
		drop("ICMP errors of backends", append(from(), match...))
	}
}

func inRange(lo, hi uint16) []expr.Any {
	if lo == hi {
		return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: be16(lo)}}
	}
	return []expr.Any{
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: be16(lo)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: be16(hi)},
	}
}

// rule adds "this family, these matches: count and drop".
func (tx *transaction) rule(f family, comment, counter string, match []expr.Any) {
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: be16(f.etherType)},
	}
	exprs = append(exprs, match...)
	exprs = append(exprs, &expr.Objref{Type: int(nftables.ObjTypeCounter), Name: counter},
		&expr.Verdict{Kind: expr.VerdictDrop})
	r := &nftables.Rule{Table: tx.t, Chain: tx.chain, Exprs: exprs}
	if comment != "" {
		r.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
	}
	tx.c.AddRule(r)
}

// baseChains hangs the chains with the rules on the interfaces and takes them from all others. The hook of a chain that
// is there is not read back: its name says the interface.
func (tx *transaction) baseChains(spec *FenceSpec) {
	ifnames, old := existing(spec.Interfaces), []string(nil)
	if !tx.fresh {
		old, tx.err = chains(tx.c)
	}
	policy := nftables.ChainPolicyAccept
	for _, ifname := range ifnames {
		base := tx.c.AddChain(&nftables.Chain{
			Name: legPrefix + ifname, Table: tx.t, Device: ifname, Type: nftables.ChainTypeFilter, Policy: &policy,
			Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityRef(fencePriority),
		})
		if slices.Contains(old, base.Name) {
			tx.c.FlushChain(base)
		}
		tx.jump(base, sharedName)
		if spec.hasReplies() && slices.Contains(spec.ReplyInterfaces, ifname) {
			tx.jump(base, repliesName)
		}
	}
	for _, name := range old {
		ifname, leg := strings.CutPrefix(name, legPrefix)
		if leg && !slices.Contains(ifnames, ifname) || !leg && name != sharedName && name != repliesName {
			tx.c.DelChain(&nftables.Chain{Name: name, Table: tx.t})
		}
	}
	if !spec.hasReplies() && slices.Contains(old, repliesName) { // nobody jumps to it any more
		tx.c.DelChain(&nftables.Chain{Name: repliesName, Table: tx.t})
	}
}

func (tx *transaction) jump(from *nftables.Chain, to string) {
	tx.c.AddRule(&nftables.Rule{Table: tx.t, Chain: from,
		Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to}}})
}

func (tx *transaction) keep(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

func (f family) loadAddr(offset uint32) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.addrLen},
	}
}

// keys returns the addresses of the family as set keys, sorted and each once.
func keys(f family, addrs []netip.Addr) [][]byte {
	var out [][]byte
	for _, a := range addrs {
		if f.is(a) {
			out = append(out, a.AsSlice())
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal)
}

// missing returns what is in list and not in from.
func missing(from, list [][]byte) [][]byte {
	has := make(map[string]bool, len(from))
	for _, k := range from {
		has[string(k)] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(k []byte) bool { return has[string(k)] })
}

func elements(keys [][]byte) []nftables.SetElement {
	out := make([]nftables.SetElement, len(keys))
	for i, k := range keys {
		out[i].Key = k
	}
	return out
}

// group puts ports of the family together by protocol and range, in a fixed order.
func group(f family, ports []FencePorts) []portGroup {
	ports = slices.DeleteFunc(slices.Clone(ports), func(p FencePorts) bool { return !f.is(p.Addr) })
	slices.SortFunc(ports, func(a, b FencePorts) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Lo, b.Lo), cmp.Compare(a.Hi, b.Hi),
			a.Addr.Compare(b.Addr))
	})
	var out []portGroup
	for _, p := range ports {
		if n := len(out); n == 0 || out[n-1].proto != p.Proto || out[n-1].lo != p.Lo || out[n-1].hi != p.Hi {
			out = append(out, portGroup{proto: p.Proto, lo: p.Lo, hi: p.Hi})
		}
		g := &out[len(out)-1]
		g.addrs = append(g.addrs, p.Addr)
	}
	return out
}

func comment(what string, g portGroup) string {
	proto := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[g.proto]
	if g.lo == g.hi {
		return fmt.Sprintf("%s %s %d", what, proto, g.lo)
	}
	return fmt.Sprintf("%s %s %d-%d", what, proto, g.lo, g.hi)
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
