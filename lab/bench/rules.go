package bench

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is what our tables are called, in namespaces of our own.
const tableName = "bench"

// A sink counts and drops what comes to floodPort behind the last cable, before the server's IP layer: what is measured
// is the way there.
type sink struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
}

// open hangs the sink on an interface in the calling thread's namespace.
func (s *sink) open(leg string) (err error) {
	if s.conn, err = nftables.New(nftables.AsLasting()); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	s.table = s.conn.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev})
	s.chain = s.conn.AddChain(&nftables.Chain{Name: "sink", Table: s.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityRef(0), Device: leg})
	s.conn.AddRule(&nftables.Rule{Table: s.table, Chain: s.chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(floodPort)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := s.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// count returns how many packets have come so far.
func (s *sink) count() (uint64, error) {
	rules, err := s.conn.GetRules(s.table, s.chain)
	if err != nil {
		return 0, fmt.Errorf("bench: sink: %w", err)
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				return c.Packets, nil
			}
		}
	}
	return 0, fmt.Errorf("bench: sink: its rule is gone")
}

func (s *sink) close() { _ = s.conn.CloseLasting() }

// forServers returns a map from 0, 1, 2 to the servers, with the kind of value that the caller makes of them.
func forServers(t *nftables.Table, kind nftables.SetDatatype, value func(i int) []byte) (*nftables.Set,
	[]nftables.SetElement) {
	set := &nftables.Set{Table: t, Anonymous: true, Constant: true, IsMap: true, KeyType: nftables.TypeInteger,
		DataType: kind}
	set.KeyType.Bytes = 4
	var elements []nftables.SetElement
	for i := range serverNodes {
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: value(i)})
	}
	return set, elements
}

// toAddr matches IPv4 packets to an address.
func toAddr(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

// translate sets up in the calling thread's namespace what an operator writes as
//
//	table ip bench {
//	  chain prerouting { type nat hook prerouting priority dstnat; ip daddr VIP dnat to numgen inc mod 3 map { … } }
//	  chain postrouting { type nat hook postrouting priority srcnat; oifname LEG masquerade }
//	}
func translate(leg string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4})
	set, elements := forServers(t, nftables.TypeIPAddr, func(i int) []byte { return serverAddr(i).AsSlice() })
	if err := c.AddSet(set, elements); err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	in := c.AddChain(&nftables.Chain{Name: "prerouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: append(toAddr(vip),
		&expr.Numgen{Register: 1, Modulus: uint32(len(serverNodes)), Type: unix.NFT_NG_INCREMENTAL},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetID: set.ID, SetName: set.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	)})
	out := c.AddChain(&nftables.Chain{Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, leg)
	c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Masq{},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	return nil
}

// checksum is the Internet checksum of RFC 1071 over data and a sum to begin with.
func checksum(data []byte, sum uint32) uint16 {
	for ; len(data) > 1; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) > 0 {
		sum += uint32(data[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
