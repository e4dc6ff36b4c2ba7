package neigh

import (
	"encoding/binary"

	"naru/internal/wire"
)

const (
	arpRequest = 1
	arpReply   = 2
)

// arpHead is the fixed part of ARP for IPv4 over Ethernet: hardware type, protocol type, lengths.
const arpHead = 0x0001_0800_0604

// ARP is an ARP packet for IPv4 over Ethernet.
type ARP struct {
	Reply          bool
	SenderMAC      wire.MAC
	Sender, Target wire.Addr
}

// ParseARP reads an ARP packet behind the Ethernet header; ok is false for what RFC 826 does not allow.
func ParseARP(b []byte) (a ARP, ok bool) {
	be := binary.BigEndian
	if len(b) < wire.ARPLen || be.Uint64(b)>>16 != arpHead {
		return a, false
	}
	op := be.Uint16(b[6:])
	if op != arpRequest && op != arpReply {
		return a, false
	}
	a = ARP{Reply: op == arpReply, SenderMAC: wire.MAC(b[8:14]), Sender: wire.Addr4(b[14:]), Target: wire.Addr4(b[24:])}
	return a, a.SenderMAC[0]&1 == 0
}

// PutARP writes an ARP packet into b (28 bytes). targetMAC is ignored by receivers of requests.
func PutARP(b []byte, reply bool, senderMAC wire.MAC, sender wire.Addr, targetMAC wire.MAC, target wire.Addr) {
	be := binary.BigEndian
	op := uint64(arpRequest)
	if reply {
		op = arpReply
	}
	be.PutUint64(b, arpHead<<16|op)
	copy(b[8:14], senderMAC[:])
	copy(b[14:18], sender[12:])
	copy(b[18:24], targetMAC[:])
	copy(b[24:28], target[12:])
}
