package backend

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The library leaves out the flag that puts the transport checksum right when a write touches no header checksum, and
// IPv6 has none. So that one rule is put together here, from the library's expressions and one of our own
// (linux/netfilter/nf_tables.h).

// pseudoWrite is "write these bytes of the network header, and put the transport checksum right".
func pseudoWrite(p *expr.Payload) []byte {
	word := func(kind uint16, v uint32) []byte { return attribute(kind, binary.BigEndian.AppendUint32(nil, v)) }
	data := join(word(unix.NFTA_PAYLOAD_SREG, p.SourceRegister), word(unix.NFTA_PAYLOAD_BASE, uint32(p.Base)),
		word(unix.NFTA_PAYLOAD_OFFSET, p.Offset), word(unix.NFTA_PAYLOAD_LEN, p.Len),
		word(unix.NFTA_PAYLOAD_CSUM_TYPE, uint32(expr.CsumTypeNone)), word(unix.NFTA_PAYLOAD_CSUM_OFFSET, 0),
		word(unix.NFTA_PAYLOAD_CSUM_FLAGS, p.CsumFlags))
	return join(attribute(unix.NFTA_EXPR_NAME, []byte("payload\x00")), attribute(unix.NLA_F_NESTED|unix.NFTA_EXPR_DATA, data))
}

// addRawRule adds a rule to a chain of a table of family inet. The last expression is a pseudoWrite.
func addRawRule(table, chain string, exprs []expr.Any, userData []byte) error {
	var list []byte
	for i, e := range exprs {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return err
		}
		if i == len(exprs)-1 {
			b = pseudoWrite(e.(*expr.Payload))
		}
		list = append(list, attribute(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, b)...)
	}
	rule := join(attribute(unix.NFTA_RULE_TABLE, []byte(table+"\x00")), attribute(unix.NFTA_RULE_CHAIN, []byte(chain+"\x00")),
		attribute(unix.NLA_F_NESTED|unix.NFTA_RULE_EXPRESSIONS, list), attribute(unix.NFTA_RULE_USERDATA, userData))
	return sendBatch(message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE,
		unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NFPROTO_INET, 0, rule))
}

// sendBatch sends one message as a transaction and waits for the kernel's word on it.
func sendBatch(msg []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	limit := unix.Timeval{Sec: 5}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	begin := message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	end := message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	if err := unix.Sendto(fd, join(begin, msg, end), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("unexpected answer of nf_tables, %d bytes", n)
	}
	if code := int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// message returns a netlink message of nfnetlink.
func message(kind, flags uint16, family uint8, resource uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+4+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = append(b, make([]byte, 8)...) // sequence number and port: one message, one answer
	b = append(b, family, unix.NFNETLINK_V0)
	return append(binary.BigEndian.AppendUint16(b, resource), body...)
}

// attribute returns a netlink attribute, padded.
func attribute(kind uint16, data []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func join(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
