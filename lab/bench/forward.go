package bench

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"naru/lab"
)

// Names in the table of switchFrames.
const (
	forwardChain = "ingress"
	serversMap   = "servers"
)

// switchFrames sets up in the calling thread's namespace what an operator writes as
//
//	table netdev bench {
//	  map servers { type integer : ether_addr; elements = { 0 : MAC, 1 : MAC, 2 : MAC } }
//	  chain ingress { type filter hook ingress device LEG priority 0;
//	    ip daddr VIP meta l4proto { tcp, udp } ether saddr set OWN
//	      ether daddr set jhash ip saddr . th sport mod 3 map @servers fwd to LEG }
//	}
//
// All packets of a connection meet the same server.
func switchFrames(leg string) error {
	ifc, err := net.InterfaceByName(leg)
	if err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	t := c.AddTable(&nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev})
	set, elements := forServers(t, nftables.TypeEtherAddr, func(i int) []byte {
		mac := lab.MAC(serverAddr(i))
		return mac[:]
	})
	set.Name, set.Anonymous, set.Constant = serversMap, false, false
	if err := c.AddSet(set, elements); err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	c.AddChain(&nftables.Chain{Name: forwardChain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityRef(0), Device: leg})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("bench: nftables: %w", err)
	}
	const ports = 8 // the first of the registers of four bytes
	link := func(offset uint32) expr.Any {
		return &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseLLHeader,
			Offset: offset, Len: 6}
	}
	match := append(toAddr(vip),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{unix.IPPROTO_TCP}}, // 6; nobody sends 7 to 16
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: []byte{unix.IPPROTO_UDP}}, // 17
		&expr.Immediate{Register: 1, Data: ifc.HardwareAddr}, link(6),
		&expr.Payload{DestRegister: ports, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Payload{DestRegister: ports + 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Hash{SourceRegister: ports, DestRegister: 1, Length: 8, Modulus: uint32(len(serverNodes)),
			Type: expr.HashTypeJenkins},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: serversMap}, link(0),
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(uint32(ifc.Index))},
	)
	if err := addForwardRule(match); err != nil {
		return fmt.Errorf("bench: nftables: fwd: %w", err)
	}
	return nil
}

// addForwardRule adds a rule that ends with "fwd to" the interface in register 1. The library does not know that
// expression, so the message is made here.
func addForwardRule(exprs []expr.Any) error {
	var list []netlink.Attribute
	for _, e := range exprs {
		b, err := expr.Marshal(byte(nftables.TableFamilyNetdev), e)
		if err != nil {
			return err
		}
		list = append(list, netlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: b})
	}
	nested := func(kind uint16, inner ...netlink.Attribute) (netlink.Attribute, error) {
		b, err := netlink.MarshalAttributes(inner)
		return netlink.Attribute{Type: unix.NLA_F_NESTED | kind, Data: b}, err
	}
	data, err := nested(unix.NFTA_EXPR_DATA,
		netlink.Attribute{Type: unix.NFTA_FWD_SREG_DEV, Data: binaryutil.BigEndian.PutUint32(unix.NFT_REG_1)})
	if err != nil {
		return err
	}
	fwd, err := nested(unix.NFTA_LIST_ELEM, netlink.Attribute{Type: unix.NFTA_EXPR_NAME, Data: []byte("fwd\x00")}, data)
	if err != nil {
		return err
	}
	all, err := nested(unix.NFTA_RULE_EXPRESSIONS, append(list, fwd)...)
	if err != nil {
		return err
	}
	rule, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(tableName + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(forwardChain + "\x00")}, all,
	})
	if err != nil {
		return err
	}
	return sendBatch(rule)
}

// sendBatch sends a rule as the one message of a transaction.
func sendBatch(rule []byte) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	// struct nfgenmsg: family, version, and which subsystem the transaction is of.
	head := func(family nftables.TableFamily, subsystem byte) []byte { return []byte{byte(family), 0, 0, subsystem} }
	_, err = c.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request},
			Data: head(0, unix.NFNL_SUBSYS_NFTABLES)},
		{Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE,
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Append},
			Data: append(head(nftables.TableFamilyNetdev, 0), rule...)},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request},
			Data: head(0, unix.NFNL_SUBSYS_NFTABLES)},
	})
	if err != nil {
		return err
	}
	_, err = c.Receive() // the acknowledgement, or why not
	return err
}
